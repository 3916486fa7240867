//! C modules of Lua's (lua-cjson, LuaSocket) take the functions of Lua's C API from the executable that loads them.
#![allow(clippy::print_stdout)] // it is how cargo is told

fn main() {
    for names in ["lua_*", "luaL_*", "luaopen_*", "luaJIT_*"] {
        println!("cargo::rustc-link-arg-bin=imperator=-Wl,--export-dynamic-symbol={names}");
    }
}

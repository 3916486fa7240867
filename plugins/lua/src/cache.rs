//! The caches of the instance: what Python sees, too. Keys and values may hold any bytes.

use imperator_worker::host::Host;
use imperator_worker::host::cache::Math;
use imperator_worker::language::NoLock;
use mlua::{Lua, LuaString, Table};

/// The name of a cache; without one the default.
type Name = Option<LuaString>;

pub fn add(lua: &Lua, uwsgi: &Table, host: &'static Host) -> mlua::Result<()> {
    let set = |name: &str, function: mlua::Function| uwsgi.raw_set(name, function);
    let get = move |lua: &Lua, (key, cache): (LuaString, Name)| {
        let mut value = vec![];
        let found = named(&cache, |cache| host.caches().get(&key.as_bytes(), cache, &mut value, &NoLock));
        found.map(|_| lua.create_string(&value)).transpose()
    };
    set("cache_get", lua.create_function(get)?)?;
    let store = move |_: &Lua, (key, value, expires, cache): (LuaString, LuaString, Option<i64>, Name)| {
        let (key, value, expires) = (key.as_bytes(), value.as_bytes(), expires.unwrap_or(0));
        Ok(done(named(&cache, |cache| host.caches().set(&key, &value, expires, cache, &NoLock))))
    };
    set("cache_set", lua.create_function(store)?)?;
    let update = move |_: &Lua, (key, value, expires, cache): (LuaString, LuaString, Option<i64>, Name)| {
        let (key, value, expires) = (key.as_bytes(), value.as_bytes(), expires.unwrap_or(0));
        Ok(done(named(&cache, |cache| host.caches().update(&key, &value, expires, cache, &NoLock))))
    };
    set("cache_update", lua.create_function(update)?)?;
    let delete = move |_: &Lua, (key, cache): (LuaString, Name)| {
        Ok(done(named(&cache, |cache| host.caches().delete(&key.as_bytes(), cache, &NoLock))))
    };
    set("cache_del", lua.create_function(delete)?)?;
    let exists = move |_: &Lua, (key, cache): (LuaString, Name)| {
        Ok(done(named(&cache, |cache| host.caches().exists(&key.as_bytes(), cache, &NoLock))))
    };
    set("cache_exists", lua.create_function(exists)?)?;
    let clear = move |_: &Lua, cache: Name| Ok(done(named(&cache, |cache| host.caches().clear(cache, &NoLock))));
    set("cache_clear", lua.create_function(clear)?)?;
    numbers(lua, uwsgi, host)?;
    let keys = move |lua: &Lua, cache: Name| {
        let keys = named(&cache, |cache| host.caches().keys(cache, &NoLock));
        let keys = keys.ok_or_else(|| mlua::Error::runtime("uwsgi.cache_keys: there is no such cache in this instance"))?;
        lua.create_sequence_from(keys.iter().map(|key| lua.create_string(key)).collect::<mlua::Result<Vec<_>>>()?)
    };
    set("cache_keys", lua.create_function(keys)?)
}

fn numbers(lua: &Lua, uwsgi: &Table, host: &'static Host) -> mlua::Result<()> {
    for (name, math, default) in
        [("cache_inc", Math::Add, 1), ("cache_dec", Math::Subtract, 1), ("cache_mul", Math::Multiply, 2), ("cache_div", Math::Divide, 2)]
    {
        let function = move |_: &Lua, (key, operand, expires, cache): (LuaString, Option<i64>, Option<i64>, Name)| {
            let (operand, expires) = (operand.unwrap_or(default), expires.unwrap_or(0));
            Ok(done(named(&cache, |cache| host.caches().math(math, &key.as_bytes(), operand, expires, cache, &NoLock)).is_some()))
        };
        uwsgi.raw_set(name, lua.create_function(function)?)?;
    }
    let number =
        move |_: &Lua, (key, cache): (LuaString, Name)| Ok(named(&cache, |cache| host.caches().number(&key.as_bytes(), cache, &NoLock)));
    uwsgi.raw_set("cache_num", lua.create_function(number)?)
}

fn named<R>(name: &Name, f: impl FnOnce(&[u8]) -> R) -> R {
    match name {
        Some(name) => f(&name.as_bytes()),
        None => f(b""),
    }
}

/// True or nil.
fn done(yes: bool) -> Option<bool> {
    yes.then_some(true)
}

//! The interpreter brings Python's symbols. The unit tests are about what needs none of them, so their executable may leave them open.
#![allow(clippy::print_stdout)] // it is how cargo is told

fn main() {
    println!("cargo::rustc-link-arg=-Wl,--unresolved-symbols=ignore-all");
}

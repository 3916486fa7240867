//! Wire formats of Imperator, as pure functions over bytes: no I/O, no clock, no allocation where a slice will do.

pub mod vars;

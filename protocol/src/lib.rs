//! Wire formats of Imperator, as pure functions over bytes: no I/O, no clock, no allocation where a slice will do.
//!
//! Every parser takes what has arrived so far and says one of three things: not enough yet, what it is, or what is
//! wrong with it (with the status to answer, where there is one). None of them panics on any input, and none changes
//! its mind when more bytes come.

mod bytes;
pub mod cache;
pub mod chunked;
pub mod http;
pub mod packet;
pub mod proxy;
pub mod reason;
pub mod response;
mod scan;
pub mod vars;

//! What runs inside a worker: event loop, connections, requests, responses, log lines, host services, and the
//! trait [`language::Language`] that a plugin implements.
//!
//! Read [`language`] first (the boundary to a language), then [`settings`], [`control`] and [`scoreboard`] (the
//! boundary to the master).

mod body;
mod clock;
pub mod control;
pub mod hooks;
pub mod language;
pub mod log;
pub mod request;
mod response;
pub mod scoreboard;
pub mod settings;
mod socket;

//! What runs inside a worker: event loop, connections, requests, responses, log lines, and the trait
//! [`language::Language`] that a plugin implements. [`host`] is what apps of any language share.
//!
//! Read [`language`] first (the boundary to a language), then [`settings`], [`control`] and [`scoreboard`] (the
//! boundary to the master).

mod account;
mod ahead;
mod body;
mod budget;
mod buffer;
mod cache_server;
mod clock;
mod connection;
pub mod control;
mod dispatch;
mod exchange;
pub mod hooks;
pub mod host;
mod intake;
pub mod isolation;
pub mod language;
pub mod languages;
mod lead;
mod link;
pub mod log;
mod lot;
#[doc(hidden)]
pub mod measured;
pub mod metrics;
pub mod mounts;
mod offload;
pub mod pattern;
pub mod privileges;
pub mod procname;
mod queue_time;
pub mod request;
mod response;
pub mod scoreboard;
mod serve;
mod serving;
pub mod settings;
mod shared;
mod socket;
mod statics;
mod store;
mod thread;
pub mod watchdog;
pub mod zygote;

pub use link::Link;
pub use serve::{WorkerConfig, serve};

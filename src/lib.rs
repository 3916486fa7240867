//! What supervises: command line, configuration, emperor, master, stats.

pub mod ask;
pub mod below;
pub mod cli;
pub mod config;
pub mod emperor;
pub mod fifo;
pub mod hooks;
pub mod identity;
pub mod logs;
pub mod master;
pub mod pipe;
pub mod privileges;
pub mod sockets;
pub mod stats;
pub mod systemd;
pub mod watch;

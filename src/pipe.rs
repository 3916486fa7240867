//! Bytes on the pipe between emperor and vassal; numbers are uWSGI's.

/// To the vassal: stop at once.
pub const STOP: u8 = 0;
pub const RELOAD: u8 = 1;
pub const STOP_GRACEFULLY: u8 = 2;

/// To the emperor: the master runs.
pub const SPAWNED: u8 = 1;
/// Send the configuration (once more): of a vassal without a file.
pub const SEND_CONFIG: u8 = 2;
pub const ACCEPTING: u8 = 5;
pub const LOYAL: u8 = 17;
pub const STOP_ME: u8 = 22;
pub const HEARTBEAT: u8 = 26;
pub const REINFORCEMENTS: u8 = 30;

//! The system calls that `std` and `nix` lack, behind safe functions.
//!
//! This is the only crate of ours whose point is `unsafe`: everything above it (but the shared-memory
//! cache and the language plugins) forbids it. What `nix` already offers safely is used directly.

pub mod caps;
pub mod counting;
pub mod crash;
pub mod environ;
pub mod fork;
pub mod interrupt;
pub mod landlock;
pub mod localtime;
pub mod memory;
pub mod process;
pub mod robust;
pub mod room;
pub mod segment;
pub mod seqpacket;
pub mod shm;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod title;

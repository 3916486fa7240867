//! The emperor above this one, if it is a vassal itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use imperator_sys::process;
use nix::errno::Errno;

use super::core::byte;

/// Environment variable with the number of a vassal's end of the pipe.
pub const FD_ENV: &str = "UWSGI_EMPEROR_FD";

/// Our end of the pipe.
pub struct Above {
    pipe: OwnedFd,
}

/// What it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Nothing,
    Stop,
    Reload,
    /// It has ended.
    Gone,
}

impl Above {
    /// `None`: there is none.
    ///
    /// # Errors
    /// The variable does not hold the number of a descriptor that was handed over.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        let Ok(text) = std::env::var(FD_ENV) else { return Ok(None) };
        let number = text.parse().with_context(|| format!("{FD_ENV}={text} is no number"))?;
        let pipe = process::take_inherited(number).with_context(|| format!("{FD_ENV}={text}"))?;
        process::set_nonblocking(pipe.as_fd(), true)?;
        Ok(Some(Self { pipe }))
    }

    /// An emperor serves no request that could make it loyal: it is, from the start.
    pub fn report(&self) {
        let _ = nix::unistd::write(&self.pipe, &[byte::SPAWNED, byte::ACCEPTING, byte::LOYAL]);
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// The last word of those that wait; a stop is never overtaken by a reload.
    pub fn read(&mut self) -> Order {
        let mut order = Order::Nothing;
        let mut bytes = [0; 64];
        loop {
            match nix::unistd::read(&self.pipe, &mut bytes) {
                Ok(0) | Err(Errno::ECONNRESET) => return Order::Gone,
                Ok(n) => {
                    for b in &bytes[..n] {
                        order = match *b {
                            byte::STOP | byte::STOP_GRACEFULLY => Order::Stop,
                            byte::RELOAD if order != Order::Stop => Order::Reload,
                            _ => order,
                        };
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return order,
            }
        }
    }
}

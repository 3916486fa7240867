//! Being a vassal: one byte at a time with the emperor (spec: emperor, part 5).

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use imperator_sys::process;
use imperator_worker::log::diag::say;

use super::Start;
use super::decide::{Event, Haste};
use super::order::Order;
use super::poll::Source;
use super::running::Master;
use crate::pipe;

pub use crate::pipe::{ACCEPTING, HEARTBEAT, LOYAL, REINFORCEMENTS, SPAWNED, STOP_ME};

/// The variable that names the pipe.
pub const FD_ENV: &str = "UWSGI_EMPEROR_FD";

/// The pipe, on a first start.
///
/// # Errors
/// The variable is there, and no such descriptor.
pub fn pipe(start: &Start) -> anyhow::Result<Option<File>> {
    let Some(number) = start.var(FD_ENV) else { return Ok(None) };
    let fd = process::take_inherited(number.parse().map_err(|_| anyhow::anyhow!("{FD_ENV}={number} is no number"))?)?;
    process::set_nonblocking(fd.as_fd(), true)?;
    Ok(Some(fd.into()))
}

/// The descriptor that a configuration without a file comes over, on a first start: it has to live through reloads.
pub fn config_channel(start: &Start) -> Option<File> {
    let number = start.var(crate::config::reader::from_emperor::FD_ENV)?.parse().ok()?;
    process::take_inherited(number).ok().map(File::from)
}

impl Master {
    /// Tells the emperor; whether there is one. A full pipe loses the byte: it says nothing that is not said again or does not matter by then.
    pub(super) fn tell_emperor(&mut self, byte: u8) -> bool {
        let Some(pipe) = &mut self.emperor else { return false };
        let _ = pipe.write(&[byte]);
        true
    }

    pub(super) fn on_emperor(&mut self) {
        let mut bytes = [0; 64];
        let Some(pipe) = &mut self.emperor else { return };
        match pipe.read(&mut bytes) {
            Ok(0) => self.emperor_lost(),
            Ok(n) => {
                // All are counted before the first is followed, which may be the end of this life.
                let reloads = bytes[..n].iter().filter(|byte| **byte == pipe::RELOAD).count();
                self.asked.iter_mut().for_each(|asked| asked.heard(reloads as u64));
                bytes[..n].iter().for_each(|byte| self.hear_emperor(*byte));
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.emperor_lost(),
        }
    }

    fn hear_emperor(&mut self, byte: u8) {
        match byte {
            pipe::STOP => {
                self.run_phase("emperor-stop");
                self.obey(&Order::Stop);
            }
            pipe::RELOAD => {
                self.run_phase("emperor-reload");
                self.obey(&Order::Reload);
            }
            pipe::STOP_GRACEFULLY => self.obey(&Order::GracefulStop),
            _ => {}
        }
    }

    fn emperor_lost(&mut self) {
        say("*** the emperor is gone: ending ***");
        if let Some(pipe) = self.emperor.take() {
            self.poll.remove(&pipe);
        }
        self.run_phase("emperor-lost");
        self.tell(Event::Stop { haste: Haste::Now, code: 1 });
    }

    pub(super) fn watch_emperor(&mut self) -> std::io::Result<()> {
        self.emperor.as_ref().map_or(Ok(()), |pipe| self.poll.add(pipe, Source::Emperor))
    }
}

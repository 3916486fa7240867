//! Descriptors that whoever started us left open, and what follows when there is something to read (`alarm-fd`, `reload-on-fd`, `brutal-reload-on-fd`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use imperator_sys::process::{duplicate, set_nonblocking};
use imperator_worker::log::diag::say;
use imperator_worker::settings::{Descriptor, DescriptorDeed, Settings};
use nix::errno::Errno;

use super::handover;
use super::order::Order;
use super::poll::Source;
use super::running::Master;

#[derive(Default)]
pub struct Descriptors {
    /// By the number that they had when we were started. Kept over reloads, also while no line names them.
    held: BTreeMap<i32, OwnedFd>,
    watched: Vec<Descriptor>,
}

impl Descriptors {
    /// # Errors
    /// One of them is not there.
    pub fn resume(kept: Vec<(i32, i32)>) -> Result<Self> {
        let held = kept.into_iter().map(|(number, fd)| Ok((number, handover::take(fd)?))).collect::<Result<_>>()?;
        Ok(Self { held, watched: vec![] })
    }

    pub fn handover(&self) -> Vec<(i32, i32)> {
        self.held.iter().map(|(number, fd)| (*number, fd.as_raw_fd())).collect()
    }
}

impl Master {
    /// Those of these settings and no others.
    ///
    /// # Errors
    /// One that is not open, or that nothing can be waited for on (a file).
    pub(super) fn watch_descriptors(&mut self, settings: &Settings) -> Result<()> {
        self.descriptors.held.values().for_each(|fd| self.poll.remove(fd));
        self.descriptors.watched.clone_from(&settings.background.descriptors);
        for (index, Descriptor { fd: number, deed, .. }) in (0..).zip(&settings.background.descriptors) {
            let option = match deed {
                DescriptorDeed::Alarm(_) => "alarm-fd",
                DescriptorDeed::Reload => "reload-on-fd",
                DescriptorDeed::BrutalReload => "brutal-reload-on-fd",
            };
            let failed = || format!("{option}: descriptor {number}");
            if !self.descriptors.held.contains_key(number) {
                // After a reload a number that nobody kept is another file's.
                anyhow::ensure!(self.reloads == 0, "{}: it is new in the configuration, which takes a restart", failed());
                let copy = duplicate(*number).with_context(failed)?;
                set_nonblocking(copy.as_fd(), true).with_context(failed)?;
                self.descriptors.held.insert(*number, copy);
            }
            self.poll.add(&self.descriptors.held[number], Source::Descriptor(index)).with_context(failed)?;
        }
        Ok(())
    }

    pub(super) fn on_descriptor(&mut self, index: u32) {
        let Some(line) = self.descriptors.watched.get(index as usize).cloned() else { return };
        let Some(fd) = self.descriptors.held.get(&line.fd) else { return };
        let mut bytes = vec![0; line.bytes as usize];
        match nix::unistd::read(fd, &mut bytes) {
            Ok(n) if n > 0 => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            ended => {
                // For ever readable, and nothing to read.
                self.poll.remove(fd);
                say(&format!("descriptor {}: nothing more comes ({ended:?}), it is not watched any more", line.fd));
                return;
            }
        }
        for line in self.descriptors.watched.clone().iter().filter(|other| other.fd == line.fd) {
            self.descriptor_speaks(line);
        }
    }

    fn descriptor_speaks(&mut self, line: &Descriptor) {
        match &line.deed {
            DescriptorDeed::Alarm(name) => self.raise(name, &line.message),
            DescriptorDeed::Reload | DescriptorDeed::BrutalReload => {
                say(&format!("descriptor {} asks for a reload {}", line.fd, line.message));
                let brutal = line.deed == DescriptorDeed::BrutalReload;
                self.obey(if brutal { &Order::BrutalReload } else { &Order::Reload });
            }
        }
    }
}

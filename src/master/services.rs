//! What the master serves beside its processes: statistics, the FIFO, touched files. Each is one descriptor of the loop.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result};
use imperator_worker::control::{ToWorker, ToZygote};
use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;

use super::decide::Ms;
use super::poll::{Poll, Source};
use super::running::Master;
use crate::fifo::{Command, Fifo};
use crate::hooks::{Action, Effects};
use crate::logs::Outcome;
use crate::stats::StatsServer;
use crate::watch::{Touch, Watcher, watched};

pub const LOGS: u32 = 3;
pub const ZERG: u32 = 4;
const STATS: u32 = 0;
const WATCHER: u32 = 1;
const FIFO: u32 = 2;

/// A listener that a reload took over, with its address.
pub type KeptStats = Option<(OwnedFd, String)>;

#[derive(Default)]
pub struct Services {
    /// With the address that it was asked for.
    pub stats: Option<(StatsServer, String)>,
    watcher: Option<Watcher>,
    fifo: Option<Fifo>,
}

impl Services {
    /// All that the settings ask for.
    ///
    /// # Errors
    /// An address or a FIFO that cannot be had, a line that makes no sense.
    pub fn open(settings: &Settings, kept: KeptStats, poll: &Poll) -> Result<Self> {
        let stats = match (&settings.stats.address, kept) {
            (None, _) => None,
            (Some(address), Some((fd, old))) if *address == old => Some((StatsServer::adopt(fd, settings.stats.http)?, old)),
            (Some(address), _) => Some((StatsServer::bind("stats", address, settings.stats.http)?, address.clone())),
        };
        let watcher = Watcher::new(watched(settings)?, Instant::now()).context("watching files")?;
        let fifo = Fifo::open(&settings.process.master_fifo)?;
        let services = Self { stats, watcher, fifo };
        services.register(poll)?;
        Ok(services)
    }

    /// Statistics are answered from now on: the socket is there from the start, so that tools wait on it until the instance is up, as with uWSGI.
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer(&self, poll: &Poll) -> std::io::Result<()> {
        self.stats.as_ref().map_or(Ok(()), |(stats, _)| poll.add(stats, Source::Service(STATS)))
    }

    fn register(&self, poll: &Poll) -> std::io::Result<()> {
        if let Some(watcher) = &self.watcher {
            poll.add(watcher, Source::Service(WATCHER))?;
        }
        if let Some(fifo) = &self.fifo {
            poll.add(fifo, Source::Service(FIFO))?;
        }
        Ok(())
    }

    /// When one of them has something to do without being spoken to.
    pub fn next_deadline(&self, now: Ms) -> Option<Ms> {
        let stats = self.stats.as_ref().and_then(|(s, _)| s.next_deadline());
        let watcher = self.watcher.as_ref().and_then(Watcher::next_deadline);
        let at = stats.into_iter().chain(watcher).min()?;
        // One millisecond more, so that it is not a little too early to be due.
        Some(now + at.saturating_duration_since(Instant::now()).as_millis() as Ms + 1)
    }
}

impl Master {
    pub(super) fn on_service(&mut self, service: u32) {
        match service {
            STATS => self.serve_stats(),
            WATCHER => {
                if let Some(watcher) = &mut self.services.watcher {
                    watcher.on_ready(Instant::now());
                }
            }
            FIFO => self.read_fifo(),
            LOGS => self.logs.on_ready(),
            ZERG => self.serve_zergs(),
            _ => {}
        }
    }

    pub(super) fn logs_due(&self, now: Ms) -> Option<Ms> {
        let at = self.logs.next_deadline()?;
        Some(now + at.saturating_duration_since(Instant::now()).as_millis() as Ms + 1)
    }

    pub(super) fn services_due(&mut self) {
        let now = Instant::now();
        if let Some((stats, _)) = &mut self.services.stats {
            stats.on_deadline(now);
        }
        let events = self.services.watcher.as_mut().map(|w| w.on_deadline(now));
        self.touched(events.unwrap_or_default());
        let outcome = self.logs.on_deadline(now);
        self.logs_changed(outcome);
    }

    /// Opens the log files anew, after moving them aside if `rotate`.
    pub(super) fn reopen_logs(&mut self, rotate: bool) {
        let outcome = if rotate { self.logs.rotate() } else { self.logs.reopen() };
        self.logs_changed(outcome);
    }

    /// Zygotes and workers write to the new file from now on.
    fn logs_changed(&self, outcome: Outcome) {
        outcome.errors.iter().for_each(|error| say(&error.to_string()));
        if !outcome.changed {
            return;
        }
        let log = self.logs.stderr();
        for runtime in self.runtimes.values() {
            // Who cannot be told is on its way out.
            let _ = runtime.zygote.as_ref().map(|z| z.send(&ToZygote::Logs, &[log]));
            runtime.workers.values().for_each(|w| drop(w.send(&ToWorker::Logs, &[log])));
        }
    }

    fn serve_stats(&mut self) {
        let Some((mut server, address)) = self.services.stats.take() else { return };
        server.on_ready(Instant::now(), &mut || self.stats());
        self.services.stats = Some((server, address));
    }

    fn touched(&mut self, events: Vec<crate::watch::Event>) {
        for event in events {
            say(&format!("*** {} has been touched ***", event.path.display()));
            match event.what {
                Touch::Order(order) => self.obey(&order),
                Touch::LogReopen => self.reopen_logs(false),
                Touch::LogRotate => self.reopen_logs(true),
                Touch::Run(action) => self.start_action(&action),
            }
        }
    }

    fn start_action(&mut self, action: &Action) {
        let mut effects = Effects::default();
        // A command becomes a child that is reaped with all others.
        if let Err(error) = action.spawn(&mut effects) {
            say(&format!("touch: {error}"));
        }
        self.effects(&effects);
    }

    fn read_fifo(&mut self) {
        let Some(fifo) = &mut self.services.fifo else { return };
        let (commands, error) = fifo.on_ready();
        if let Some(error) = error {
            say(&error.to_string());
        }
        if let Some(fifo) = &self.services.fifo {
            // A digit may have opened another one.
            let _ = self.poll.add(fifo.as_fd(), Source::Service(FIFO));
        }
        for command in commands {
            match command {
                Command::Order(order) => self.obey(&order),
                Command::LogReopen => self.reopen_logs(false),
                Command::LogRotate => self.reopen_logs(true),
            }
        }
    }
}

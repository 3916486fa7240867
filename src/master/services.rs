//! What the master serves beside its processes: statistics, the FIFO, touched files. Each is one descriptor of the loop.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result};
use imperator_worker::control::{ToWorker, ToZygote};
use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;

use super::answers::{Answers, Kept};
use super::decide::Ms;
use super::poll::{Poll, Source};
use super::running::Master;
use crate::fifo::{Command, Fifo};
use crate::logs::Outcome;
use crate::watch::{Touch, Watcher, watched};

pub const LOGS: u32 = 3;
pub const ZERG: u32 = 4;
/// From here on, those on which changes of caches come.
pub const UDP: u32 = 1000;
const WATCHER: u32 = 1;
const FIFO: u32 = 2;
/// The first of [`Answers`]; the others follow.
pub const ANSWERS: u32 = 16;

#[derive(Default)]
pub struct Services {
    pub answers: Answers,
    watcher: Option<Watcher>,
    fifo: Option<Fifo>,
}

impl Services {
    /// All that the settings ask for.
    ///
    /// # Errors
    /// An address or a FIFO that cannot be had, a line that makes no sense.
    pub fn open(settings: &Settings, kept: Kept, poll: &Poll) -> Result<Self> {
        let answers = Answers::open(settings, kept)?;
        let watcher = Watcher::new(watched(settings)?, Instant::now()).context("watching files")?;
        let fifo = Fifo::open(&settings.process.master_fifo)?;
        let services = Self { answers, watcher, fifo };
        services.register(poll)?;
        Ok(services)
    }

    /// Takes all of them out of the loop.
    pub fn retire(&mut self, poll: &Poll) -> Kept {
        self.watcher.take().iter().for_each(|watcher| poll.remove(watcher));
        self.fifo.take().iter().for_each(|fifo| poll.remove(fifo));
        self.answers.retire(poll)
    }

    /// Statistics are answered from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer(&self, poll: &Poll) -> std::io::Result<()> {
        self.answers.answer(poll, true)
    }

    fn register(&self, poll: &Poll) -> std::io::Result<()> {
        self.answers.answer(poll, false)?;
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
        let watcher = self.watcher.as_ref().and_then(Watcher::next_deadline);
        let at = self.answers.next_deadline().into_iter().chain(watcher).min()?;
        // One millisecond more, so that it is not a little too early to be due.
        Some(now + at.saturating_duration_since(Instant::now()).as_millis() as Ms + 1)
    }
}

impl Master {
    pub(super) fn on_service(&mut self, service: u32) {
        match service {
            WATCHER => {
                if let Some(watcher) = &mut self.services.watcher {
                    watcher.on_ready(Instant::now());
                }
            }
            FIFO => self.read_fifo(),
            LOGS => {
                self.logs.on_ready();
                self.raise_for_lines();
            }
            ZERG => self.serve_zergs(),
            UDP.. => self.hear_peer((service - UDP) as usize),
            answer => self.serve_answers(answer.wrapping_sub(ANSWERS)),
        }
    }

    pub(super) fn logs_due(&self, now: Ms) -> Option<Ms> {
        let at = self.logs.next_deadline()?;
        Some(now + at.saturating_duration_since(Instant::now()).as_millis() as Ms + 1)
    }

    pub(super) fn services_due(&mut self) {
        let now = Instant::now();
        self.services.answers.on_deadline(now);
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

    fn touched(&mut self, events: Vec<crate::watch::Event>) {
        for event in events {
            say(&format!("*** {} has been touched ***", event.path.display()));
            match event.what {
                Touch::Order(order) => self.obey(&order),
                Touch::LogReopen => self.reopen_logs(false),
                Touch::LogRotate => self.reopen_logs(true),
                Touch::Daemon(daemon) => self.daemon_touched(&daemon),
                Touch::Run(action) => self.touched_action(&action),
            }
        }
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

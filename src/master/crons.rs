//! Cron lines of the configuration: started in their minute, killed when they last too long.
//!
//! The master sleeps until the next minute in which a line is due, by a timer of the wall clock that also goes off when that clock is set.

use std::os::fd::AsFd;

use anyhow::Result;
use imperator_sys::localtime::local;
use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use imperator_worker::settings::{Cron, Settings};
use nix::libc::{SIGKILL, SIGTERM};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use super::decide::{Ms, next_due};
use super::helper::Helper;
use super::poll::{Poll, Source};
use super::running::{Master, send_signal_to_group};
use super::setup::epoch;
use crate::stats::CronRow;

/// A line that is later than this (the clock was set, the machine slept) waits for its next time.
const LATEST: i64 = 3600;

#[derive(Default)]
pub struct Crons {
    entries: Vec<Entry>,
    clock: Option<TimerFd>,
}

/// One line. It is also what a reload hands over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    line: Cron,
    /// Epoch seconds.
    next: Option<i64>,
    /// The minute in which it was started last.
    last: Option<i64>,
    runs: Vec<Run>,
    /// The configuration has no such line any more.
    forgotten: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    pid: i32,
    /// Epoch seconds.
    since: u64,
    kill_at: Option<Ms>,
}

impl Entry {
    fn new(line: Cron) -> Self {
        Self { line, next: None, last: None, runs: vec![], forgotten: false }
    }

    /// Finds its next minute, this one included if it has not been started in it.
    fn schedule(&mut self, now: i64) {
        let this = now - now.rem_euclid(60);
        let from = if self.last == Some(this) { this + 60 } else { this };
        self.next = if self.forgotten { None } else { next_due(&self.line, from, &|at| i64::from(local(at).offset)) };
    }

    /// Whether it is to be started; if its minute has come, it waits for the next one.
    fn is_due(&mut self, now: i64) -> bool {
        let Some(due) = self.next.filter(|due| *due <= now) else { return false };
        self.last = Some(now - now.rem_euclid(60));
        self.schedule(now);
        now - due < LATEST && (!self.line.unique || self.runs.is_empty())
    }
}

impl Crons {
    /// What statistics say of them.
    pub fn rows(&self) -> Vec<CronRow> {
        let row = |e: &Entry| CronRow {
            minute: e.line.minute,
            hour: e.line.hour,
            day: e.line.day,
            month: e.line.month,
            week: e.line.week,
            command: e.line.command.clone(),
            unique: e.line.unique.into(),
            legion: "",
            pid: e.runs.last().map_or(-1, |run| run.pid),
            started_at: e.runs.last().map_or(e.last.unwrap_or(0).unsigned_abs(), |run| run.since),
        };
        self.entries.iter().filter(|e| !e.forgotten).map(row).collect()
    }

    /// Of a command that lasts too long.
    pub fn next_deadline(&self) -> Option<Ms> {
        self.entries.iter().flat_map(|e| &e.runs).filter_map(|run| run.kill_at).min()
    }

    pub fn handover(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    /// Sets the clock to the next minute in which something is due.
    fn set_clock(&mut self, poll: &Poll) -> Result<()> {
        let Some(next) = self.entries.iter().filter_map(|e| e.next).min() else { return Ok(()) };
        let clock = match &self.clock {
            Some(clock) => clock,
            None => {
                let clock = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
                poll.add(clock.as_fd(), Source::Clock)?;
                self.clock.insert(clock)
            }
        };
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(clock.set(Expiration::OneShot(TimeSpec::seconds(next)), flags)?)
    }
}

impl Master {
    /// Commands of the life before go on.
    pub(super) fn resume_crons(&mut self, kept: Vec<Entry>) {
        self.crons.entries = kept;
        self.look_at_clock();
    }

    /// A configuration serves from now on: its lines count.
    pub(super) fn settle_crons(&mut self, settings: &Settings) {
        let mut wanted = settings.background.crons.clone();
        for entry in &mut self.crons.entries {
            let place = wanted.iter().position(|line| *line == entry.line);
            place.map(|place| wanted.remove(place));
            entry.forgotten = place.is_none();
        }
        self.crons.entries.retain(|e| !e.forgotten || !e.runs.is_empty());
        self.crons.entries.extend(wanted.into_iter().map(Entry::new));
        self.look_at_clock();
    }

    pub(super) fn on_clock(&mut self) {
        // An error tells that the clock was set, which is looked at just the same.
        let _ = self.crons.clock.as_ref().map(TimerFd::wait);
        self.look_at_clock();
    }

    fn look_at_clock(&mut self) {
        let now = epoch() as i64;
        for index in 0..self.crons.entries.len() {
            if self.crons.entries[index].is_due(now) {
                self.start_cron(index);
            }
            self.crons.entries[index].schedule(now);
            if self.crons.entries[index].is_due(now) {
                self.start_cron(index);
            }
        }
        if let Err(error) = self.crons.set_clock(&self.poll) {
            say(&format!("cron lines have no clock: {error:#}"));
        }
    }

    fn start_cron(&mut self, index: usize) {
        let line = self.crons.entries[index].line.clone();
        if self.instance.ending.is_some() {
            return;
        }
        match self.start_helper(&Helper { command: &line.command, tied: true, ..Helper::default() }) {
            Ok(pid) => {
                say(&format!("[uwsgi-cron] running \"{}\" (pid {pid})", line.command));
                let limit = line.harakiri.or(self.last_settings.as_ref().map(|s| s.background.cron_harakiri)).filter(|limit| *limit > 0);
                let kill_at = limit.map(|limit| monotonic_ms() + Ms::from(limit) * 1000);
                self.crons.entries[index].runs.push(Run { pid: pid.as_raw(), since: epoch(), kill_at });
            }
            Err(error) => say(&format!("[uwsgi-cron] cannot run \"{}\": {error:#}", line.command)),
        }
    }

    pub(super) fn crons_due(&mut self) {
        let now = monotonic_ms();
        for entry in &mut self.crons.entries {
            for run in entry.runs.iter_mut().filter(|run| run.kill_at.is_some_and(|at| at <= now)) {
                run.kill_at = None;
                say(&format!("*** HARAKIRI of the cron command \"{}\" (pid: {}): it lasts too long ***", entry.line.command, run.pid));
                send_signal_to_group(run.pid, SIGKILL);
            }
        }
    }

    /// A child has ended: whether it was one of these.
    pub(super) fn cron_ended(&mut self, pid: i32) -> bool {
        let Some(entry) = self.crons.entries.iter_mut().find(|e| e.runs.iter().any(|run| run.pid == pid)) else { return false };
        let run = entry.runs.iter().position(|run| run.pid == pid).map(|place| entry.runs.remove(place));
        let seconds = run.map_or(0, |run| epoch().saturating_sub(run.since));
        say(&format!("[uwsgi-cron] command \"{}\" running with pid {pid} exited after {seconds} second(s)", entry.line.command));
        true
    }

    /// The instance ends, and nothing of it stays.
    pub(super) fn end_crons(&mut self) {
        self.crons.entries.iter().flat_map(|e| &e.runs).for_each(|run| send_signal_to_group(run.pid, SIGTERM));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_started_once_in_its_minute_also_over_a_reload() {
        let mut entry = Entry::new(Cron { command: "x".into(), ..Cron::default() });
        entry.schedule(125);
        assert_eq!((entry.next, entry.is_due(125), entry.is_due(125), entry.next), (Some(120), true, false, Some(180)));
        let mut kept: Entry = serde_json::from_str(&serde_json::to_string(&entry).expect("json")).expect("back");
        kept.schedule(140);
        assert!(!kept.is_due(140) && kept.is_due(180));
    }

    #[test]
    fn a_unique_line_waits_for_its_own_end_and_one_that_is_much_too_late_for_its_next_time() {
        let mut entry = Entry::new(Cron { unique: true, ..Cron::default() });
        entry.schedule(120);
        entry.runs.push(Run { pid: 1, since: 60, kill_at: None });
        assert!(!entry.is_due(120));
        entry.runs.clear();
        assert!(!entry.is_due(119) && entry.is_due(190));
        assert!(!entry.is_due(250 + LATEST), "the clock was set");
        assert_eq!(entry.next, Some(250 + LATEST - (250 + LATEST) % 60 + 60));
    }
}

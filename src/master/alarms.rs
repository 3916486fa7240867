//! Alarms: a command with the message on its standard input, or a line in the log. The master waits for none of them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use imperator_worker::settings::{AlarmDeed, Settings};

use super::decide::Ms;
use super::helper::Helper;
use super::running::Master;
use super::spawn::memfd;
use crate::sockets::Bound;

/// Commands of alarms that may run at a time.
const MOST_COMMANDS: usize = 32;
/// Messages that are remembered for `alarm-freq`.
const MOST_REMEMBERED: usize = 256;
/// Between two looks at the queues (`alarm-backlog`).
const LOOK: Ms = 1000;

#[derive(Default)]
pub struct Alarms {
    recent: Recent,
    commands: Vec<i32>,
    /// When the queues are looked at; `None`: nobody asks.
    look_at: Option<Ms>,
}

/// What was raised a short time ago.
#[derive(Default)]
struct Recent {
    raised: BTreeMap<(String, String), Ms>,
}

impl Recent {
    /// Whether this message may be raised: the same one has not been for `pause`.
    fn admits(&mut self, name: &str, message: &str, pause: Ms, now: Ms) -> bool {
        self.raised.retain(|_, at| now.saturating_sub(*at) < pause);
        let key = (name.to_owned(), message.to_owned());
        if self.raised.contains_key(&key) || self.raised.len() >= MOST_REMEMBERED {
            return false;
        }
        self.raised.insert(key, now);
        true
    }
}

impl Alarms {
    pub fn next_deadline(&self) -> Option<Ms> {
        self.look_at
    }
}

impl Master {
    /// Raises the alarm of that name; one that is not configured is told in the log.
    pub(super) fn raise(&mut self, name: &str, message: &str) {
        self.raise_text(name, message, "");
    }

    fn raise_text(&mut self, name: &str, message: &str, end: &str) {
        let Some(settings) = self.last_settings.clone() else { return };
        let rules = &settings.background.alarms;
        let message = cut(message, rules.message_bytes as usize);
        if !self.alarms.recent.admits(name, message, Ms::from(rules.freq) * 1000, monotonic_ms()) {
            return;
        }
        let mut known = false;
        for alarm in rules.alarms.iter().filter(|alarm| alarm.name == name) {
            known = true;
            match &alarm.deed {
                AlarmDeed::Log(first) if first.is_empty() => say(&format!("[uwsgi-alarm] ALARM: {message}")),
                AlarmDeed::Log(first) => say(&format!("[uwsgi-alarm] ALARM: {first} {message}")),
                AlarmDeed::Command(command) => self.run_alarm(name, command, &format!("{message}{end}")),
            }
        }
        if !known {
            say(&format!("[uwsgi-alarm] there is no alarm {name:?}, which was to say: {message}"));
        }
    }

    fn run_alarm(&mut self, name: &str, command: &str, text: &str) {
        if self.alarms.commands.len() >= MOST_COMMANDS {
            return say(&format!("[uwsgi-alarm] {name}: {MOST_COMMANDS} commands run already, this one does not: {}", text.trim_end()));
        }
        let started = memfd("imperator-alarm", text.as_bytes())
            .and_then(|text| self.start_helper(&Helper { command, stdin: Some(text.as_fd()), tied: true, ..Helper::default() }));
        match started {
            Ok(pid) => self.alarms.commands.push(pid.as_raw()),
            Err(error) => say(&format!("[uwsgi-alarm] {name}: {error:#}")),
        }
    }

    /// A child has ended: whether it was the command of an alarm.
    pub(super) fn alarm_ended(&mut self, pid: i32) -> bool {
        let before = self.alarms.commands.len();
        self.alarms.commands.retain(|command| *command != pid);
        self.alarms.commands.len() != before
    }

    /// A process of the instance crashed.
    pub(super) fn crashed(&mut self, worker: u32, pid: i32) {
        let Some(settings) = self.last_settings.clone() else { return };
        for name in &settings.background.alarms.segfault {
            self.raise(name, &format!("worker {worker} (pid: {pid}) got a segmentation fault"));
        }
    }

    /// Lines of the log that somebody wants to know of.
    pub(super) fn raise_for_lines(&mut self) {
        for (name, line) in self.logs.alarming() {
            self.raise_text(&name, &line, "\n");
        }
    }

    pub(super) fn watch_queues(&mut self, settings: &Settings) {
        let watched = !settings.background.alarms.backlog.is_empty();
        self.alarms.look_at = watched.then(|| monotonic_ms() + LOOK);
    }

    pub(super) fn queues_due(&mut self) {
        let now = monotonic_ms();
        if self.alarms.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.alarms.look_at = Some(now + LOOK);
        let Some(runtime) = self.current().map(|(_, runtime)| runtime) else { return };
        let names = runtime.settings.background.alarms.backlog.clone();
        let full: Vec<String> = runtime.listeners.iter().filter_map(full).collect();
        for (name, message) in names.iter().flat_map(|name| full.iter().map(move |message| (name, message))) {
            self.raise(name, message);
        }
    }
}

fn full(bound: &Bound) -> Option<String> {
    let (queue, most) = imperator_sys::socket::listen_queue(bound.fd.as_fd()).ok()?;
    (most > 0 && queue >= most).then(|| format!("the listen queue of socket {} is full ({queue}/{most})", bound.label.name))
}

/// As much of `message` as `most` bytes hold, in whole letters, up to its first line end.
fn cut(message: &str, most: usize) -> &str {
    let line = message.lines().next().unwrap_or("");
    let end = (0..=most.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_is_not_repeated_sooner_and_others_are_their_own() {
        let mut recent = Recent::default();
        assert!(recent.admits("a", "x", 3000, 0) && recent.admits("a", "y", 3000, 0) && recent.admits("b", "x", 3000, 0));
        assert!(!recent.admits("a", "x", 3000, 2999));
        assert!(recent.admits("a", "x", 3000, 3000));
        assert!(recent.admits("a", "z", 0, 3000) && recent.admits("a", "z", 0, 3000), "0 is off");
    }

    #[test]
    fn a_flood_of_messages_is_bounded() {
        let mut recent = Recent::default();
        let admitted = (0..1000).filter(|n| recent.admits("a", &n.to_string(), 3000, 0)).count();
        assert_eq!((admitted, recent.admits("a", "later", 3000, 3000)), (MOST_REMEMBERED, true));
    }

    #[test]
    fn messages_are_cut_between_letters() {
        assert_eq!((cut("häß", 2), cut("häß", 99), cut("one\ntwo", 99), cut("", 5)), ("h", "häß", "one", ""));
    }
}

//! What the master answers to whoever asks over a socket: statistics, Prometheus' metrics, health.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::Result;
use imperator_worker::settings::Settings;
use serde::{Deserialize, Serialize};

use super::handover;
use super::poll::{Poll, Source};
use super::running::Master;
use super::services::ANSWERS;
use crate::stats::{Page, StatsServer, Style, prometheus};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    Stats,
    Prometheus,
    Health,
}

const ALL: [Question; 3] = [Question::Stats, Question::Prometheus, Question::Health];

impl Question {
    fn option(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Prometheus => "stats-prometheus",
            Self::Health => "health-socket",
        }
    }

    fn address(self, settings: &Settings) -> Option<&str> {
        let stats = &settings.stats;
        let address = match self {
            Self::Stats => &stats.address,
            Self::Prometheus => &stats.prometheus,
            Self::Health => &stats.health,
        };
        address.as_deref()
    }

    fn style(self, settings: &Settings) -> Style {
        if self == Self::Stats && !settings.stats.http { Style::Bare } else { Style::Http }
    }
}

/// A listener that lives through a reload, with the address that it was asked for.
pub type Kept = Vec<(Question, OwnedFd, String)>;
/// The same in the state that is handed over.
pub type Held = Vec<(Question, i32, String)>;

/// The descriptors of the state.
///
/// # Errors
/// One of them is not there.
pub fn take(held: Held) -> Result<Kept> {
    held.into_iter().map(|(question, fd, address)| Ok((question, handover::take(fd)?, address))).collect()
}

#[derive(Default)]
pub struct Answers {
    servers: Vec<(Question, StatsServer, String)>,
}

impl Answers {
    /// All servers that the settings ask for; a kept listener is used again if its address is the same.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub fn open(settings: &Settings, mut kept: Kept) -> Result<Self> {
        let mut servers = vec![];
        for question in ALL {
            let Some(address) = question.address(settings) else { continue };
            let style = question.style(settings);
            let server = match kept.iter().position(|(q, _, old)| *q == question && old == address) {
                Some(index) => StatsServer::adopt(kept.swap_remove(index).1, style)?,
                None => StatsServer::bind(question.option(), address, style)?,
            };
            servers.push((question, server, address.to_owned()));
        }
        Ok(Self { servers })
    }

    /// Those that answer at any time; statistics do not before the instance is up, and tools wait on their socket until then, as with uWSGI.
    pub fn answer(&self, poll: &Poll, up: bool) -> std::io::Result<()> {
        let mut ready = self.servers.iter().enumerate().filter(|(_, (question, ..))| up || *question != Question::Stats);
        ready.try_for_each(|(index, (_, server, _))| poll.add(server, Source::Service(ANSWERS + index as u32)))
    }

    /// For the state: the listeners stay open.
    pub fn held(&self) -> Held {
        self.servers.iter().map(|(question, server, address)| (*question, server.listener().as_raw_fd(), address.clone())).collect()
    }

    /// Takes them out of the loop; their listeners may be used again.
    pub fn retire(&mut self, poll: &Poll) -> Kept {
        let kept = |(question, server, address): (Question, StatsServer, String)| {
            poll.remove(&server);
            Some((question, server.listener().try_clone_to_owned().ok()?, address))
        };
        std::mem::take(&mut self.servers).into_iter().filter_map(kept).collect()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.servers.iter().filter_map(|(_, server, _)| server.next_deadline()).min()
    }

    pub fn on_deadline(&mut self, now: Instant) {
        self.servers.iter_mut().for_each(|(_, server, _)| server.on_deadline(now));
    }
}

impl Master {
    /// The server of that number has something to do.
    pub(super) fn serve_answers(&mut self, index: u32) {
        let mut answers = std::mem::take(&mut self.services.answers);
        if let Some((question, server, _)) = answers.servers.get_mut(index as usize) {
            server.on_ready(Instant::now(), &mut |path| self.page(*question, path));
        }
        self.services.answers = answers;
    }

    pub(super) fn page(&self, question: Question, path: &str) -> Page {
        match question {
            Question::Stats => Page::json(self.stats()),
            Question::Prometheus => {
                let snapshot = self.snapshot(true);
                prometheus(path, &snapshot, &self.totals(&snapshot), &self.own_metrics())
            }
            Question::Health => self.health(path),
        }
    }

    /// `/live`: this loop runs. `/ready`: a request would be served.
    fn health(&self, path: &str) -> Page {
        match (path, self.instance.unready()) {
            ("/live", _) => Page::text(200, "alive\n"),
            ("/ready", None) => Page::text(200, "ready\n"),
            ("/ready", Some(why)) => Page::text(503, format!("not ready: {why}\n")),
            _ => Page::text(404, "health is at /live and /ready\n"),
        }
    }
}

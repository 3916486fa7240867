//! What comes from vassals: bytes of the protocol, lines, answers. All of it is the word of processes that may be anybody's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use imperator_sys::seqpacket::SeqPacket;
use nix::errno::Errno;

use super::core::Key;
use super::inquiry::Came;
use super::poller::What;
use super::shell::{Shell, now};
use super::taps::After;
use crate::config::reader::from_emperor::packet;

/// Bytes and unasked answers that one vassal may send in [`WINDOW_MS`]: far more than uWSGI's protocol ever needs, and too few to keep us busy.
const CHATTER: u32 = 2000;
const WINDOW_MS: u64 = 10_000;

/// How much a vassal has sent of its own accord.
#[derive(Debug, Default, Clone, Copy)]
pub struct Chatter {
    since_ms: u64,
    count: u32,
}

impl Chatter {
    /// Counts; whether it is too much.
    fn add(&mut self, count: u32, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) > WINDOW_MS {
            *self = Self { since_ms: now_ms, count: 0 };
        }
        self.count = self.count.saturating_add(count);
        self.count > CHATTER
    }
}

impl Shell {
    /// A vassal was started: listens to what it says and answers.
    pub(super) fn listen_to(&mut self, key: &Key, asks: SeqPacket, log: Option<OwnedFd>) -> std::io::Result<()> {
        self.stop_asking(key);
        self.chatter.remove(key);
        self.inquiry.join(key.clone(), asks, false)?;
        if let Some(fd) = self.inquiry.fd(key) {
            self.poller.readable(fd, What::Said(key.clone()))?;
        }
        log.map_or(Ok(()), |log| self.tap(key, log))
    }

    /// Reads what comes out of this pipe from now on.
    pub(super) fn tap(&mut self, key: &Key, log: OwnedFd) -> std::io::Result<()> {
        let file = self.taps.file(&key.id, &self.directory_of(key));
        let (number, closed) = self.taps.join(key.clone(), log, file, now().ms);
        closed.iter().for_each(|(_, fd)| self.poller.remove(fd.as_fd()));
        if let Some(fd) = self.taps.fd(number) {
            self.poller.readable(fd, What::Tap(number))?;
        }
        Ok(())
    }

    /// Bytes on the vassal's pipe, at most one buffer a turn.
    pub(super) fn read_pipe(&mut self, key: &Key) {
        let mut buffer = [0; 256];
        let Some(pipe) = self.pipes.get(key) else { return };
        match nix::unistd::read(pipe.as_fd(), &mut buffer) {
            Ok(0) | Err(Errno::ECONNRESET) => self.hang_up(key),
            Ok(n) => {
                if self.is_chatty(key, n as u32) {
                    tracing::warn!("[emperor] vassal {key}: sends bytes without end over its pipe, which is closed");
                    return self.hang_up(key);
                }
                // What a vassal says before it accepts, here and there, is heard before: whether it will tell when a reload is done.
                if buffer[..n].contains(&crate::pipe::ACCEPTING) && !self.inquiry.speaks(key) {
                    self.hear_answer(key);
                }
                for byte in &buffer[..n] {
                    if *byte == crate::pipe::SEND_CONFIG {
                        self.send_config(key);
                    }
                    let actions = self.core.byte(now(), key, *byte);
                    self.act(actions);
                }
            }
            Err(_) => {}
        }
    }

    /// A vassal without a file asks for its text again.
    fn send_config(&mut self, key: &Key) {
        let text = self.core.vassals.get(key).and_then(|v| self.sources.get(v.source)?.config(&key.id));
        let packet = text.and_then(|text| packet(&text));
        let (Some(channel), Some(packet)) = (self.configs.get(key), packet) else { return };
        if nix::unistd::write(channel, &packet) != Ok(packet.len()) {
            tracing::warn!("[emperor] vassal {key}: does not read the configuration that it asks for");
        }
    }

    /// A source that speaks of its own accord has said something.
    pub(super) fn hear_source(&mut self, number: usize) {
        if self.sources.get_mut(number).is_some_and(|s| s.hear(now().ms)) {
            self.scan();
        }
    }

    /// Puts the descriptors of such sources into the poller, as they are after a look.
    pub(super) fn watch_sources(&mut self) {
        for (number, source) in self.sources.iter().enumerate() {
            let fd = source.fd();
            let raw = fd.map(|fd| fd.as_raw_fd());
            if self.source_fds.get(&number).copied() == raw {
                continue;
            }
            self.source_fds.remove(&number);
            if let Some(fd) = fd
                && self.poller.readable(fd, What::Source(number)).is_ok()
            {
                self.source_fds.insert(number, fd.as_raw_fd());
            }
        }
    }

    fn is_chatty(&mut self, key: &Key, count: u32) -> bool {
        self.chatter.entry(key.clone()).or_default().add(count, now().ms)
    }

    fn hang_up(&mut self, key: &Key) {
        self.close_pipe(key);
        let actions = self.core.hangup(now(), key);
        self.act(actions);
    }

    pub(super) fn close_pipe(&mut self, key: &Key) {
        if let Some(pipe) = self.pipes.remove(key) {
            self.poller.remove(pipe.as_fd());
        }
    }

    /// A vassal's answer to a question, or that it can be asked.
    pub(super) fn hear_answer(&mut self, key: &Key) {
        let waits = self.inquiry.is_asked(key);
        match self.inquiry.on_ready(key) {
            Ok(came) => {
                if !waits && self.is_chatty(key, 1) {
                    return self.stop_asking(key);
                }
                match came {
                    Came::Said(said) => self.hear_said(vec![said]),
                    Came::Unasked(what) => {
                        let actions = self.core.said_unasked(now(), key, what);
                        self.act(actions);
                    }
                    Came::Nothing => {}
                }
                self.push_questions();
                self.finish_jobs();
            }
            Err(()) => self.stop_asking(key),
        }
    }

    pub(super) fn stop_asking(&mut self, key: &Key) {
        let (fd, said) = self.inquiry.leave(key);
        if let Some(fd) = fd {
            self.poller.remove(fd.as_fd());
        }
        if !said.is_empty() {
            self.hear_said(said);
            self.push_questions();
            self.finish_jobs();
        }
    }

    /// One turn of a pipe with a vassal's lines.
    pub(super) fn hear_lines(&mut self, number: u64) {
        let mut lines = self.has_followers().then(Vec::new);
        match self.taps.on_ready(number, now().ms, lines.as_mut()) {
            After::Stay => {}
            After::Rest => {
                if let Some(fd) = self.taps.fd(number) {
                    self.poller.remove(fd);
                }
            }
            After::Gone(fd) => self.poller.remove(fd.0.as_fd()),
        }
        self.tell_followers(lines.unwrap_or_default());
    }

    /// What a vassal has said by now: more than what was read, when its process has just ended or somebody asks.
    pub(super) fn hear_rest(&mut self, key: &Key) {
        let mut lines = self.has_followers().then(Vec::new);
        self.taps.drain(key, now().ms, lines.as_mut());
        self.tell_followers(lines.unwrap_or_default());
    }

    /// The line about a death. Where its own lines are elsewhere, the last of them belongs here.
    pub(super) fn mourn(&self, key: &Key, line: &str) {
        let elsewhere = self.taps.file(&key.id, &self.directory_of(key));
        let words = elsewhere.and_then(|_| self.taps.ring(key)?.last());
        match words {
            Some(words) => tracing::info!("[emperor] {line}; it said last: {words}"),
            None => tracing::info!("[emperor] {line}"),
        }
    }

    /// What is due of all that is listened to.
    pub(super) fn listening_due(&mut self, now_ms: u64) {
        for number in self.taps.rested(now_ms) {
            if let Some(fd) = self.taps.fd(number)
                && let Err(error) = self.poller.readable(fd, What::Tap(number))
            {
                tracing::error!("[emperor] a vassal's log cannot be read any more: {error}");
            }
        }
        let said = self.inquiry.tick(now_ms);
        if !said.is_empty() {
            self.hear_said(said);
            self.push_questions();
            self.finish_jobs();
        }
        self.clients.tick(now_ms);
        self.dashboard.iter_mut().for_each(|d| d.tick(now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flood_is_too_much() {
        let mut chatter = Chatter::default();
        assert!((0..100).all(|n| !chatter.add(256, n * 2 * WINDOW_MS)));
        assert!(!chatter.add(CHATTER - 256, 198 * WINDOW_MS) && chatter.add(1, 199 * WINDOW_MS));
    }
}

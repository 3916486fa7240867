//! What the emperor asks beyond bytes: figures, statistics, metrics. Answered from the same snapshot as the stats server's.

use std::os::fd::AsFd;

use imperator_sys::process;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::log::diag::say;

use super::poll::Source;
use super::running::Master;
use super::{Start, answers, handover};
use crate::ask::{Answer, Ask, FD_ENV, PART, Question, Unasked};
use crate::stats::Figures;

/// The channel, and what of the last answer has not been asked for yet.
pub struct Parts {
    channel: SeqPacket,
    rest: String,
}

impl Parts {
    /// `None`: the channel cannot be made non-blocking.
    pub fn new(channel: SeqPacket) -> Option<Self> {
        channel.set_nonblocking(true).ok()?;
        Some(Self { channel, rest: String::new() })
    }

    pub fn channel(&self) -> &SeqPacket {
        &self.channel
    }

    /// One packet: the first part of `text`, the rest is kept. If the emperor does not read, it has lost its interest.
    pub fn answer(&mut self, number: u64, mut text: String) {
        let mut at = PART.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        self.rest = text.split_off(at);
        let _ = self.channel.send(&Answer { number, part: text, more: !self.rest.is_empty() }, &[]);
    }

    /// The next part.
    pub fn more(&mut self, number: u64) {
        let rest = std::mem::take(&mut self.rest);
        self.answer(number, rest);
    }
}

/// A vassal's master and its emperor's questions.
pub struct Asked {
    parts: Parts,
    /// Words to reload over the pipe, of all lives, and how many of them had come when this life began.
    heard: u64,
    at_birth: u64,
}

impl Asked {
    /// On a first start; `None`: the emperor does not ask, or there is none.
    pub fn of_start(start: &Start) -> Option<Self> {
        let number = start.var(FD_ENV)?;
        let fd = number.parse().ok().and_then(|n| process::take_inherited(n).ok());
        if fd.is_none() {
            say(&format!("{FD_ENV}={number} is no descriptor of ours: the emperor gets no figures"));
        }
        Self::new(SeqPacket::from_fd(fd?), 0)
    }

    /// After a reload's exec.
    pub fn resume(fd: Option<i32>, heard: u64) -> anyhow::Result<Option<Self>> {
        Ok(fd.map(handover::take).transpose()?.map(SeqPacket::from_fd).and_then(|channel| Self::new(channel, heard)))
    }

    fn new(channel: SeqPacket, heard: u64) -> Option<Self> {
        Some(Self { parts: Parts::new(channel)?, heard, at_birth: heard })
    }

    /// So many words to reload have come.
    pub fn heard(&mut self, number: u64) {
        self.heard += number;
    }

    /// For the next life.
    pub fn count(&self) -> u64 {
        self.heard
    }

    /// This life serves, or the one before goes on: what came before it is settled, and the rest is still to be done.
    pub fn settle(&self) {
        let _ = self.parts.channel.send(&Answer::unasked(Unasked::Settled(self.at_birth)), &[]);
    }

    /// Everything so far was refused.
    pub fn settle_all(&self) {
        let _ = self.parts.channel.send(&Answer::unasked(Unasked::Settled(self.heard)), &[]);
    }

    pub fn channel(&self) -> &SeqPacket {
        self.parts.channel()
    }
}

impl Master {
    /// Listens to the emperor's questions and says that it does.
    pub(super) fn be_asked(&mut self, asked: Option<Asked>) -> std::io::Result<()> {
        if let Some(asked) = &asked {
            self.poll.add(asked.channel(), Source::Asked)?;
            let _ = asked.channel().send(&Answer::hello(), &[]);
        }
        self.asked = asked;
        Ok(())
    }

    pub(super) fn on_asked(&mut self) {
        let Some(mut asked) = self.asked.take() else { return };
        match asked.channel().recv::<Ask>() {
            Ok(Some(packet)) => {
                let text = match packet.message.what {
                    Question::Figures => serde_json::to_string(&self.figures()).unwrap_or_default(),
                    Question::Stats => self.stats(),
                    Question::Prometheus => self.page(answers::Question::Prometheus, "/metrics").body.to_string(),
                    Question::More => std::mem::take(&mut asked.parts.rest),
                };
                asked.parts.answer(packet.message.number, text);
            }
            Ok(None) => {
                self.poll.remove(asked.channel().as_fd());
                return;
            }
            Err(_) => {} // not for us, or nothing to read
        }
        self.asked = Some(asked);
    }

    fn figures(&self) -> Figures {
        let snapshot = self.snapshot(true);
        Figures::of(&snapshot, &self.totals(&snapshot))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_answer_goes_in_parts_that_end_with_whole_characters() {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let mut asked = Parts::new(ours).unwrap();
        let text = "x".repeat(PART - 1) + "ü" + "end";
        asked.answer(7, text.clone());
        let first = theirs.recv::<Answer>().unwrap().unwrap().message;
        assert_eq!((first.number, first.part.len(), first.more), (7, PART - 1, true));
        asked.more(8);
        let last = theirs.recv::<Answer>().unwrap().unwrap().message;
        assert_eq!((first.part + &last.part, last.more), (text, false));
    }

    #[test]
    fn a_life_settles_what_came_before_it_and_a_refusal_everything() {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let mut asked = Asked::new(ours, 2).unwrap();
        let said = || theirs.recv::<Answer>().unwrap().unwrap().message.read_unasked();
        asked.heard(1);
        asked.settle();
        assert_eq!((said(), asked.count()), (Some(Unasked::Settled(2)), 3));
        asked.settle_all();
        assert_eq!(said(), Some(Unasked::Settled(3)));
    }
}

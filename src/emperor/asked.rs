//! What our own emperor asks of us, who are its vassal: the sums of what our vassals say, our statistics, the metrics of all.

use std::os::fd::{BorrowedFd, OwnedFd};

use imperator_sys::process;
use imperator_sys::seqpacket::SeqPacket;

use super::command::Gather;
use super::shell::Shell;
use crate::ask::{Answer, Ask, FD_ENV, Question, Unasked};
use crate::master::Parts;
use crate::stats::Figures;

/// Our end of its channel.
pub struct Asked(Parts);

impl Asked {
    /// On a first start; `None`: it does not ask, or there is none.
    pub fn from_environment() -> Option<Self> {
        Self::new(process::take_inherited(std::env::var(FD_ENV).ok()?.parse().ok()?).ok()?)
    }

    /// Says that we answer. Words to reload are not counted: at our word that we accept we are another life already.
    pub fn new(fd: OwnedFd) -> Option<Self> {
        let parts = Parts::new(SeqPacket::from_fd(fd))?;
        let _ = parts.channel().send(&Answer::unasked(Unasked::Hello { counts: false }), &[]);
        Some(Self(parts))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.channel().as_fd()
    }
}

impl Shell {
    pub(super) fn hear_question(&mut self) {
        let Some(asked) = &mut self.asked else { return };
        match asked.0.channel().recv::<Ask>() {
            Ok(Some(packet)) => {
                let number = packet.message.number;
                match packet.message.what {
                    Question::Figures => self.gather(number, Gather::Sum, None),
                    Question::Prometheus => self.gather(number, Gather::Below, None),
                    Question::More => asked.0.more(number),
                    Question::Stats => {
                        let text = self.document();
                        self.answer_above(number, text);
                    }
                }
            }
            Ok(None) => {
                self.poller.remove(asked.fd());
                self.asked = None;
            }
            Err(_) => {} // not for us, or nothing to read
        }
    }

    pub(super) fn answer_above(&mut self, number: u64, text: String) {
        self.asked.iter_mut().for_each(|asked| asked.0.answer(number, text.clone()));
    }
}

/// Of all vassals that answered with figures. The generation is no sum: it stays 0.
pub fn sum<'t>(texts: impl Iterator<Item = &'t String>) -> Figures {
    let all: Vec<Figures> = texts.filter_map(|text| serde_json::from_str(text).ok()).collect();
    let sum = |of: fn(&Figures) -> u64| all.iter().fold(0, |sum: u64, f| sum.saturating_add(of(f)));
    let served: Vec<u64> = all.iter().map(|f| f.avg_rt_us).filter(|us| *us > 0).collect();
    Figures {
        workers: sum(|f| f.workers),
        busy: sum(|f| f.busy),
        idle: sum(|f| f.idle),
        queue: all.iter().map(|f| f.queue).max().unwrap_or(0),
        requests: sum(|f| f.requests),
        errors: sum(|f| f.errors),
        avg_rt_us: served.iter().fold(0, |sum: u64, us| sum.saturating_add(*us)) / served.len().max(1) as u64,
        tx: sum(|f| f.tx),
        rss: sum(|f| f.rss),
        // 0 says that it is not known of one: then it is not of all.
        pss: if all.iter().any(|f| f.rss > 0 && f.pss == 0) { 0 } else { sum(|f| f.pss) },
        generation: 0,
        respawns: sum(|f| f.respawns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_vassals_are_summed() {
        let one = Figures { workers: 2, requests: u64::MAX, queue: 3, avg_rt_us: 10, rss: 5, pss: 2, generation: 4, ..Figures::default() };
        let two = Figures { workers: 1, requests: 7, queue: 1, avg_rt_us: 30, rss: 6, pss: 3, ..Figures::default() };
        let idle = Figures { workers: 1, ..Figures::default() };
        let text = |f: &Figures| serde_json::to_string(f).expect("JSON");
        let texts = [text(&one), text(&two), text(&idle), "nonsense".into()];
        let all = sum(texts.iter());
        let expected = Figures { workers: 4, requests: u64::MAX, queue: 3, avg_rt_us: 20, rss: 11, pss: 5, ..Figures::default() };
        assert_eq!(all, expected);
        assert_eq!(sum([text(&one), text(&Figures { pss: 0, ..two })].iter()).pss, 0);
    }
}

//! What an emperor asks the master of a vassal, and what that answers: over a `SOCK_SEQPACKET` pair of their own beside the one-byte pipe, so that
//! uWSGI's protocol stays what it is. A vassal that is no Imperator never says [`Answer::hello`] and is not asked.

use serde::{Deserialize, Serialize};

/// Names the vassal's end in its environment.
pub const FD_ENV: &str = "IMPERATOR_EMPEROR_ASK_FD";
/// Bytes of one part of an answer: with everything that JSON may make of them still one packet.
pub const PART: usize = 20 * 1024;
/// The longest answer that an emperor takes.
pub const LONGEST: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// [`crate::stats::Figures`] as JSON.
    Figures,
    /// The text of its stats server.
    Stats,
    /// Its metrics in Prometheus' words.
    Prometheus,
    /// The next part of the answer before.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Comes back in the answer. An emperor counts from 1.
    pub number: u64,
    pub what: Question,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the question; 0: nobody asked, the master tells that it is one that answers.
    pub number: u64,
    pub part: String,
    /// There is more: ask for it.
    pub more: bool,
}

/// What a master says unasked, in the part of an answer with the number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// It is one that answers. `counts`: and it will say what becomes of each word to reload.
    Hello { counts: bool },
    /// The first so many words to reload that it has had over the pipe are done, or refused: the byte for "accepting" does not tell whose life it is
    /// from.
    Settled(u64),
}

impl Answer {
    pub fn hello() -> Self {
        Self::unasked(Unasked::Hello { counts: true })
    }

    pub fn unasked(what: Unasked) -> Self {
        let part = match what {
            Unasked::Hello { counts: false } => String::new(),
            Unasked::Hello { counts: true } => "counts".into(),
            Unasked::Settled(number) => format!("settled {number}"),
        };
        Self { number: 0, part, more: false }
    }

    /// What this says, if nobody asked for it. What a newer version may say is a greeting.
    pub fn read_unasked(&self) -> Option<Unasked> {
        let settled = || self.part.strip_prefix("settled ")?.parse().ok();
        (self.number == 0).then(|| settled().map_or(Unasked::Hello { counts: self.part == "counts" }, Unasked::Settled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_unasked_comes_back() {
        for what in [Unasked::Hello { counts: false }, Unasked::Hello { counts: true }, Unasked::Settled(7)] {
            assert_eq!(Answer::unasked(what).read_unasked(), Some(what));
        }
        assert_eq!(Answer { number: 3, part: "counts".into(), more: false }.read_unasked(), None);
        assert_eq!(Answer { number: 0, part: "settled x".into(), more: false }.read_unasked(), Some(Unasked::Hello { counts: false }));
    }
}

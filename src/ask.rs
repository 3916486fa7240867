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

impl Answer {
    pub fn hello() -> Self {
        Self { number: 0, part: String::new(), more: false }
    }
}

//! Asking vassals for figures, statistics and metrics, over the descriptor that [`crate::ask`] describes. Only when somebody asks the emperor; each
//! answer has a deadline and a size; what comes is a vassal's word, and no vassal can keep another's answer back.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use imperator_sys::seqpacket::SeqPacket;

use super::core::Key;
use crate::ask::{Answer, Ask, LONGEST, Question, Unasked};

/// How long a vassal may take to answer.
pub const PATIENCE_MS: u64 = 500;
/// The same in an emperor that has to answer another one in that time.
pub const PATIENCE_BELOW_MS: u64 = 350;
/// Questions that are open at a time, of all vassals: more would only wait for the processor, and run into their deadline.
const OPEN: usize = 32;

/// A question and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub job: u64,
    pub key: Key,
    /// `None`: nothing in time, or nothing that makes sense.
    pub text: Option<String>,
}

/// What came from a vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Nothing that matters, or a part.
    Nothing,
    /// An answer is complete.
    Said(Said),
    Unasked(Unasked),
}

/// The channels to all vassals.
pub struct Inquiry {
    patience_ms: u64,
    channels: BTreeMap<Key, Channel>,
    waiting: VecDeque<(u64, Key, Question)>,
    numbers: u64,
    open: usize,
}

struct Channel {
    packets: SeqPacket,
    /// It has said hello.
    speaks: bool,
    current: Option<Current>,
    /// Answers that came too late or will.
    owed: u32,
}

struct Current {
    job: u64,
    number: u64,
    text: String,
    until: u64,
}

impl Inquiry {
    /// `patience_ms`: how long a vassal may take to answer.
    pub fn new(patience_ms: u64) -> Self {
        Self { patience_ms, channels: BTreeMap::new(), waiting: VecDeque::new(), numbers: 0, open: 0 }
    }

    /// A process of the vassal was started with the other end. `speaks`: it said hello in a life of ours before this one.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub fn join(&mut self, key: Key, packets: SeqPacket, speaks: bool) -> std::io::Result<()> {
        packets.set_nonblocking(true)?;
        self.channels.insert(key, Channel { packets, speaks, current: None, owed: 0 });
        Ok(())
    }

    /// For the poller.
    pub fn fd(&self, key: &Key) -> Option<BorrowedFd<'_>> {
        self.channels.get(key).map(|c| c.packets.as_fd())
    }

    pub fn speaks(&self, key: &Key) -> bool {
        self.channels.get(key).is_some_and(|c| c.speaks)
    }

    /// For the next life: descriptors, and whether they speak.
    pub fn held(&self) -> impl Iterator<Item = (&Key, i32, bool)> {
        self.channels.iter().map(|(key, c)| (key, c.packets.as_fd().as_raw_fd(), c.speaks))
    }

    /// Whether an answer is waited for.
    pub fn is_asked(&self, key: &Key) -> bool {
        self.channels.get(key).is_some_and(|c| c.current.is_some())
    }

    /// Its process is gone: the descriptor, for the poller, and what it owed.
    pub fn leave(&mut self, key: &Key) -> (Option<OwnedFd>, Vec<Said>) {
        let mut said = Vec::new();
        let channel = self.channels.remove(key);
        let owed = channel.as_ref().and_then(|c| c.current.as_ref()).map(|c| c.job);
        self.open -= usize::from(owed.is_some());
        said.extend(owed.map(|job| Said { job, key: key.clone(), text: None }));
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, k, _)| k == key);
        self.waiting = kept.into();
        said.extend(lost.into_iter().map(|(job, key, _)| Said { job, key, text: None }));
        (channel.map(|c| c.packets.into_fd()), said)
    }

    /// Puts a question; the answer comes from one of the other methods. Nothing is put to one that does not speak: false.
    pub fn ask(&mut self, job: u64, key: &Key, what: Question) -> bool {
        if !self.speaks(key) {
            return false;
        }
        self.waiting.push_back((job, key.clone(), what));
        true
    }

    /// Sends what may be sent; answers of those who cannot even be asked.
    pub fn pump(&mut self, now_ms: u64) -> Vec<Said> {
        let mut said = Vec::new();
        let mut later = VecDeque::new();
        while self.open < OPEN {
            let Some((job, key, what)) = self.waiting.pop_front() else { break };
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            if channel.current.is_some() {
                later.push_back((job, key, what));
                continue;
            }
            self.numbers += 1;
            if channel.packets.send(&Ask { number: self.numbers, what }, &[]).is_err() {
                said.push(Said { job, key, text: None });
                continue;
            }
            channel.current = Some(Current { job, number: self.numbers, text: String::new(), until: now_ms + self.patience_ms });
            self.open += 1;
        }
        later.append(&mut self.waiting);
        self.waiting = later;
        said
    }

    /// Something came from this vassal; `Err`: it says what nobody asked for, and is to be left.
    pub fn on_ready(&mut self, key: &Key) -> Result<Came, ()> {
        let Some(channel) = self.channels.get_mut(key) else { return Ok(Came::Nothing) };
        let answer = match channel.packets.recv::<Answer>() {
            Ok(Some(packet)) => packet.message,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(Came::Nothing),
            Ok(None) | Err(_) => return Err(()),
        };
        // Also in the middle of a question: it has reloaded, and answers that next.
        if let Some(unasked) = answer.read_unasked() {
            channel.speaks = true;
            return Ok(Came::Unasked(unasked));
        }
        let Some(current) = channel.current.as_mut().filter(|c| c.number == answer.number) else {
            channel.owed = channel.owed.checked_sub(1).ok_or(())?;
            return Ok(Came::Nothing);
        };
        if current.text.len() + answer.part.len() > LONGEST {
            return Err(());
        }
        current.text.push_str(&answer.part);
        if answer.more {
            self.numbers += 1;
            current.number = self.numbers;
            channel.packets.send(&Ask { number: self.numbers, what: Question::More }, &[]).map_err(drop)?;
            return Ok(Came::Nothing);
        }
        self.open -= 1;
        let said = channel.current.take().map(|c| Said { job: c.job, key: key.clone(), text: Some(c.text) });
        Ok(said.map_or(Came::Nothing, Came::Said))
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.channels.values().filter_map(|c| c.current.as_ref()).map(|c| c.until).min()
    }

    /// Those whose time is over.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Said> {
        let mut said = Vec::new();
        for (key, channel) in &mut self.channels {
            if let Some(current) = channel.current.take_if(|c| c.until <= now_ms) {
                channel.owed += 1;
                self.open -= 1;
                said.push(Said { job: current.job, key: key.clone(), text: None });
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn vassal(inquiry: &mut Inquiry, id: &str) -> (Key, SeqPacket) {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let key = Key::vassal(id);
        inquiry.join(key.clone(), ours, false).unwrap();
        (key, theirs)
    }

    fn asked(theirs: &SeqPacket) -> Ask {
        theirs.recv().unwrap().unwrap().message
    }

    fn answer(theirs: &SeqPacket, number: u64, part: &str, more: bool) {
        theirs.send(&Answer { number, part: part.into(), more }, &[]).unwrap();
    }

    #[test]
    fn one_that_does_not_speak_is_not_asked() {
        let mut all = Inquiry::new(PATIENCE_MS);
        let (key, theirs) = vassal(&mut all, "a.ini");
        assert!(!all.ask(1, &key, Question::Figures));
        theirs.send(&Answer::hello(), &[]).unwrap();
        assert_eq!(all.on_ready(&key), Ok(Came::Unasked(Unasked::Hello { counts: true })));
        assert!(all.ask(1, &key, Question::Figures));
        assert_eq!(all.pump(0), []);
        theirs.send(&Answer::hello(), &[]).unwrap();
        assert_eq!(all.on_ready(&key), Ok(Came::Unasked(Unasked::Hello { counts: true })), "a reload in between");
        let ask = asked(&theirs);
        assert_eq!(ask.what, Question::Figures);
        answer(&theirs, ask.number, "{", true);
        assert_eq!(all.on_ready(&key), Ok(Came::Nothing));
        let ask = asked(&theirs);
        assert_eq!(ask.what, Question::More);
        answer(&theirs, ask.number, "}", false);
        assert_eq!(all.on_ready(&key), Ok(Came::Said(Said { job: 1, key, text: Some("{}".into()) })));
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn a_late_answer_is_thrown_away_and_an_unasked_one_ends_it() {
        let mut all = Inquiry::new(PATIENCE_MS);
        let (key, theirs) = vassal(&mut all, "a.ini");
        theirs.send(&Answer::hello(), &[]).unwrap();
        all.on_ready(&key).unwrap();
        all.ask(1, &key, Question::Stats);
        all.pump(0);
        let late = asked(&theirs).number;
        assert_eq!(all.tick(PATIENCE_MS), [Said { job: 1, key: key.clone(), text: None }]);
        all.ask(2, &key, Question::Stats);
        all.pump(1000);
        answer(&theirs, late, "old", false);
        assert_eq!(all.on_ready(&key), Ok(Came::Nothing));
        answer(&theirs, asked(&theirs).number, "new", false);
        assert!(matches!(all.on_ready(&key), Ok(Came::Said(said)) if said.text.as_deref() == Some("new")));
        answer(&theirs, 99, "unasked", false);
        assert_eq!(all.on_ready(&key), Err(()));
    }

    #[test]
    fn who_leaves_or_talks_nonsense_owes_nothing_any_more() {
        let mut all = Inquiry::new(PATIENCE_MS);
        let (key, theirs) = vassal(&mut all, "a.ini");
        theirs.send(&Answer::hello(), &[]).unwrap();
        all.on_ready(&key).unwrap();
        all.ask(1, &key, Question::Stats);
        all.ask(2, &key, Question::Stats);
        all.pump(0);
        theirs.send(&"nonsense", &[]).unwrap();
        assert_eq!(all.on_ready(&key), Err(()));
        let (_, said) = all.leave(&key);
        assert_eq!(said.iter().map(|s| s.job).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((all.open, all.next_deadline()), (0, None));
    }

    #[test]
    fn only_so_many_questions_are_open_and_an_answer_makes_room() {
        let mut all = Inquiry::new(PATIENCE_MS);
        let many: Vec<_> = (0..OPEN + 1).map(|n| vassal(&mut all, &format!("{n:03}.ini"))).collect();
        for (key, theirs) in &many {
            theirs.send(&Answer::hello(), &[]).unwrap();
            all.on_ready(key).unwrap();
            all.ask(1, key, Question::Figures);
        }
        all.pump(0);
        assert_eq!(all.waiting.len(), 1);
        answer(&many[0].1, asked(&many[0].1).number, "{}", false);
        all.on_ready(&many[0].0).unwrap();
        all.pump(0);
        assert_eq!((all.waiting.len(), all.open), (0, OPEN));
    }
}

//! What vassals say: each process of a vassal writes its standard output and error into a pipe of its own, which is read here, a bounded amount at a
//! time. A pipe that was read is left alone for a moment, so that many lines are one wake-up of ours. A vassal that says more than `vassal-log-limit`
//! waits on its own pipe until it is read again: it loses no line, and costs nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::core::Key;
use super::outlet::{Place, Standard, append};
use super::ring::{self, Ring, clean};

/// Bytes that a pipe should hold: more than a vassal may say while it is left alone. Linux gives that to anybody (`/proc/sys/fs/pipe-max-size`).
pub const PIPE: usize = 256 * 1024;
/// Bytes that are read from one pipe before others have their turn.
const TURN: usize = 128 * 1024;
/// A line that is longer is cut into several.
const LONGEST: usize = 8 * 1024;
/// How long a pipe is left alone that was read: lines gather. At the usual limit [`PIPE`] holds what may come meanwhile, so nobody waits for it.
const GATHER_MS: u64 = 30;
/// The same after [`MUCH`].
const GATHER_MUCH_MS: u64 = 10;
const MUCH: usize = 64 * 1024;
/// How long a pipe is left alone that has had its share, or whose lines nobody takes.
const REST_MS: u64 = 100;
/// Who had to wait in this time says too much.
const LATELY_MS: u64 = 10_000;
/// Pipes of one vassal: processes that outlive their master may hold old ones.
const PIPES: usize = 4;

/// Whose lines a follower wants.
pub type Lines = Vec<(Key, String)>;

pub struct Taps {
    place: Place,
    /// Bytes a second that are read from one vassal; 0: any number.
    limit: u64,
    taps: BTreeMap<u64, Tap>,
    next: u64,
    rings: BTreeMap<Key, Ring>,
    standard: Standard,
    /// The begun line of a pipe, and what was read after it. Kept at its length, so that a flood costs no allocation.
    buffer: Box<[u8]>,
    /// What was said about files that cannot be written.
    trouble: BTreeMap<PathBuf, String>,
}

struct Tap {
    key: Key,
    fd: OwnedFd,
    /// Of a vassal's own, for [`Place::Files`].
    file: PathBuf,
    partial: Vec<u8>,
    share: Share,
    /// Not in the poller until then.
    resting_until: Option<u64>,
    told: bool,
    /// When it last had to wait for having said too much.
    flooded_ms: Option<u64>,
}

/// A token bucket that holds what may be read in one second. What is read beyond that is a debt.
struct Share {
    left: i64,
    at_ms: u64,
}

impl Share {
    /// Takes what was read; how many milliseconds to wait before the next bytes.
    fn take(&mut self, bytes: usize, limit: u64, now_ms: u64) -> u64 {
        let limit = limit as i64;
        if limit == 0 {
            return 0;
        }
        let earned = (now_ms.saturating_sub(self.at_ms) as i64).saturating_mul(limit) / 1000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(limit);
            self.at_ms = now_ms;
        }
        self.left -= bytes as i64;
        if self.left > 0 { 0 } else { ((-self.left * 1000 / limit) as u64).max(REST_MS) }
    }
}

/// What the poller has to do about a pipe.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    Stay,
    /// Take it out of the set until [`Taps::rested`] names it.
    Rest,
    /// It has ended, and is closed when this is dropped.
    Gone(OwnedFdEq),
}

/// A descriptor that is to be taken out of the poller before it is closed.
#[derive(Debug)]
pub struct OwnedFdEq(pub OwnedFd);

impl PartialEq for OwnedFdEq {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_raw_fd() == other.0.as_raw_fd()
    }
}

impl Eq for OwnedFdEq {}

impl Taps {
    pub fn new(place: Place, limit: u64) -> Self {
        Self {
            place,
            limit,
            taps: BTreeMap::new(),
            next: 1,
            rings: BTreeMap::new(),
            standard: Standard::default(),
            buffer: Box::default(),
            trouble: BTreeMap::new(),
        }
    }

    /// Whether vassals get pipes at all.
    pub fn is_on(&self) -> bool {
        self.place != Place::Inherited
    }

    /// Where a vassal's lines go, if they have a file of their own.
    pub fn file(&self, id: &str, directory: &std::path::Path) -> Option<PathBuf> {
        match &self.place {
            Place::Files { pattern, .. } => Some(super::outlet::expand(pattern, id, directory)),
            Place::Inherited | Place::Standard => None,
        }
    }

    /// Reads this (non-blocking) end from now on; its number, and old pipes of the same vassal that are given up.
    pub fn join(&mut self, key: Key, fd: OwnedFd, file: Option<PathBuf>, now_ms: u64) -> (u64, Vec<(u64, OwnedFd)>) {
        let old: Vec<u64> = self.taps.iter().filter(|(_, t)| t.key == key).map(|(n, _)| *n).collect();
        let surplus = old.len().saturating_sub(PIPES - 1);
        let closed = old[..surplus].iter().filter_map(|n| self.taps.remove(n).map(|t| (*n, t.fd))).collect();
        let number = self.next;
        self.next += 1;
        let share = Share { left: self.limit as i64, at_ms: now_ms };
        let file = file.unwrap_or_default();
        self.taps.insert(number, Tap { key, fd, file, partial: vec![], share, resting_until: None, told: false, flooded_ms: None });
        (number, closed)
    }

    pub fn fd(&self, number: u64) -> Option<BorrowedFd<'_>> {
        self.taps.get(&number).map(|t| t.fd.as_fd())
    }

    /// For the next life.
    pub fn held(&self) -> impl Iterator<Item = (&Key, i32)> {
        self.taps.values().map(|t| (&t.key, t.fd.as_raw_fd()))
    }

    /// All that is remembered of what vassals said.
    pub fn lines(&self) -> impl Iterator<Item = (Key, Vec<String>)> {
        self.rings.iter().map(|(key, ring)| (key.clone(), ring.iter().map(str::to_owned).collect()))
    }

    /// What was said in the life before.
    pub fn remember(&mut self, lines: Vec<(Key, Vec<String>)>) {
        for (key, lines) in lines {
            let ring = self.rings.entry(key).or_default();
            lines.iter().for_each(|line| ring.push(line.as_bytes()));
        }
    }

    /// One turn of a pipe; its lines are added to `lines`, if somebody follows them.
    pub fn on_ready(&mut self, number: u64, now_ms: u64, lines: Option<&mut Lines>) -> After {
        let Some(tap) = self.taps.get_mut(&number) else { return After::Stay };
        if self.standard.is_full() {
            tap.resting_until = Some(now_ms + REST_MS);
            return After::Rest;
        }
        let Some(read) = read(tap, &mut self.buffer) else { return After::Stay };
        if read == 0 {
            self.hear(number, 0, true, lines);
            self.standard.flush();
            return self.taps.remove(&number).map_or(After::Stay, |t| After::Gone(OwnedFdEq(t.fd)));
        }
        let rest = tap.share.take(read, self.limit, now_ms);
        let warn = rest > 0 && !std::mem::replace(&mut tap.told, true);
        tap.resting_until = Some(now_ms + rest.max(if read < MUCH { GATHER_MS } else { GATHER_MUCH_MS }));
        tap.flooded_ms = if rest > 0 { Some(now_ms) } else { tap.flooded_ms };
        if warn {
            tracing::warn!(
                "[emperor] vassal {}: says more than {} KiB a second, and waits for its log from time to time (vassal-log-limit)",
                tap.key,
                self.limit / 1024
            );
        }
        self.hear(number, read, false, lines);
        self.standard.flush();
        After::Rest
    }

    /// Takes what [`read`] has left in the buffer apart into lines.
    fn hear(&mut self, number: u64, read: usize, is_last: bool, mut lines: Option<&mut Lines>) {
        let Some(tap) = self.taps.get_mut(&number) else { return };
        let whole = &self.buffer[..tap.partial.len() + read];
        let mut begin = 0;
        let mut last = VecDeque::with_capacity(ring::LINES);
        let name = tap.key.to_string();
        while let Some(end) = next_end(&whole[begin..], is_last) {
            let line = &whole[begin..begin + end];
            if last.len() == ring::LINES {
                last.pop_front();
            }
            last.push_back(line);
            if let Some(lines) = &mut lines {
                lines.push((tap.key.clone(), clean(line)));
            }
            if self.place == Place::Standard && !(is_last && line.is_empty()) {
                self.standard.push(&name, line);
            }
            begin += end;
            begin += usize::from(whole.get(begin) == Some(&b'\n'));
        }
        let ring = self.rings.entry(tap.key.clone()).or_default();
        last.into_iter().for_each(|line| ring.push(line));
        if let Place::Files { maxsize, .. } = &self.place
            && begin > 0
        {
            let result = append(&tap.file, &whole[..begin], *maxsize).map_err(|e| e.to_string()).err();
            complain(&mut self.trouble, &tap.file, result);
        }
        tap.partial.clear();
        tap.partial.extend_from_slice(&whole[begin..]);
        tap.partial.shrink_to(256);
    }

    /// What is in a vassal's pipes now, whether they rest or not.
    pub fn drain(&mut self, key: &Key, now_ms: u64, mut lines: Option<&mut Lines>) {
        let numbers: Vec<u64> = self.taps.iter().filter(|(_, t)| t.key == *key).map(|(n, _)| *n).collect();
        for number in numbers {
            for _ in 0..PIPE / TURN {
                let Some(tap) = self.taps.get_mut(&number) else { break };
                let Some(read) = read(tap, &mut self.buffer).filter(|read| *read > 0) else { break };
                tap.share.take(read, self.limit, now_ms);
                self.hear(number, read, false, lines.as_deref_mut());
            }
        }
        self.standard.flush();
    }

    /// The limit in KiB a second, if the vassal has had to wait for it lately.
    pub fn flood(&self, key: &Key, now_ms: u64) -> Option<u64> {
        let lately = |tap: &Tap| tap.flooded_ms.is_some_and(|at| now_ms.saturating_sub(at) <= LATELY_MS);
        self.taps.values().any(|tap| tap.key == *key && lately(tap)).then_some(self.limit / 1024)
    }

    pub fn ring(&self, key: &Key) -> Option<&Ring> {
        self.rings.get(key)
    }

    /// Forgets what was said by vassals that are none any more.
    pub fn retain(&mut self, known: impl Fn(&Key) -> bool) {
        let open: std::collections::BTreeSet<&Key> = self.taps.values().map(|t| &t.key).collect();
        self.rings.retain(|key, _| known(key) || open.contains(key));
    }

    pub fn next_deadline(&self, now_ms: u64) -> Option<u64> {
        let blocked = (!self.standard.is_empty()).then_some(now_ms + REST_MS);
        self.taps.values().filter_map(|t| t.resting_until).chain(blocked).min()
    }

    /// Those that have rested, to be put into the poller again.
    pub fn rested(&mut self, now_ms: u64) -> Vec<u64> {
        if !self.standard.is_empty() {
            self.standard.flush();
        }
        let mut rested = Vec::new();
        for (number, tap) in &mut self.taps {
            if tap.resting_until.take_if(|t| *t <= now_ms).is_some() {
                rested.push(*number);
            }
        }
        rested
    }
}

/// Puts the line that this pipe has begun into `buffer`, and behind it what the pipe holds, up to [`TURN`] bytes; how many those are: 0 at its end, `None`
/// if there is nothing yet.
fn read(tap: &Tap, buffer: &mut Box<[u8]>) -> Option<usize> {
    if buffer.is_empty() {
        *buffer = vec![0; LONGEST + TURN].into();
    }
    // What is left of a line is always shorter than the longest.
    let (begun, room) = buffer.split_at_mut(tap.partial.len());
    begun.copy_from_slice(&tap.partial);
    match nix::unistd::read(&tap.fd, &mut room[..TURN]) {
        Ok(n) => Some(n),
        Err(Errno::EINTR | Errno::EAGAIN) => None,
        Err(_) => Some(0),
    }
}

/// Where the first line of `text` ends.
fn next_end(text: &[u8], is_last: bool) -> Option<usize> {
    match memchr::memchr(b'\n', text) {
        Some(at) => Some(at.min(LONGEST)),
        None if text.len() >= LONGEST => Some(LONGEST),
        None => (is_last && !text.is_empty()).then_some(text.len()),
    }
}

/// The first time, and when the reason is another.
fn complain(said: &mut BTreeMap<PathBuf, String>, file: &std::path::Path, trouble: Option<String>) {
    match trouble {
        None => drop(said.remove(file)),
        Some(text) => {
            if said.get(file) != Some(&text) {
                tracing::error!("[emperor] vassal-log: {}: {text}; lines are lost", file.display());
                said.insert(file.into(), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::Write;

    use super::*;

    struct Bench {
        taps: Taps,
        number: u64,
        pipe: Option<File>,
        dir: tempfile::TempDir,
    }

    fn bench(limit: u64) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Files { pattern: format!("{}/%n.log", dir.path().display()), maxsize: 0 };
        let mut taps = Taps::new(place, limit);
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let file = taps.file("a.ini", dir.path());
        let (number, _) = taps.join(Key::vassal("a.ini"), read, file, 0);
        Bench { taps, number, pipe: Some(write.into()), dir }
    }

    impl Bench {
        fn say(&mut self, text: &[u8]) -> usize {
            let pipe = self.pipe.as_mut().unwrap();
            let mut done = 0;
            while let Some(n) = pipe.write(&text[done..]).ok().filter(|n| *n > 0) {
                done += n;
            }
            done
        }

        fn turn(&mut self, ms: u64) -> (After, Vec<String>) {
            let mut lines = vec![];
            let after = self.taps.on_ready(self.number, ms, Some(&mut lines));
            (after, lines.into_iter().map(|(_, l)| l).collect())
        }

        fn file(&self) -> String {
            std::fs::read_to_string(self.dir.path().join("a.log")).unwrap_or_default()
        }
    }

    #[test]
    fn lines_come_whole_and_the_last_one_without_an_end_too() {
        let mut b = bench(0);
        b.say(b"one\ntw");
        assert_eq!(b.turn(0), (After::Rest, vec!["one".to_owned()]));
        assert_eq!((b.taps.next_deadline(0), b.taps.rested(GATHER_MS)), (Some(GATHER_MS), vec![b.number]));
        assert_eq!(b.turn(GATHER_MS), (After::Stay, vec![]), "nothing is there yet");
        b.say(b"o\nthree");
        assert_eq!(b.turn(0).1, ["two"]);
        b.pipe = None;
        let (after, lines) = b.turn(0);
        assert!(matches!(after, After::Gone(_)));
        assert_eq!((lines, b.file()), (vec!["three".to_owned()], "one\ntwo\nthree".to_owned()));
        assert_eq!(b.taps.ring(&Key::vassal("a.ini")).unwrap().last(), Some("three"));
    }

    #[test]
    fn a_flood_waits_and_loses_nothing() {
        let mut b = bench(20_000);
        let text = b"0123456789abcde\n".repeat(12_000);
        let (mut sent, mut ms, mut rests) = (0, 0, 0);
        while b.file().len() < text.len() {
            sent += b.say(&text[sent..]);
            if b.turn(ms).0 == After::Rest {
                rests += 1;
                assert_eq!(b.taps.rested(ms), Vec::<u64>::new());
                ms = b.taps.next_deadline(ms).unwrap();
                assert_eq!(b.taps.rested(ms), [b.number]);
            }
        }
        assert!(rests >= 2 && ms >= 1000, "{rests} rests until {ms}");
        let flood = |ms| b.taps.flood(&Key::vassal("a.ini"), ms);
        assert_eq!((flood(ms), flood(ms + LATELY_MS + 1)), (Some(19), None));
        assert_eq!(b.file().as_bytes(), text);
    }

    #[test]
    fn who_says_much_is_read_sooner() {
        let mut b = bench(0);
        b.say(&b"0123456789abcde\n".repeat(MUCH / 16));
        b.turn(0);
        assert_eq!(b.taps.next_deadline(0), Some(GATHER_MUCH_MS));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut b = bench(0);
        b.say(&[b'x'; 60_000]);
        for _ in 0..4 {
            b.turn(0);
        }
        assert!(b.taps.taps[&b.number].partial.len() < LONGEST);
        assert_eq!(b.file().len(), 60_000 / LONGEST * LONGEST);
    }

    #[test]
    fn what_a_dead_process_said_last_is_read_at_once_and_old_pipes_are_given_up() {
        let mut b = bench(1);
        b.say(b"a\nlast words\n");
        let mut lines = vec![];
        b.taps.drain(&Key::vassal("a.ini"), 0, Some(&mut lines));
        assert_eq!(b.taps.ring(&Key::vassal("a.ini")).unwrap().last(), Some("last words"));
        let closed: usize = (0..5)
            .map(|_| {
                let (read, _) = nix::unistd::pipe().unwrap();
                b.taps.join(Key::vassal("a.ini"), read, None, 0).1.len()
            })
            .sum();
        assert_eq!((closed, b.taps.taps.len()), (2, PIPES));
    }
}

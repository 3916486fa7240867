//! How long a vassal that keeps dying has to wait. Numbers are uWSGI's, but for the limit on loyal ones, which uWSGI lacks.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Now;

/// What `emperor-stats` shows of one penalised vassal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds that it has to wait after its last death.
    pub level_ms: u64,
    /// Deaths after the first.
    pub attempt: u32,
    /// Seconds since 1970.
    pub first: i64,
    pub last: i64,
    last_ms: u64,
}

/// The vassals that died before they had served a request, by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Blacklist {
    entries: BTreeMap<String, Entry>,
}

impl Blacklist {
    /// Counts one death; how many milliseconds the vassal waits from now. An entry that is older than ten times the longest wait starts afresh:
    /// a vassal without traffic that ends once a day is not in a crash loop.
    pub fn died(&mut self, id: &str, now: Now, step_ms: u64, max_ms: u64) -> u64 {
        let stale = max_ms.saturating_mul(10).max(60_000);
        if self.entries.get(id).is_some_and(|e| now.ms.saturating_sub(e.last_ms) > stale) {
            self.entries.remove(id);
        }
        let entry = match self.entries.get_mut(id) {
            None => self.entries.entry(id.into()).or_insert(Entry {
                level_ms: step_ms / 1000, // uWSGI's first step is a thousandth of the others
                attempt: 0,
                first: now.seconds(),
                last: now.seconds(),
                last_ms: now.ms,
            }),
            Some(entry) => {
                entry.level_ms = if entry.level_ms >= max_ms { entry.level_ms / 2 } else { entry.level_ms + step_ms };
                entry.attempt += 1;
                entry.last = now.seconds();
                entry.last_ms = now.ms;
                entry
            }
        };
        entry.level_ms
    }

    /// When the vassal may be tried again, in `Now::ms`.
    pub fn free_at(&self, id: &str) -> u64 {
        self.entries.get(id).map_or(0, |e| e.last_ms + e.level_ms)
    }

    pub fn forgive(&mut self, id: &str) -> bool {
        self.entries.remove(id).is_some()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }
}

/// Recent deaths of a vassal that had served requests before each of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Flapping {
    deaths: VecDeque<u64>,
}

/// Deaths in one minute that cost nothing.
const FREE_DEATHS: u64 = 5;
const MINUTE_MS: u64 = 60_000;

impl Flapping {
    /// Counts one death; how many milliseconds to wait: nothing for the first five of a minute, then one second more for each.
    pub fn died(&mut self, now: Now) -> u64 {
        self.deaths.push_back(now.ms);
        while self.deaths.front().is_some_and(|&t| now.ms.saturating_sub(t) >= MINUTE_MS) {
            self.deaths.pop_front();
        }
        (self.deaths.len() as u64).saturating_sub(FREE_DEATHS) * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { ms, wall_ms: 1_000_000 + ms as i64 }
    }

    #[test]
    fn levels_are_those_of_uwsgi() {
        let mut b = Blacklist::default();
        let levels: Vec<u64> = (0..4).map(|n| b.died("a", at(n), 1000, 180_000)).collect();
        assert_eq!(levels, [1, 1001, 2001, 3001]);
        assert_eq!(b.iter().next().map(|(_, e)| e.attempt), Some(3));
        assert_eq!(b.free_at("a"), 3 + 3001);
        assert_eq!(b.free_at("other"), 0);
    }

    #[test]
    fn a_level_that_reached_the_maximum_is_halved() {
        let mut b = Blacklist::default();
        let levels: Vec<u64> = (0..6).map(|n| b.died("a", at(n), 1000, 3000)).collect();
        assert_eq!(levels, [1, 1001, 2001, 3001, 1500, 2500]);
    }

    #[test]
    fn an_old_entry_starts_afresh() {
        let mut b = Blacklist::default();
        b.died("a", at(0), 1000, 3000);
        b.died("a", at(1), 1000, 3000);
        assert_eq!(b.died("a", at(60_002), 1000, 3000), 1);
    }

    #[test]
    fn a_loyal_vassal_waits_only_when_it_dies_often() {
        let mut f = Flapping::default();
        let waits: Vec<u64> = (0..8).map(|n| f.died(at(n * 100))).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 1000, 2000, 3000]);
        assert_eq!(f.died(at(120_000)), 0);
    }
}

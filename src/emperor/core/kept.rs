//! What the next life of the emperor has to know when it executes itself anew and its vassals run on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Blacklist, Core, Flapping, Key, Now, Phase, Policy, Vassal};

/// The mind of an emperor, without the options, which the next life reads anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    vassals: Vec<(Key, Vassal)>,
    blacklist: Blacklist,
    flapping: Vec<(Key, Flapping)>,
}

impl Core {
    /// Whether its on-demand socket waits for a connection.
    pub fn is_asleep(&self, key: &Key) -> bool {
        self.vassals.get(key).is_some_and(|v| v.phase == Phase::Asleep)
    }

    pub fn keep(&self) -> Kept {
        Kept {
            vassals: self.vassals.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            blacklist: self.blacklist.clone(),
            flapping: self.flapping.iter().map(|(k, f)| (k.clone(), f.clone())).collect(),
        }
    }

    /// Goes on with what was kept. `source`: which of the sources of now was that number; vassals of a source that is gone belong to none, and
    /// the first look at the sources stops them.
    pub fn resume(policy: Policy, kept: Kept, now: Now, source: impl Fn(usize) -> Option<usize>) -> Self {
        let mut vassals: BTreeMap<Key, Vassal> = kept.vassals.into_iter().collect();
        // One whose socket was being looked for is new again.
        vassals.retain(|_, vassal| vassal.phase != Phase::Naming);
        for vassal in vassals.values_mut() {
            vassal.source = source(vassal.source).unwrap_or(usize::MAX);
            // What the shell of before was asked for and had not answered is asked for again.
            if vassal.phase == Phase::Starting {
                vassal.phase = Phase::Waiting { until: now.ms, reason: "the emperor was upgraded".into() };
            }
        }
        Self {
            policy,
            vassals,
            blacklist: kept.blacklist,
            refused: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            clashes: BTreeSet::new(),
            flapping: kept.flapping.into_iter().collect(),
            rescan_at: None,
            ending: false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::{at, file, policy};
    use super::super::*;

    #[test]
    fn a_kept_mind_goes_on_where_it_was() {
        let mut core = Core::new(policy());
        let files = [Found::Files(vec![file("a.ini", 1), file("b.ini", 1)])];
        core.scan(at(0), &files);
        core.started(at(0), &Key::vassal("a.ini"), 7);
        core.started(at(0), &Key::vassal("b.ini"), 8);
        core.exited(at(1), 8, Exit::Code(1));
        let text = serde_json::to_string(&core.keep()).unwrap();
        let mut next = Core::resume(policy(), serde_json::from_str(&text).unwrap(), at(1), Some);
        assert_eq!(next.vassals, core.vassals);
        assert_eq!(next.next_deadline(at(1)), core.next_deadline(at(1)));
        // Nothing happens to the running one, and the other is still where it was.
        assert_eq!(next.scan(at(1), &files), []);
        let stop = next.restart_all(at(2), "other options");
        assert!(stop.contains(&Action::Tell(Key::vassal("a.ini"), byte::STOP)));
        assert!(next.exited(at(3), 7, Exit::Code(0)).contains(&Action::Start(Key::vassal("a.ini"))), "it is no death");
        let mut gone = Core::resume(policy(), core.keep(), at(1), |_| None);
        gone.scan(at(100), &[]);
        assert!(gone.scan(at(200), &[]).contains(&Action::Tell(Key::vassal("a.ini"), byte::STOP)));
    }
}

//! What an operator may ask of one vassal.

use super::{Action, Core, Key, Now, Phase};

/// What was done, in words, and what follows; or why it cannot be done.
pub type Outcome = Result<(String, Vec<Action>), String>;

impl Core {
    /// The id that an operator means: the id itself, or, if only one vassal fits, its name without the ending, or the last part of its path.
    ///
    /// # Errors
    /// Nothing or more than one vassal fits.
    pub fn find(&self, name: &str) -> Result<String, String> {
        let ids = || self.vassals.keys().filter(|k| k.zerg == 0).map(|k| &k.id).chain(self.refused.keys()).chain(self.unnamed.keys());
        if let Some(id) = ids().find(|id| *id == name) {
            return Ok(id.clone());
        }
        let fitting: Vec<&String> = ids().filter(|id| fits(id, name)).collect();
        match fitting.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(format!("there is no vassal {name:?}: `imperator ps` lists them")),
            many => {
                let names: Vec<&str> = many.iter().map(|id| id.as_str()).collect();
                Err(format!("{name:?} may be any of {}", names.join(", ")))
            }
        }
    }

    /// `reload`: a running one reloads at once, one that waits after a death is tried at once.
    pub fn order_reload(&mut self, now: Now, id: &str) -> Outcome {
        let mut out = Vec::new();
        let keys = self.family(id)?;
        let Some(vassal) = self.vassals.get_mut(&Key::vassal(id)) else { return Err(self.no_process(id)) };
        let said = match &mut vassal.phase {
            Phase::Running { .. } => {
                for key in keys {
                    if let Some(vassal) = self.vassals.get_mut(&key).filter(|v| matches!(v.phase, Phase::Running { .. })) {
                        vassal.reload_due = Some("an operator asks".into());
                        self.reload(now, &key, &mut out);
                    }
                }
                "reloads"
            }
            Phase::Waiting { until, .. } => {
                *until = now.ms;
                self.blacklist.forgive(id);
                "did not run; it is started at once"
            }
            Phase::Starting | Phase::Naming => "is being started",
            Phase::Asleep => "sleeps: it reads its file anew when it is woken",
            Phase::Stopped => return Err(format!("{id} is stopped: `imperator start {id}` starts it")),
            Phase::Stopping { .. } => return Err(format!("{id} is being stopped")),
        };
        self.pump(now, &mut out);
        Ok((format!("{id} {said}"), out))
    }

    /// `stop`: it stays stopped, although its file is there, until `start`; or until the emperor itself is started anew.
    pub fn order_stop(&mut self, now: Now, id: &str) -> Outcome {
        let mut out = Vec::new();
        for key in self.family(id)? {
            let Some(vassal) = self.vassals.get_mut(&key) else { continue };
            vassal.halted = true;
            match vassal.phase {
                Phase::Running { .. } => self.stop(now, &key, false, "an operator asks", &mut out),
                Phase::Waiting { .. } | Phase::Naming | Phase::Asleep if key.zerg > 0 => self.remove(&key, &mut out),
                Phase::Waiting { .. } | Phase::Naming | Phase::Asleep => {
                    vassal.phase = Phase::Stopped;
                    vassal.resting_since = now.seconds();
                    out.push(Action::Forget(key));
                }
                Phase::Starting | Phase::Stopping { .. } | Phase::Stopped => {}
            }
        }
        Ok((format!("{id} is stopped until `imperator start {id}`"), out))
    }

    /// `start`: ends a stop and a penalty.
    pub fn order_start(&mut self, now: Now, id: &str) -> Outcome {
        let mut out = Vec::new();
        self.family(id)?;
        self.blacklist.forgive(id);
        let on_demand = self.policy.on_demand;
        let Some(vassal) = self.vassals.get_mut(&Key::vassal(id)) else { return Err(self.no_process(id)) };
        let was_halted = std::mem::take(&mut vassal.halted);
        let said = match &mut vassal.phase {
            Phase::Stopped if on_demand => {
                vassal.phase = Phase::Naming;
                out.push(Action::Name(Key::vassal(id)));
                "is started"
            }
            phase @ Phase::Stopped => {
                *phase = Phase::Waiting { until: now.ms, reason: "an operator started it".into() };
                "is started"
            }
            Phase::Waiting { until, .. } => {
                *until = now.ms;
                "is started"
            }
            Phase::Stopping { .. } if was_halted => "is being stopped, and started again then",
            Phase::Stopping { .. } => "is being stopped",
            Phase::Starting | Phase::Naming => "is being started",
            Phase::Asleep => "sleeps until the first connection",
            Phase::Running { .. } => "runs already",
        };
        self.pump(now, &mut out);
        Ok((format!("{id} {said}"), out))
    }

    /// A vassal and its zergs.
    fn family(&self, id: &str) -> Result<Vec<Key>, String> {
        let keys: Vec<Key> = self.vassals.range(Key::vassal(id)..=Key { id: id.into(), zerg: u32::MAX }).map(|(k, _)| k.clone()).collect();
        if self.ending {
            return Err("the emperor ends".into());
        }
        if keys.is_empty() { Err(self.no_process(id)) } else { Ok(keys) }
    }

    /// Why a file has no vassal.
    fn no_process(&self, id: &str) -> String {
        let why = self.refused.get(id).or_else(|| self.unnamed.get(id));
        why.map_or_else(|| format!("there is no vassal {id:?}"), |why| format!("{id} does not run: {why}"))
    }
}

fn fits(id: &str, name: &str) -> bool {
    let last = id.rsplit('/').next().unwrap_or(id);
    last == name || last.rsplit_once('.').is_some_and(|(stem, _)| stem == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::{at, file, policy};
    use super::super::*;
    use crate::ask::Unasked;

    fn scan(core: &mut Core, ms: u64, files: &[Seen]) -> Vec<Action> {
        silent(core.scan(at(ms), &[Found::Files(files.to_vec())]))
    }

    fn silent(actions: Vec<Action>) -> Vec<Action> {
        actions.into_iter().filter(|a| !matches!(a, Action::Log(_) | Action::Obituary(..))).collect()
    }

    fn running(policy: Policy) -> Core {
        let mut core = Core::new(policy);
        scan(&mut core, 0, &[file("a.ini", 1)]);
        core.started(at(0), &Key::vassal("a.ini"), 7);
        core
    }

    #[test]
    fn a_stopped_vassal_stays_so_whatever_its_file_does_until_it_is_started() {
        let mut core = running(policy());
        let a = Key::vassal("a.ini");
        let (_, told) = core.order_stop(at(1), "a.ini").unwrap();
        assert_eq!(silent(told), [Action::Tell(a.clone(), byte::STOP)]);
        assert_eq!(silent(core.exited(at(2), 7, Exit::Code(0))), [Action::Ended(a.clone(), 0), Action::Forget(a.clone())]);
        assert_eq!(scan(&mut core, 10, &[file("a.ini", 2)]), []);
        assert_eq!(core.next_deadline(at(10)), None);
        assert!(core.order_reload(at(11), "a.ini").unwrap_err().contains("imperator start"));
        let (_, started) = core.order_start(at(12), "a.ini").unwrap();
        assert_eq!(silent(started), [Action::Start(a)]);
    }

    #[test]
    fn a_stopped_vassal_without_a_file_is_gone() {
        let mut core = running(policy());
        core.order_stop(at(1), "a.ini").unwrap();
        core.exited(at(2), 7, Exit::Code(0));
        assert_eq!(scan(&mut core, 100, &[]), [Action::Forget(Key::vassal("a.ini"))]);
        assert!(core.order_start(at(101), "a.ini").is_err());
    }

    #[test]
    fn starting_one_that_is_being_stopped_starts_it_when_it_has_ended() {
        let mut core = running(policy());
        core.order_stop(at(1), "a.ini").unwrap();
        core.order_start(at(2), "a.ini").unwrap();
        let a = Key::vassal("a.ini");
        assert_eq!(silent(core.exited(at(3), 7, Exit::Code(0))), [Action::Ended(a.clone(), 0), Action::Start(a)]);
    }

    #[test]
    fn a_reload_is_done_by_the_life_that_it_began() {
        let a = Key::vassal("a.ini");
        let mut core = running(policy());
        let state = |core: &Core| core.vassals[&a].state(at(9));
        core.said_unasked(at(1), &a, Unasked::Hello { counts: true });
        core.order_reload(at(2), "a.ini").unwrap();
        core.byte(at(3), &a, byte::ACCEPTING);
        core.said_unasked(at(3), &a, Unasked::Settled(0));
        assert_eq!(state(&core), State::Reloading, "the first life's own words, late");
        core.byte(at(4), &a, byte::ACCEPTING);
        core.said_unasked(at(4), &a, Unasked::Settled(1));
        assert_eq!(state(&core), State::Running);
        // Two words, of which one life has done one.
        core.order_reload(at(5), "a.ini").unwrap();
        core.order_reload(at(5), "a.ini").unwrap();
        core.said_unasked(at(6), &a, Unasked::Settled(2));
        assert_eq!(state(&core), State::Reloading);
        core.said_unasked(at(6), &a, Unasked::Settled(3));
        assert_eq!(state(&core), State::Running);
        // A real uWSGI has nothing but its bytes.
        core.said_unasked(at(7), &a, Unasked::Hello { counts: false });
        core.order_reload(at(7), "a.ini").unwrap();
        core.byte(at(8), &a, byte::ACCEPTING);
        assert_eq!(state(&core), State::Running);
        // Nor does one tell that takes a new binary at this reload, what it has heard before.
        core.order_reload(at(8), "a.ini").unwrap();
        core.said_unasked(at(8), &a, Unasked::Hello { counts: true });
        core.byte(at(8), &a, byte::ACCEPTING);
        assert_eq!(state(&core), State::Running);
    }

    #[test]
    fn a_penalty_ends_with_an_order() {
        for order in [Core::order_start, Core::order_reload] {
            let mut core = running(policy());
            core.exited(at(1), 7, Exit::Code(1));
            core.tick(at(3));
            core.started(at(3), &Key::vassal("a.ini"), 8);
            core.exited(at(4), 8, Exit::Code(1));
            let (_, actions) = order(&mut core, at(5), "a.ini").unwrap();
            assert_eq!(silent(actions), [Action::Start(Key::vassal("a.ini"))]);
            assert!(core.blacklist.iter().next().is_none());
        }
    }

    #[test]
    fn a_sleeping_one_loses_its_socket_and_gets_it_back() {
        let mut core = Core::new(Policy { on_demand: true, ..policy() });
        let a = Key::vassal("a.ini");
        scan(&mut core, 0, &[file("a.ini", 1)]);
        core.named(at(1), &a, Ok(true));
        assert_eq!(silent(core.order_stop(at(2), "a.ini").unwrap().1), [Action::Forget(a.clone())]);
        assert_eq!(core.wake(&a), []);
        assert_eq!(silent(core.order_start(at(3), "a.ini").unwrap().1), [Action::Name(a)]);
    }

    #[test]
    fn names_are_found_without_their_ending_or_directory() {
        let mut core = Core::new(policy());
        scan(&mut core, 0, &[file("a.ini", 1), file("/x/b.ini", 1), file("/y/b.ini", 1), file("a.yml", 1), file("c.ini", 1)]);
        assert_eq!(core.find("a.ini").as_deref(), Ok("a.ini"));
        assert_eq!(core.find("c").as_deref(), Ok("c.ini"));
        assert!(core.find("a").unwrap_err().contains("a.yml"));
        assert!(core.find("b.ini").unwrap_err().contains("/x/b.ini, /y/b.ini"));
        assert!(core.find("nobody").unwrap_err().contains("imperator ps"));
    }
}

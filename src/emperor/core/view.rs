//! What a vassal looks like from outside.

use serde::{Deserialize, Serialize};

use super::{Now, Phase, Vassal};

/// The one word for how a vassal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Accepts requests.
    Running,
    /// Has a process that does not accept requests yet, or is about to get one.
    Starting,
    /// Was told to reload, and has not said that the new workers accept requests.
    Reloading,
    /// On demand: its socket waits for a connection.
    Sleeping,
    /// Waits after a death.
    Throttled,
    Stopping,
    /// By an operator, or because it may not run.
    Stopped,
}

impl Vassal {
    pub fn state(&self, now: Now) -> State {
        match &self.phase {
            Phase::Running { .. } if self.reload_due.is_some() => State::Reloading,
            Phase::Running { .. } if self.face.accepting => State::Running,
            Phase::Running { .. } if self.face.respawns > 0 => State::Reloading,
            Phase::Running { .. } if self.face.loyal => State::Running,
            Phase::Running { .. } | Phase::Starting | Phase::Naming => State::Starting,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Asleep => State::Sleeping,
            Phase::Stopped => State::Stopped,
            Phase::Waiting { until, .. } if *until > now.ms => State::Throttled,
            Phase::Waiting { .. } => State::Starting,
        }
    }

    /// Since when it is in that state, seconds since 1970; for a running one since its process was started.
    pub fn since(&self, now: Now) -> i64 {
        match self.state(now) {
            State::Stopping => self.face.cursed,
            State::Reloading => self.face.last_run,
            State::Running => self.face.first_run,
            State::Starting if self.pid().is_some() => self.face.first_run,
            State::Starting | State::Sleeping | State::Throttled | State::Stopped => self.resting_since,
        }
    }

    /// When it will be started again, seconds since 1970, and why it does not run.
    pub fn next_try(&self, now: Now) -> Option<(i64, &str)> {
        match &self.phase {
            Phase::Waiting { until, reason } => {
                Some(((now.wall_ms + until.saturating_sub(now.ms) as i64).div_euclid(1000), reason.as_str()))
            }
            _ => None,
        }
    }

    /// How often a process was started after the first.
    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, file, policy};
    use super::super::*;

    #[test]
    fn the_states_of_a_life() {
        let a = Key::vassal("a.ini");
        let mut core = Core::new(policy());
        let state = |core: &Core, ms| core.vassals[&a].state(at(ms));
        core.scan(at(0), &[Found::Files(vec![file("a.ini", 1)])]);
        assert_eq!(state(&core, 0), State::Starting);
        core.started(at(1000), &a, 7);
        assert_eq!(state(&core, 1000), State::Starting);
        core.byte(at(2000), &a, byte::ACCEPTING);
        assert_eq!(state(&core, 2000), State::Running);
        assert_eq!(core.vassals[&a].since(at(2000)), at(1000).seconds());
        core.reload_all(at(3000));
        assert_eq!(state(&core, 3000), State::Reloading);
        core.byte(at(4000), &a, byte::ACCEPTING);
        core.exited(at(5000), 7, Exit::Signal(11));
        core.tick(at(5001));
        core.started(at(5001), &a, 8);
        core.exited(at(5002), 8, Exit::Code(22));
        assert_eq!(state(&core, 5002), State::Throttled);
        let vassal = &core.vassals[&a];
        assert_eq!((vassal.since(at(5002)), vassal.restarts()), (at(5002).seconds(), 1));
        let (when, why) = vassal.next_try(at(5002)).expect("a next try");
        assert_eq!(when, at(6003).seconds());
        assert!(why.contains("no application"), "{why}");
        assert_eq!(vassal.last_end.as_ref().and_then(|e| e.exit), Some(Exit::Code(22)));
        assert_eq!(state(&core, 9000), State::Starting);
    }
}

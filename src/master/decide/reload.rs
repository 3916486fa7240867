//! Reloads: of the instance, of its workers, of one worker after the other.

use nix::libc::{SIGHUP, SIGINT, SIGTERM};
use serde::{Deserialize, Serialize};

use super::generation::{Generation, Stage};
use super::workers::{Leaving, Life, Reason, Slot};
use super::{Action, Haste, Instance, Ms};

/// How long a reload waits for the load that is under way, which may never end. Each time that was too short it doubles, so that a
/// slow app comes up however often its reload is asked for.
const PATIENCE: Ms = 5000;
/// The last doubling.
const MOST_PATIENCE: u32 = 8;

/// A reload that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub brutal: bool,
    /// When the load before it is given up.
    #[serde(default)]
    pub give_up_at: Ms,
}

impl Instance {
    /// A reload during another one is done afterwards, once, however often it was asked for.
    pub(super) fn reload(&mut self, brutal: bool, now: Ms, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        let brutal = brutal || self.wanted.is_some_and(|w| w.brutal);
        if self.generations.iter().any(|g| g.stage == Stage::Loading) {
            if self.wanted.is_none() {
                out.push(Action::Log("a reload is asked for while the app loads: it follows".into()));
            }
            let give_up_at = self.wanted.map_or(now + (PATIENCE << self.impatience.min(MOST_PATIENCE)), |w| w.give_up_at);
            self.wanted = Some(Wanted { brutal, give_up_at });
        } else if self.current().is_some_and(|g| g.policy.exit_on_reload) {
            self.stop(if brutal { Haste::Now } else { Haste::Graceful }, 0, now, out);
        } else {
            out.push(Action::Reload { brutal });
        }
    }

    pub(super) fn honour_wanted(&mut self, now: Ms, out: &mut Vec<Action>) {
        if self.generations.iter().any(|g| g.stage == Stage::Loading) {
            return;
        }
        if let Some(Wanted { brutal, .. }) = self.wanted.take() {
            self.reload(brutal, now, out);
        }
    }

    /// Gives up a load that keeps a reload waiting for too long: what was asked for last is what is wanted.
    pub(super) fn give_up_stuck_load(&mut self, now: Ms, out: &mut Vec<Action>) {
        let due = self.wanted.is_some_and(|w| w.give_up_at <= now);
        let Some(number) = self.generations.iter().find(|g| due && g.stage == Stage::Loading).map(|g| g.number) else { return };
        self.impatience += 1;
        out.push(Action::Log(format!("generation {number} still loads, and a reload waits: it is given up for the newer one")));
        self.give_up(number, 1, now, out);
    }

    pub(super) fn reload_workers(&mut self, brutal: bool, now: Ms, out: &mut Vec<Action>) {
        let signal = if brutal { SIGTERM } else { SIGHUP };
        for generation in self.generations.iter_mut().filter(|g| g.stage == Stage::Serving) {
            let mercy = generation.policy.mercy;
            for running in generation.workers.iter_mut().filter_map(Slot::running_mut) {
                running.leave(Leaving::new(Reason::Replace, signal, now + mercy), now, out);
            }
        }
    }

    pub(super) fn chain_reload(&mut self, now: Ms, out: &mut Vec<Action>) {
        for generation in self.generations.iter_mut().filter(|g| g.stage == Stage::Serving) {
            generation.chain = generation.workers.iter().rev().filter(|s| s.running().is_some()).map(|s| s.id).collect();
            generation.chained = None;
            generation.advance_chain(now, out);
        }
    }
}

impl Generation {
    /// Replaces the next worker of a chain reload once the last one accepts.
    pub(super) fn advance_chain(&mut self, now: Ms, out: &mut Vec<Action>) {
        let accepts = |slot: &Slot| slot.life == Life::Cheap || slot.running().is_some_and(|r| r.accepting && r.leaving.is_none());
        if let Some(id) = self.chained {
            if !self.workers.iter().any(|s| s.id == id && accepts(s)) {
                return;
            }
            self.chained = None;
        }
        while let Some(id) = self.chain.pop() {
            let mercy = self.policy.mercy;
            if let Some(running) = self.workers.iter_mut().find(|s| s.id == id).and_then(Slot::running_mut) {
                out.push(Action::Log(format!("chain reload: worker {id}")));
                running.leave(Leaving::new(Reason::Replace, SIGHUP, now + mercy), now, out);
                self.chained = Some(id);
                return;
            }
        }
    }

    /// A brutal reload: its workers end now, and wait for what becomes of the new generation.
    pub(super) fn hold(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.held = true;
        let mercy = self.policy.mercy;
        for running in self.workers.iter_mut().filter_map(Slot::running_mut) {
            running.leave(Leaving::new(Reason::Hold, SIGINT, now + mercy), now, out);
        }
    }
}

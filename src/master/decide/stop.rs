//! The end of an instance.

use nix::libc::{SIGHUP, SIGINT, SIGKILL};
use serde::{Deserialize, Serialize};

use super::generation::Stage;
use super::workers::{Reason, Slot};
use super::{Action, Instance, Ms};

/// A worker that was told to end at once and has not after this time is killed: enough for exit handlers, not for a hang.
const AT_ONCE: Ms = 4000;

/// Whether running requests are finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Haste {
    /// They are, within the mercy time.
    Graceful,
    /// They are cut.
    Now,
    /// Nobody is asked.
    Kill,
}

/// The instance is ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub haste: Haste,
    pub code: i32,
}

impl Ending {
    pub(super) fn signal(&self) -> i32 {
        match self.haste {
            Haste::Graceful => SIGHUP,
            Haste::Now => SIGINT,
            Haste::Kill => SIGKILL,
        }
    }

    /// What is left of `mercy` for who has to end.
    pub fn mercy(&self, mercy: Ms) -> Ms {
        match self.haste {
            Haste::Graceful => mercy,
            Haste::Now => AT_ONCE.min(mercy),
            Haste::Kill => 0,
        }
    }
}

impl Instance {
    /// Ends everything. A second order to stop is more pressing than the first.
    pub(super) fn stop(&mut self, haste: Haste, code: i32, now: Ms, out: &mut Vec<Action>) {
        let (haste, code) = match &self.ending {
            None => (haste, code),
            Some(Ending { haste: Haste::Now, code }) if haste == Haste::Now => (Haste::Kill, *code),
            Some(ending) if ending.haste >= haste => return,
            Some(ending) => (haste, ending.code),
        };
        let ending = Ending { haste, code };
        for generation in &mut self.generations {
            let mercy = ending.mercy(generation.policy.mercy);
            generation.end(ending.signal(), mercy, Reason::Drain, now, out);
            for running in generation.workers.iter_mut().filter_map(Slot::running_mut) {
                // One that got the other signal before does not get away with its longer time.
                if let Some(at) = running.leaving.as_mut().and_then(|l| l.kill_at.as_mut()) {
                    *at = (*at).min(now + mercy);
                }
            }
        }
        self.wanted = None;
        self.ending = Some(ending);
    }

    pub(super) fn finish(&self, out: &mut Vec<Action>) {
        if let (Some(ending), true) = (&self.ending, self.generations.iter().all(|g| g.stage != Stage::Draining)) {
            out.push(Action::Finish { code: ending.code });
        }
    }
}

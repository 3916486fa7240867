//! `max-worker-lifetime`: a worker is replaced when it is old, never all of them at once.

use nix::libc::SIGHUP;

use super::generation::{Generation, Stage};
use super::workers::{Leaving, Reason, Slot};
use super::{Action, Ms, Policy};

/// How long worker `worker` may live; `None`: for ever. Without a delta in the configuration up to a tenth is added, by the pid, so that
/// workers that were started together do not end together.
pub fn recycle_after(policy: &Policy, worker: u32, pid: i32) -> Option<Ms> {
    if policy.lifetime == 0 {
        return None;
    }
    Some(match policy.lifetime_delta {
        Some(delta) => policy.lifetime + delta * Ms::from(worker.saturating_sub(1)),
        None => policy.lifetime + policy.lifetime / 10 * (Ms::from(pid.unsigned_abs()) * 7 % 11) / 10,
    })
}

impl Generation {
    pub(super) fn recycle(&mut self, now: Ms, out: &mut Vec<Action>) {
        if self.stage != Stage::Serving {
            return;
        }
        let mercy = self.policy.mercy;
        for running in self.workers.iter_mut().filter_map(Slot::running_mut) {
            if running.leaving.is_none() && running.recycle_at.is_some_and(|at| at <= now) {
                running.leave(Leaving::new(Reason::Replace, SIGHUP, now + mercy), now, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;

    #[test]
    fn a_delta_is_exact_and_jitter_is_bounded() {
        let exact = Policy { lifetime: 60_000, lifetime_delta: Some(5000), ..policy(4) };
        assert_eq!([1, 2, 3].map(|w| recycle_after(&exact, w, 77)), [Some(60_000), Some(65_000), Some(70_000)]);
        let jitter = Policy { lifetime: 60_000, ..policy(4) };
        assert!((100..200).all(|pid| (60_000..=66_000).contains(&recycle_after(&jitter, 1, pid).expect("on"))));
        assert_ne!(recycle_after(&jitter, 1, 100), recycle_after(&jitter, 2, 101));
        assert_eq!(recycle_after(&policy(1), 1, 100), None);
    }
}

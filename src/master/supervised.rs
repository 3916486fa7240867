//! What systemd hears of this instance.

use super::decide::{Instance, Ms, Stage};
use super::running::Master;
use crate::systemd::Phase;

impl Master {
    /// How the instance is, and that this loop turns.
    pub(super) fn tell_systemd(&mut self, now: Ms) {
        if let Some(systemd) = &mut self.systemd {
            let (phase, status) = outlook(&self.instance);
            systemd.update(phase, &status);
            systemd.on_deadline(now);
        }
    }
}

/// The phase, and a line for people (`systemctl status`).
fn outlook(instance: &Instance) -> (Phase, String) {
    let at = |stage| instance.generations.iter().find(|g| g.stage == stage);
    let (loading, serving) = (at(Stage::Loading), at(Stage::Serving));
    let workers = |g: &super::decide::Generation| g.workers.iter().filter(|s| s.running().is_some_and(|r| r.accepting)).count();
    let serves = serving.map(|g| format!("generation {} serves, {} workers", g.number, workers(g)));
    let loads = loading.map(|g| format!("generation {} loads", g.number));
    let paused = instance.paused.then(|| "paused".to_owned());
    let phase = match (instance.ending.is_some(), loading.is_some() || instance.wanted.is_some(), serving.is_some()) {
        (true, ..) => return (Phase::Stopping, "stopping".into()),
        (_, _, false) => Phase::Starting,
        (_, true, true) => Phase::Reloading,
        (_, false, true) => Phase::Ready,
    };
    let parts: Vec<String> = loads.into_iter().chain(serves).chain(paused).collect();
    (phase, parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::decide::tests::{policy, running};
    use super::super::decide::{Event, Haste};
    use super::*;

    #[test]
    fn from_the_first_load_to_the_end() {
        let mut instance = Instance::default();
        instance.on(Event::Begin { policy: policy(2), brutal: false }, 0);
        assert_eq!(outlook(&instance), (Phase::Starting, "generation 1 loads".into()));
        instance = running(2);
        assert_eq!(outlook(&instance), (Phase::Ready, "generation 1 serves, 2 workers".into()));
        instance.on(Event::PauseOrResume, 1);
        assert_eq!(outlook(&instance).1, "generation 1 serves, 2 workers; paused");
        instance.on(Event::Begin { policy: policy(2), brutal: false }, 2);
        assert_eq!(outlook(&instance), (Phase::Reloading, "generation 2 loads; generation 1 serves, 2 workers; paused".into()));
        instance.on(Event::LoadFailed { generation: 2, code: 22 }, 3);
        assert_eq!(outlook(&instance).0, Phase::Ready, "the old one serves on");
        instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 4);
        assert_eq!(outlook(&instance), (Phase::Stopping, "stopping".into()));
    }
}

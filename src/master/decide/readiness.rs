//! Whether a request that came now would be served.

use super::{Generation, Instance, Life, Stage};

impl Instance {
    /// Why the instance is not ready for requests; `None`: it is. A worker that accepts is enough, and so is an instance that went cheap: the
    /// next connection starts its workers, and a load balancer that sent none would leave it asleep for ever.
    pub fn unready(&self) -> Option<&'static str> {
        let serving = self.generations.iter().find(|g| g.stage == Stage::Serving);
        match serving {
            _ if self.ending.is_some() => Some("it ends"),
            _ if self.paused => Some("it is paused"),
            None => Some("the app loads"),
            Some(generation) if generation.held => Some("a reload has stopped its workers"),
            Some(generation) if generation.accepts() || generation.sleeps() => None,
            Some(_) => Some("no worker accepts"),
        }
    }
}

impl Generation {
    fn accepts(&self) -> bool {
        self.workers.iter().filter_map(|slot| slot.running()).any(|running| running.accepting && running.leaving.is_none())
    }

    fn sleeps(&self) -> bool {
        self.workers.iter().all(|slot| slot.life == Life::Cheap)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{policy, running};
    use super::super::{Event, Haste, Instance};

    #[test]
    fn ready_from_the_first_worker_to_the_end() {
        let mut instance = Instance::default();
        instance.on(Event::Begin { policy: policy(2), brutal: false }, 0);
        assert_eq!(instance.unready(), Some("the app loads"));
        instance = running(2);
        assert_eq!(instance.unready(), None);
        instance.on(Event::PauseOrResume, 1);
        assert_eq!(instance.unready(), Some("it is paused"));
        instance.on(Event::PauseOrResume, 2);
        instance.on(Event::Begin { policy: policy(2), brutal: false }, 3);
        assert_eq!(instance.unready(), None, "the old generation serves while the new one loads");
        instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 4);
        assert_eq!(instance.unready(), Some("it ends"));
    }

    #[test]
    fn a_cheap_instance_is_ready_and_one_whose_workers_died_is_not() {
        let mut instance = running(1);
        instance.on(Event::WorkerGone { generation: 1, worker: 1, how: super::super::How::Killed(9) }, 1);
        assert_eq!(instance.unready(), Some("no worker accepts"));
        let mut instance = running(1);
        instance.on(Event::Population { generation: 1, workers: 0 }, 1);
        instance.on(Event::WorkerGone { generation: 1, worker: 1, how: super::super::How::Exited(15) }, 2);
        assert_eq!(instance.unready(), None);
    }
}

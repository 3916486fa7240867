//! `metric_get`, `metric_set` and their family.

use std::os::fd::OwnedFd;

use super::{Host, HostError, inherited};
use crate::control::Boot;
use crate::metrics::{Definition, Metrics, Source, builtin, value};

impl Host {
    /// The value of a metric; 0 for one that there is not.
    pub fn metric_get(&self, name: &str) -> i64 {
        value(self, name).unwrap_or(0)
    }

    /// Changes a metric of the app's own, atomically for all processes. False for one that there is not, that the container collects, or that `change`
    /// has no new value for.
    pub fn metric_update(&self, name: &str, change: impl Fn(i64) -> Option<i64>) -> bool {
        let own = self.definition(name).is_some_and(|d| !d.is_collected());
        own && self.metrics.as_ref().is_some_and(|metrics| metrics.update(name, change))
    }

    /// `metric_set_min`, which leaves alone what is at or below the initial value, as in uWSGI.
    pub fn metric_set_min(&self, name: &str, number: i64) -> bool {
        let initial = self.definition(name).map_or(0, |d| d.initial);
        self.metric_update(name, |old| Some(if number > initial { old.min(number) } else { old }))
    }

    pub(super) fn open_metrics(boot: &Boot) -> Result<Option<Metrics>, HostError> {
        let failed = |source| HostError::Inherited { what: "metrics", source };
        let open = |fd: OwnedFd, names: &[String]| Metrics::open(fd, names.to_vec()).map_err(failed);
        boot.metrics.as_ref().map(|(fd, names)| open(inherited("metrics", *fd)?, names)).transpose()
    }
}

impl Source for Host {
    fn definition(&self, name: &str) -> Option<&Definition> {
        self.boot.settings.metrics.definitions.iter().find(|d| d.name == name)
    }

    fn stored(&self, name: &str) -> Option<i64> {
        let metrics = self.metrics.as_ref()?;
        metrics
            .get(name)
            .or_else(|| builtin::rows(&self.scoreboard, &[], true).into_iter().find(|row| row.name == name).map(|row| row.value))
    }

    fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }
}

//! Several languages in one process.

use std::sync::Arc;

use imperator_sys::process::Fork;

use super::{Load, Runtime, ZygoteError};
use crate::host::Host;
use crate::language::Language;
use crate::languages::Languages;

/// The languages of one process. The first one owns it: it forks as that one must, and requests that name no other language go there.
pub struct Together {
    host: &'static Host,
    first: Box<dyn Runtime>,
    others: Vec<Box<dyn Runtime>>,
}

impl Together {
    pub fn new(host: &'static Host, first: Box<dyn Runtime>, others: Vec<Box<dyn Runtime>>) -> Self {
        Self { host, first, others }
    }

    /// Has each of them do something, in their order, until one fails.
    fn each(&mut self, mut act: impl FnMut(&mut dyn Runtime) -> Result<Load, ZygoteError>) -> Result<Load, ZygoteError> {
        for runtime in std::iter::once(&mut self.first).chain(&mut self.others) {
            let loaded = act(&mut **runtime)?;
            if loaded != Load::Done {
                return Ok(loaded);
            }
        }
        Ok(Load::Done)
    }
}

impl Runtime for Together {
    fn language(&self) -> Arc<dyn Language> {
        let all = std::iter::once(&self.first).chain(&self.others).map(|runtime| runtime.language());
        Arc::new(Languages::new(all.collect(), &self.host.boot.settings.request))
    }

    fn begin(&mut self) -> Result<Load, ZygoteError> {
        self.each(|runtime| runtime.begin())
    }

    fn load(&mut self) -> Result<Load, ZygoteError> {
        let (mut apps, mut own) = (0, None);
        let loaded = self.each(|runtime| {
            runtime.number_from(apps);
            let loaded = runtime.load();
            apps += runtime.language().apps().len() as u32;
            own.get_or_insert(apps);
            loaded
        });
        self.first.leave_numbers(apps - own.unwrap_or(apps));
        loaded
    }

    fn before_forks(&mut self) {
        self.first.before_forks();
        self.others.iter_mut().for_each(|runtime| runtime.before_forks());
    }

    fn detached(&self, work: &mut (dyn FnMut() + Send)) {
        self.first.detached(work);
    }

    fn fork(&mut self) -> Result<Fork, ZygoteError> {
        self.first.fork()
    }

    fn fork_between(&mut self) -> Result<Fork, ZygoteError> {
        self.first.fork_between()
    }

    fn forked(&mut self, worker: u32) -> Result<(), ZygoteError> {
        self.first.forked(worker)?;
        self.others.iter_mut().try_for_each(|runtime| runtime.forked(worker))
    }

    fn post_fork(&mut self) {
        self.first.post_fork();
        self.others.iter_mut().for_each(|runtime| runtime.post_fork());
    }

    fn instead(&mut self) -> Result<Option<i32>, ZygoteError> {
        self.first.instead()
    }

    fn ready(&mut self, worker: u32) -> Result<(), ZygoteError> {
        self.first.ready(worker)?;
        self.others.iter_mut().try_for_each(|runtime| runtime.ready(worker))
    }
}

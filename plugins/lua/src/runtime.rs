//! Lua in a zygote: loads the states before the fork, or in each worker.

use std::sync::Arc;
use std::time::Instant;

use imperator_worker::host::Host;
use imperator_worker::language::Language;
use imperator_worker::log::diag::say;
use imperator_worker::zygote::{Load, Runtime, ZygoteError};

use crate::autoreload;
use crate::language::LuaLanguage;
use crate::state::Plan;

pub struct LuaRuntime {
    host: &'static Host,
    language: Arc<LuaLanguage>,
}

impl LuaRuntime {
    pub fn new(host: &'static Host) -> Self {
        Self { host, language: Arc::new(LuaLanguage::new(Plan::of(&host.boot.settings))) }
    }
}

impl Runtime for LuaRuntime {
    fn language(&self) -> Arc<dyn Language> {
        self.language.clone()
    }

    /// A state for each core, from the same files. Whatever fails ends the start with 1, as in uWSGI.
    fn load(&mut self) -> Result<Load, ZygoteError> {
        let (cores, began) = (self.host.boot.settings.process.threads.max(1), Instant::now());
        match self.language.load(cores) {
            Ok(()) => {
                let seconds = began.elapsed().as_secs();
                self.language.took(seconds);
                imperator_sys::process::trim_heap(); // what loading alone needed is not each worker's to carry
                say(&format!(
                    "{}: {cores} Lua state{} ready in {seconds} seconds",
                    self.language.name(),
                    if cores == 1 { "" } else { "s" }
                ));
                Ok(Load::Done)
            }
            Err(failure) => {
                say(&failure);
                Ok(Load::Failed { code: 1, message: failure })
            }
        }
    }

    fn number_from(&mut self, first: u32) {
        self.language.number_from(first);
    }

    fn ready(&mut self, worker: u32) -> Result<(), ZygoteError> {
        let lua = &self.host.boot.settings.lua;
        if worker == 1 && lua.shell {
            self.language.shell();
        }
        if lua.autoreload > 0 {
            autoreload::start(self.language.clone(), lua.autoreload)
                .map_err(|source| ZygoteError::Os { what: "lua-autoreload", source })?;
        }
        Ok(())
    }
}

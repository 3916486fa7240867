//! Hook phases that the master runs, and the files that say who it is.

use imperator_worker::log::diag::say;

use super::decide::{Event, Haste};
use super::running::Master;
use crate::hooks::{Effects, Hooks};

impl Master {
    /// Runs the hooks of `phase` in this process. A failure of a phase that must not fail ends the instance.
    pub(super) fn run_phase(&mut self, phase: &str) {
        let Some(settings) = self.runtimes.last_key_value().map(|(_, r)| r.settings.clone()) else { return };
        match Hooks::parse(&settings.hooks).and_then(|hooks| hooks.run(phase)) {
            Ok(effects) => self.effects(&effects),
            Err(error) => {
                say(&format!("hook-{phase}: {error}"));
                self.events.push_back(Event::Stop { haste: Haste::Now, code: 1 });
            }
        }
    }

    /// What actions wanted of this process.
    pub(super) fn effects(&mut self, effects: &Effects) {
        self.reactions.extend(effects.signals.iter().copied());
        if let Some(code) = effects.exit {
            self.events.push_back(Event::Stop { haste: Haste::Now, code });
        }
    }

    pub(super) fn write_pidfiles_again(&mut self) {}

    pub(super) fn reopen_logs(&mut self, _rotate: bool) {}
}

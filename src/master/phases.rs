//! Hook phases that the master runs, and the files that say who it is.

use std::path::Path;

use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;

use super::decide::{Event, Haste};
use super::running::Master;
use super::runtime::Runtime;
use crate::hooks::{Effects, Hooks};
use crate::identity::{Moment, write_pidfiles};
use crate::privileges::group_of;

impl Master {
    /// Runs the hooks of `phase` in this process, without waiting for them. A failure of a phase that must not fail ends the instance.
    pub(super) fn run_phase(&mut self, phase: &str) {
        let Some(settings) = self.last_settings.clone() else { return };
        match Hooks::parse(&settings.hooks) {
            Ok(hooks) => self.queue_hooks(hooks.of(phase).cloned()),
            Err(error) => {
                say(&format!("hook-{phase}: {error}"));
                self.events.push_back(Event::Stop { haste: Haste::Now, code: 1 });
            }
        }
    }

    /// What actions wanted of this process.
    pub(super) fn effects(&mut self, effects: &Effects) {
        self.reactions.extend(effects.signals.iter().copied());
        effects.alarms.iter().for_each(|(name, message)| self.raise(name, message));
        if let Some(code) = effects.exit {
            self.events.push_back(Event::Stop { haste: Haste::Now, code });
        }
    }

    /// The first generation of this life serves: from now on statistics are answered.
    pub(super) fn first_time_up(&mut self, settings: &Settings) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        if let Err(error) = self.services.answer(&self.poll) {
            say(&format!("statistics are not served: {error}"));
        }
        self.waiting.tell();
        if self.reloads == 0 {
            self.write_pidfiles(settings, &[Moment::Safe]);
        }
        self.run_phase("master-start");
        self.settle_daemons(settings);
        self.settle_crons(settings);
        self.watch_queues(settings);
    }

    /// Sockets and pidfiles are removed at the end (`vacuum`), also after reloads.
    pub(super) fn remember_files(&mut self, runtime: &Runtime) {
        let address = runtime.settings.stats.address.as_deref().filter(|a| !a.contains(':') && !a.starts_with('@'));
        let paths = runtime.listeners.iter().filter_map(|b| b.label.path.as_deref());
        paths.chain(address.map(Path::new)).for_each(|path| self.vacuum.socket(path));
        self.vacuum.pidfiles(&runtime.settings.process);
    }

    /// The FIFO's `P`.
    pub(super) fn write_pidfiles_again(&mut self) {
        let Some(settings) = self.current().map(|(_, r)| r.settings.clone()) else { return };
        self.write_pidfiles(&settings, &[Moment::Early, Moment::Later, Moment::Safe]);
    }

    fn write_pidfiles(&self, settings: &Settings, moments: &[Moment]) {
        for moment in moments {
            if let Err(error) = write_pidfiles(&settings.process, *moment, std::process::id() as i32) {
                say(&error.to_string());
            }
        }
    }

    /// Everything has ended.
    pub(super) fn last_things(&mut self) {
        let Some(settings) = self.last_settings.clone() else { return };
        if let Some(group) = group_of(&settings) {
            group.remove();
        }
        if settings.process.vacuum {
            for (path, error) in self.vacuum.run(std::process::id() as i32) {
                say(&format!("vacuum: cannot remove {}: {error}", path.display()));
            }
        }
    }
}

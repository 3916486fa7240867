//! Signals and other orders.

use imperator_worker::log::diag::say;
use nix::sys::signal::Signal;

use super::decide::{Event, Haste};
use super::order::Order;
use super::running::Master;
use super::{signals, vassal};
use crate::systemd::Systemd;

impl Master {
    pub(super) fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == nix::libc::SIGCHLD {
                self.reap();
                continue;
            }
            let by_hook = crate::hooks::reaction(&self.reactions, signal);
            if let Some(order) = by_hook.or_else(|| signals::order(signal, self.die_on_term())) {
                if let Some(what) = ending(&order) {
                    let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
                    say(&format!("{name} from pid {}: {what}", info.ssi_pid));
                }
                self.obey(&order);
            }
        }
    }

    fn die_on_term(&self) -> Option<bool> {
        self.runtimes.last_key_value().and_then(|(_, r)| r.settings.process.die_on_term)
    }

    /// Does what somebody asks for.
    pub(super) fn obey(&mut self, order: &Order) {
        if matches!(order, Order::Reload | Order::BrutalReload) {
            self.systemd.iter_mut().for_each(Systemd::reloading);
        }
        match order {
            Order::Reload => self.tell(Event::Reload { brutal: false }),
            Order::BrutalReload => self.tell(Event::Reload { brutal: true }),
            Order::ReloadWorkers => self.tell(Event::ReloadWorkers { brutal: false }),
            Order::BrutalReloadWorkers => self.tell(Event::ReloadWorkers { brutal: true }),
            Order::ChainReload => self.tell(Event::ChainReload),
            Order::Stop => self.tell(Event::Stop { haste: Haste::Now, code: 0 }),
            Order::GracefulStop => self.tell(Event::Stop { haste: Haste::Graceful, code: 0 }),
            Order::PauseOrResume => self.tell(Event::PauseOrResume),
            Order::Report => self.report(),
            Order::OneWorkerMore => self.change_population(|n, most| (n + 1).min(most)),
            Order::OneWorkerLess => self.change_population(|n, _| n.saturating_sub(1).max(1)),
            Order::Cheap => {
                self.change_population(|_, _| 0);
                self.watch_listeners(true);
            }
            Order::Reinforcements => {
                if !self.tell_emperor(vassal::REINFORCEMENTS) {
                    say("nobody can be asked for reinforcements: no emperor has started this instance");
                }
            }
            Order::WritePidfiles => self.write_pidfiles_again(),
            Order::EmperorRescan => self.inside.rescan(),
            Order::ForkMaster => {
                say("no second master is forked: a reload loads the new release beside the old one, and `zerg-server` shares sockets")
            }
            Order::BlockSubscriptions => say("there are no subscriptions to block"),
        }
    }

    fn change_population(&mut self, change: fn(u32, u32) -> u32) {
        let Some((generation, workers)) = self.population() else { return };
        let most = self.runtimes.get(&generation).map_or(workers, |r| r.settings.process.workers);
        self.tell(Event::Population { generation, workers: change(workers, most) });
    }
}

/// What the log says of an order to end: who reads it later asks first who gave it.
fn ending(order: &Order) -> Option<&'static str> {
    match order {
        Order::Stop => Some("stopping now"),
        Order::GracefulStop => Some("stopping when the running requests are done"),
        _ => None,
    }
}

//! What the settings mean for the master's decisions.

use imperator_worker::settings::Settings;
use nix::libc::SIGTERM;

use super::decide::{Cheaper, Ms, Policy};
use super::order::Order;

/// The part of the settings that [`super::decide`] needs.
pub fn policy(settings: &Settings) -> Policy {
    let (p, l) = (&settings.process, &settings.limits);
    let seconds = |s: u32| Ms::from(s) * 1000;
    Policy {
        workers: if needs_no_worker(settings) { 0 } else { p.workers },
        initial: initial(settings),
        cores: p.threads.max(1),
        mercy: seconds(settings.reload.worker_mercy),
        backoff: seconds(p.forkbomb_delay),
        lifetime: seconds(l.max_worker_lifetime),
        lifetime_delta: l.max_worker_lifetime_delta.map(seconds),
        exit_on_reload: settings.reload.exit_on_reload,
        need_app: settings.need_app(),
    }
}

/// No socket and no app: sockets are bound for others (`zerg-pool`), or there are only vassals, daemons and cron lines. No worker is needed.
fn needs_no_worker(settings: &Settings) -> bool {
    let (options, background) = (&settings.socket_options, &settings.background);
    let something = !settings.emperor.sources.is_empty()
        || !options.zerg_pool.is_empty()
        || !background.daemons.is_empty()
        || !background.crons.is_empty();
    something && options.zerg.is_empty() && settings.sockets.is_empty() && !settings.names_app()
}

fn initial(settings: &Settings) -> u32 {
    let p = &settings.process;
    match p.cheaper {
        _ if p.cheap || needs_no_worker(settings) => 0,
        Some(least) => p.cheaper_initial.unwrap_or(least).clamp(least, p.workers.max(least)),
        None => p.workers,
    }
}

/// What changes the number of workers, if `cheaper` is on.
pub fn cheaper(settings: &Settings) -> Option<Cheaper> {
    let p = &settings.process;
    p.cheaper.map(|least| Cheaper::new(p.cheaper_rules.clone(), least, p.workers))
}

/// What TERM and QUIT mean. `die-on-term` unset: both stop gracefully; true: TERM stops, QUIT reloads; false: TERM reloads, QUIT stops.
pub fn term_or_quit(signal: i32, die_on_term: Option<bool>) -> Order {
    match (die_on_term, signal == SIGTERM) {
        (None, _) => Order::GracefulStop,
        (Some(true), true) | (Some(false), false) => Order::Stop,
        (Some(true), false) | (Some(false), true) => Order::BrutalReload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc::SIGQUIT;

    #[test]
    fn the_table_of_die_on_term() {
        let both = |v| (term_or_quit(SIGTERM, v), term_or_quit(SIGQUIT, v));
        assert_eq!(both(None), (Order::GracefulStop, Order::GracefulStop));
        assert_eq!(both(Some(true)), (Order::Stop, Order::BrutalReload));
        assert_eq!(both(Some(false)), (Order::BrutalReload, Order::Stop));
    }

    #[test]
    fn how_many_workers_a_start_brings() {
        let mut settings = Settings::default();
        settings.process.workers = 4;
        assert_eq!(policy(&settings).initial, 4);
        settings.process.cheaper = Some(1);
        assert_eq!(policy(&settings).initial, 1);
        settings.process.cheaper_initial = Some(9);
        assert_eq!(policy(&settings).initial, 4);
        settings.process.cheap = true;
        assert_eq!(policy(&settings).initial, 0);
    }
}

//! Without a master: the started process becomes the user's interpreter and serves itself (`master = false`), or runs a script (`pyrun`).

use anyhow::Result;
use imperator_worker::control::Role;
use imperator_worker::log::diag::say;
use imperator_worker::metrics::Metrics;
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::settings::{Log, Settings};

use super::Start;
use super::caches::CacheSet;
use super::spawn::Recipe;
use crate::logs::Logs;
use crate::privileges::{as_app, plan};
use crate::sockets::Bound;

/// Which role a process without a master has; `None`: there is a master.
pub fn role(settings: &Settings, vassal: bool) -> Option<Role> {
    if settings.python.pyrun.is_some() {
        return Some(Role::Script);
    }
    // A vassal always has one, as it is the master that talks to the emperor; a pool of sockets is a master's, too.
    let alone = settings.emperor.sources.is_empty() && settings.socket_options.zerg_pool.is_empty();
    (!settings.process.master && !vassal && alone).then_some(Role::Single)
}

/// The settings of a process that nobody reads log lines for: they go straight to the file.
pub fn without_log_master(settings: &Settings) -> Settings {
    let log = &settings.log;
    let needs_master =
        log.master || !log.loggers.is_empty() || !log.req_loggers.is_empty() || !log.routes.is_empty() || !log.alarms.is_empty();
    if !needs_master {
        return settings.clone();
    }
    say("warning: log-master, logger, req-logger and log-route need a master: lines go to the log itself");
    let none = Vec::new;
    let log = Log {
        master: false,
        loggers: none(),
        req_loggers: none(),
        routes: none(),
        req_routes: none(),
        drain: none(),
        filter: none(),
        encoders: none(),
        req_encoders: none(),
        alarms: none(),
        not_alarms: none(),
        ..log.clone()
    };
    Settings { log, ..settings.clone() }
}

/// Changes from other instances are the master's to take.
fn without_peers(settings: &Settings) -> Result<()> {
    for definition in settings.cache.all()?.iter().filter(|d| !d.udp_servers.is_empty()) {
        say(&format!("warning: cache \"{}\": udp needs a master: changes from other instances are not taken", definition.name));
    }
    Ok(())
}

/// Becomes the interpreter. Returns only if that fails, or with the code that a hook ends it with.
pub fn become_interpreter(
    role: Role,
    settings: &Settings,
    start: &Start,
    listeners: &[Bound],
    logs: &Logs,
    started_at: u64,
) -> Result<i32> {
    let scoreboard = Scoreboard::create(settings.process.workers, settings.process.threads.max(1))?;
    let metrics = metrics(settings)?;
    let (plan, place) = plan(settings)?;
    let caches = as_app(&plan, place, || CacheSet::make(settings, &[]))??;
    without_peers(settings)?;
    let recipe = Recipe {
        role,
        settings,
        start,
        generation: 1,
        listeners,
        scoreboard: &scoreboard,
        caches: &caches,
        metrics: metrics.as_ref(),
        request_log: logs.request_log(),
        log: None,
        started_at,
        plan: &plan,
        place,
    };
    recipe.in_place()
}

/// The app counts in its metrics also where nobody shows them.
fn metrics(settings: &Settings) -> Result<Option<Metrics>> {
    let definitions = &settings.metrics.definitions;
    let mut metrics = if definitions.is_empty() { return Ok(None) } else { Metrics::create()? };
    metrics.define(definitions.iter())?;
    Ok(Some(metrics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_master() {
        let mut settings = Settings::default();
        assert_eq!(role(&settings, false), None);
        settings.process.master = false;
        assert_eq!((role(&settings, false), role(&settings, true)), (Some(Role::Single), None));
        settings.python.pyrun = Some("x.py".into());
        assert_eq!(role(&settings, false), Some(Role::Script));
    }
}

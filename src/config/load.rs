//! A whole configuration at once: read, apply, judge.

use std::collections::HashMap;

use imperator_worker::settings::Settings;
use nix::sys::stat::SFlag;

use super::apply::{self, Applied};
use super::conflicts::{self, Surroundings};
use super::reader::{self, Context, Reading};
use super::{Diagnostic, Entry, Origin, command};
use crate::privileges::{Forced, instance_name};

pub use super::command::Command;

/// A configuration that may be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// Everything that was written, expanded, in the order in which it was applied.
    pub entries: Vec<Entry>,
    /// To be logged before anything starts.
    pub warnings: Vec<Diagnostic>,
    /// What `show-config` asked for, to be logged.
    pub show_config: Option<String>,
    /// The texts of `print`, to be logged.
    pub prints: Vec<String>,
    pub mode: Mode,
}

/// Why a configuration is refused: everything that was found, not only the first. The exit code is 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ConfigError {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    /// What `show-config` asked for: it is wanted most where something is wrong.
    pub show_config: Option<String>,
}

impl ConfigError {
    fn text(&self) -> String {
        self.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// What the process is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Master and workers (`settings.process.master`), or one process that is its own worker.
    Serve,
    /// An emperor and nothing else, in the first process.
    Emperor,
    /// Do this one thing and end.
    Once(Command),
}

/// Reads and judges everything: `argv` (with the program's name first) and the environment, and the files that they name.
///
/// # Errors
/// All that stands against starting; the exit code is 1.
pub fn load(argv: &[String], env: &[(String, String)]) -> Result<Loaded, ConfigError> {
    load_beside(argv, env, false)
}

/// As [`load`], in a process that may listen already on a socket which no option names: the one that was its descriptor 0 when it started.
///
/// # Errors
/// As [`load`].
pub fn load_beside(argv: &[String], env: &[(String, String)], listens: bool) -> Result<Loaded, ConfigError> {
    let reading = read(argv, env)?;
    if let Some(command) = command::asked_for(&reading) {
        return Ok(once(reading, command));
    }
    let mut applied = apply::apply(&reading);
    if let Err(error) = Forced::of_environment(env).map(|forced| forced.hold(&mut applied.settings)) {
        applied.errors.push(Diagnostic::new(&Origin::Environment, error));
    }
    applied.settings.isolation.group.name = instance_name(argv);
    let mut around = Surroundings::of_process(env);
    around.sockets_passed |= listens;
    judge(&mut applied, &around);
    applied.errors.extend(conflicts::nothing_to_do(&applied.settings, &around));
    accept(reading, applied)
}

/// As [`load`], but to be looked at and not to be run: no socket is no error, and nothing is said of commands. Errors are in the result.
///
/// # Errors
/// What cannot be read at all.
pub fn inspect(argv: &[String], env: &[(String, String)]) -> Result<(Reading, Applied), ConfigError> {
    let reading = read(argv, env)?;
    let mut applied = apply::apply(&reading);
    judge(&mut applied, &Surroundings::of_process(env));
    Ok((reading, applied))
}

fn read(argv: &[String], env: &[(String, String)]) -> Result<Reading, ConfigError> {
    let args = argv.get(1..).unwrap_or_default();
    reader::read(args, env, &Context::of_process()).map_err(|error| ConfigError {
        errors: vec![Diagnostic::new(&error.origin, error.what.to_string())],
        warnings: vec![],
        show_config: None,
    })
}

fn judge(applied: &mut Applied, around: &Surroundings) {
    // A vassal always gets a master, whatever its file says.
    applied.settings.process.master |= around.vassal;
    applied.errors.extend(conflicts::errors(&applied.settings, around));
    applied.warnings.extend(conflicts::warnings(&applied.settings, around));
}

fn once(reading: Reading, command: Command) -> Loaded {
    Loaded {
        settings: Settings::default(),
        entries: reading.entries,
        warnings: vec![],
        show_config: None,
        prints: vec![],
        mode: Mode::Once(command),
    }
}

fn accept(reading: Reading, applied: Applied) -> Result<Loaded, ConfigError> {
    let Applied { settings, errors, warnings, prints, show_config } = applied;
    let show_config = show_config.then(|| listing(&reading.entries));
    if !errors.is_empty() {
        return Err(ConfigError { errors, warnings, show_config });
    }
    let mode = if is_only_emperor(&settings) { Mode::Emperor } else { Mode::Serve };
    Ok(Loaded { settings, entries: reading.entries, warnings, show_config, prints, mode })
}

/// Nothing to serve and to run, only vassals to supervise.
fn is_only_emperor(settings: &Settings) -> bool {
    let zerg = &settings.socket_options;
    let sockets = !settings.sockets.is_empty() || !zerg.zerg.is_empty() || !zerg.zerg_pool.is_empty();
    let serves = sockets || settings.names_app() || settings.python.pyrun.is_some();
    let runs = !settings.background.daemons.is_empty() || !settings.background.crons.is_empty();
    !settings.emperor.sources.is_empty() && !serves && !runs && !asks_for_master(settings)
}

/// What only a master answers or looks at.
fn asks_for_master(settings: &Settings) -> bool {
    let (stats, reload) = (&settings.stats, &settings.reload);
    let answers =
        stats.address.is_some() || stats.prometheus.is_some() || stats.health.is_some() || !settings.process.master_fifo.is_empty();
    let touched = [&reload.touch_reload, &reload.touch_exec, &reload.touch_gracefully_stop, &reload.fs_reload, &reload.fs_brutal_reload];
    answers || touched.iter().any(|files| !files.is_empty())
}

/// As `show-config` prints it; tests of popular images look for its first and last line in the log.
fn listing(entries: &[Entry]) -> String {
    let mut text = String::from(";uWSGI instance configuration\n[uwsgi]\n");
    for Entry { key, value, .. } in entries {
        text.push_str(&format!("{key} = {}\n", value.as_deref().unwrap_or("true")));
    }
    text + ";end of configuration"
}

impl Surroundings {
    /// Of this process.
    pub fn of_process(env: &[(String, String)]) -> Self {
        let env: HashMap<&str, &str> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let pid = std::process::id().to_string();
        let systemd = env.get("LISTEN_PID").is_some_and(|own| *own == pid) && env.contains_key("LISTEN_FDS");
        let zero = nix::sys::stat::fstat(imperator_sys::process::standard_input())
            .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK);
        let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        Self {
            somaxconn: somaxconn.unwrap_or(i32::MAX),
            sockets_passed: systemd,
            zero_is_socket: zero,
            vassal: env.contains_key("UWSGI_EMPEROR_FD") || env.contains_key("UWSGI_EMPEROR_PROXY"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    #[test]
    fn the_listing_is_uwsgis() {
        let entry = |key: &str, value: Option<&str>| Entry { key: key.into(), value: value.map(Into::into), origin: Origin::CommandLine };
        let text = listing(&[entry("base", Some("/srv")), entry("show-config", None), entry("endif", Some(""))]);
        assert_eq!(text, ";uWSGI instance configuration\n[uwsgi]\nbase = /srv\nshow-config = true\nendif = \n;end of configuration");
    }

    #[test]
    fn what_a_master_does_an_emperor_needs_one_for() {
        let load = |more: &[&str]| {
            let argv: Vec<String> = ["imperator", "--emperor", "/v"].iter().chain(more).map(|word| (*word).to_owned()).collect();
            load(&argv, &[]).expect("good").mode
        };
        assert_eq!(load(&[]), Mode::Emperor);
        assert_eq!(load(&["--attach-daemon", "sleep 9"]), Mode::Serve);
        assert_eq!(load(&["--cron", "-1 -1 -1 -1 -1 true"]), Mode::Serve);
        assert_eq!(load(&["--stats", "/s"]), Mode::Serve);
        assert_eq!(load(&["--master-fifo", "/f"]), Mode::Serve);
        assert_eq!(load(&["--touch-reload", "/v.ini"]), Mode::Serve);
        assert_eq!(load(&["--emperor-stats", "/s"]), Mode::Emperor);
    }

    #[test]
    fn an_emperor_that_serves_nothing_is_only_that() {
        let mut settings = Settings::default();
        assert!(!is_only_emperor(&settings));
        settings.emperor.sources.push("/etc/vassals".into());
        assert!(is_only_emperor(&settings));
        settings.python.wsgi_file = Some("app.py".into());
        assert!(!is_only_emperor(&settings));
    }
}

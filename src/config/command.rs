//! Configurations that start nothing.

use nix::sys::signal::Signal;

use super::reader::Reading;
use super::table;
use super::{Entry, values};

/// A command line that starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Help,
    Version,
    /// Print these lines.
    Print(Vec<String>),
    /// Send the signal to the process that the pidfile names.
    Signal {
        pidfile: String,
        signal: i32,
    },
    /// Print what that socket says.
    Read(String),
    /// Is anybody there: exit code 0, 1 (down), 2 (a warning is set).
    Ping {
        address: String,
        timeout: u32,
    },
    Exit(i32),
}

/// uWSGI's default of `ping-timeout`, seconds.
const PING_TIMEOUT: u32 = 3;

/// The first command of the list, if there is one. `exit` ends the reading, so that it comes before everything that is not above it.
pub fn asked_for(reading: &Reading) -> Option<Command> {
    let first = reading.entries.iter().find_map(|entry| of(entry, &reading.entries));
    first.or_else(|| reading.exit.map(Command::Exit))
}

fn of(entry: &Entry, all: &[Entry]) -> Option<Command> {
    let value = entry.value.clone().unwrap_or_default();
    let on = values::flag(entry.value.as_deref());
    let print = |lines: &[&str]| on.then(|| Command::Print(lines.iter().map(ToString::to_string).collect()));
    match table::lookup(&entry.key)?.name {
        "help" => on.then_some(Command::Help),
        "version" => on.then_some(Command::Version),
        "stop" => Some(Command::Signal { pidfile: value, signal: Signal::SIGINT as i32 }),
        "reload" => Some(Command::Signal { pidfile: value, signal: Signal::SIGHUP as i32 }),
        "pause" => Some(Command::Signal { pidfile: value, signal: Signal::SIGTSTP as i32 }),
        "connect-and-read" => Some(Command::Read(value)),
        "ping" => Some(Command::Ping { address: value, timeout: ping_timeout(all) }),
        "get" => Some(Command::Print(wanted(all))),
        "dump-options" => on.then(|| Command::Print(table::names().map(str::to_owned).collect())),
        "plugins-list" => print(&["python3", "the Python of `home`, of `python-bin`, or the first python3 on PATH"]),
        "logger-list" => print(&["file", "fd", "stdio", "socket", "syslog", "rsyslog"]),
        "cheaper-algo-list" => print(&["spare", "spare2", "backlog", "busyness", "manual"]),
        "alarm-list" => print(&["cmd", "log"]),
        "imperial-monitor-list" => print(&crate::emperor::sources::KINDS),
        _ => None,
    }
}

fn ping_timeout(all: &[Entry]) -> u32 {
    let given = all.iter().rev().find(|entry| entry.key == "ping-timeout");
    given.and_then(|entry| values::number(entry.value.as_deref()).ok()).unwrap_or(PING_TIMEOUT)
}

/// The first value of each key that `get` asks for, as a placeholder would give it.
fn wanted(all: &[Entry]) -> Vec<String> {
    let value_of = |key: &str| all.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone().unwrap_or_else(|| "true".into()));
    all.iter().filter(|entry| entry.key == "get").filter_map(|entry| value_of(entry.value.as_deref()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn asked(list: &[(&str, Option<&str>)], exit: Option<i32>) -> Option<Command> {
        let entries =
            list.iter().map(|(key, value)| Entry { key: (*key).into(), value: value.map(Into::into), origin: Origin::CommandLine });
        asked_for(&Reading { entries: entries.collect(), exit, ..Reading::default() })
    }

    #[test]
    fn commands_are_found_in_the_list() {
        assert_eq!(asked(&[("socket", Some(":1"))], None), None);
        assert_eq!(asked(&[("version", None)], None), Some(Command::Version));
        assert_eq!(asked(&[("help", Some("false"))], None), None);
        assert_eq!(asked(&[("stop", Some("/run/a.pid"))], None), Some(Command::Signal { pidfile: "/run/a.pid".into(), signal: 2 }));
        assert_eq!(asked(&[("print", Some("x"))], Some(4)), Some(Command::Exit(4)));
        let ping = Command::Ping { address: ":1".into(), timeout: 7 };
        assert_eq!(asked(&[("ping", Some(":1")), ("ping-timeout", Some("7"))], None), Some(ping));
    }

    #[test]
    fn get_prints_the_first_value() {
        let list = [("get", Some("socket")), ("socket", Some("a")), ("socket", Some("b")), ("get", Some("nothing"))];
        assert_eq!(asked(&list, None), Some(Command::Print(vec!["a".into()])));
    }

    #[test]
    fn every_command_is_a_row_of_the_table() {
        for name in [
            "help",
            "version",
            "stop",
            "reload",
            "pause",
            "connect-and-read",
            "ping",
            "get",
            "dump-options",
            "plugins-list",
            "logger-list",
            "alarm-list",
        ] {
            assert!(table::lookup(name).is_some_and(|spec| matches!(spec.status, table::Status::Immediate)), "{name}");
        }
    }
}

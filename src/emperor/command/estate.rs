//! What the emperor itself says to Prometheus: of each vassal that it is there, and how it is. Their own figures are theirs to tell.

use std::fmt::Write as _;

use crate::emperor::core::{Core, Key, Now, State, Vassal};

const STATES: [(State, &str); 7] = [
    (State::Running, "running"),
    (State::Starting, "starting"),
    (State::Reloading, "reloading"),
    (State::Sleeping, "sleeping"),
    (State::Throttled, "throttled"),
    (State::Stopping, "stopping"),
    (State::Stopped, "stopped"),
];

/// The page without the vassals' own.
pub fn page(core: &Core, now: Now, since: i64) -> String {
    let mut out = String::new();
    family(&mut out, "imperator_emperor_start_time_seconds", "gauge", "When the emperor was started, in seconds since 1970.");
    let _ = writeln!(out, "imperator_emperor_start_time_seconds {since}");
    family(&mut out, "imperator_vassals", "gauge", "Vassals in each state.");
    for (state, word) in STATES {
        let count =
            core.vassals.values().filter(|v| v.state(now) == state).count() + if state == State::Stopped { core.refused.len() } else { 0 };
        let _ = writeln!(out, "imperator_vassals{{state=\"{word}\"}} {count}");
    }
    let accepts = |v: &Vassal| u64::from(v.face.accepting && v.pid().is_some());
    each(&mut out, core, "imperator_vassal_up", "gauge", "1: the vassal accepts requests.", &accepts);
    each(&mut out, core, "imperator_vassal_restarts_total", "counter", "Processes of the vassal after the first.", &|v| {
        v.restarts().into()
    });
    each(&mut out, core, "imperator_vassal_reloads_total", "counter", "Reloads of the vassal's running process.", &|v| {
        v.face.respawns.into()
    });
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn each(out: &mut String, core: &Core, name: &str, kind: &str, help: &str, of: &dyn Fn(&Vassal) -> u64) {
    family(out, name, kind, help);
    for (key, vassal) in &core.vassals {
        let _ = writeln!(out, "{name}{{vassal=\"{}\"}} {}", label(key), of(vassal));
    }
}

fn label(key: &Key) -> String {
    key.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::{Found, Owner, Policy, Seen, Stamp};

    #[test]
    fn states_and_names() {
        let policy = Policy {
            throttle_ms: 1,
            max_throttle_ms: 1,
            no_blacklist: false,
            curse_tolerance_ms: 1,
            end_mercy_ms: 1,
            graceful: false,
            required_heartbeat_ms: 1,
            tyrant: false,
            on_demand: false,
            broodlord: 0,
            parallel_starts: 0,
        };
        let mut core = Core::new(policy);
        let now = Now { ms: 0, wall_ms: 0 };
        let file = |id: &str| Seen { id: id.into(), stamp: Stamp::default(), owner: Owner::default(), touched_ms: -9999, busy: false };
        core.scan(now, &[Found::Files(vec![file("a.ini"), file("q\"\n.ini")])]);
        core.started(now, &Key::vassal("a.ini"), 7);
        core.byte(now, &Key::vassal("a.ini"), crate::pipe::ACCEPTING);
        let text = page(&core, now, 5);
        for line in [
            "imperator_vassals{state=\"running\"} 1",
            "imperator_vassals{state=\"starting\"} 1",
            "imperator_vassal_up{vassal=\"a.ini\"} 1",
            "imperator_vassal_up{vassal=\"q\\\"\\n.ini\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}

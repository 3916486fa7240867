//! `imperator why FILE`: what its log says of deaths and failures, and how it is now.

use anyhow::Result;
use serde_json::json;

use super::super::ask::figures;
use super::super::shown::{now, plain, span};
use super::super::target::Instance;
use super::super::words::Ask;
use super::log::{path, tail};
use crate::cli::print;

/// Lines of the log that are looked at.
const LOOKED_AT: usize = 5000;
/// Of those that tell of something, and of the last ones.
const SHOWN: usize = 10;

pub(super) fn run(ask: &Ask, instance: &Instance) -> Result<()> {
    let state = state(instance);
    let lines = path(instance).and_then(|path| tail(&path, LOOKED_AT)).map(|(lines, _)| lines);
    let telling: Vec<&String> = lines.iter().flatten().filter(|line| tells(line)).collect();
    let telling = &telling[telling.len().saturating_sub(SHOWN)..];
    let last = lines.as_deref().map(|lines| &lines[lines.len().saturating_sub(SHOWN)..]);
    if ask.json {
        let all = json!({ "state": state, "events": telling, "last_lines": last.unwrap_or_default() });
        print(&format!("{all:#}\n"));
        return Ok(());
    }
    let mut text = format!("{}: {state}\n", plain(&instance.name));
    text += &part("deaths and failures in its log:", telling);
    match last {
        Ok(last) => text += &part("last lines:", &last.iter().collect::<Vec<_>>()),
        Err(error) => text += &format!("{error:#}\n"),
    }
    print(&text);
    Ok(())
}

fn state(instance: &Instance) -> String {
    match figures(instance) {
        Ok(figures) => {
            let extra = figures.imperator;
            let mut text = format!("runs, master {}", figures.pid);
            if extra.generation > 0 {
                text += &format!(", generation {}, up {}", extra.generation, span(now().saturating_sub(extra.started_at)));
            }
            if !extra.last_reload_error.is_empty() {
                text += &format!("; the last reload failed: {}", plain(&extra.last_reload_error));
            }
            if extra.last_death_at > 0 {
                text += &format!("; the last death: {}, {} ago", plain(&extra.last_death), span(now().saturating_sub(extra.last_death_at)));
            }
            let ends: Vec<String> =
                extra.respawns.iter().filter(|(_, n)| **n > 0).map(|(cause, n)| format!("{} {n} times", plain(cause))).collect();
            if !ends.is_empty() {
                text += &format!("; workers ended by {}", ends.join(", "));
            }
            text
        }
        Err(error) => format!("{error:#}"),
    }
}

fn part(title: &str, lines: &[&String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("{title}\n{}", lines.iter().map(|line| format!("  {}\n", plain(line))).collect::<String>())
}

/// Lines of the log of ours or uWSGI's that say why something ended or did not start.
fn tells(line: &str) -> bool {
    ["DAMN !", "HARAKIRI", "*** reload failed", "*** ", "Segmentation Fault", "SIGNAL", "cannot ", "unable to load app", "no app loaded"]
        .iter()
        .any(|mark| line.contains(mark) && !line.contains("*** Starting uWSGI") && !line.contains("*** Operational MODE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_lines() {
        for line in [
            "DAMN ! worker 2 (pid: 102) died, killed by signal 9 :( trying respawn ...",
            "*** reload failed: generation 2 could not load its app (code 22); generation 1 goes on serving ***",
            "*** HARAKIRI ON WORKER 1 (pid: 9, try: 1, graceful: yes) ***",
        ] {
            assert!(tells(line), "{line}");
        }
        for line in ["[pid: 1|app: 0|req: 1/1] 127.0.0.1 () {30 vars} GET /", "*** Starting uWSGI 2.0.30 (64bit) on [x] ***"] {
            assert!(!tells(line), "{line}");
        }
    }
}

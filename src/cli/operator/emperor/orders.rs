//! `reload`, `stop` and `start` of a vassal: told, and then looked at until it is so.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::shown::plain;
use super::super::target::Emperor;
use super::super::words::{Ask, Verb};
use super::{read, send};
use crate::cli::{complain, print};
use crate::emperor::command::say::{Done, Ps, Row};
use crate::emperor::core::State;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What a look tells.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    NotYet,
    Done,
    Failed(String),
}

pub(super) fn run(ask: &Ask, emperor: &Emperor) -> Result<i32> {
    let before = if emperor.vassal.is_some() { Some(row(emperor)?) } else { None };
    let done: Done = read(send(emperor, ask.verb.name())?)?;
    let Some(before) = before else {
        print(&format!("{}\n", plain(&done.done)));
        return Ok(0);
    };
    let end = Instant::now() + ask.wait;
    loop {
        let last = row(emperor)?;
        match look(ask.verb, &before, &last) {
            Seen::Done => {
                print(&if ask.json { serde_json::to_string(&last)? + "\n" } else { format!("{}\n", said(ask.verb, &last)) });
                return Ok(0);
            }
            Seen::Failed(why) => {
                complain(&format!("{}: {why}", ask.verb.name()));
                return Ok(1);
            }
            Seen::NotYet if Instant::now() >= end => {
                complain(&format!(
                    "{}: {} is still {:?} after {} s: `imperator why {}`",
                    ask.verb.name(),
                    last.name,
                    last.state,
                    ask.wait.as_secs(),
                    last.name
                ));
                return Ok(1);
            }
            Seen::NotYet => std::thread::sleep(PAUSE),
        }
    }
}

fn row(emperor: &Emperor) -> Result<Row> {
    let ps: Ps = read(send(emperor, "ps")?)?;
    ps.vassals.into_iter().next().context("the emperor does not know this vassal any more")
}

/// Whether it is as it was told to be.
fn look(verb: Verb, before: &Row, last: &Row) -> Seen {
    let died = last.state == State::Throttled;
    let words = || plain(&[last.last_exit.clone(), last.last_line.clone()].into_iter().flatten().collect::<Vec<_>>().join(": "));
    match (verb, last.state) {
        (Verb::Stop, State::Stopped) => Seen::Done,
        (Verb::Stop, _) => Seen::NotYet,
        _ if died => Seen::Failed(format!("{} does not run: {}", last.name, words())),
        (Verb::Start, State::Running | State::Sleeping) | (Verb::Reload, State::Sleeping) => Seen::Done,
        (Verb::Reload, State::Running) => reloaded(before, last),
        _ => Seen::NotYet,
    }
}

/// One that serves on with its old generation has failed to reload. A vassal without figures does not tell.
fn reloaded(before: &Row, last: &Row) -> Seen {
    if before.pid != last.pid {
        return Seen::Done; // it did not run, or was started anew meanwhile
    }
    match (&before.figures, &last.figures) {
        (Some(old), Some(new)) if new.generation <= old.generation => {
            let line = last.last_line.as_deref().map(plain).unwrap_or_default();
            Seen::Failed(format!("{}: the reload failed, and the old generation serves on: {line}", last.name))
        }
        _ => Seen::Done,
    }
}

fn said(verb: Verb, row: &Row) -> String {
    let what = match (verb, row.state) {
        (Verb::Stop, _) => "is stopped",
        (_, State::Sleeping) => "sleeps until the first connection",
        (Verb::Start, _) => "runs",
        _ => "has reloaded",
    };
    format!("{} {what}", plain(&row.name))
}

#[cfg(test)]
mod tests {
    use super::super::shown::tests::row;
    use super::*;
    use crate::stats::Figures;

    #[test]
    fn an_order_is_done_when_it_is_so() {
        let running = row("a.ini", State::Running);
        let with = |generation| Row { figures: Some(Figures { generation, ..Figures::default() }), ..running.clone() };
        assert_eq!(look(Verb::Stop, &running, &row("a.ini", State::Stopping)), Seen::NotYet);
        assert_eq!(look(Verb::Stop, &running, &row("a.ini", State::Stopped)), Seen::Done);
        assert_eq!(look(Verb::Reload, &with(1), &Row { state: State::Reloading, ..with(1) }), Seen::NotYet);
        assert_eq!(look(Verb::Reload, &with(1), &with(2)), Seen::Done);
        assert!(matches!(look(Verb::Reload, &with(2), &with(2)), Seen::Failed(why) if why.contains("serves on")));
        let silent = Row { figures: None, ..running.clone() };
        assert_eq!(look(Verb::Reload, &silent, &silent), Seen::Done, "a real uWSGI");
        assert!(matches!(look(Verb::Start, &running, &row("a.ini", State::Throttled)), Seen::Failed(_)));
        assert_eq!(look(Verb::Start, &running, &row("a.ini", State::Sleeping)), Seen::Done);
    }
}

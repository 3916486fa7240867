//! From two looks at counters to the rows of the screen.

use super::super::ask::{Figures, Worker};
use super::super::emperor::{remark, word};
use super::super::shown::{bytes, micros, plain, span};
use super::super::table::Side;
use crate::emperor::command::say::{Ps, Row as Vassal};
use crate::emperor::core::State;

/// What was seen, and when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    /// Milliseconds of a clock that only goes forward.
    pub at: u64,
    /// Epoch seconds.
    pub epoch: u64,
    pub seen: Seen,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Instance(Figures),
    Estate(Ps),
}

/// A screen's worth.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Board {
    /// Sentences above the table.
    pub summary: String,
    /// Requests a second of all, since the look before; `None`: there was none.
    pub rate: Option<f64>,
    pub columns: &'static [Column],
    pub rows: Vec<Row>,
}

/// Name, side, and width in letters; 0: what is left.
pub(super) type Column = (&'static str, Side, u16);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub cells: Vec<String>,
    /// What the row is sorted by, for each column.
    pub keys: Vec<Key>,
    pub tone: Tone,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Key {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Quiet,
    Busy,
    /// It needs an operator.
    Ill,
}

const WORKERS: [Column; 10] = [
    ("WORKER", Side::Right, 7),
    ("PID", Side::Right, 8),
    ("STATE", Side::Left, 7),
    ("REQ/S", Side::Right, 9),
    ("REQUESTS", Side::Right, 11),
    ("LATENCY", Side::Right, 9),
    ("TX/S", Side::Right, 10),
    ("RSS", Side::Right, 10),
    ("UP", Side::Right, 11),
    ("NOW", Side::Left, 0),
];

const VASSALS: [Column; 10] = [
    ("VASSAL", Side::Left, 24),
    ("STATE", Side::Left, 10),
    ("BUSY", Side::Right, 7),
    ("QUEUE", Side::Right, 7),
    ("REQ/S", Side::Right, 9),
    ("LATENCY", Side::Right, 9),
    ("MEMORY", Side::Right, 10),
    ("UP", Side::Right, 11),
    ("RESTARTS", Side::Right, 9),
    ("LAST", Side::Left, 0),
];

impl Board {
    pub fn of(before: Option<&Look>, now: &Look) -> Self {
        let elapsed = before.map(|before| now.at.saturating_sub(before.at)).filter(|elapsed| *elapsed > 0);
        match (&now.seen, before.map(|before| &before.seen)) {
            (Seen::Instance(figures), Some(Seen::Instance(old))) => instance(Some(old), figures, elapsed, now.epoch),
            (Seen::Instance(figures), _) => instance(None, figures, None, now.epoch),
            (Seen::Estate(estate), Some(Seen::Estate(old))) => of_estate(Some(old), estate, elapsed, now.epoch),
            (Seen::Estate(estate), _) => of_estate(None, estate, None, now.epoch),
        }
    }
}

/// What a counter grew by in a second. One that is smaller than before began again with a reload.
fn rate(before: Option<u64>, now: u64, elapsed: Option<u64>) -> Option<f64> {
    let (before, elapsed) = (before?, elapsed?);
    let grown = if now < before { now } else { now - before };
    Some(grown as f64 * 1000.0 / elapsed as f64)
}

fn total(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate))
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".into(), |rate| format!("{rate:.1}"))
}

fn number(value: Option<f64>) -> Key {
    Key::Number(value.unwrap_or(0.0))
}

// -- an instance

fn instance(before: Option<&Figures>, now: &Figures, elapsed: Option<u64>, epoch: u64) -> Board {
    let old = |worker: &Worker| before.and_then(|before| before.workers.iter().find(|old| old.id == worker.id));
    let rates: Vec<Option<f64>> = now.workers.iter().map(|w| rate(old(w).map(|old| old.requests), w.requests, elapsed)).collect();
    let rows = now.workers.iter().zip(&rates).map(|(worker, rate)| of_worker(worker, old(worker), *rate, elapsed, epoch)).collect();
    let busy = now.workers.iter().filter(|w| w.status == "busy").count();
    let all = total(rates.iter().copied());
    let memory = now.workers.iter().fold(0u64, |sum, w| sum.saturating_add(w.rss));
    let mut summary = format!(
        "master {}   {} requests/s   {busy} of {} workers busy   queue {}   rss {}",
        now.pid,
        shown(all),
        now.workers.len(),
        now.listen_queue,
        bytes(memory)
    );
    if now.imperator.generation > 0 {
        summary += &format!("   generation {}   up {}", now.imperator.generation, span(epoch.saturating_sub(now.imperator.started_at)));
    }
    Board { summary, rate: all, columns: &WORKERS, rows }
}

/// The average of the requests since the last look; without one, the worker's own moving average.
fn latency(worker: &Worker, old: Option<&Worker>) -> u64 {
    let old = old.filter(|old| old.requests < worker.requests && old.running_time <= worker.running_time);
    old.map_or(worker.avg_rt, |old| (worker.running_time - old.running_time) / (worker.requests - old.requests))
}

fn of_worker(worker: &Worker, old: Option<&Worker>, requests: Option<f64>, elapsed: Option<u64>, epoch: u64) -> Row {
    let tx = rate(old.map(|old| old.tx), worker.tx, elapsed);
    let latency = latency(worker, old);
    let doing: Vec<String> = worker.doing(epoch).iter().map(|(what, since)| format!("{} {}", span(*since), plain(what))).collect();
    let up = if worker.pid == 0 || worker.last_spawn == 0 { 0 } else { epoch.saturating_sub(worker.last_spawn) };
    let state = plain(&worker.status);
    Row {
        keys: vec![
            Key::Number(worker.id.into()),
            Key::Number(worker.pid.into()),
            Key::Text(state.clone()),
            number(requests),
            Key::Number(worker.requests as f64),
            Key::Number(latency as f64),
            number(tx),
            Key::Number(worker.rss as f64),
            Key::Number(up as f64),
            Key::Text(doing.join(" | ")),
        ],
        tone: if worker.status == "busy" { Tone::Busy } else { Tone::Quiet },
        cells: vec![
            worker.id.to_string(),
            worker.pid.to_string(),
            state,
            shown(requests),
            worker.requests.to_string(),
            micros(latency),
            tx.map_or_else(|| "-".into(), |tx| bytes(tx as u64)),
            bytes(worker.rss),
            span(up),
            doing.join(" | "),
        ],
    }
}

// -- an estate

fn of_estate(before: Option<&Ps>, now: &Ps, elapsed: Option<u64>, epoch: u64) -> Board {
    let old = |vassal: &Vassal| before?.vassals.iter().find(|old| old.name == vassal.name)?.figures.as_ref().map(|f| f.requests);
    let requests = |vassal: &Vassal| rate(old(vassal), vassal.figures.as_ref()?.requests, elapsed);
    let rates: Vec<Option<f64>> = now.vassals.iter().map(requests).collect();
    let all = total(rates.iter().copied());
    let running = now.vassals.iter().filter(|v| v.state == State::Running).count();
    let sum =
        |of: fn(&crate::stats::Figures) -> u64| now.vassals.iter().filter_map(|v| v.figures.as_ref()).map(of).fold(0, u64::saturating_add);
    let summary = format!(
        "emperor {}   {} requests/s   {running} of {} vassals running   {} of {} workers busy   memory {}   up {}",
        now.pid,
        shown(all),
        now.vassals.len(),
        sum(|f| f.busy),
        sum(|f| f.workers),
        bytes(sum(memory)),
        span(epoch.saturating_sub(past(now.since)))
    );
    let rows = now.vassals.iter().zip(&rates).map(|(vassal, rate)| of_vassal(vassal, *rate, epoch)).collect();
    Board { summary, rate: all, columns: &VASSALS, rows }
}

/// Epoch seconds, of which none are before 1970.
fn past(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

fn memory(figures: &crate::stats::Figures) -> u64 {
    if figures.pss > 0 { figures.pss } else { figures.rss }
}

fn of_vassal(vassal: &Vassal, requests: Option<f64>, epoch: u64) -> Row {
    let figures = vassal.figures.clone().unwrap_or_default();
    let has = vassal.figures.is_some();
    let or_dash = |text: String| if has { text } else { "-".into() };
    let up = if vassal.since == 0 || vassal.state != State::Running { 0 } else { epoch.saturating_sub(past(vassal.since)) };
    let last = remark(vassal, epoch);
    let (name, state) = (plain(&vassal.name), word(vassal.state).to_owned());
    Row {
        keys: vec![
            Key::Text(name.clone()),
            Key::Text(state.clone()),
            Key::Number(figures.busy as f64),
            Key::Number(figures.queue as f64),
            number(requests),
            Key::Number(figures.avg_rt_us as f64),
            Key::Number(memory(&figures) as f64),
            Key::Number(up as f64),
            Key::Number(vassal.restarts as f64),
            Key::Text(last.clone()),
        ],
        tone: match vassal.state {
            State::Throttled => Tone::Ill,
            _ if figures.busy > 0 => Tone::Busy,
            _ => Tone::Quiet,
        },
        cells: vec![
            name,
            state,
            or_dash(format!("{}/{}", figures.busy, figures.workers)),
            or_dash(figures.queue.to_string()),
            shown(requests),
            or_dash(micros(figures.avg_rt_us)),
            or_dash(bytes(memory(&figures))),
            span(up),
            vassal.restarts.to_string(),
            last,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn worker(requests: u64, running_time: u64) -> Worker {
        Worker { id: 1, pid: 9, requests, running_time, avg_rt: 7, tx: requests * 1024, status: "idle".into(), ..Worker::default() }
    }

    fn look(at: u64, worker: Worker) -> Look {
        Look { at, epoch: 100, seen: Seen::Instance(Figures { workers: vec![worker], ..Figures::default() }) }
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let (one, two) = (look(1000, worker(10, 1000)), look(3000, worker(30, 5000)));
        let first = Board::of(None, &one);
        assert_eq!((first.rate, first.rows[0].cells[3].as_str(), first.rows[0].cells[5].as_str()), (None, "-", "7 us"));
        let second = Board::of(Some(&one), &two);
        assert_eq!((second.rate, second.rows[0].cells[3].as_str()), (Some(10.0), "10.0"));
        assert_eq!((second.rows[0].cells[5].as_str(), second.rows[0].cells[6].as_str()), ("200 us", "10.0 KiB"));
        let reloaded = Board::of(Some(&two), &look(4000, worker(3, 30)));
        assert_eq!((reloaded.rate, reloaded.rows[0].cells[5].as_str()), (Some(3.0), "7 us"), "counters began again");
        assert_eq!(Board::of(Some(&two), &two).rate, None, "no time has passed");
    }

    #[test]
    fn a_vassal_without_figures_shows_none() {
        let vassal = |name: &str, state: &str, more: serde_json::Value| {
            let mut row = json!({ "name": name, "state": state, "since": 70, "pid": null, "uid": 0, "gid": 0, "config": "", "restarts": 8,
                "last_exit": null, "last_line": null, "next_try": null, "reason": null, "on_demand": null, "figures": null });
            row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            row
        };
        let figures = json!({ "workers": 4, "busy": 2, "requests": 5, "rss": 2048, "pss": 1024, "avg_rt_us": 900 });
        let estate: Ps = serde_json::from_value(json!({ "version": "", "pid": 1, "since": 40, "sources": [], "vassals": [
            vassal("a.ini", "running", json!({ "figures": figures, "restarts": 0 })),
            vassal("b.ini", "throttled", json!({ "last_exit": "exit 1\u{1b}", "next_try": 105 })),
        ] }))
        .expect("an estate");
        let board = Board::of(None, &Look { at: 1, epoch: 100, seen: Seen::Estate(estate) });
        assert_eq!(board.rows[0].cells, ["a.ini", "running", "2/4", "0", "-", "900 us", "1.0 KiB", "30 s", "0", ""]);
        assert_eq!(board.rows[1].cells, ["b.ini", "throttled", "-", "-", "-", "-", "-", "0 s", "8", "next try in 5 s: exit 1\\u{1b}"]);
        assert_eq!((board.rows[0].tone, board.rows[1].tone), (Tone::Busy, Tone::Ill));
        assert!(board.summary.contains("1 of 2 vassals running   2 of 4 workers busy   memory 1.0 KiB"), "{}", board.summary);
    }
}

//! What the emperor answers to an operator, as JSON. The same types are read by the client.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::emperor::core::{self, Core, Key, Now, State, Vassal};
use crate::emperor::ring::Ring;
use crate::stats::Figures;

/// The answer to `ps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ps {
    pub version: String,
    pub pid: u32,
    /// Of the emperor's start, seconds since 1970, as all times here.
    pub since: i64,
    pub sources: Vec<String>,
    pub vassals: Vec<Row>,
}

/// One vassal, or a file that may not be one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub state: State,
    pub since: i64,
    pub pid: Option<i32>,
    /// Of its file.
    pub uid: u32,
    pub gid: u32,
    pub config: String,
    /// Processes after the first.
    pub restarts: u32,
    pub last_exit: Option<String>,
    pub last_line: Option<String>,
    pub next_try: Option<i64>,
    /// Why it does not run, if it does not.
    pub reason: Option<String>,
    pub on_demand: Option<String>,
    pub figures: Option<Figures>,
}

/// The answer to `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    #[serde(flatten)]
    pub row: Row,
    /// When the last process ended.
    #[serde(default)]
    pub last_exit_at: Option<i64>,
    #[serde(default)]
    pub loyal: bool,
    /// What is wrong, in a sentence.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What to do about it, most likely first.
    #[serde(default)]
    pub advice: Vec<String>,
    /// The last lines that it said.
    #[serde(default)]
    pub lines: Vec<String>,
    /// Where more of them are, if they go into a file.
    pub log: Option<String>,
}

/// The answer to `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    pub name: String,
    pub lines: Vec<String>,
    pub log: Option<String>,
}

/// What follows a [`Log`] for a follower, one a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Followed {
    Line(String),
    /// So many were not sent to a follower who read too slowly.
    Lost(u64),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub done: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    pub error: String,
}

/// What is known of one vassal beside the core.
pub struct Beside<'b> {
    /// Where its configuration is.
    pub config: String,
    pub ring: Option<&'b Ring>,
    /// KiB a second that it says more than.
    pub flood: Option<u64>,
    /// Of an on-demand vassal.
    pub socket: Option<String>,
}

/// One vassal's row, without its figures.
pub fn row(key: &Key, vassal: &Vassal, now: Now, beside: Beside<'_>) -> Row {
    let next = vassal.next_try(now);
    let waits = vassal.pid().is_none();
    Row {
        name: key.to_string(),
        state: vassal.state(now),
        since: vassal.since(now),
        pid: vassal.pid(),
        uid: vassal.owner.uid,
        gid: vassal.owner.gid,
        config: beside.config,
        restarts: vassal.restarts(),
        last_exit: vassal.last_end.as_ref().map(|e| e.text.clone()),
        last_line: beside.ring.and_then(Ring::last).map(str::to_owned),
        next_try: next.map(|(at, _)| at),
        reason: if vassal.halted && waits { Some("an operator stopped it".into()) } else { next.map(|(_, why)| why.to_owned()) },
        on_demand: beside.socket,
        figures: None,
    }
}

/// Rows of files that may not run, and why.
pub fn refused(core: &Core) -> impl Iterator<Item = Row> {
    core.refused.iter().chain(&core.unnamed).map(|(id, why)| Row {
        name: id.clone(),
        state: State::Stopped,
        since: 0,
        pid: None,
        uid: 0,
        gid: 0,
        config: id.clone(),
        restarts: 0,
        last_exit: None,
        last_line: None,
        next_try: None,
        reason: Some(why.clone()),
        on_demand: None,
        figures: None,
    })
}

pub fn why(key: &Key, vassal: &Vassal, now: Now, beside: Beside<'_>, log: Option<&Path>) -> Why {
    let lines = lines(beside.ring, usize::MAX);
    let flood = beside.flood;
    let row = row(key, vassal, now, beside);
    let borrowed: Vec<&str> = lines.iter().map(String::as_str).collect();
    let exit = vassal.last_end.as_ref().and_then(|e| e.exit);
    let diagnosis = core::diagnose(&core::Case {
        name: &row.name,
        file: &row.config,
        state: row.state,
        exit,
        quiet_s: now.seconds() - row.since,
        lines: &borrowed,
        pressure: vassal.pressure(now),
        flood,
        loader: row.pid.and_then(youngest_child),
    });
    Why {
        last_exit_at: vassal.last_end.as_ref().map(|e| e.at),
        loyal: vassal.face.loyal,
        trouble: diagnosis.trouble,
        advice: diagnosis.advice,
        lines,
        log: log.map(|p| p.display().to_string()),
        row,
    }
}

/// The kernel lists children by age.
fn youngest_child(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The last `most` lines.
pub fn lines(ring: Option<&Ring>, most: usize) -> Vec<String> {
    let all: Vec<&str> = ring.map(|r| r.iter().collect()).unwrap_or_default();
    all[all.len().saturating_sub(most)..].iter().map(|l| (*l).to_owned()).collect()
}

/// One JSON text with its line end.
pub fn json<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_of_ps() {
        let row = Row {
            name: "a.ini".into(),
            state: State::Throttled,
            since: 7,
            pid: None,
            uid: 1,
            gid: 2,
            config: "/v/a.ini".into(),
            restarts: 3,
            last_exit: Some("exit code 1".into()),
            last_line: None,
            next_try: Some(9),
            reason: None,
            on_demand: None,
            figures: Some(Figures { workers: 2, ..Figures::default() }),
        };
        let ps = Ps { version: "1".into(), pid: 5, since: 6, sources: vec!["/v".into()], vassals: vec![row] };
        let value = serde_json::to_value(&ps).expect("JSON");
        assert_eq!(value["vassals"][0]["state"], "throttled");
        assert_eq!(value["vassals"][0]["next_try"], 9);
        assert!(value["vassals"][0]["pid"].is_null());
        assert_eq!(value["vassals"][0]["figures"]["workers"], 2);
        assert_eq!(serde_json::from_value::<Ps>(value).expect("read"), ps);
        assert_eq!(json(&Followed::Line("x".into())), "{\"line\":\"x\"}\n");
    }
}

//! What a stats server says, of Imperator or of uWSGI: as far as it is shown here. Whatever is missing is 0 or empty.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::target::Instance;
use crate::cli::stream::Stream;
use crate::stats::Extra;

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Thousands of workers with all their cores.
const MOST: usize = 64 << 20;

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Figures {
    pub version: String,
    pub pid: i32,
    pub listen_queue: u64,
    pub sockets: Vec<Socket>,
    pub workers: Vec<Worker>,
    /// What uWSGI's JSON does not have.
    pub imperator: Extra,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Socket {
    pub name: String,
    pub queue: u64,
    pub max_queue: u64,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Worker {
    pub id: u32,
    pub pid: i32,
    pub status: String,
    pub requests: u64,
    pub exceptions: u64,
    pub harakiri_count: u64,
    pub rss: u64,
    pub last_spawn: u64,
    pub respawn_count: u64,
    pub tx: u64,
    /// Microseconds in requests.
    pub running_time: u64,
    /// Microseconds.
    pub avg_rt: u64,
    pub cores: Vec<Core>,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Core {
    pub in_request: u8,
    /// `NAME=value`.
    pub vars: Vec<String>,
    pub req_info: RequestInfo,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct RequestInfo {
    /// Epoch seconds.
    pub request_start: Option<u64>,
}

/// Asks the stats server that the file names, and gives the JSON as it came.
///
/// # Errors
/// The file names none, nobody answers, or no JSON comes.
pub(super) fn json(instance: &Instance) -> Result<Value> {
    let stats = &instance.settings.stats;
    let address = stats.address.as_deref().with_context(|| {
        format!("{} has no `stats =` line, so that nobody can ask what runs: add `stats = /run/NAME.stats` and reload", instance.name)
    })?;
    let address = instance.address(address);
    let mut stream = Stream::connect(&address, PATIENCE).with_context(|| {
        format!("nothing answers at `stats = {address}` of {}: it does not run, or runs with another file", instance.name)
    })?;
    if stats.http {
        stream.ask(b"GET / HTTP/1.0\r\n\r\n").with_context(|| format!("asking {address}"))?;
    }
    let text = stream.read_all(MOST, Instant::now() + PATIENCE).with_context(|| format!("the answer of {address}"))?;
    serde_json::from_slice(body(&text)).with_context(|| format!("what {address} answers is no JSON"))
}

/// The same, as far as it is known here.
///
/// # Errors
/// Those of [`json`], or something else than statistics.
pub(super) fn figures(instance: &Instance) -> Result<Figures> {
    serde_json::from_value(json(instance)?).context("the answer is JSON, and no statistics of uWSGI's kind")
}

/// Without an HTTP head.
fn body(answer: &[u8]) -> &[u8] {
    if !answer.starts_with(b"HTTP/") {
        return answer;
    }
    answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer, |end| &answer[end + 4..])
}

impl Worker {
    /// What it does now: a line for each request that runs, with the seconds since its start.
    pub fn doing(&self, now: u64) -> Vec<(String, u64)> {
        self.cores.iter().filter(|core| core.in_request != 0).map(|core| core.doing(now)).collect()
    }
}

impl Core {
    fn doing(&self, now: u64) -> (String, u64) {
        let var = |name: &str| self.vars.iter().find_map(|var| var.strip_prefix(name)?.strip_prefix('='));
        let uri = var("REQUEST_URI").or_else(|| var("PATH_INFO")).unwrap_or("a request");
        let since = self.req_info.request_start.map_or(0, |start| now.saturating_sub(start));
        (format!("{} {uri}", var("REQUEST_METHOD").unwrap_or("")).trim_start().to_owned(), since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uwsgis_own_statistics_are_read_too() {
        let text = r#"{"version":"2.0.30","listen_queue":3,"pid":9530,"cwd":"/srv","workers":[{"id":1,"pid":9532,"requests":2,"status":"busy","avg_rt":81,
            "cores":[{"id":0,"in_request":1,"vars":["REQUEST_METHOD=GET","PATH_INFO=/slow","REQUEST_URI=/slow?x=1",""],"req_info":{"request_start":100}},
            {"id":1,"in_request":0,"vars":[],"req_info":{}}]}]}"#;
        let figures: Figures = serde_json::from_str(text).expect("figures");
        assert_eq!((figures.pid, figures.listen_queue, figures.imperator.generation), (9530, 3, 0));
        assert_eq!(figures.workers[0].doing(107), [("GET /slow?x=1".to_owned(), 7)]);
    }

    #[test]
    fn an_http_head_is_taken_off() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), b"{}");
        assert_eq!(body(b"{}"), b"{}");
    }
}

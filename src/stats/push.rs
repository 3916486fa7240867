//! What is sent to those that do not ask: `stats-push` and `carbon`. Formats only; who sends is the master.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use imperator_worker::metrics::{Kind, Row};
use imperator_worker::settings::{Carbon, MetricSettings};

use super::snapshot::Snapshot;

/// A line of `stats-push`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pusher {
    pub to: To,
    /// Seconds between pushes.
    pub freq: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// One datagram a metric: `PREFIX.NAME TYPE VALUE`.
    Socket { address: SocketAddr, prefix: String },
    /// One datagram a metric: `PREFIX.NAME:VALUE|c` or `|g`.
    Statsd { address: SocketAddr, prefix: String, workers: bool, all_gauges: bool },
    /// The stats' JSON, appended.
    File { path: PathBuf, separator: String },
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket { address, .. } | Self::Statsd { address, .. } => address.fmt(f),
            Self::File { path, .. } => path.display().fmt(f),
        }
    }
}

/// `stats-push` or `carbon` with something that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error(
        "stats-push = {0}: expected socket:HOST:PORT[,PREFIX], statsd:HOST:PORT[,PREFIX] or file:path=FILE[,freq=SECONDS][,separator=TEXT]"
    )]
    Name(String),
    #[error("{option} = {address}: {cause} (expected HOST:PORT)")]
    Address { option: &'static str, address: String, cause: String },
    #[error("stats-push = file:{0}: there are path, freq and separator")]
    Key(String),
}

impl Pusher {
    /// # Errors
    /// An unknown name, an address that cannot be resolved, a key that the file has not.
    pub fn parse(line: &str, settings: &MetricSettings) -> Result<Self, PushError> {
        let (name, rest) = line.split_once(':').unwrap_or((line, ""));
        let freq = settings.push_freq.max(1);
        match name {
            "socket" => {
                let (address, prefix) = target("stats-push", rest)?;
                Ok(Self { to: To::Socket { address, prefix }, freq })
            }
            "statsd" => {
                let (address, prefix) = target("stats-push", rest)?;
                let (workers, all_gauges) = (!settings.statsd_no_workers, settings.statsd_all_gauges);
                Ok(Self { to: To::Statsd { address, prefix, workers, all_gauges }, freq })
            }
            "file" => file(rest, freq),
            _ => Err(PushError::Name(line.to_owned())),
        }
    }
}

fn target(option: &'static str, text: &str) -> Result<(SocketAddr, String), PushError> {
    let (address, prefix) = text.split_once(',').unwrap_or((text, "uwsgi"));
    Ok((resolve(option, address)?, prefix.to_owned()))
}

/// The first address of `HOST:PORT`.
///
/// # Errors
/// There is none.
pub fn resolve(option: &'static str, text: &str) -> Result<SocketAddr, PushError> {
    let failed = |cause: String| PushError::Address { option, address: text.to_owned(), cause };
    let found = text.to_socket_addrs().map_err(|e| failed(e.to_string()))?.next();
    found.ok_or_else(|| failed("no address".into()))
}

fn file(text: &str, freq: u32) -> Result<Pusher, PushError> {
    let (mut path, mut separator, mut freq) = (PathBuf::from("uwsgi.stats"), "\n\n".to_owned(), freq);
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("path", value)) => path = value.into(),
            Some(("separator", value)) => value.clone_into(&mut separator),
            Some(("freq", value)) => freq = value.parse::<u32>().map_err(|_| PushError::Key(pair.to_owned()))?.max(1),
            None if !pair.contains('=') => path = pair.into(),
            _ => return Err(PushError::Key(pair.to_owned())),
        }
    }
    Ok(Pusher { to: To::File { path, separator }, freq })
}

/// The datagrams of one push. `before` are the values of the last one: statsd adds up what counters send, so it gets what they grew by.
pub fn datagrams(to: &To, rows: &[Row], before: &dyn Fn(&str) -> Option<i64>) -> Vec<String> {
    match to {
        To::Socket { prefix, .. } => rows.iter().map(|r| format!("{prefix}.{} {} {}", r.name, r.kind as u8, r.value)).collect(),
        To::Statsd { prefix, workers, all_gauges, .. } => rows
            .iter()
            .filter(|r| *workers || !r.name.starts_with("worker."))
            .map(|r| {
                if r.kind == Kind::Counter && !all_gauges {
                    // A counter that fell began again.
                    let grown = before(&r.name).filter(|old| *old <= r.value).map_or(r.value, |old| r.value - old);
                    format!("{prefix}.{}:{grown}|c", r.name)
                } else {
                    format!("{prefix}.{}:{}|g", r.name, r.value)
                }
            })
            .collect(),
        To::File { .. } => vec![],
    }
}

/// What carbon's busyness is made of: running time of each worker at the last push, and how long ago that was.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// Microseconds by worker.
    pub running: Vec<u64>,
    /// Requests by worker.
    pub requests: Vec<u64>,
    pub micros: u64,
}

/// What is on and off in an instance, for the keys that depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Switches {
    pub cheaper: bool,
    pub memory_report: bool,
}

/// The lines of one push to Graphite: `ROOT.HOST.ID.KEY VALUE EPOCH`.
pub fn carbon(options: &Carbon, host: &str, snapshot: &Snapshot, on: Switches, before: &Before, epoch: u64, rows: &[Row]) -> String {
    let host = options.hostname_alias.clone().unwrap_or_else(|| match &options.hostname_dots {
        Some(instead) => host.replace('.', instead),
        None => host.to_owned(),
    });
    let first = snapshot.sockets.first().map_or("", |s| s.name.as_str());
    let id = options.id.clone().unwrap_or_else(|| first.replace('.', "_"));
    let head = format!("{}.{host}.{id}", options.root);
    let mut text = String::new();
    let mut line = |key: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{head}.{key} {value} {epoch}");
    };
    let workers = &snapshot.workers;
    let sum = |of: fn(&super::WorkerRow) -> u64| workers.iter().map(of).fold(0u64, u64::saturating_add);
    let busyness: Vec<u64> = workers.iter().enumerate().map(|(n, w)| share(w.running_time, before.running.get(n), before.micros)).collect();
    let averages: Vec<Option<u64>> =
        workers.iter().enumerate().map(|(n, w)| average(w, before.requests.get(n).copied(), &options.idle_avg)).collect();
    let alive = workers.iter().filter(|w| w.status != "cheap").count() as u64;
    let of_alive = |total: u64| total / alive.max(1);
    line("requests", sum(|w| w.requests));
    line("harakiri", sum(|w| w.harakiri_count));
    if on.memory_report {
        line("rss_size", sum(|w| w.rss));
        line("vsz_size", sum(|w| w.vsz));
    }
    if let Some(total) = averages.iter().copied().flatten().reduce(u64::saturating_add) {
        line("avg_rt", of_alive(total));
    }
    line("tx", sum(|w| w.tx));
    line("busyness", of_alive(busyness.iter().sum()));
    line("active_workers", alive);
    if on.cheaper {
        line("cheaped_workers", workers.len() as u64 - alive);
    }
    for (n, w) in workers.iter().enumerate().filter(|_| !options.no_workers) {
        let mut of = |key: &str, value| line(&format!("worker{}.{key}", w.id), value);
        of("requests", w.requests);
        of("harakiri", w.harakiri_count);
        if on.memory_report {
            of("rss_size", w.rss);
            of("vsz_size", w.vsz);
        }
        if let Some(average) = averages[n] {
            of("avg_rt", average);
        }
        of("tx", w.tx);
        of("busyness", busyness[n]);
    }
    for row in rows.iter().filter(|_| options.use_metrics) {
        let _ = writeln!(text, "{head}.metrics.{} {} {epoch}", row.name, row.value);
    }
    text
}

/// Percent of the time since the last push that the worker spent in requests.
fn share(running: u64, before: Option<&u64>, micros: u64) -> u64 {
    let spent = running.saturating_sub(before.copied().unwrap_or(0));
    (u128::from(spent) * 100 / u128::from(micros.max(1))).min(100) as u64
}

/// `carbon-idle-avg`: what is told of a worker without requests since the last push. `None`: nothing.
fn average(row: &super::WorkerRow, requests_before: Option<u64>, idle: &str) -> Option<u64> {
    match idle {
        "zero" if requests_before == Some(row.requests) => Some(0),
        "none" if requests_before == Some(row.requests) => None,
        _ => Some(row.avg_rt),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::WorkerRow;
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name: &str, kind, value| Row { name: name.into(), oid: String::new(), kind, value };
        vec![row("worker.1.requests", Kind::Counter, 12), row("level", Kind::Gauge, -3)]
    }

    #[test]
    fn lines_of_stats_push() {
        let settings = MetricSettings::default();
        let of = |line: &str| Pusher::parse(line, &settings);
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(of("socket:127.0.0.1:9").unwrap(), Pusher { to: To::Socket { address, prefix: "uwsgi".into() }, freq: 3 });
        let file = To::File { path: "/p".into(), separator: "|".into() };
        assert_eq!(of("file:path=/p,freq=1,separator=|").unwrap(), Pusher { to: file, freq: 1 });
        assert_eq!(of("file:/q").unwrap().to, To::File { path: "/q".into(), separator: "\n\n".into() });
        for (line, part) in [("rrdtool:/x", "expected socket:"), ("socket:nowhere", "HOST:PORT"), ("file:colour=red", "separator")] {
            assert!(of(line).unwrap_err().to_string().contains(part), "{line}");
        }
    }

    #[test]
    fn statsd_gets_what_counters_grew_by() {
        let settings = MetricSettings { statsd_no_workers: false, ..MetricSettings::default() };
        let to = Pusher::parse("statsd:127.0.0.1:9,shop", &settings).unwrap().to;
        assert_eq!(datagrams(&to, &rows(), &|_| None), ["shop.worker.1.requests:12|c", "shop.level:-3|g"]);
        assert_eq!(datagrams(&to, &rows(), &|_| Some(10))[0], "shop.worker.1.requests:2|c");
        assert_eq!(datagrams(&to, &rows(), &|_| Some(50))[0], "shop.worker.1.requests:12|c", "a reload began at zero");
        let settings = MetricSettings { statsd_no_workers: true, ..settings };
        assert_eq!(datagrams(&Pusher::parse("statsd:127.0.0.1:9,shop", &settings).unwrap().to, &rows(), &|_| None), ["shop.level:-3|g"]);
    }

    #[test]
    fn graphite_lines() {
        let options = Carbon { id: Some("shop".into()), hostname_dots: Some("_".into()), use_metrics: true, ..Carbon::default() };
        let text = carbon(
            &options,
            "a.b",
            &Snapshot::default(),
            Switches { cheaper: true, memory_report: false },
            &Before::default(),
            99,
            &rows(),
        );
        for line in ["uwsgi.a_b.shop.requests 0 99\n", "uwsgi.a_b.shop.cheaped_workers 0 99\n", "uwsgi.a_b.shop.metrics.level -3 99\n"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let busy = WorkerRow { requests: 5, avg_rt: 40, ..WorkerRow::default() };
        for (idle, before, told) in [
            ("last", Some(5), Some(40)),
            ("zero", Some(5), Some(0)),
            ("none", Some(5), None),
            ("none", Some(4), Some(40)),
            ("zero", None, Some(40)),
        ] {
            assert_eq!(average(&busy, before, idle), told, "{idle} {before:?}");
        }
        assert_eq!((share(700, Some(&200), 1000), share(5000, None, 1000)), (50, 100));
    }
}

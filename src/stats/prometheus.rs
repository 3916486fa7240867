//! The same statistics for Prometheus: text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! Names begin with `uwsgi_`, as those of the exporters that users come from; counters end in `_total`, times are in seconds, sizes in bytes.

use std::fmt::Write as _;

use imperator_worker::host::cache::CacheRow;
use imperator_worker::metrics::{Kind, Row};

use super::page::Page;
use super::snapshot::{Snapshot, WorkerRow};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What an instance counts beside its workers.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Reloads since the first start.
    pub reloads: u64,
    /// Epoch seconds of the first start.
    pub started_at: u64,
}

/// The page of `/metrics`; 404 for any other path.
/// `own` are the user's own metrics, which become `uwsgi_NAME`.
pub fn prometheus(path: &str, snapshot: &Snapshot, totals: &Totals, own: &[Row]) -> Page {
    if path != "/metrics" {
        return Page::text(404, "metrics are at /metrics\n");
    }
    let mut page = Writer::default();
    instance(&mut page, snapshot, totals);
    workers(&mut page, &snapshot.workers);
    sockets(&mut page, snapshot);
    caches(&mut page, &snapshot.caches);
    own_metrics(&mut page, own);
    Page { status: 200, kind: KIND, body: page.text.into() }
}

fn instance(page: &mut Writer, snapshot: &Snapshot, totals: &Totals) {
    let having = |status: &str| snapshot.workers.iter().filter(|w| w.status == status).count() as f64;
    page.family("uwsgi_info", "gauge", "Versions of Imperator and of the uWSGI that it stands in for.");
    page.row(&[("version", &snapshot.version), ("imperator", env!("CARGO_PKG_VERSION"))], 1.0);
    page.gauge("uwsgi_workers", "Workers that are configured.", snapshot.workers.len() as f64);
    page.gauge("uwsgi_busy_workers", "Workers that run a request.", having("busy"));
    page.gauge("uwsgi_idle_workers", "Workers that wait for a request.", having("idle"));
    page.gauge("uwsgi_cheap_workers", "Workers without a process (cheaper, idle).", having("cheap"));
    page.gauge("uwsgi_listen_queue", "Connections in the longest queue of a socket.", snapshot.listen_queue as f64);
    page.counter("uwsgi_reloads_total", "Reloads of the instance.", totals.reloads as f64);
    page.gauge("uwsgi_start_time_seconds", "When the instance was first started, in epoch seconds.", totals.started_at as f64);
}

type Value = fn(&WorkerRow) -> f64;

/// Name without `uwsgi_worker_`, type, help, value.
const WORKER_FAMILIES: [(&str, &str, &str, Value); 13] = [
    ("requests_total", "counter", "Requests over all lives of the worker.", |w| w.requests as f64),
    ("exceptions_total", "counter", "Exceptions of the app.", |w| w.exceptions as f64),
    ("write_errors_total", "counter", "Responses whose reader went away.", |w| cores(w, |c| c.write_errors)),
    ("read_errors_total", "counter", "Bodies that broke off.", |w| cores(w, |c| c.read_errors)),
    ("static_requests_total", "counter", "Requests answered with a file.", |w| cores(w, |c| c.static_requests)),
    ("offloaded_requests_total", "counter", "Responses handed over to the offload engine.", |w| cores(w, |c| c.offloaded_requests)),
    ("harakiri_total", "counter", "Requests that took too long.", |w| w.harakiri_count as f64),
    ("respawns_total", "counter", "Processes started for this worker.", |w| w.respawn_count as f64),
    ("transmitted_bytes_total", "counter", "Bytes of responses, heads included.", |w| w.tx as f64),
    ("running_time_seconds_total", "counter", "Time spent in requests.", |w| w.running_time as f64 / 1e6),
    ("average_response_time_seconds", "gauge", "Moving average of the time of a request.", |w| w.avg_rt as f64 / 1e6),
    ("rss_bytes", "gauge", "Resident memory (0 unless memory-report or a limit measures it).", |w| w.rss as f64),
    ("accepting", "gauge", "Whether it accepts requests.", |w| f64::from(w.accepting)),
];

fn workers(page: &mut Writer, rows: &[WorkerRow]) {
    for (name, kind, help, value) in WORKER_FAMILIES {
        page.family(&format!("uwsgi_worker_{name}"), kind, help);
        for row in rows {
            page.row(&[("worker", &row.id.to_string())], value(row));
        }
    }
    page.family("uwsgi_worker_status", "gauge", "1 for what the worker does.");
    for row in rows {
        page.row(&[("worker", &row.id.to_string()), ("status", row.status)], 1.0);
    }
}

fn cores(row: &WorkerRow, count: fn(&super::snapshot::CoreRow) -> u64) -> f64 {
    row.cores.iter().flatten().map(count).fold(0u64, u64::saturating_add) as f64
}

fn sockets(page: &mut Writer, snapshot: &Snapshot) {
    page.family("uwsgi_socket_queue", "gauge", "Connections that wait to be accepted.");
    for row in &snapshot.sockets {
        page.row(&[("socket", &row.name)], row.queue as f64);
    }
    page.family("uwsgi_socket_max_queue", "gauge", "The backlog as the kernel took it.");
    for row in &snapshot.sockets {
        page.row(&[("socket", &row.name)], row.max_queue as f64);
    }
}

type CacheValue = fn(&CacheRow) -> u64;

/// Name without `uwsgi_cache_`, type, help, value.
const CACHE_FAMILIES: [(&str, &str, &str, CacheValue); 5] = [
    ("items", "gauge", "Items in the cache, expired ones that no sweep has found yet included.", |c| c.items),
    ("max_items", "gauge", "Items that it can hold.", |c| c.max_items),
    ("hits_total", "counter", "Gets that found their item.", |c| c.hits),
    ("miss_total", "counter", "Gets that found none.", |c| c.miss),
    ("full_total", "counter", "Writes that found no room at first.", |c| c.full),
];

/// Nothing for an instance without caches.
fn caches(page: &mut Writer, rows: &[CacheRow]) {
    for (name, kind, help, value) in CACHE_FAMILIES.iter().filter(|_| !rows.is_empty()) {
        page.family(&format!("uwsgi_cache_{name}"), kind, help);
        for row in rows {
            page.row(&[("cache", &row.name)], value(row) as f64);
        }
    }
}

fn own_metrics(page: &mut Writer, rows: &[Row]) {
    for row in rows {
        let name: String = row.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = format!("uwsgi_{name}");
        // A name of ours, or two that differ in what Prometheus does not allow: a page with one name twice is refused whole.
        if page.text.contains(&format!("# TYPE {name} ")) {
            continue;
        }
        page.family(&name, if row.kind == Kind::Counter { "counter" } else { "gauge" }, &format!("metric = {}", row.name));
        page.row(&[], row.value as f64);
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    /// Of the family that is being written.
    name: String,
}

// Writing to a string cannot fail.
impl Writer {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", help.replace('\\', "\\\\").replace('\n', "\\n"));
    }

    fn row(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{escaped}\"", if index == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.row(&[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "counter", help);
        self.row(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SocketRow;
    use imperator_cache::{Definition, Stats};

    #[test]
    fn rows_are_escaped_and_families_are_told_once() {
        let mut page = Writer::default();
        page.family("uwsgi_x", "gauge", "a\nb");
        page.row(&[("socket", "a\"b\\c\nd"), ("n", "1")], 2.5);
        page.row(&[], 3.0);
        assert_eq!(page.text, "# HELP uwsgi_x a\\nb\n# TYPE uwsgi_x gauge\nuwsgi_x{socket=\"a\\\"b\\\\c\\nd\",n=\"1\"} 2.5\nuwsgi_x 3\n");
    }

    #[test]
    fn sockets_are_named_and_other_paths_are_not_found() {
        let row = SocketRow { name: "@a".into(), proto: "uwsgi".into(), queue: 3, max_queue: 100, shared: 0, can_offload: 0 };
        let snapshot = Snapshot::default().with_sockets(vec![row]);
        let totals = Totals { reloads: 2, started_at: 10 };
        let metric = |name: &str| Row { name: name.into(), oid: String::new(), kind: Kind::Gauge, value: -3 };
        let page = prometheus("/metrics", &snapshot, &totals, &[metric("a.b"), metric("a-b"), metric("workers")]);
        for line in [
            "uwsgi_socket_queue{socket=\"@a\"} 3\n",
            "uwsgi_listen_queue 3\n",
            "uwsgi_reloads_total 2\n",
            "uwsgi_workers 0\n",
            "uwsgi_a_b -3\n",
        ] {
            assert!(page.body.contains(line), "{line} in {}", page.body);
        }
        assert_eq!(page.body.matches("# TYPE uwsgi_a_b ").count() + page.body.matches("# TYPE uwsgi_workers ").count(), 2);
        assert_eq!(prometheus("/", &snapshot, &totals, &[]).status, 404);
        assert!(!page.body.contains("uwsgi_cache_"), "{}", page.body);
    }

    #[test]
    fn each_cache_has_a_row_in_each_family() {
        let definition = |name: &str| Definition { name: name.into(), items: 7, ..Definition::default() };
        let stats = Stats { items: 3, hits: 5, misses: 2, full: 1, ..Stats::default() };
        let caches = vec![CacheRow::of(&definition("a"), &stats), CacheRow::elsewhere(&definition("b"))];
        let page = prometheus("/metrics", &Snapshot { caches, ..Snapshot::default() }, &Totals::default(), &[]);
        for line in [
            "# TYPE uwsgi_cache_items gauge\nuwsgi_cache_items{cache=\"a\"} 3\nuwsgi_cache_items{cache=\"b\"} 0\n",
            "uwsgi_cache_max_items{cache=\"a\"} 7\n",
            "# TYPE uwsgi_cache_hits_total counter\nuwsgi_cache_hits_total{cache=\"a\"} 5\n",
            "uwsgi_cache_miss_total{cache=\"a\"} 2\n",
            "uwsgi_cache_full_total{cache=\"a\"} 1\n",
        ] {
            assert!(page.body.contains(line), "{line} in {}", page.body);
        }
    }
}

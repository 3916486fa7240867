//! The same statistics for Prometheus: text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! Names begin with `uwsgi_`, as those of the exporters that users come from; counters end in `_total`, times are in seconds, sizes in bytes.

mod estate;
mod sample;
mod writer;

use imperator_worker::host::cache::CacheRow;
use imperator_worker::metrics::{Kind, Row};

pub use estate::merge;

use self::writer::Writer;
use super::page::Page;
use super::snapshot::{Snapshot, WorkerRow};
use super::{Extra, Histogram, WorkerMemory};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What an instance counts beside its workers' rows.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub extra: Extra,
    /// How long requests took.
    pub durations: Histogram,
    /// How long they had waited before; `None`: nobody says (`queue-time`).
    pub queued: Option<Histogram>,
    /// What the kernel says of the workers that run.
    pub memory: Vec<WorkerMemory>,
}

/// The page of `/metrics`; 404 for any other path.
/// `own` are the user's own metrics, which become `uwsgi_NAME`.
pub fn prometheus(path: &str, snapshot: &Snapshot, totals: &Totals, own: &[Row]) -> Page {
    if path != "/metrics" {
        return Page::text(404, "metrics are at /metrics\n");
    }
    let mut page = Writer::default();
    instance(&mut page, snapshot, totals);
    ends(&mut page, &totals.extra);
    durations(&mut page, totals);
    workers(&mut page, &snapshot.workers);
    memory(&mut page, snapshot, totals);
    sockets(&mut page, snapshot);
    caches(&mut page, &snapshot.caches);
    own_metrics(&mut page, own);
    Page { status: 200, kind: KIND, body: page.text.into() }
}

fn instance(page: &mut Writer, snapshot: &Snapshot, totals: &Totals) {
    let having = |status: &str| snapshot.workers.iter().filter(|w| w.status == status).count() as f64;
    page.gauge("uwsgi_up", "1: the master answers.", 1.0);
    page.family("uwsgi_info", "gauge", "Versions of Imperator and of the uWSGI that it stands in for.");
    page.row(&[("version", &snapshot.version), ("imperator", env!("CARGO_PKG_VERSION"))], 1.0);
    page.gauge("uwsgi_workers", "Workers that are configured.", snapshot.workers.len() as f64);
    page.gauge("uwsgi_busy_workers", "Workers that run a request.", having("busy"));
    page.gauge("uwsgi_idle_workers", "Workers that wait for a request.", having("idle"));
    page.gauge("uwsgi_cheap_workers", "Workers without a process (cheaper, idle).", having("cheap"));
    page.gauge("uwsgi_listen_queue", "Connections in the longest queue of a socket.", snapshot.listen_queue as f64);
    let extra = &totals.extra;
    page.counter("uwsgi_reloads_total", "Reloads whose app took over.", extra.reloads as f64);
    page.counter("uwsgi_failed_reloads_total", "Reloads after which the app of before went on.", extra.failed_reloads as f64);
    page.gauge("uwsgi_generation", "Loads of the app, failed ones included, up to the one that serves.", extra.generation as f64);
    page.gauge("uwsgi_start_time_seconds", "When the instance was first started, in epoch seconds.", extra.started_at as f64);
}

/// `signal 9` is the cause `signal` with the detail `9`.
fn ends(page: &mut Writer, extra: &Extra) {
    page.family("uwsgi_respawns_total", "counter", "Processes of workers that ended, by cause.");
    for (cause, n) in &extra.respawns {
        let (cause, detail) = cause.split_once(' ').unwrap_or((cause, ""));
        page.row(&[("cause", cause), ("detail", detail)], *n as f64);
    }
}

fn durations(page: &mut Writer, totals: &Totals) {
    page.histogram("uwsgi_request_duration_seconds", "How long requests took, those for static files left out.", &totals.durations);
    if let Some(queued) = &totals.queued {
        page.histogram("uwsgi_request_queue_seconds", "How long requests had waited since the front end took them (queue-time).", queued);
    }
}

fn memory(page: &mut Writer, snapshot: &Snapshot, totals: &Totals) {
    let of = |id: u32| totals.memory.iter().find(|row| row.worker == id);
    page.family("uwsgi_worker_rss_bytes", "gauge", "Resident memory.");
    for row in &snapshot.workers {
        let rss = of(row.id).map_or(row.rss, |memory| memory.rss);
        page.row(&[("worker", &row.id.to_string())], rss as f64);
    }
    page.family("uwsgi_worker_pss_bytes", "gauge", "Resident memory, of which pages that are shared with others count by part.");
    for row in totals.memory.iter().filter_map(|row| Some((row.worker, row.pss?))) {
        page.row(&[("worker", &row.0.to_string())], row.1 as f64);
    }
}

type Value = fn(&WorkerRow) -> f64;

/// Name without `uwsgi_worker_`, type, help, value.
const WORKER_FAMILIES: [(&str, &str, &str, Value); 12] = [
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SocketRow;
    use imperator_cache::{Definition, Stats};

    #[test]
    fn sockets_are_named_and_other_paths_are_not_found() {
        let row = SocketRow { name: "@a".into(), proto: "uwsgi".into(), queue: 3, max_queue: 100, shared: 0, can_offload: 0 };
        let snapshot = Snapshot::default().with_sockets(vec![row]);
        let extra = Extra {
            reloads: 2,
            started_at: 10,
            respawns: [("signal 9".to_owned(), 4), ("harakiri".to_owned(), 0)].into(),
            ..Extra::default()
        };
        let totals = Totals { extra, ..Totals::default() };
        let metric = |name: &str| Row { name: name.into(), oid: String::new(), kind: Kind::Gauge, value: -3 };
        let page = prometheus("/metrics", &snapshot, &totals, &[metric("a.b"), metric("a-b"), metric("workers")]);
        for line in [
            "uwsgi_socket_queue{socket=\"@a\"} 3\n",
            "uwsgi_listen_queue 3\n",
            "uwsgi_reloads_total 2\n",
            "uwsgi_respawns_total{cause=\"signal\",detail=\"9\"} 4\n",
            "uwsgi_respawns_total{cause=\"harakiri\",detail=\"\"} 0\n",
            "uwsgi_request_duration_seconds_count 0\n",
            "uwsgi_up 1\n",
            "uwsgi_workers 0\n",
            "uwsgi_a_b -3\n",
        ] {
            assert!(page.body.contains(line), "{line} in {}", page.body);
        }
        assert_eq!(page.body.matches("# TYPE uwsgi_a_b ").count() + page.body.matches("# TYPE uwsgi_workers ").count(), 2);
        assert_eq!(prometheus("/", &snapshot, &totals, &[]).status, 404);
        assert!(!page.body.contains("uwsgi_cache_") && !page.body.contains("_queue_seconds"), "{}", page.body);
    }

    #[test]
    fn memory_is_the_kernels_where_it_says() {
        let row = |id, rss| WorkerRow { id, rss, ..WorkerRow::default() };
        let snapshot = Snapshot { workers: vec![row(1, 5), row(2, 6)], ..Snapshot::default() };
        let memory = vec![WorkerMemory { worker: 1, rss: 70, pss: Some(30) }];
        let totals = Totals { memory, queued: Some(Histogram::default()), ..Totals::default() };
        let page = prometheus("/metrics", &snapshot, &totals, &[]);
        let rows = "uwsgi_worker_rss_bytes{worker=\"1\"} 70\nuwsgi_worker_rss_bytes{worker=\"2\"} 6\n";
        assert!(page.body.contains(rows) && page.body.contains("uwsgi_worker_pss_bytes{worker=\"1\"} 30\n"), "{}", page.body);
        assert!(page.body.contains("uwsgi_request_queue_seconds_bucket{le=\"+Inf\"} 0\n"));
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

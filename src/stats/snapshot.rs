//! What an instance says of itself: names, types and order of uWSGI's JSON.
//!
//! The numbers of workers come from shared memory that their apps can write to: whatever stands there becomes a valid JSON integer
//! that fits into 63 bits, and the request's variables become valid UTF-8.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use imperator_protocol::vars::Vars;
use imperator_worker::control::App;
use imperator_worker::host::cache::CacheRow;
use imperator_worker::metrics::Row;
use imperator_worker::scoreboard::{CoreCell, CoreSlot, Scoreboard, Status, WorkerCell, WorkerSlot};
use serde::Serialize;

use super::Extra;

#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    pub version: String,
    /// The longest queue of a socket.
    pub listen_queue: u64,
    pub listen_queue_errors: u64,
    pub signal_queue: u64,
    /// The same as `listen_queue`.
    pub load: u64,
    /// The master's.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
    pub cwd: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub daemons: Vec<DaemonRow>,
    /// Name and the pid of the holder, one pair an object.
    pub locks: Vec<BTreeMap<String, i32>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheRow>,
    /// `None`: nothing asked for metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricRows>,
    pub sockets: Vec<SocketRow>,
    pub workers: Vec<WorkerRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crons: Vec<CronRow>,
    /// What uWSGI does not say, last and under a key of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imperator: Option<Extra>,
}

/// An attached daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaemonRow {
    pub cmd: String,
    /// 0: it does not run now.
    pub pid: i32,
    pub respawns: u64,
}

/// A cron line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CronRow {
    pub minute: i32,
    pub hour: i32,
    pub day: i32,
    pub month: i32,
    pub week: i32,
    pub command: String,
    pub unique: u8,
    /// There are none: always empty.
    pub legion: &'static str,
    /// -1: it does not run now.
    pub pid: i32,
    /// Epoch seconds of the last start; 0: none yet.
    pub started_at: u64,
}

/// Metrics as one object, in their order.
#[derive(Debug, Clone, Default)]
pub struct MetricRows(pub Vec<Row>);

impl Serialize for MetricRows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|row| (&row.name, MetricRow { kind: row.kind as u8, oid: &row.oid, value: row.value })))
    }
}

#[derive(Serialize)]
struct MetricRow<'r> {
    #[serde(rename = "type")]
    kind: u8,
    oid: &'r str,
    value: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocketRow {
    pub name: String,
    pub proto: String,
    /// Connections that wait to be accepted.
    pub queue: u64,
    /// The backlog as the kernel took it; 0 where it does not say (unix sockets).
    pub max_queue: u64,
    pub shared: u8,
    pub can_offload: u8,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct WorkerRow {
    pub id: u32,
    pub pid: i32,
    pub accepting: u8,
    pub requests: u64,
    pub delta_requests: u64,
    pub exceptions: u64,
    pub harakiri_count: u64,
    pub signals: u64,
    pub signal_queue: u64,
    pub status: &'static str,
    pub rss: u64,
    pub vsz: u64,
    pub running_time: u64,
    pub last_spawn: u64,
    pub respawn_count: u64,
    pub tx: u64,
    pub avg_rt: u64,
    pub apps: Vec<AppRow>,
    /// `None`: `stats-no-cores`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<CoreRow>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AppRow {
    pub id: u32,
    pub modifier1: u8,
    pub mountpoint: String,
    pub startup_time: u64,
    pub requests: u64,
    pub exceptions: u64,
    pub chdir: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct CoreRow {
    pub id: u32,
    pub requests: u64,
    pub static_requests: u64,
    pub routed_requests: u64,
    pub offloaded_requests: u64,
    pub write_errors: u64,
    pub read_errors: u64,
    pub in_request: u8,
    /// `NAME=value` of the running request and an empty string behind; nothing without one.
    pub vars: Vec<String>,
    pub req_info: RequestInfo,
}

#[derive(Debug, Clone, Serialize, Default)]
pub struct RequestInfo {
    /// Epoch seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_start: Option<u64>,
}

/// What the master itself knows about a worker, which no app can change.
#[derive(Debug, Clone, Default)]
pub struct WorkerState {
    /// From 1.
    pub id: u32,
    /// 0: no process (now).
    pub pid: i32,
    /// No process is wanted. (One that is about to start is idle and does not accept.)
    pub cheap: bool,
    /// The master told it to pause.
    pub paused: bool,
    pub harakiri_count: u64,
    /// Epoch seconds.
    pub last_spawn: u64,
    pub respawn_count: u64,
    /// What it (or its zygote) said it has loaded.
    pub apps: Vec<App>,
}

impl Snapshot {
    /// Fills in `listen_queue` and `load` from the sockets.
    pub fn with_sockets(mut self, sockets: Vec<SocketRow>) -> Self {
        self.listen_queue = sockets.iter().map(|s| s.queue).max().unwrap_or(0);
        self.load = self.listen_queue;
        self.sockets = sockets;
        self
    }

    /// The row of each worker; `cores` is false with `stats-no-cores`.
    pub fn with_workers(mut self, board: &Scoreboard, workers: &[WorkerState], cores: bool) -> Self {
        self.workers = workers.iter().filter_map(|w| Some(WorkerRow::of(w, board.worker(w.id)?, board.cores(), cores))).collect();
        self
    }
}

impl SocketRow {
    /// The row of a listening socket, with its queue as it is now.
    pub fn of(listener: BorrowedFd<'_>, name: &str, proto: &str, offloads: bool) -> Self {
        let (queue, max_queue) = imperator_sys::socket::listen_queue(listener).unwrap_or((0, 0));
        Self {
            name: name.to_owned(),
            proto: proto.to_owned(),
            queue: queue.into(),
            max_queue: max_queue.into(),
            shared: 0,
            can_offload: offloads.into(),
        }
    }
}

impl WorkerRow {
    fn of(state: &WorkerState, slot: WorkerSlot<'_>, cores: u32, show_cores: bool) -> Self {
        let count = |cell| whole(slot.get(cell));
        Self {
            id: state.id,
            pid: state.pid,
            accepting: u8::from(state.pid != 0 && slot.get(WorkerCell::Accepting) != 0),
            requests: count(WorkerCell::Requests),
            delta_requests: count(WorkerCell::DeltaRequests),
            exceptions: count(WorkerCell::Exceptions),
            harakiri_count: state.harakiri_count,
            signals: count(WorkerCell::Signals),
            signal_queue: 0,
            status: status(state, slot, cores),
            rss: count(WorkerCell::Rss),
            vsz: count(WorkerCell::Vsz),
            running_time: count(WorkerCell::RunningTime),
            last_spawn: state.last_spawn,
            respawn_count: state.respawn_count,
            tx: count(WorkerCell::Tx),
            avg_rt: count(WorkerCell::AvgRt),
            apps: state.apps.iter().map(|app| AppRow::of(app, slot)).collect(),
            cores: show_cores.then(|| (0..cores).filter_map(|id| Some(CoreRow::of(id, slot.core(id)?, state.pid != 0))).collect()),
        }
    }
}

impl AppRow {
    fn of(app: &App, slot: WorkerSlot<'_>) -> Self {
        let load = |cell: &std::sync::atomic::AtomicU64| whole(cell.load(std::sync::atomic::Ordering::Relaxed));
        let (requests, exceptions) = slot.app(app.id).map_or((0, 0), |(r, e)| (load(r), load(e)));
        Self {
            id: app.id,
            modifier1: app.modifier1,
            mountpoint: app.mountpoint.clone(),
            startup_time: app.startup_time,
            requests,
            exceptions,
            chdir: app.chdir.clone(),
        }
    }
}

impl CoreRow {
    fn of(id: u32, core: CoreSlot<'_>, alive: bool) -> Self {
        let count = |cell| whole(core.get(cell));
        let busy = alive && core.get(CoreCell::InRequest) != 0;
        Self {
            id,
            requests: count(CoreCell::Requests),
            static_requests: count(CoreCell::StaticRequests),
            routed_requests: count(CoreCell::RoutedRequests),
            offloaded_requests: count(CoreCell::OffloadedRequests),
            write_errors: count(CoreCell::WriteErrors),
            read_errors: count(CoreCell::ReadErrors),
            in_request: u8::from(busy),
            vars: if busy { variables(&core.vars()) } else { vec![] },
            req_info: RequestInfo { request_start: busy.then(|| count(CoreCell::RequestStart)) },
        }
    }
}

fn status(state: &WorkerState, slot: WorkerSlot<'_>, cores: u32) -> &'static str {
    let running = (0..cores).filter_map(|id| slot.core(id)).any(|core| core.get(CoreCell::InRequest) != 0);
    match slot.get(WorkerCell::Status) {
        _ if state.pid == 0 && state.cheap => "cheap",
        _ if state.pid == 0 => "idle",
        s if running || s == Status::Busy as u64 => "busy",
        s if s == Status::Pause as u64 || state.paused => "pause",
        _ => "idle",
    }
}

/// What readers can hold in a signed 64-bit number.
fn whole(number: u64) -> u64 {
    number.min(i64::MAX as u64)
}

fn variables(block: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy;
    let mut all: Vec<String> = match Vars::parse(block) {
        Ok(vars) => vars.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect(),
        Err(_) => vec![],
    };
    all.push(String::new());
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use imperator_protocol::vars::push;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering::Relaxed;

    fn snapshot() -> Snapshot {
        Snapshot { version: "1".into(), pid: 7, cwd: "/srv/a\"b".into(), ..Snapshot::default() }
    }

    fn worker(pid: i32) -> WorkerState {
        let app = App { id: 0, modifier1: 0, mountpoint: String::new(), startup_time: 1, chdir: String::new() };
        WorkerState { id: 1, pid, apps: vec![app], ..WorkerState::default() }
    }

    fn shown(board: &Scoreboard, state: WorkerState) -> serde_json::Value {
        let text = super::super::json(&snapshot().with_workers(board, &[state], true), true);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["workers"][0].clone()
    }

    #[test]
    fn keys_stand_in_uwsgis_order() {
        let board = Scoreboard::create(1, 1).unwrap();
        let text = super::super::json(&snapshot().with_workers(&board, &[worker(8)], true), true);
        let expected = concat!(
            r#"{"version":"1","listen_queue":0,"listen_queue_errors":0,"signal_queue":0,"load":0,"pid":7,"uid":0,"gid":0,"cwd":"/srv/a\"b","locks":[],"sockets":[],"#,
            r#""workers":[{"id":1,"pid":8,"accepting":0,"requests":0,"delta_requests":0,"exceptions":0,"harakiri_count":0,"signals":0,"signal_queue":0,"status":"idle","#,
            r#""rss":0,"vsz":0,"running_time":0,"last_spawn":0,"respawn_count":0,"tx":0,"avg_rt":0,"#,
            r#""apps":[{"id":0,"modifier1":0,"mountpoint":"","startup_time":1,"requests":0,"exceptions":0,"chdir":""}],"#,
            r#""cores":[{"id":0,"requests":0,"static_requests":0,"routed_requests":0,"offloaded_requests":0,"write_errors":0,"read_errors":0,"in_request":0,"#,
            r#""vars":[],"req_info":{}}]}]}"#
        );
        assert_eq!(text, expected);
        let without = super::super::json(&snapshot().with_workers(&board, &[worker(8)], false), true);
        assert!(!without.contains("cores"));
    }

    #[test]
    fn a_running_request_shows_its_variables_whatever_they_hold() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.worker(1).unwrap();
        let core = slot.core(0).unwrap();
        let mut block = vec![];
        push(&mut block, b"HTTP_X", b"q\"b\\s\x01\t\xff\n");
        core.set_vars(&block);
        core.cell(CoreCell::InRequest).store(1, Relaxed);
        core.cell(CoreCell::RequestStart).store(99, Relaxed);
        let row = shown(&board, worker(8));
        assert_eq!(row["status"], "busy");
        assert_eq!(row["cores"][0]["vars"], serde_json::json!(["HTTP_X=q\"b\\s\u{1}\t\u{fffd}\n", ""]));
        assert_eq!(row["cores"][0]["req_info"]["request_start"], 99);
        let dead = shown(&board, worker(0));
        assert_eq!((&dead["status"], &dead["cores"][0]["vars"]), (&"idle".into(), &serde_json::json!([])));
        assert_eq!(shown(&board, WorkerState { cheap: true, ..worker(0) })["status"], "cheap");
    }

    #[test]
    fn a_board_full_of_nonsense_is_valid_json_with_numbers_that_fit() {
        let board = Scoreboard::create(1, 1).unwrap();
        let slot = board.worker(1).unwrap();
        for cell in [WorkerCell::Requests, WorkerCell::Status, WorkerCell::Tx, WorkerCell::Rss, WorkerCell::Accepting] {
            slot.cell(cell).store(u64::MAX, Relaxed);
        }
        let core = slot.core(0).unwrap();
        core.set_vars(&[0xff; 100]);
        core.cell(CoreCell::VarsLength).store(u64::MAX, Relaxed);
        core.cell(CoreCell::InRequest).store(u64::MAX, Relaxed);
        let row = shown(&board, worker(8));
        assert_eq!((row["requests"].as_i64(), row["accepting"].as_i64(), &row["status"]), (Some(i64::MAX), Some(1), &"busy".into()));
        assert_eq!(row["cores"][0]["vars"], serde_json::json!([""]));
    }

    #[test]
    fn a_tcp_socket_tells_its_queue() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        imperator_sys::socket::listen(listener.as_fd(), 37).unwrap();
        let _waits = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let row = SocketRow::of(listener.as_fd(), "x", "uwsgi", false);
        assert_eq!((row.queue, row.max_queue), (1, 37));
        assert_eq!(snapshot().with_sockets(vec![row]).load, 1);
    }
}

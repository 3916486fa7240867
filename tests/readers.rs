//! Those who read statistics: uwsgitop, exporters of uWSGI's JSON, Prometheus. They are the real programs, from PyPI; of the exporter in Go, which
//! pip does not have, the fields that it decodes and their types.

mod support;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde::Deserialize;
use support::pty::Pty;
use support::{Server, free_port, http, repository, uwsgi, venv, wait_for};

const APP: &str = "def application(env, sr):\n    sr('200 OK', [])\n    return [b'hello']\n";
const INI: &str = "socket = {sock}\nwsgi-file = app.py\nprocesses = 2\nthreads = 2\ncache2 = name=c,items=10\nenable-metrics = true\ncron = 0 0 1 1 -1 true\n\
    attach-daemon = sleep 1000\n";

fn started(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("{INI}{more}")).ready("{sock}");
    server
}

fn python(program: &str) -> Command {
    let mut command = Command::new(venv().join("bin/python"));
    command.arg(venv().join("bin").join(program));
    command
}

#[test]
fn uwsgitop_shows_the_workers_and_their_cores() {
    let server = started("stats = {dir}/stats\n");
    for _ in 0..7 {
        uwsgi(&server.sock(), "/").expect("an answer");
    }
    let mut top = Pty::start(python("uwsgitop").arg(server.fill("{dir}/stats")));
    top.wait_for(&format!("masterpid: {}", server.pid()));
    top.wait_for("WID");
    top.wait_for("idle");
    let workers: Vec<i32> = server.tree().into_iter().filter(|(_, name)| name.contains("worker")).map(|(pid, _)| pid).collect();
    assert_eq!(workers.len(), 2);
    workers.iter().for_each(|pid| top.wait_for(&pid.to_string()));
    // Twice: the view with a line for each core that has served.
    top.press("aa");
    top.wait_for(":0");
    top.press("q");
    assert_eq!(top.wait_exit().code(), Some(0));
}

#[test]
fn uwsgitop_reads_http_and_tcp() {
    let port = free_port();
    let server = started(&format!("stats = 127.0.0.1:{port}\nstats-http = true\n"));
    let mut top = Pty::start(python("uwsgitop").arg(format!("http://127.0.0.1:{port}")));
    top.wait_for(&format!("masterpid: {}", server.pid()));
    top.press("q");
    assert_eq!(top.wait_exit().code(), Some(0));
}

/// Ended when dropped.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn uwsgi_exporter_makes_metrics_of_it() {
    let (stats, port) = (free_port(), free_port());
    let server = started(&format!("stats = 127.0.0.1:{stats}\nstats-http = true\n"));
    uwsgi(&server.sock(), "/").expect("an answer");
    let mut command = python("uwsgi_exporter.py");
    command.args(["-p", &port.to_string(), "--bind_address", "127.0.0.1", "--stats_addr", &format!("http://127.0.0.1:{stats}")]);
    let _exporter = Helper(command.stderr(Stdio::null()).spawn().expect("the exporter"));
    let page =
        wait_for("the exporter's page", || http(&format!("127.0.0.1:{port}"), "/metrics").ok().filter(|page| page.status == 200)).text();
    let value = |row: &str| page.lines().find_map(|line| line.strip_prefix(row)?.trim().parse::<f64>().ok());
    let requests = |worker: u32| value(&format!("uwsgi_workers_requests{{worker=\"{worker}\"}}")).expect("a row");
    assert!(requests(1) + requests(2) >= 2.0, "{page}");
    assert_eq!(value("uwsgi_workers_accepting{worker=\"2\"}"), Some(1.0), "{page}");
    assert_eq!(value("uwsgi_caches_max_items{cach=\"c\"}").or(value("uwsgi_caches_max_items{cache=\"c\"}")), Some(10.0), "{page}");
}

/// What github.com/timonwong/uwsgi_exporter decodes, which wants Go's `int` where an integer stands here: a float or a boolean ends its scrape. The
/// fields of Datadog's check are among them.
#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct Decoded {
    version: String,
    listen_queue: i64,
    listen_queue_errors: i64,
    signal_queue: i64,
    load: i64,
    pid: i64,
    uid: i64,
    gid: i64,
    cwd: String,
    sockets: Vec<DecodedSocket>,
    workers: Vec<DecodedWorker>,
    caches: Vec<DecodedCache>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct DecodedSocket {
    name: String,
    proto: String,
    queue: i64,
    max_queue: i64,
    shared: i64,
    can_offload: i64,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct DecodedWorker {
    id: i64,
    pid: i64,
    accepting: i64,
    requests: i64,
    delta_requests: i64,
    exceptions: i64,
    harakiri_count: i64,
    signals: i64,
    signal_queue: i64,
    status: String,
    rss: i64,
    vsz: i64,
    running_time: i64,
    last_spawn: i64,
    respawn_count: i64,
    tx: i64,
    avg_rt: i64,
    apps: Vec<DecodedApp>,
    cores: Vec<DecodedCore>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct DecodedApp {
    id: i64,
    modifier1: i64,
    mountpoint: String,
    startup_time: i64,
    requests: i64,
    exceptions: i64,
    chdir: String,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct DecodedCore {
    id: i64,
    requests: i64,
    static_requests: i64,
    routed_requests: i64,
    offloaded_requests: i64,
    write_errors: i64,
    read_errors: i64,
    in_request: i64,
    vars: Vec<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "to be decoded is all they are for")]
struct DecodedCache {
    hits: i64,
    miss: i64,
    items: i64,
    max_items: i64,
    full: i64,
    hash: String,
    hashsize: i64,
    keysize: i64,
    blocks: i64,
    blocksize: i64,
    last_modified_at: i64,
    name: String,
}

#[test]
fn every_field_that_exporters_decode_is_there_with_its_type() {
    let server = started("stats = {dir}/stats\n");
    let text = support::stats(&server.fill("{dir}/stats")).expect("statistics").to_string();
    let decoded: Decoded = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((decoded.workers.len(), decoded.workers[0].cores.len(), decoded.caches.len(), decoded.sockets.len()), (2, 2, 1, 1));
}

/// Names and types of the families that Prometheus' own parser finds; fails on a page that it refuses.
fn parsed(server: &Server, page: &str) -> String {
    std::fs::write(server.path("page"), page).expect("write");
    let mut command = Command::new(venv().join("bin/python"));
    let output = command.arg(repository().join("tests/fixtures/prometheus_page.py")).arg(server.path("page")).output().expect("python");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn prometheus_own_parser_reads_every_page() {
    let address = format!("127.0.0.1:{}", free_port());
    let server =
        started(&format!("stats-prometheus = {address}\nqueue-time = HTTP_X_REQUEST_START\nmetric = my.sales-2\nmetric = workers\n"));
    uwsgi(&server.sock(), "/").expect("an answer");
    server.signal(Signal::SIGHUP);
    server.wait_log("generation 2 serves");
    let page = http(&address, "/metrics").expect("metrics").text();
    let said = parsed(&server, &page);
    for family in
        ["uwsgi_request_duration_seconds histogram", "uwsgi_my_sales_2 counter", "uwsgi_respawns counter", "uwsgi_cache_items gauge"]
    {
        assert!(said.lines().any(|line| line == family), "{family} in {said}");
    }

    // The same of an estate, one of whose vassals writes what it likes.
    let lies = "uwsgi_workers 7\nuwsgi_workers{vassal=\"a.ini\"} 7\n# TYPE uwsgi_my_sales_2 histogram\nuwsgi_x{y=\"\\q\"} 1\n# HELP uwsgi_up \\q\nnonsense\n";
    let liar = format!("{page}{lies}");
    let merged = imperator::stats::merge("", &[("a.ini", &page), ("b\".ini", &liar)]);
    let said = parsed(&server, &merged);
    assert!(said.lines().any(|line| line == "uwsgi_request_duration_seconds histogram"), "{said}");
    assert!(merged.contains("uwsgi_workers{vassal=\"b\\\".ini\",exported_vassal=\"a.ini\"} 7\n"), "{merged}");
}

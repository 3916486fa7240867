//! What monitoring asks an instance: Prometheus' metrics, liveness, readiness.

mod support;
use nix::sys::signal::Signal;
use support::{Server, http, uwsgi, wait_for};

const APP: &str = "def application(env, sr):\n    sr('200 OK', [])\n    return [b'hello']\n";

fn metric(page: &str, row: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn prometheus_gets_what_the_workers_counted_and_what_a_reload_kept() {
    let mut server = Server::new();
    server.write("app.py", APP);
    let address = format!("127.0.0.1:{}", support::free_port());
    server
        .start_ini(&format!(
            "socket = {{sock}}\nwsgi-file = app.py\nprocesses = 2\nstats-prometheus = {address}\nhealth-socket = {{dir}}/health\n"
        ))
        .ready("{sock}");
    let asked = 5;
    for _ in 0..asked {
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    }
    let page = http(&address, "/metrics").expect("metrics");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let text = page.text();
    let of = |worker: u32| metric(&text, &format!("uwsgi_worker_requests_total{{worker=\"{worker}\"}}")).expect("a row");
    // `ready` has asked as well.
    assert!(of(1) + of(2) >= f64::from(asked), "{text}");
    assert_eq!((metric(&text, "uwsgi_workers"), metric(&text, "uwsgi_reloads_total")), (Some(2.0), Some(0.0)));
    assert!(text.contains("# TYPE uwsgi_worker_requests_total counter\n"));
    assert_eq!(http(&address, "/").expect("an answer").status, 404);

    server.signal(Signal::SIGHUP);
    wait_for("a reload in the metrics", || {
        let text = http(&address, "/metrics").ok()?.text();
        (metric(&text, "uwsgi_reloads_total") == Some(1.0)).then_some(())
    });
}

#[test]
fn an_instance_is_alive_before_it_is_ready_and_not_ready_once_paused() {
    let mut server = Server::new();
    server.write("app.py", &format!("import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n{APP}"));
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nhealth-socket = {dir}/health\n");
    let health = server.fill("{dir}/health");
    let ask = |path: &str| http(&health, path).map(|answer| (answer.status, answer.text()));
    wait_for("an instance that is alive", || ask("/live").ok().filter(|(status, _)| *status == 200));
    assert_eq!(ask("/ready").expect("an answer"), (503, "not ready: the app loads\n".to_owned()));
    server.write("go", "");
    wait_for("readiness", || ask("/ready").ok().filter(|(status, _)| *status == 200));
    server.signal(Signal::SIGTSTP);
    wait_for("the pause", || ask("/ready").ok().filter(|(status, text)| *status == 503 && text.contains("paused")));
    assert_eq!(ask("/live").expect("an answer").0, 200);
    server.signal(Signal::SIGTSTP);
    wait_for("readiness again", || ask("/ready").ok().filter(|(status, _)| *status == 200));
    assert_eq!(ask("/other").expect("an answer").0, 404);
}

const COUNTING: &str = "import uwsgi\ndef application(env, sr):\n    uwsgi.metric_inc('sales', 5)\n    sr('200 OK', [])\n    return [str(uwsgi.metric_get('twice')).encode()]\n";

#[test]
fn an_apps_metrics_survive_a_reload_and_are_pushed() {
    let mut server = Server::new();
    server.write("app.py", COUNTING);
    let statsd = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    statsd.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a time limit");
    let port = statsd.local_addr().expect("an address").port();
    server
        .start_ini(&format!(
            "socket = {{sock}}\nwsgi-file = app.py\nstats = {{dir}}/stats\nmetric = sales\nmetric = name=twice,type=gauge,collector=multiplier,arg1n=2,children=sales\n\
             metrics-dir = {{dir}}\nstats-push = statsd:127.0.0.1:{port},shop\nstats-pusher-default-freq = 1\n"
        ))
        .ready("{sock}");
    let stats = server.fill("{dir}/stats");
    let value = |name: &str| support::stats(&stats).ok()?["metrics"][name]["value"].as_i64();
    let before = value("sales").expect("sales in the stats");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), ((before + 5) * 2).to_string());
    server.signal(Signal::SIGHUP);
    server.wait_log("generation 2 serves");
    uwsgi(&server.sock(), "/").expect("an answer");
    assert_eq!((value("sales"), value("twice")), (Some(before + 10), Some((before + 10) * 2)));
    wait_for("the value in its file", || {
        let text = std::fs::read_to_string(server.path("sales")).ok()?;
        (text.trim_end_matches('\0') == format!("{}\n", before + 10)).then_some(())
    });
    let mut datagram = [0; 512];
    loop {
        let length = statsd.recv(&mut datagram).expect("a datagram");
        if String::from_utf8_lossy(&datagram[..length]).starts_with("shop.twice:") {
            break;
        }
    }
}

#[test]
fn lines_that_make_no_metric_or_pusher_end_the_start_and_name_their_place() {
    for (line, part) in [
        ("metric = name=a,colour=red", "colour is no key of a metric"),
        ("stats-push = rrdtool:/x", "expected socket:HOST:PORT"),
        ("stats-push = file:colour=red", "path, freq and separator"),
    ] {
        let mut server = Server::new();
        server.write("app.py", APP);
        server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\n{line}\n"));
        assert_eq!(server.wait_exit().code(), Some(1), "{line}");
        let log = server.log();
        assert!(log.contains(part) && log.contains(".ini:"), "{line}: {log}");
    }
}

#[test]
fn durations_ends_and_failed_reloads_are_counted() {
    let mut server = Server::new();
    server.write(
        "app.py",
        &format!(
            "import os, time\nif os.path.exists('broken'): raise ValueError\n{}",
            APP.replace("    sr(", "    if env['PATH_INFO'] == '/slow': time.sleep(0.02)\n    sr(")
        ),
    );
    let address = format!("127.0.0.1:{}", support::free_port());
    let ini = format!("socket = {{sock}}\nwsgi-file = app.py\nstats-prometheus = {address}\nstats = {{dir}}/stats\n");
    server.start_ini(&ini).ready("{sock}");
    let page = || http(&address, "/metrics").expect("metrics").text();
    let before = metric(&page(), "uwsgi_request_duration_seconds_count").expect("a count");
    for path in ["/", "/", "/slow"] {
        assert_eq!(uwsgi(&server.sock(), path).expect("an answer").status, 200);
    }
    let text = page();
    let bucket = |le: &str| metric(&text, &format!("uwsgi_request_duration_seconds_bucket{{le=\"{le}\"}}")).expect("a bucket");
    assert_eq!(metric(&text, "uwsgi_request_duration_seconds_count"), Some(before + 3.0), "{text}");
    assert!(bucket("0.01") < before + 3.0, "one took 20 ms: {text}");
    assert_eq!(bucket("+Inf"), before + 3.0);
    assert!(metric(&text, "uwsgi_request_duration_seconds_sum").is_some_and(|sum| sum >= 0.02));
    assert!(metric(&text, "uwsgi_worker_pss_bytes{worker=\"1\"}").is_some_and(|pss| pss > 100_000.0), "{text}");
    assert!(metric(&text, "uwsgi_worker_rss_bytes{worker=\"1\"}").is_some_and(|rss| rss > 100_000.0), "{text}");

    let worker = support::stats(&server.fill("{dir}/stats")).expect("stats")["workers"][0]["pid"].as_i64().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker as i32), Signal::SIGKILL).expect("kill");
    wait_for("its end in the metrics", || metric(&page(), "uwsgi_respawns_total{cause=\"signal\",detail=\"9\"}").filter(|n| *n == 1.0));
    server.ready("{sock}");
    server.write("broken", "");
    server.signal(Signal::SIGHUP);
    wait_for("the failed reload", || metric(&page(), "uwsgi_failed_reloads_total").filter(|n| *n == 1.0));
    std::fs::remove_file(server.path("broken")).expect("remove");
    server.signal(Signal::SIGHUP);
    wait_for("the next reload", || metric(&page(), "uwsgi_reloads_total").filter(|n| *n == 1.0));
    assert_eq!(metric(&page(), "uwsgi_failed_reloads_total"), Some(1.0), "counts live through a reload");
    wait_for("the end of the worker of before", || {
        metric(&page(), "uwsgi_respawns_total{cause=\"reload\",detail=\"\"}").filter(|n| *n == 1.0)
    });
}

#[test]
fn the_time_in_front_of_the_instance_is_what_nginx_says() {
    let mut server = Server::new();
    server.write("app.py", APP);
    let address = format!("127.0.0.1:{}", support::free_port());
    server
        .start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nstats-prometheus = {address}\nqueue-time = REQUEST_START\n"))
        .ready("{sock}");
    let nginx = support::Nginx::start(&format!("location / {{ uwsgi_pass unix:{}; uwsgi_param REQUEST_START $msec; }}", server.sock()));
    let count = || metric(&http(&address, "/metrics").expect("metrics").text(), "uwsgi_request_queue_seconds_count");
    assert_eq!(count(), Some(0.0), "`ready` has said no time");
    assert_eq!(http(&nginx.address(), "/").expect("an answer").status, 200);
    let text = http(&address, "/metrics").expect("metrics").text();
    assert_eq!(metric(&text, "uwsgi_request_queue_seconds_count"), Some(1.0));
    assert!(metric(&text, "uwsgi_request_queue_seconds_sum").is_some_and(|sum| sum < support::PATIENCE.as_secs_f64()), "{text}");
}

#[test]
fn a_metric_that_is_too_large_raises_its_alarm() {
    let mut server = Server::new();
    server.write("app.py", COUNTING.replace("metric_get('twice')", "metric_get('sales')").as_str());
    server
        .start_ini(
            "socket = {sock}\nwsgi-file = app.py\nmetric = sales\nalarm = bell cmd:cat >> {dir}/bell\n\
             metric-threshold = key=sales,value=10,alarm=bell,msg=enough is sold,reset=0\nmetric-threshold = key=none,value=1,alarm=bell\n",
        )
        .ready("{sock}");
    server.wait_log("metric-threshold: there is no metric none");
    let bell = || std::fs::read_to_string(server.path("bell")).unwrap_or_default();
    wait_for("the alarm", || {
        uwsgi(&server.sock(), "/").ok()?;
        bell().contains("enough is sold").then_some(())
    });
    let after = uwsgi(&server.sock(), "/").expect("an answer").text();
    assert!(after.parse::<i64>().is_ok_and(|sales| sales < 1000), "it was set back: {after}");
}

/// Lines of cron make the answer larger than any socket's buffer.
fn an_answer_that_fills_buffers() -> String {
    "cron = 0 0 1 1 -1 true\n".repeat(4000)
}

/// Connects a client that says nothing and one that reads nothing, does `act`, and tells whether both were still connected after it: then nobody had
/// waited for them. Such clients are cut off after four seconds, so that on a slow machine it may take another try.
fn beside_bad_clients(stats: &str, what: &str, mut act: impl FnMut()) {
    use std::io::{Read as _, Write as _};
    wait_for(what, || {
        let connect = || std::os::unix::net::UnixStream::connect(stats).expect("connect");
        let mut silent = connect();
        let mut deaf = connect();
        deaf.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        act();
        silent.set_nonblocking(true).expect("a mode");
        let silent_is_there = silent.read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        // Whoever is cut off has lost the rest of the answer.
        let mut answer = vec![];
        let whole = deaf.read_to_end(&mut answer).is_ok() && answer.ends_with(b"}\n");
        (silent_is_there && whole && answer.len() > 500_000).then_some(())
    });
}

#[test]
fn clients_that_read_nothing_or_say_nothing_keep_nobody_waiting() {
    let mut server = Server::new();
    server.write("app.py", APP);
    let ini =
        format!("socket = {{sock}}\nwsgi-file = app.py\nstats = {{dir}}/stats\nstats-http = true\n{}", an_answer_that_fills_buffers());
    server.start_ini(&ini).ready("{sock}");
    let stats = server.fill("{dir}/stats");
    beside_bad_clients(&stats, "an answer to another client", || {
        assert!(http(&stats, "/").expect("statistics").body.ends_with(b"}\n"));
    });
    let mut pauses = 0;
    beside_bad_clients(&stats, "a signal that is obeyed", || {
        server.signal(Signal::SIGTSTP);
        pauses += 1;
        wait_for("its line", || {
            (server.log().matches("*** paused ***").count() + server.log().matches("*** resumed ***").count() >= pauses).then_some(())
        });
    });
    let _bad: Vec<_> = (0..80).map(|_| std::os::unix::net::UnixStream::connect(&stats).expect("connect")).collect();
    assert_eq!(http(&stats, "/").expect("statistics, however many are silent").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
}

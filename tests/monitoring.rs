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

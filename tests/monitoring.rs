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

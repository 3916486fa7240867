//! Sockets that one instance hands to another (`zerg-server`, `zerg`, `zerg-pool`).

mod support;
use nix::sys::signal::Signal;
use support::{Server, stats, uwsgi, wait_for};

fn app(name: &str) -> String {
    format!("import os\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'{name} %d' % os.getpid()]\n")
}

fn answer(server: &Server) -> Option<String> {
    uwsgi(&server.fill("127.0.0.1:{port}"), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

fn reload(server: &Server) {
    let before = server.log().matches("generation ").count();
    server.signal(Signal::SIGHUP);
    wait_for("the next generation", || (server.log().matches("generation ").count() > before).then_some(()));
}

fn zerg_of(place: &str, more: &str) -> Server {
    let mut zerg = Server::new();
    zerg.write("app.py", &app("zerg"));
    zerg.start_ini(&format!("zerg = {place}\nwsgi-file = app.py\n{more}"));
    zerg
}

#[test]
fn a_zerg_serves_the_sockets_of_its_server_also_after_reloads_and_the_servers_end() {
    let mut server = Server::new();
    server.write("app.py", &app("server"));
    server.start_ini("socket = 127.0.0.1:{port}\nwsgi-file = app.py\nzerg-server = {dir}/zs\n").ready("127.0.0.1:{port}");
    reload(&server);
    let first = zerg_of(&server.fill("{dir}/zs"), "");
    first.wait_log("generation 1 serves");
    reload(&first);
    first.wait_log("generation 2 serves");
    server.signal(Signal::SIGINT);
    assert!(server.wait_exit().success());
    let one = answer(&server).expect("the zerg answers");
    assert!(one.starts_with("zerg "), "{one}");
    reload(&first);
    first.wait_log("generation 3 serves");
    wait_for("another worker", || answer(&server).filter(|other| *other != one));
}

#[test]
fn a_pool_has_no_workers_keeps_its_sockets_and_its_clients_wait() {
    let mut pool = Server::new();
    pool.start_ini("zerg-pool = @imperator-{port}:127.0.0.1:{port}\nstats = {dir}/stats.sock\n");
    pool.wait_log("generation 1 serves");
    assert_eq!(pool.tree(), []);
    assert_eq!(stats(&pool.fill("{dir}/stats.sock")).expect("statistics")["workers"].as_array().map(Vec::len), Some(0));
    let waiting = std::thread::spawn({
        let address = pool.fill("127.0.0.1:{port}");
        move || uwsgi(&address, "/").map(|a| a.text())
    });
    reload(&pool);
    pool.wait_log("generation 2 serves");
    let place = pool.fill("@imperator-{port}");
    let zerg = zerg_of(&place, "");
    assert!(waiting.join().expect("a client").expect("an answer").starts_with("zerg "));
    drop(zerg);
    let _second = zerg_of(&place, "");
    assert!(wait_for("the second zerg", || answer(&pool)).starts_with("zerg "));
}

#[test]
fn without_a_server_a_zerg_ends_or_falls_back() {
    let mut alone = zerg_of("{dir}/nobody", "");
    assert_eq!(alone.wait_exit().code(), Some(1));
    assert!(alone.log().contains("zerg-fallback"), "{}", alone.log());
    let own = zerg_of("{dir}/nobody", "socket = 127.0.0.1:{port}\nzerg-fallback = true\n");
    assert!(wait_for("its own socket", || answer(&own)).starts_with("zerg "));
}

//! Which worker takes a new connection: those that are kept are shared out evenly.

mod support;

use std::collections::BTreeMap;

use support::{Server, Stream, connect, wait_for};

const APP: &str = "import uwsgi
def application(env, start_response):
    start_response('200 OK', [('Content-Length', '1')])
    return [str(uwsgi.worker_id()).encode()]
";

/// Connections a worker, if all have the same.
const EACH: usize = 12;

fn server(workers: usize) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!(
        "wsgi-file = app.py\nmaster = true\nprocesses = {workers}\nhttp11-socket = 127.0.0.1:{{port}}\ndisable-logging = true\n"
    ));
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || support::http(&address, "/").ok().filter(|answer| answer.status == 200));
    wait_for("all workers", || (server.log().matches("spawned uWSGI worker").count() == workers).then_some(()));
    server
}

/// One request; the worker that answered.
fn ask(client: &mut dyn Stream) -> u8 {
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let (mut answer, mut part) = (vec![], [0; 1024]);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || answer.ends_with(b"\n") {
        let got = client.read(&mut part).expect("an answer");
        assert!(got > 0, "closed after {answer:?}");
        answer.extend_from_slice(&part[..got]);
    }
    answer[answer.len() - 1]
}

/// No worker has less than half of its share. (An even one is the rule; a machine that leaves a worker without a processor for a while makes it less even.)
fn is_shared(workers: usize, holders: impl Iterator<Item = u8>) {
    let mut held = BTreeMap::new();
    holders.for_each(|worker| *held.entry(char::from(worker)).or_insert(0) += 1);
    assert!(held.len() == workers && held.values().all(|n| *n >= EACH / 2), "connections by worker: {held:?}");
}

#[test]
fn kept_connections_are_shared_out_whether_they_come_one_by_one_or_at_once() {
    let workers = 3;
    let server = server(workers);
    let address = server.fill("127.0.0.1:{port}");
    let mut clients: Vec<_> = (0..EACH * workers).map(|_| connect(&address).expect("a connection")).collect();
    is_shared(workers, clients.iter_mut().map(|client| ask(&mut **client)));
    drop(clients);
    let mut one_by_one = vec![];
    for _ in 0..EACH * workers {
        let mut client = connect(&address).expect("a connection");
        let worker = ask(&mut *client);
        one_by_one.push((client, worker));
    }
    is_shared(workers, one_by_one.iter().map(|(_, worker)| *worker));
}

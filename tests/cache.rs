//! The caches of an instance, from outside: what survives what, how instances share, Redis, the command line.

mod support;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Answer, Server, exchange, free_port, packet, running, stats, tree, venv, wait_for};

/// Answers the value of the expression that the body is.
const APP: &str = r#"
import os, time, uwsgi
def application(env, sr):
    source = env['wsgi.input'].read(int(env.get('CONTENT_LENGTH') or 0)).decode()
    sr('200 OK', [])
    try:
        return [repr(eval(source, {'uwsgi': uwsgi, 'os': os, 'time': time})).encode()] if source else [b'up']
    except Exception as error:
        return [('%s: %s' % (type(error).__name__, error)).encode()]
"#;

fn started(options: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("socket = 127.0.0.1:{{port}}\nwsgi-file = app.py\n{options}")).ready("127.0.0.1:{port}");
    server
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

fn eval(server: &Server, source: &str) -> String {
    let mut request = packet("/", &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", &source.len().to_string())]);
    request.extend(source.as_bytes());
    Answer::parse(&exchange(&address(server), &request).expect("an answer")).expect("a response").text()
}

fn cli(arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_imperator")).arg("cache").args(arguments).output().expect("runs");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn a_reload_keeps_what_has_the_same_shape_and_names_what_is_new() {
    let server = started("cache2 = name=a,items=10\ncache2 = name=b,items=10\nprocesses = 2\n");
    assert_eq!(eval(&server, "[uwsgi.cache_set('k', 'kept', 0, n) for n in ('a', 'b')]"), "[True, True]");
    server.write(
        "app.ini",
        "[uwsgi]\nsocket = 127.0.0.1:{port}\nwsgi-file = app.py\ncache2 = name=a,items=10,ignore_full=1\ncache2 = name=b,items=11\n",
    );
    server.signal(Signal::SIGHUP);
    server.wait_log("generation 2 serves");
    let both =
        || (eval(&server, "uwsgi.cache_get('k', 'a')") == "b'kept'" && eval(&server, "uwsgi.cache_get('k', 'b')") == "None").then_some(());
    wait_for("the new generation", both);
}

#[test]
fn killed_workers_cost_nothing_and_all_see_the_same() {
    let server = started("cache2 = name=a,items=10\nprocesses = 2\n");
    for round in 1..=5 {
        assert_eq!(eval(&server, "uwsgi.cache_inc('n')"), "True");
        for (pid, _) in server.tree().into_iter().filter(|(_, name)| name.starts_with("worker")) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            wait_for("its end", || (!running(pid)).then_some(()));
        }
        wait_for("a worker", || exchange(&address(&server), &packet("/", &[])).ok().filter(|a| !a.is_empty()));
        assert_eq!(eval(&server, "uwsgi.cache_num('n')"), round.to_string());
    }
}

#[test]
fn arguments_are_positional_and_of_their_types() {
    let server = started("cache2 = name=a,items=10\n");
    for wrong in
        ["cache_get(5)", "cache_get(key='k')", "cache_set('k')", "cache_set('k', None)", "cache_get('k', None)", "cache_inc('k', 'x')"]
    {
        assert!(eval(&server, &format!("uwsgi.{wrong}")).starts_with("TypeError"), "{wrong}: {}", eval(&server, &format!("uwsgi.{wrong}")));
    }
    assert_eq!(eval(&server, "uwsgi.cache_set('k', 'gone', -1)"), "True");
    assert_eq!(eval(&server, "[uwsgi.cache_get('k'), uwsgi.cache_exists('k'), uwsgi.cache_keys()]"), "[None, None, []]");
    assert_eq!(eval(&server, "[uwsgi.cache_set('t', 'text'), uwsgi.cache_inc('t'), uwsgi.cache_get('t')]"), "[True, None, b'text']");
}

#[test]
fn without_a_master_too_and_workers_count_together() {
    let server = started("master = false\nprocesses = 2\ncache2 = name=a,items=10\nadd-cache-item = k=v w\n");
    assert_eq!(eval(&server, "uwsgi.cache_get('k')"), "b'v w'");
    assert_eq!(eval(&server, "[uwsgi.cache_inc('n') for _ in range(3)][-1] and uwsgi.cache_num('n')"), "3");
}

#[test]
fn another_instance_is_a_cache_with_real_arithmetic() {
    let owner = started("cache2 = name=a,items=10,bitmap=1,blocks=100\ncache2 = name=b,items=10\n");
    let user = started("socket-timeout = 2\n");
    let at = format!("a@{}", address(&owner));
    assert_eq!(
        eval(&user, &format!("[uwsgi.cache_inc('n', 5, 0, '{at}'), uwsgi.cache_mul('n', 3, 0, '{at}'), uwsgi.cache_num('n', '{at}')]")),
        "[True, True, 15]"
    );
    assert_eq!(eval(&owner, "uwsgi.cache_num('n', 'a')"), "15");
    let large = format!("[uwsgi.cache_set('l', b'x' * 900000, 50, '{at}'), len(uwsgi.cache_get('l', '{at}')), uwsgi.cache_clear('{at}')]");
    assert_eq!(eval(&user, &large), "[True, 900000, True]");
    assert_eq!(eval(&owner, "uwsgi.cache_keys('a')"), "[]");
    assert!(eval(&user, &format!("uwsgi.cache_keys('{at}')")).starts_with("ValueError"));
}

#[test]
fn every_change_reaches_a_peer_that_knows_the_key_and_no_other() {
    let (port, deaf) = (free_port(), free_port());
    let follower = started(&format!("cache2 = name=u,items=10,bitmap=1,blocks=100,udp=127.0.0.1:{port}\ncache-udp-key = secret\n"));
    let stranger = started(&format!("cache2 = name=u,items=10,bitmap=1,blocks=100,udp=127.0.0.1:{deaf}\ncache-udp-key = other\n"));
    let leader =
        started(&format!("cache2 = name=u,items=10,bitmap=1,blocks=100,nodes=127.0.0.1:{port};127.0.0.1:{deaf}\ncache-udp-key = secret\n"));
    let heard = |source: &str, expected: &str| {
        let reached = || (eval(&follower, source) == expected).then_some(());
        wait_for(source, reached);
    };
    eval(&leader, "[uwsgi.cache_inc('n', 4), uwsgi.cache_inc('n', 3)]");
    heard("uwsgi.cache_num('n')", "7");
    eval(&leader, "uwsgi.cache_update('large', b'y' * 300000)");
    heard("len(uwsgi.cache_get('large') or b'')", "300000");
    eval(&leader, "uwsgi.cache_del('n')");
    heard("uwsgi.cache_get('n')", "None");
    eval(&leader, "uwsgi.cache_clear()");
    heard("uwsgi.cache_keys()", "[]");
    assert_eq!(eval(&stranger, "uwsgi.cache_keys()"), "[]");
}

#[test]
fn who_may_read_whole_caches() {
    let source = started("cache2 = name=u,items=10\ncache-dump-from = 10.0.0.0/8\n");
    eval(&source, "uwsgi.cache_set('k', 'v')");
    let mut copy = Server::new();
    copy.write("app.py", APP);
    let ini = format!("socket = 127.0.0.1:{{port}}\nwsgi-file = app.py\ncache2 = name=u,items=10,sync={}\n", address(&source));
    assert_eq!(copy.start_ini(&ini).wait_exit().code(), Some(1));
    assert!(copy.log().contains("nobody to synchronise with"), "{}", copy.log());
    assert_eq!(cli(&["ls", &address(&source)]).0, 1);
}

#[test]
fn the_command_line_shows_and_changes_items() {
    let server = started("cache2 = name=a,items=10\ncache2 = name=b,items=10\n");
    let (ini, at) = (server.path("app.ini").to_string_lossy().into_owned(), address(&server));
    assert_eq!(cli(&["set", "-n", "b", "-e", "100", &ini, "key", "value"]), (0, String::new()));
    assert_eq!(cli(&["get", "-n", "b", &at, "key"]), (0, "value".into()));
    assert_eq!(cli(&["get", &at, "key"]).0, 1);
    let (code, list) = cli(&["ls", "-n", "b", &ini]);
    assert!(code == 0 && list.lines().count() == 2 && list.contains("key") && list.contains("s  "), "{list}");
    let (_, json) = cli(&["stats", "--json", &at]);
    let rows: serde_json::Value = serde_json::from_str(&json).expect("json");
    assert_eq!((&rows[0]["name"], &rows[1]["items"]), (&"a".into(), &1.into()));
    assert_eq!((cli(&["del", "-n", "b", &at, "key"]).0, cli(&["del", "-n", "b", &at, "key"]).0), (0, 1));
}

#[test]
fn a_master_sleeps_while_nothing_expires_and_sweeps_while_something_does() {
    let server = started("cache2 = name=a,items=10\ncache-expire-freq = 1\ncache-report-freed-items = true\nstats = 127.0.0.1:{port2}\n");
    let items = || stats(&format!("127.0.0.1:{}", server.port2)).expect("stats")["caches"][0]["items"].clone();
    eval(&server, "[uwsgi.cache_set('short', 'v', 1), uwsgi.cache_set('ever', 'v')]");
    server.wait_log("freed 1 items for cache \"a\"");
    assert_eq!(items(), 1);
    eval(&server, "uwsgi.cache_update('again', 'v', 1)");
    wait_for("the second sweep", || (items() == 1).then_some(()));
}

struct RedisServer {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl RedisServer {
    fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server (make test installs it)");
        wait_for("Redis", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port, _dir: dir }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn redis_holds_a_cache_with_the_same_calls_and_may_go_and_come() {
    let redis = RedisServer::start(free_port());
    let options = format!("cache2 = name=r*,backend=redis://127.0.0.1:{}/3?timeout=500,math_initial=10\nprocesses = 2\n", redis.port);
    let (one, two) = (started(&options), started(&options));
    assert_eq!(
        eval(&one, "[uwsgi.cache_set('k', b'\\x00v', 100), uwsgi.cache_set('k', 'w'), uwsgi.cache_exists('k')]"),
        "[True, None, True]"
    );
    assert_eq!(
        eval(&two, "[uwsgi.cache_get('k'), uwsgi.cache_keys(), uwsgi.cache_update('k', 'w'), uwsgi.cache_get('k')]"),
        "[b'\\x00v', [b'k'], True, b'w']"
    );
    assert_eq!(
        eval(
            &one,
            "[uwsgi.cache_inc('n', 5), uwsgi.cache_dec('n', 30), uwsgi.cache_mul('n', 4), uwsgi.cache_div('n', 0), uwsgi.cache_num('n')]"
        ),
        "[True, True, True, True, 0]"
    );
    let wrap = "[uwsgi.cache_inc('big', 2**63 - 1), uwsgi.cache_num('big'), len(uwsgi.cache_get('big')), uwsgi.cache_inc('k'), uwsgi.cache_get('k')]";
    assert_eq!(eval(&two, wrap), format!("[True, {}, 8, None, b'w']", i64::MAX.wrapping_add(10)));
    assert_eq!(
        eval(&one, "[uwsgi.cache_set('gone', 'v', -1), uwsgi.cache_get('gone'), uwsgi.cache_del('k'), uwsgi.cache_del('k')]"),
        "[True, None, True, None]"
    );
    assert_eq!(eval(&one, "[uwsgi.cache_clear(), uwsgi.cache_keys()]"), "[True, []]");

    let port = redis.port;
    drop(redis);
    assert_eq!(eval(&one, "[uwsgi.cache_set('k', 'v'), uwsgi.cache_get('k'), uwsgi.cache_inc('n')]"), "[None, None, None]");
    one.wait_log("Redis at 127.0.0.1");
    let _redis = RedisServer::start(port);
    wait_for("Redis to be used again", || (eval(&one, "uwsgi.cache_update('k', 'v')") == "True").then_some(()));
    one.wait_log("Redis is back");
}

#[test]
fn four_workers_count_exactly_in_redis_and_here() {
    let redis = RedisServer::start(free_port());
    let server = started(&format!(
        "cache2 = name=here,items=10\ncache2 = name=there,backend=redis://127.0.0.1:{}\nprocesses = 4\ncheaper = 0\n",
        redis.port
    ));
    for (name, times) in [("here", 20_000), ("there", 500)] {
        let source = format!("[uwsgi.cache_inc('n', 1, 0, '{name}') for _ in range({times})].count(True)");
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| eval(&server, &source))).collect();
            all.into_iter().for_each(|one| assert_eq!(one.join().expect("a thread"), times.to_string()));
        });
        assert_eq!(eval(&server, &format!("uwsgi.cache_num('n', '{name}')")), (8 * times).to_string());
    }
    assert!(tree(server.pid()).iter().any(|(_, name)| name == "worker 4"));
}

const DJANGO: &str = r#"
import os
from django.conf import settings
settings.configure(USE_TZ=True, CACHES={
    'default': {'BACKEND': 'uwsgicache.UWSGICache', 'LOCATION': 'pages'},
    'unnamed': {'BACKEND': 'uwsgicache.UWSGICache'},
    'own': {'BACKEND': 'imperator_django_cache.ImperatorCache', 'LOCATION': 'ng'},
    'ng': {'BACKEND': 'django_uwsgi.cache.UwsgiCache', 'LOCATION': 'ng'},
})
import django, uwsgi
django.setup()
from django.core.cache import caches
def check(cache):
    cache.clear()
    assert cache.get('k', 'none') == 'none'
    cache.set('k', {'a': [1, 'x']}, 30)
    assert cache.get('k') == {'a': [1, 'x']}
    assert cache.add('k', 1) is False and cache.add('new', 2) is True
    assert cache.get('k', version=2) is None
    cache.set('gone', 1, 0)
    assert cache.get('gone') is None
    cache.set('ever', 1, None)
    assert cache.incr('ever', 4) == 5
    assert cache.get_many(['k', 'new', 'no']) == {'k': {'a': [1, 'x']}, 'new': 2}
    cache.delete('k')
    assert 'k' not in cache
    cache.clear()
    assert cache.get('ever') is None
def beyond(cache):
    cache.clear()
    assert cache.touch('no') is False and cache.delete('no') is False and cache.has_key('no') is False
    for value in (5, -1, True, None, 2**70, 1.5, 'text', b'12345678', [300], {'a': (1, 2)}, (255,)):
        cache.set('v', value)
        assert cache.get('v', 'none') == value and type(cache.get('v')) is type(value), value
    cache.set('n', 2**40, 100)
    assert cache.incr('n') == 2**40 + 1 and cache.decr('n', 2) == 2**40 - 1
    assert cache.touch('n', 0) is True and cache.get('n') is None
    cache.set('f', 1.5)
    assert cache.incr('f') == 2.5
    try:
        cache.incr('no')
        raise AssertionError('no error')
    except ValueError:
        pass
    assert cache.add('once', 1, 0.2) is True and cache.add('once', 2) is False
    assert cache.get_or_set('once', 3) == 1 and cache.incr_version('once') == 2 and cache.get('once', version=2) == 1
    assert cache.set_many({'a': 1, 'b': 2}) == [] and cache.delete_many(['a', 'b']) is None and 'a' not in cache
    cache.set('big', 'x')
    cache.set('big', 'x' * 100000)
    assert cache.get('big') is None
def application(env, sr):
    for name in ('default', 'unnamed', 'ng', 'own'):
        check(caches[name])
    beyond(caches['own'])
    sr('200 OK', [])
    return [b'all of them']
"#;

#[test]
fn django_backends_written_for_uwsgi_work_unchanged_and_ours_does_the_rest() {
    let mut server = Server::new();
    server.write("app.py", DJANGO);
    server
        .start_ini(&format!(
            "socket = 127.0.0.1:{{port}}\nhome = {}\nwsgi-file = app.py\ncache2 = name=first,items=100\ncache2 = name=pages,items=100\ncache2 = name=ng,items=100\n",
            venv().display()
        ))
        .ready("127.0.0.1:{port}");
    assert_eq!(support::uwsgi(&address(&server), "/").expect("an answer").text(), "all of them", "{}", server.log());
}

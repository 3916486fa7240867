//! Files as people have them for uWSGI (`tests/fixtures/wild`): each starts, answers, and does what it says; `imperator check` agrees.

mod support;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;

use nix::sys::signal::Signal;
use support::{Server, comm, http, repository, running, stats, uwsgi, wait_for};

const APP: &str = "import os\ndef app(env, sr):\n    sr('200 OK', [('Content-Type', 'text/plain')])\n    \
    return [repr((os.getpid(), os.getuid(), os.getgid(), env.get('SCRIPT_NAME'), env['PATH_INFO'], os.environ.get('MODE'))).encode()]\n";

/// A directory with the apps that the files name.
fn site() -> Server {
    let server = Server::new();
    server.write("shop/app.py", APP);
    server.write("shop/second.py", "def application(env, sr):\n    sr('200 OK', [])\n    return [b'second']\n");
    server.write("shop/shop/__init__.py", "");
    server.write("shop/shop/wsgi.py", &APP.replace("def app(", "def application("));
    server.write("static/logo.txt", "a logo");
    server
}

/// The fixture, filled in, in the server's directory.
fn fixture(server: &Server, name: &str) -> String {
    let text = fs::read_to_string(repository().join("tests/fixtures/wild").join(name)).expect(name);
    let path = server.dir.path().join(name);
    fs::write(&path, server.fill(&text)).expect("write");
    path.to_string_lossy().into_owned()
}

fn start(server: &mut Server, name: &str) {
    fixture(server, name);
    server.start(&["--ini", &format!("{{dir}}/{name}")]);
}

/// What `imperator check` prints of the file, and its exit code.
fn check(server: &Server, name: &str) -> (String, Option<i32>) {
    let path = fixture(server, name);
    let done = Command::new(env!("CARGO_BIN_EXE_imperator"))
        .args(["check", &path])
        .current_dir(server.dir.path())
        .env_remove("WILD_WORKERS")
        .output()
        .expect("check");
    (String::from_utf8_lossy(&done.stdout).replace(&*server.dir.path().to_string_lossy(), "{dir}"), done.status.code())
}

fn workers(server: &Server) -> usize {
    server.tree().iter().filter(|(_, name)| name.starts_with("worker ")).count()
}

fn workers_become(server: &Server, wanted: usize) {
    wait_for(&format!("{wanted} workers"), || (workers(server) == wanted).then_some(()));
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).expect(path).permissions().mode() & 0o777
}

/// What of the file is remarked upon, without the path.
fn remarks(report: &str, name: &str) -> Vec<String> {
    let place = format!("{{dir}}/{name}:");
    report.lines().filter_map(|line| line.trim_start().strip_prefix(&place)).map(str::to_owned).collect()
}

#[test]
fn check_says_of_each_file_what_it_is_and_nothing_else() {
    let server = site();
    fs::create_dir_all(server.path("venv/bin")).expect("a folder");
    fs::write(server.path("venv/bin/python"), "").expect("a file");
    let cores = std::thread::available_parallelism().expect("cores").get() * 2;
    let containers = format!("  processes   master and {cores} workers of 2 threads, each loading the app\n");
    for (name, remarked, rows) in [
        (
            "nginx-unix.ini",
            &[][..],
            &["  app         module shop.wsgi, Python of {dir}/venv, in {dir}/shop\n", "master and 3 workers\n"][..],
        ),
        (
            "daemon-tcp.ini",
            &["buffer-size = 65536` is cut to 65535"],
            &["  log         {dir}/uwsgi.log\n", "  limits      a request lasts at most 60 s"],
        ),
        ("container.ini", &["`thunder-lock` has no effect here"], &[containers.as_str()]),
        ("if-env.ini", &[], &["master and 2 workers of 3 threads\n"]),
        ("crlf.ini", &[], &["  log         {dir}/crlf.log\n"]),
        (
            "inline-comments.ini",
            &[
                "`master = true            ; always`: the comment is left out",
                "`processes",
                "`chmod-socket",
                "`harakiri",
                "uWSGI takes the whole for true",
            ],
            &["master and 2 workers\n", "{dir}/app.sock (uwsgi)\n"],
        ),
        ("plugins.ini", &["`autoload` has no effect here"], &["  app         file {dir}/shop/app.py, callable app\n"]),
        ("log-bundle.ini", &[], &["  app         module app:app\n"]),
        ("touch-reload.ini", &["`ignore-sigpipe` has no effect here"], &["{dir}/touch-reload.sock (uwsgi)\n"]),
        ("emperor.ini", &[], &["  vassals     {dir}/vassals\n"]),
        ("vassal.ini", &["nothing here defines %(apps)", "vassal-set"], &["master and 2 workers\n"]),
        (
            "typos.ini",
            &[
                "`process` is no option",
                "`guid`",
                "did you mean `gid`",
                "`chmod-sock`",
                "`py-callos-afterfork`",
                "`max-request`",
                "`vhost` is a flag",
                "`threads = true` is 0",
            ],
            &["master and 1 worker\n"],
        ),
        (
            "mounts.ini",
            &["`no-orphans` has no effect here"],
            &["mount /shop=app:app, mount /second=second.py", "master and 1 to 4 workers\n"],
        ),
        ("strict.ini", &[], &["in {dir}/shop\n", "master and 2 workers\n"]),
    ] {
        let (report, code) = check(&server, name);
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains("\n  would start\n"), "{report}");
        let said = remarks(&report, name);
        for part in remarked {
            assert!(said.iter().any(|line| line.contains(part)), "{part}\nin\n{report}");
        }
        assert_eq!(said.is_empty(), remarked.is_empty(), "{report}");
        for row in rows {
            assert!(report.contains(row), "{row}\nin\n{report}");
        }
    }
}

#[test]
fn behind_nginx_on_a_unix_socket() {
    let mut server = site();
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(server.path("venv")).status().expect("python3");
    assert!(made.success());
    start(&mut server, "nginx-unix.ini");
    server.ready("{sock}");
    assert_eq!(mode(&server.sock()), 0o664);
    workers_become(&server, 3);
    let log = fs::read_to_string(server.path("nginx-unix.log")).expect("logto");
    assert!(log.contains("bound to UNIX address"), "{log}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!server.path("app.sock").exists(), "vacuum");
}

#[test]
fn started_by_root_it_serves_as_the_user_it_names() {
    if !root() {
        eprintln!("left out: only root can become somebody else");
        return;
    }
    let mut server = site();
    fs::set_permissions(server.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    start(&mut server, "nginx-users.ini");
    server.ready("{sock}");
    let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("nobody");
    let answer = uwsgi(&server.sock(), "/").expect("an answer").text();
    assert!(answer.contains(&format!(", {}, {}, ", nobody.uid, nobody.gid)), "{answer}");
    let socket = fs::metadata(server.sock()).expect("the socket");
    assert!(socket.file_type().is_socket());
    assert_eq!((socket.uid(), socket.mode() & 0o777), (nobody.uid.as_raw(), 0o660));
}

#[test]
fn the_daemon_of_the_tutorials_is_stopped_by_its_pidfile() {
    let mut server = site();
    start(&mut server, "daemon-tcp.ini");
    assert!(server.wait_exit().success(), "the process that was started leaves: {}", server.log());
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || uwsgi(&address, "/x").ok().filter(|answer| answer.status == 200));
    let pid: i32 = fs::read_to_string(server.path("uwsgi.pid")).expect("pidfile").trim().parse().expect("a pid");
    assert_eq!(comm(pid), "master");
    let binary = env!("CARGO_BIN_EXE_imperator");
    let done = Command::new(binary).arg("--stop").arg(server.path("uwsgi.pid")).status().expect("stop");
    assert!(done.success());
    wait_for("it ends", || (!running(pid)).then_some(()));
    let log = fs::read_to_string(server.path("uwsgi.log")).expect("the log");
    assert!(log.contains("GET /x => generated"), "{log}");
}

#[test]
fn a_container_that_speaks_http_itself() {
    let mut server = site();
    start(&mut server, "container.ini");
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || http(&address, "/page").ok().filter(|answer| answer.status == 200));
    workers_become(&server, std::thread::available_parallelism().expect("cores").get() * 2);
    assert_eq!(http(&address, "/static/logo.txt").expect("a file").text(), "a logo");
    assert_eq!(http(&address, "/static/none.txt").expect("an answer").status, 200, "what is no file goes to the app");
    let board = stats(&server.fill("127.0.0.1:{port2}")).expect("stats");
    assert_eq!(board["workers"][0]["cores"].as_array().map(Vec::len), Some(2));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!server.log().contains("GET /page"), "only what went wrong is logged:\n{}", server.log());
}

#[test]
fn conditions_on_the_environment() {
    let mut server = site();
    start(&mut server, "if-env.ini");
    server.ready("{sock}");
    assert!(uwsgi(&server.sock(), "/").expect("an answer").text().contains("'production'"));
    workers_become(&server, 2);
}

#[test]
fn carriage_returns_blanks_and_a_missing_last_newline() {
    let mut server = site();
    start(&mut server, "crlf.ini");
    server.ready("{sock}");
    assert_eq!(mode(&server.sock()), 0o666);
    workers_become(&server, 2);
    assert!(server.path("crlf.log").exists(), "no carriage return in the name");
}

#[test]
fn comments_behind_values_of_flags_numbers_and_addresses() {
    let mut server = site();
    start(&mut server, "inline-comments.ini");
    server.ready("{sock}");
    assert_eq!(mode(&server.sock()), 0o664);
    workers_become(&server, 2);
    uwsgi(&server.sock(), "/logged").expect("an answer");
    server.wait_log("GET /logged => generated");
}

#[test]
fn plugin_lines_of_any_distribution() {
    let mut server = site();
    start(&mut server, "plugins.ini");
    server.ready("{sock}");
}

#[test]
fn loggers_take_what_is_theirs() {
    let mut server = site();
    start(&mut server, "log-bundle.ini");
    server.ready("{sock}");
    uwsgi(&server.sock(), "/logged?x=1").expect("an answer");
    let read = |name: &str| fs::read_to_string(server.path(name)).unwrap_or_default();
    wait_for("the line", || read("access.log").contains("127.0.0.1 \"GET /logged?x=1 HTTP/1.1\" 200 ").then_some(()));
    wait_for("the server's lines", || read("error.log").contains("WSGI app 0").then_some(()));
    assert!(!read("error.log").contains("/logged") && !read("access.log").contains("WSGI app"));
}

#[test]
fn a_file_that_is_touched_reloads_its_instance() {
    let mut server = site();
    start(&mut server, "touch-reload.ini");
    let address = server.path("touch-reload.sock").to_string_lossy().into_owned();
    server.ready(&address);
    let pid = || uwsgi(&address, "/").ok().map(|answer| answer.text().split(',').next().unwrap_or_default().to_owned());
    let first = pid().expect("a pid");
    fixture(&server, "touch-reload.ini");
    wait_for("another worker", || pid().filter(|pid| *pid != first));
}

#[test]
fn an_emperor_and_its_vassals() {
    let mut server = site();
    let vassal = fs::read_to_string(repository().join("tests/fixtures/wild/vassal.ini")).expect("the vassal");
    server.write("vassals/one.ini", &vassal);
    server.write("vassals/two.ini", &vassal);
    start(&mut server, "emperor.ini");
    for name in ["one", "two"] {
        server.ready(&format!("{{dir}}/{name}.sock"));
    }
    let board = stats(&server.fill("127.0.0.1:{port2}")).expect("stats");
    assert_eq!(board["vassals"].as_array().map(Vec::len), Some(2));
    fs::remove_file(server.path("vassals/one.ini")).expect("remove");
    wait_for("one ends", || (!server.path("one.sock").exists()).then_some(()));
    assert_eq!(uwsgi(&server.fill("{dir}/two.sock"), "/").expect("an answer").status, 200);
}

#[test]
fn misspelt_keys_are_told_and_the_rest_serves() {
    let mut server = site();
    start(&mut server, "typos.ini");
    server.ready("{sock}");
    for text in ["typos.ini:6: `process` is no option", "typos.ini:7: `guid` is no option and nothing refers to it; did you mean `gid`?"] {
        server.wait_log(text);
    }
    assert!(!server.log().contains("deploy_user"), "a variable is no mistake");
}

#[test]
fn apps_below_mount_points_and_fewer_workers_when_idle() {
    let mut server = site();
    start(&mut server, "mounts.ini");
    let address = server.fill("127.0.0.1:{port}");
    let answer = wait_for("an answer", || http(&address, "/shop/cart").ok().filter(|answer| answer.status == 200));
    assert!(answer.text().contains("'/shop', '/cart'"), "{}", answer.text());
    assert_eq!(http(&address, "/second/x").expect("an answer").text(), "second");
    assert!(workers(&server) < 4);
}

#[test]
fn strict_files_with_variables_of_their_own() {
    let mut server = site();
    start(&mut server, "strict.ini");
    server.ready("{sock}");
    workers_become(&server, 2);
    let title = fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).expect("the title");
    assert!(title.starts_with("shop master"), "{title:?}");
}

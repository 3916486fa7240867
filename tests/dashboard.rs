//! The emperor's web dashboard: what it serves to whom, and that a browser shows it without running anything that vassals wrote.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Answer, Server, exchange, http, wait_for};

const APP: &str = "print('<script>document.title = \"owned\"</script> & <img src=x onerror=alert(1)>')\nreturn function() return 200, {}, coroutine.wrap(function() coroutine.yield('ok') end) end\n";
const HOSTILE: &str = "<img src=x onerror=alert(1)>.ini";
const SECRET: &str = "correct-horse-battery-staple";

fn vassal(name: &str) -> String {
    format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nlua = {{dir}}/app.lua\nprocesses = 1\n")
}

/// An emperor with a vassal that runs, one of a hostile name, and one that cannot start.
fn estate(options: &[&str]) -> Server {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("v/good.ini", &vassal("good"));
    server.write(&format!("v/{HOSTILE}"), &vassal("hostile"));
    server.write("v/broken.ini", "[uwsgi]\nsocket = {dir}/broken.sock\nlua = /nonexistent/app.lua\n");
    let mut arguments = vec!["--emperor", "{dir}/v"];
    if !options.contains(&"--emperor-dashboard") {
        arguments.extend(["--emperor-dashboard", "127.0.0.1:{port}"]);
    }
    arguments.extend(options);
    server.start(&arguments);
    server
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

/// An HTTP exchange with these header lines after Host.
fn ask(server: &Server, line: &str, fields: &str) -> Answer {
    let request = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{fields}\r\n", server.port);
    Answer::parse(&exchange(&address(server), request.as_bytes()).expect("an exchange")).expect("an answer")
}

fn rows(server: &Server) -> Option<Value> {
    let answer = http(&address(server), "/estate.json").ok().filter(|a| a.status == 200)?;
    serde_json::from_slice(&answer.body).ok()
}

fn row<'v>(estate: &'v Value, name: &str) -> &'v Value {
    estate["vassals"].as_array().and_then(|all| all.iter().find(|v| v["name"] == name)).unwrap_or(&Value::Null)
}

/// Until good.ini runs and has told its figures, and broken.ini waits after its death.
fn settled(server: &Server) -> Value {
    wait_for("the estate", || {
        rows(server).filter(|estate| {
            let runs = |name| row(estate, name)["state"] == "running" && row(estate, name)["figures"]["workers"] == 1;
            runs("good.ini") && runs(HOSTILE) && row(estate, "broken.ini")["state"] == "throttled"
        })
    })
}

#[test]
fn the_page_and_what_it_asks_for() {
    let server = estate(&[]);
    let estate = settled(&server);
    let broken = row(&estate, "broken.ini");
    assert!(broken["last_exit"].as_str().is_some_and(|t| t.contains("exit code")) && broken["next_try"].is_i64(), "{broken}");
    assert!(row(&estate, "good.ini")["figures"]["rss"].as_u64().is_some_and(|n| n > 0));
    assert_eq!((estate["actions"].as_bool(), estate["at"].is_i64()), (Some(false), true));

    let page = http(&address(&server), "/").expect("the page");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for data in ["/", "/estate.json", "/vassal/good.ini.json", "/nothing"] {
        let answer = http(&address(&server), data).expect(data);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{data}");
        assert!(answer.header("access-control-allow-origin").is_none() && answer.header("content-security-policy").is_some());
    }
    let why = wait_for("its line", || {
        let name = HOSTILE.replace('<', "%3C").replace('>', "%3E").replace(' ', "%20");
        let answer = http(&address(&server), &format!("/vassal/{name}.json")).expect("why");
        let why: Value = serde_json::from_slice(&answer.body).expect("JSON");
        why["lines"].as_array().is_some_and(|lines| lines.iter().any(|l| l.as_str().is_some_and(|l| l.contains("<script>")))).then_some(why)
    });
    assert_eq!((&why["name"], &why["state"]), (&HOSTILE.into(), &"running".into()));
    assert_eq!(http(&address(&server), "/vassal/nobody.ini.json").expect("an answer").status, 404);
    assert_eq!(ask(&server, "HEAD /estate.json", "").body, b"");
}

#[test]
fn only_who_means_us_gets_an_answer_and_nobody_can_do_anything() {
    let server = estate(&[]);
    settled(&server);
    let to = |host: &str| {
        let request = format!("GET /estate.json HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Answer::parse(&exchange(&address(&server), request.as_bytes()).expect("an exchange")).expect("an answer").status
    };
    assert_eq!((to("localhost:1"), to("[::1]"), to("rebound.example"), to("")), (200, 200, 421, 421));
    assert_eq!(ask(&server, "GET /estate.json", "Sec-Fetch-Site: cross-site\r\n").status, 403);
    assert_eq!(ask(&server, "POST /estate.json", "").status, 405);
    let ours = format!("Origin: http://127.0.0.1:{}\r\n", server.port);
    assert_eq!(ask(&server, "POST /vassal/good.ini/stop", &ours).status, 403);
    assert_eq!(ask(&server, "GARBAGE", "").status, 400);
    assert_eq!(row(&settled(&server), "good.ini")["state"], "running");
}

#[test]
fn slow_and_silent_viewers_hinder_nobody_and_all_share_one_round() {
    let server = estate(&[]);
    settled(&server);
    let mut slow = TcpStream::connect(address(&server)).expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: lo").expect("a part");
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address(&server)).expect("connect")).collect();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let viewers: Vec<_> = (0..100).map(|_| scope.spawn(|| rows(&server).expect("the estate"))).collect();
        viewers.into_iter().map(|v| v.join().expect("a viewer")).collect()
    });
    let mut moments: Vec<i64> = answers.iter().filter_map(|a| a["at"].as_i64()).collect();
    moments.dedup();
    let mut rounds = moments.clone();
    rounds.sort_unstable();
    rounds.dedup();
    let span = rounds.last().expect("one") - rounds.first().expect("one");
    assert!(rounds.len() as i64 <= span / 1000 + 1, "a round a second at most: {rounds:?}");
    drop(silent);
    let mut big = TcpStream::connect(address(&server)).expect("connect");
    let endless = big.write_all(&[b'x'; 64 * 1024]).and_then(|()| big.read_to_end(&mut Vec::new()));
    drop(endless); // cut off or reset
    assert_eq!(http(&address(&server), "/").expect("the page").status, 200);
}

#[test]
fn actions_need_the_option_the_secret_and_our_own_page() {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("v/good.ini", &vassal("good"));
    let file = server.write("secret", &format!("{SECRET}\n"));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("chmod");
    server.start(&[
        "--emperor",
        "{dir}/v",
        "--emperor-dashboard",
        "127.0.0.1:{port}",
        "--emperor-dashboard-secret",
        "{dir}/secret",
        "--emperor-dashboard-actions",
    ]);
    let known = format!("Authorization: Bearer {SECRET}\r\n");
    let ours = format!("{known}Origin: http://127.0.0.1:{}\r\nContent-Length: 0\r\n", server.port);
    let state = |wanted: &str| {
        wait_for(wanted, || {
            let answer = ask(&server, "GET /estate.json", &known);
            let estate: Value = serde_json::from_slice(&answer.body).ok()?;
            (row(&estate, "good.ini")["state"] == wanted).then_some(estate)
        })
    };
    wait_for("the dashboard", || TcpStream::connect(address(&server)).ok());
    assert_eq!(state("running")["actions"], true);
    assert_eq!(ask(&server, "GET /", "").status, 200);
    for refused in ["", "Authorization: Bearer wrong\r\n"] {
        assert_eq!(ask(&server, "GET /estate.json", refused).status, 401);
        assert_eq!(ask(&server, "GET /vassal/good.ini.json", refused).status, 401);
        assert_eq!(ask(&server, "POST /vassal/good.ini/stop", refused).status, 401);
    }
    assert_eq!(ask(&server, "POST /vassal/good.ini/stop", &format!("{known}Origin: http://evil.example\r\n")).status, 403);
    assert_eq!(ask(&server, "POST /vassal/nobody.ini/stop", &ours).status, 404);
    state("running");
    assert_eq!(ask(&server, "POST /vassal/good.ini/stop", &ours).status, 200);
    state("stopped");
    server.wait_log("the dashboard: good.ini is stopped");
    assert_eq!(ask(&server, "POST /vassal/good.ini/start", &ours).status, 200);
    state("running");
    assert_eq!(ask(&server, "POST /vassal/good.ini/reload", &ours).status, 200);
    state("running");
}

#[test]
fn a_start_that_would_leave_it_open_is_refused() {
    let server = Server::new();
    server.write("v/good.ini", &vassal("good"));
    let secret = server.write("secret", SECRET);
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).expect("chmod");
    let refused = |more: &[&str], word: &str| {
        let arguments = ["--emperor", "{dir}/v", "--emperor-dashboard", "127.0.0.1:{port}"];
        let output = Command::new(support::binary()).args(arguments.iter().chain(more).map(|a| server.fill(a))).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(word), "{said}");
    };
    refused(&["--emperor-dashboard-actions"], "emperor-dashboard-secret");
    refused(&["--emperor-dashboard-secret", "{dir}/secret"], "chmod 600");
    refused(&["--emperor-dashboard-secret", "{dir}/none"], "none");
}

#[test]
fn a_unix_socket_is_for_the_emperors_user() {
    let server = estate(&["--emperor-dashboard", "{dir}/dash.sock"]);
    let path = server.path("dash.sock");
    wait_for("the socket", || path.exists().then_some(()));
    let answer = wait_for("the page", || http(&path.to_string_lossy(), "/").ok());
    assert_eq!(answer.status, 200);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
}

/// What a browser makes of the page after some seconds: the document, and what its console says.
fn browsed(url: &str) -> Option<(String, String)> {
    let chromium =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].into_iter().find(|p| Path::new(p).exists())?;
    let profile = tempfile::tempdir().expect("a directory");
    let output = Command::new(chromium)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1600,900"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=7000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .expect("chromium starts");
    let console: Vec<String> =
        String::from_utf8_lossy(&output.stderr).lines().filter(|l| l.contains("CONSOLE")).map(str::to_owned).collect();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), console.join("\n")))
}

#[test]
fn a_browser_shows_every_vassal_and_runs_nothing_of_theirs() {
    let server = estate(&[]);
    settled(&server);
    let Some((page, console)) = browsed(&format!("http://{}/#vassal=good.ini", address(&server))) else {
        eprintln!("skipped: there is no chromium here (scripts/setup.sh test installs it)");
        return;
    };
    assert_eq!(console, "", "{page}");
    let rows = page.matches("role=\"row\" id=\"row-").count();
    assert_eq!(rows, 3, "{page}");
    for text in [
        "<span>good.ini</span>",
        "<span>&lt;img src=x onerror=alert(1)&gt;.ini</span>",
        "<span>broken.ini</span>",
        "sign throttled",
        "live, every",
        "&lt;script&gt;document.title = \"owned\"&lt;/script&gt; &amp; &lt;img src=x onerror=alert(1)&gt;</p>",
        "<h2>good.ini</h2>",
    ] {
        assert!(page.contains(text), "no {text:?} in\n{page}");
    }
    assert!(page.contains("<title>(1) Imperator</title>"), "the title tells of the one in trouble, and nothing else has written it");
    assert_eq!((page.matches("<script").count(), page.matches("<img").count()), (1, 0));
}

#[test]
fn an_upgrade_keeps_the_dashboard_and_no_vassal_ends_for_want_of_it() {
    let secret = |server: &Server| {
        let file = server.write("secret", &format!("{SECRET}\n"));
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("chmod");
        file
    };
    let mut server = Server::new();
    let file = secret(&server);
    server.write("app.lua", APP);
    server.write("v/good.ini", &vassal("good"));
    server.start(&["--emperor", "{dir}/v", "--emperor-dashboard", "127.0.0.1:{port}", "--emperor-dashboard-secret", "{dir}/secret"]);
    let known = format!("Authorization: Bearer {SECRET}\r\n");
    let pid = |server: &Server| {
        wait_for("a running vassal", || {
            let estate: Value = serde_json::from_slice(&ask(server, "GET /estate.json", &known).body).ok()?;
            (row(&estate, "good.ini")["state"] == "running").then(|| row(&estate, "good.ini")["pid"].clone())
        })
    };
    wait_for("the dashboard", || TcpStream::connect(address(&server)).ok());
    let first = pid(&server);
    server.signal(Signal::SIGUSR2);
    wait_for("the next life", || (server.log().matches("[emperor] governing").count() == 2).then_some(()));
    assert_eq!(pid(&server), first);
    fs::remove_file(file).expect("remove");
    server.signal(Signal::SIGUSR2);
    server.wait_log("no dashboard until the emperor is started anew");
    wait_for("the third life", || (server.log().matches("[emperor] governing").count() == 3).then_some(()));
    assert!(server.alive() && support::running(first.as_i64().expect("a pid") as i32));
}

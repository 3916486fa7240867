//! Drop a file in a directory and its app is served; edit it and it reloads; remove it and it stops; no other vassal notices.

mod support;
use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use support::{HELLO, Server, cpu_ticks, http, running, stats, uwsgi, wait_for};

fn vassal(name: &str, more: &str) -> String {
    format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nwsgi-file = {{dir}}/app.py\n{more}")
}

fn answer(server: &Server, name: &str) -> Option<String> {
    uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

fn started(names: &[&str]) -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    fs::create_dir(server.path("v")).expect("the directory");
    for name in names {
        server.write(&format!("v/{name}.ini"), &vassal(name, ""));
    }
    server.start(&["--emperor", "{dir}/v", "--emperor-stats", "{dir}/stats"]);
    for name in names {
        wait_for("a vassal", || answer(&server, name));
    }
    server
}

#[test]
fn a_vassal_lives_with_its_file() {
    let mut server = started(&["stays"]);
    let stays = answer(&server, "stays").expect("an answer");
    server.write("v/comes.ini", &vassal("comes", "vacuum = true\n"));
    let first = wait_for("the new vassal", || answer(&server, "comes"));
    server.write("v/comes.ini", &vassal("comes", "vacuum = true\nprocesses = 2\n"));
    wait_for("its reload", || answer(&server, "comes").filter(|a| *a != first));
    fs::remove_file(server.path("v/comes.ini")).expect("remove");
    wait_for("its end", || (!server.path("comes.sock").exists() && answer(&server, "comes").is_none()).then_some(()));
    assert_eq!(answer(&server, "stays"), Some(stays));
    let below: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(below.iter().all(|pid| !running(*pid)), "an orphan is left");
}

#[test]
fn a_file_that_is_written_slowly_is_taken_when_it_is_whole() {
    let server = started(&[]);
    let text = server.fill(&vassal("slow", "env = LAST=line\n"));
    let mut file = fs::File::create(server.path("v/slow.ini")).expect("create");
    for part in text.as_bytes().chunks(8) {
        file.write_all(part).expect("a part");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(file);
    wait_for("the vassal", || answer(&server, "slow"));
    assert!(!server.log().contains("Traceback"), "a half-written file was tried:\n{}", server.log());
    let vassals = stats(&server.fill("{dir}/stats")).expect("stats");
    assert_eq!(vassals["blacklist"].as_array().map(Vec::len), Some(0), "{vassals}");
}

#[test]
fn a_broken_edit_keeps_the_running_vassal_and_a_broken_vassal_disturbs_no_other() {
    let server = started(&["good", "other"]);
    let (good, other) = (answer(&server, "good").expect("good"), answer(&server, "other").expect("other"));
    server.write("v/good.ini", "[uwsgi]\nsocket = {dir}/good.sock\nwsgi-file = {dir}/app.py\nprocesses = lots\n");
    server.wait_log("good.ini:4");
    server.write("v/broken.ini", "[uwsgi]\nsocket = {dir}/broken.sock\nwsgi-file = /nonexistent/app.py\n");
    wait_for("it is throttled", || {
        stats(&server.fill("{dir}/stats")).ok().filter(|s| s["blacklist"].as_array().is_some_and(|b| !b.is_empty()))
    });
    assert_eq!((answer(&server, "good"), answer(&server, "other")), (Some(good.clone()), Some(other)));
    // mended files are taken at once, whatever the penalty was
    server.write("v/broken.ini", &vassal("broken", ""));
    wait_for("the mended vassal", || answer(&server, "broken"));
    server.write("v/good.ini", &vassal("good", "processes = 2\n"));
    wait_for("the mended edit", || answer(&server, "good").filter(|a| *a != good));
}

#[test]
fn a_vassal_on_demand_speaks_what_its_file_says_and_is_reloaded_with_its_socket() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let file = |more: &str| format!("[uwsgi]\nprotocol = http\nwsgi-file = {{dir}}/app.py\n{more}");
    server.write("v/a.ini", &file(""));
    server.write("v/a.ini.where", "127.0.0.1:{port}\n");
    server.start(&["--emperor", "{dir}/v", "--emperor-on-demand-extension", ".where"]);
    let address = server.fill("127.0.0.1:{port}");
    let first = wait_for("the vassal", || http(&address, "/x").ok().filter(|a| a.status == 200)).text();
    assert!(first.ends_with("/x"), "{first}");
    server.write("v/a.ini", &file("processes = 2\n"));
    let second = wait_for("its reload", || http(&address, "/x").ok().map(|a| a.text()).filter(|a| *a != first));
    assert!(second.ends_with("/x"), "{second}");
    assert!(!server.log().contains("refused"), "{}", server.log());
}

#[test]
fn an_emperor_with_a_daemon_of_its_own_runs_both() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("v/a.ini", &vassal("a", ""));
    server.start(&["--emperor", "{dir}/v", "--attach-daemon", "sleep 97"]);
    wait_for("the vassal", || answer(&server, "a"));
    let below = wait_for("the daemon", || Some(server.tree()).filter(|t| t.iter().any(|(_, name)| name == "sleep")));
    assert!(below.iter().any(|(_, name)| name == "emperor"), "{below:?}");
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(below.iter().all(|(pid, _)| !running(*pid)), "an orphan is left");
}

#[test]
fn an_emperor_below_is_loyal_also_with_an_app_that_nobody_asks() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("inner/deep.ini", &vassal("deep", ""));
    server.write("v/sub.ini", &vassal("sub", "emperor = {dir}/inner\n"));
    server.start(&["--emperor", "{dir}/v", "--emperor-stats", "{dir}/stats"]);
    wait_for("its vassal", || answer(&server, "deep"));
    wait_for("its loyalty", || stats(&server.fill("{dir}/stats")).ok().filter(|s| s["vassals"][0]["loyal"] == 1));
}

#[test]
fn a_hundred_vassals_use_no_cpu_while_nobody_asks() {
    let names: Vec<String> = (0..100).map(|i| format!("n{i:02}")).collect();
    let mut server = Server::new();
    server.write("app.py", HELLO);
    fs::create_dir(server.path("v")).expect("the directory");
    for name in &names {
        server.write(&format!("v/{name}.ini"), &vassal(name, ""));
    }
    server.start(&["--emperor", "{dir}/v"]);
    for name in &names {
        wait_for(name, || answer(&server, name));
    }
    // Every process was woken by its start: let them come to rest, that is, find a second in which nothing happened.
    let idle = wait_for("a quiet second", || {
        let before = cpu_ticks(server.pid());
        std::thread::sleep(std::time::Duration::from_secs(1));
        let used = cpu_ticks(server.pid()) - before;
        (used <= 2).then_some(used)
    });
    assert!(idle <= 2, "{idle} ticks in a second");
    let below = server.tree();
    assert_eq!(below.iter().filter(|(_, name)| name == "master").count(), 100);
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(below.iter().all(|(pid, _)| !running(*pid)), "an orphan is left");
}

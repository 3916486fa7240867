//! kill -9 at random moments, under load and during reloads. IMPERATOR_TORTURE=SECONDS for longer, IMPERATOR_SEED=N to repeat one run.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HELLO, Server, running, stats, uwsgi, wait_for};

/// A small generator (xorshift), so that a seed says everything about a run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn kill_9(pid: i32) {
    // It may have ended by itself since it was seen.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Clients that ask until they are stopped. Requests of killed workers fail; what counts is that others are answered again.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (stop, done, address) = (stop.clone(), done.clone(), address.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if uwsgi(&address, "/").is_ok_and(|answer| answer.status == 200) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
            })
        };
        Self { clients: (0..4).map(client).collect(), stop, done }
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("a client"));
        self.done.load(Ordering::Relaxed)
    }
}

/// Both workers accept, one zygote is there, and nothing else: no zombie, nobody left over.
fn settled(server: &Server) -> Option<()> {
    let now = stats(&server.fill("{dir}/stats")).ok()?;
    let workers = now["workers"].as_array()?;
    let idle = workers.iter().all(|w| w["accepting"] == 1 && w["cores"].as_array().is_some_and(|c| c.iter().all(|c| c["in_request"] == 0)));
    let mut names: Vec<String> = server.tree().into_iter().map(|(_, name)| name).collect();
    names.sort();
    (idle && names == ["worker 1", "worker 2", "zygote"]).then_some(())
}

#[test]
fn kills_at_random_moments_leave_no_orphan_no_zombie_and_no_descriptor() {
    let seed = number("IMPERATOR_SEED", u64::from(std::process::id()));
    eprintln!("IMPERATOR_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let ini = "socket = {sock}\nwsgi-file = app.py\nprocesses = 2\nthreads = 2\nstats = {dir}/stats\nforkbomb-delay = 1\ndisable-logging = true\n";
    server.start_ini(ini).ready("{sock}");
    wait_for("a quiet start", || settled(&server));
    let before = descriptors(server.pid());
    let (load, until) = (Load::start(&server.sock()), Instant::now() + Duration::from_secs(number("IMPERATOR_TORTURE", 8)));
    let (mut kills, mut reloads) = (0, 0);
    while Instant::now() < until {
        if random.below(4) == 0 {
            server.signal(Signal::SIGHUP);
            reloads += 1;
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        let below = server.tree();
        if !below.is_empty() {
            kill_9(below[random.below(below.len() as u64) as usize].0);
            kills += 1;
        }
        assert!(server.alive(), "the master ended after {kills} kills and {reloads} reloads");
    }
    let mark = load.done.load(Ordering::Relaxed);
    wait_for("answers again", || (load.done.load(Ordering::Relaxed) > mark + 20).then_some(()));
    let done = load.finish();
    wait_for("everything in its place", || settled(&server));
    wait_for("no descriptor more than before", || (descriptors(server.pid()) <= before).then_some(()));
    eprintln!("{kills} kills, {reloads} reloads, {done} answers");
    let below: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    wait_for("no orphan", || below.iter().all(|pid| !running(*pid)).then_some(()));
}

#[test]
fn kills_below_an_emperor_at_random_moments_heal() {
    let seed = number("IMPERATOR_SEED", u64::from(std::process::id()));
    eprintln!("IMPERATOR_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
    let mut server = Server::new();
    server.write("app.py", HELLO);
    for name in ["one", "two"] {
        server.write(
            &format!("v/{name}.ini"),
            &format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nwsgi-file = {{dir}}/app.py\nprocesses = 2\ndisable-logging = true\n"),
        );
    }
    server.start(&["--emperor", "{dir}/v", "--emperor-max-throttle", "1000"]).ready("{dir}/one.sock").ready("{dir}/two.sock");
    let before = descriptors(server.pid());
    let until = Instant::now() + Duration::from_secs(number("IMPERATOR_TORTURE", 8));
    let mut everyone: Vec<i32> = vec![];
    while Instant::now() < until {
        if random.below(4) == 0 {
            let one = server.path("v/one.ini");
            std::fs::write(&one, std::fs::read(&one).expect("the vassal")).expect("touch");
        }
        std::thread::sleep(Duration::from_millis(random.below(400)));
        let below = server.tree();
        everyone.extend(below.iter().map(|(pid, _)| *pid));
        if !below.is_empty() {
            kill_9(below[random.below(below.len() as u64) as usize].0);
        }
        assert!(server.alive());
    }
    let answers = |name: &str| uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").is_ok_and(|a| a.status == 200);
    wait_for("both vassals", || (answers("one") && answers("two")).then_some(()));
    let kinds = || {
        let mut names: Vec<String> = server.tree().into_iter().map(|(_, name)| name).collect();
        names.sort();
        names
    };
    let whole = ["master", "master", "worker 1", "worker 1", "worker 2", "worker 2", "zygote", "zygote"];
    wait_for("two whole vassals and nothing else", || (kinds() == whole).then_some(()));
    let there: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
    // By the directory, as a pid may have come around to another test by now.
    let ours = |pid: &i32| running(*pid) && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == server.dir.path());
    wait_for("no orphan", || (!everyone.iter().any(|pid| !there.contains(pid) && ours(pid))).then_some(()));
    wait_for("no descriptor more than before", || (descriptors(server.pid()) <= before).then_some(()));
}

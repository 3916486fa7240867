//! As process 1 of a container: nobody else reaps, the root file system is read-only. (Where namespaces may not be made, the tests say so and pass.)

mod support;

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Server, binary, comm, http, running, tree, wait_for};

/// `orphan`: a grandchild that ends at once, with nobody to wait for it.
const APP: &str = "\
import os, subprocess
def application(env, sr):
    if env['PATH_INFO'] == '/orphan':
        subprocess.run(['sh', '-c', 'sleep 0.2 & exec true'])
    sr('200 OK', [])
    return [b'%d' % os.getppid()]
";

/// Everything that is mounted becomes read-only for the command that follows.
const READ_ONLY: &str = "\
mount --make-rprivate /
for at in $(awk '{print $5}' /proc/self/mountinfo); do mount -o remount,bind,ro \"$at\" 2>/dev/null; done
if touch \"$1/written\" 2>/dev/null; then echo 'still writable'; exit 99; fi
shift
exec \"$@\"";

fn possible() -> bool {
    let ok = Command::new("unshare").args(["-mpf", "--mount-proc", "true"]).output().is_ok_and(|out| out.status.success());
    if !ok {
        eprintln!("SKIPPED: namespaces may not be made here");
    }
    ok
}

/// The server as process 1; its pid outside.
fn contained(server: &mut Server, args: &[&str]) -> i32 {
    let mut command = Command::new("unshare");
    command.args(["-mpf", "--mount-proc", "--kill-child", "sh", "-c", READ_ONLY, "sh"]).arg(server.dir.path()).arg(binary());
    command.args(args.iter().map(|a| server.fill(a)));
    server.start_by(command);
    wait_for("the first process inside", || tree(server.pid()).into_iter().find(|(_, name)| ["master", "emperor"].contains(&name.as_str())))
        .0
}

fn zombies(pid: i32) -> Vec<i32> {
    tree(pid).into_iter().map(|(pid, _)| pid).filter(|pid| !running(*pid)).collect()
}

#[test]
fn an_instance_reaps_strangers_writes_nothing_and_ends_by_term_with_0() {
    if !possible() {
        return;
    }
    let mut server = Server::new();
    server.write("app.py", APP);
    server.write("app.ini", "[uwsgi]\nhttp-socket = 127.0.0.1:{port}\nwsgi-file = app.py\nprocesses = 2\nharakiri = 30\n");
    let master = contained(&mut server, &["--ini", "{dir}/app.ini"]);
    server.wait_log("generation 1 serves");
    let address = server.fill("127.0.0.1:{port}");
    assert_eq!(http(&address, "/").expect("an answer").text(), "1", "workers are children of process 1");
    for _ in 0..5 {
        assert_eq!(http(&address, "/orphan").expect("an answer").status, 200);
    }
    wait_for("the orphans' end", || tree(master).iter().all(|(_, name)| name != "sleep").then_some(()));
    wait_for("their burial", || zombies(master).is_empty().then_some(()));
    kill(Pid::from_raw(master), Signal::SIGHUP).expect("a reload");
    server.wait_log("generation 2 serves");
    assert_eq!(http(&address, "/").expect("an answer").status, 200);
    assert_eq!(comm(master), "master");
    kill(Pid::from_raw(master), Signal::SIGTERM).expect("the end");
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log());
    let left: Vec<_> = std::fs::read_dir(server.dir.path()).expect("the directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 3, "the app, the ini and the log: {left:?}");
}

#[test]
fn an_emperor_too() {
    if !possible() {
        return;
    }
    let mut server = Server::new();
    server.write("app.py", APP);
    server.write("vassals/a.ini", "[uwsgi]\nhttp-socket = 127.0.0.1:{port}\nchdir = {dir}\nwsgi-file = app.py\n");
    let emperor = contained(&mut server, &["--emperor", "{dir}/vassals"]);
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || http(&address, "/orphan").ok().filter(|a| a.status == 200));
    wait_for("the orphan's end", || tree(emperor).iter().all(|(_, name)| name != "sleep").then_some(()));
    wait_for("its burial", || zombies(emperor).is_empty().then_some(()));
    kill(Pid::from_raw(emperor), Signal::SIGTERM).expect("the end");
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log());
}

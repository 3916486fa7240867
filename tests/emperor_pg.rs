//! Vassals that are rows of a real PostgreSQL's table.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use postgres::{Client, NoTls};
use support::{HELLO, Server, uwsgi, wait_for};

/// A server in a directory of its own, ended when dropped.
struct Database {
    dir: tempfile::TempDir,
    bin: PathBuf,
    server: Option<Child>,
}

impl Database {
    fn new() -> Self {
        let bins = glob::glob("/usr/lib/postgresql/*/bin").expect("a pattern").filter_map(Result::ok);
        let bin = bins.last().expect("PostgreSQL is installed (make test installs it)");
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().expect("a directory");
        let mut database = Self { dir, bin, server: None };
        if let Some(user) = database.user() {
            chown(database.dir.path(), Some(user.uid), Some(user.gid)).expect("chown");
            std::fs::set_permissions(database.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        let made = database.command("initdb").args(["-A", "trust", "-U", "app", "--no-sync", "-D"]).arg(database.path("data")).output();
        let made = made.expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        database.start();
        database
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// It refuses to run as root.
    fn user(&self) -> Option<User> {
        nix::unistd::geteuid().is_root().then(|| User::from_name("postgres").ok().flatten().expect("a user postgres"))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        if let Some(user) = self.user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn start(&mut self) {
        let log = |path: &Path| fs::OpenOptions::new().create(true).append(true).open(path).expect("the log");
        let mut command = self.command("postgres");
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=10", "-D"]).arg(self.path("data"));
        command.arg("-k").arg(self.dir.path()).stdout(Stdio::null()).stderr(log(&self.path("log")));
        self.server = Some(command.spawn().expect("postgres starts"));
        wait_for("PostgreSQL", || Client::connect(&self.connection(), NoTls).ok());
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGQUIT);
        let _ = server.wait();
    }

    fn connection(&self) -> String {
        format!("host={} user=app dbname=postgres", self.dir.path().display())
    }

    fn execute(&self, sql: &str) {
        Client::connect(&self.connection(), NoTls).expect("a connection").batch_execute(sql).expect("it is executed");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(server: &Server, name: &str) -> Option<String> {
    uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

#[test]
fn a_row_is_a_vassal() {
    let mut database = Database::new();
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let config = |name: &str, more: &str| {
        server.fill(&format!("[uwsgi]\nsocket = {{dir}}/%n.sock\nwsgi-file = {{dir}}/app.py\nenv = NAME={name}\n{more}"))
    };
    database.execute("CREATE TABLE vassals (name text PRIMARY KEY, config text, ts timestamptz DEFAULT now())");
    database.execute(&format!("INSERT INTO vassals VALUES ('a.ini', '{}')", config("a", "")));
    let (texts_b, texts_a2) = (config("b", ""), config("a", "processes = 2\n"));
    // So seldom that only an announcement can be meant.
    server.start(&[
        "--emperor",
        &format!("pg://{}", database.connection()),
        "--emperor-freq",
        "600",
        "--emperor-command-socket",
        "{dir}/command",
    ]);
    let first = wait_for("the vassal of the row", || answer(&server, "a"));
    database.execute(&format!("INSERT INTO vassals VALUES ('b.ini', '{texts_b}'); NOTIFY imperator_vassals"));
    let b = wait_for("the vassal of the new row", || answer(&server, "b"));
    database.execute(&format!("UPDATE vassals SET config = '{texts_a2}' WHERE name = 'a.ini'; NOTIFY imperator_vassals"));
    wait_for("its reload", || answer(&server, "a").filter(|a| *a != first));
    assert_eq!(answer(&server, "b").as_ref(), Some(&b), "the other noticed");
    // A second reload asks for the text once more.
    let second = answer(&server, "a").expect("a");
    server.signal(Signal::SIGHUP);
    wait_for("the reload of all", || answer(&server, "a").filter(|a| *a != second));
    // Without the database everything goes on, and the log says so.
    let b = wait_for("b after its reload", || answer(&server, "b"));
    database.stop();
    server.wait_log("what runs goes on");
    assert_eq!(answer(&server, "b").as_ref(), Some(&b));
    database.start();
    database.execute("DELETE FROM vassals WHERE name = 'b.ini'");
    wait_for("the end of the deleted row's vassal", || answer(&server, "b").is_none().then_some(()));
    assert!(answer(&server, "a").is_some());
    let below = server.tree();
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    let left: Vec<_> = below.iter().filter(|(pid, _)| support::running(*pid)).collect();
    assert!(left.is_empty(), "{left:?} outlive the emperor");
}

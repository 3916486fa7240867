//! The whole way of a line, on real pipes and files; this process's own descriptors 1 and 2 stay where they are.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use imperator_worker::settings::Settings;

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    settings: Settings,
}

fn bench(change: impl FnOnce(&mut Settings, &dyn Fn(&str) -> String)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    let path = dir.path().to_str().unwrap().to_owned();
    change(&mut settings, &|text| text.replace('@', &path));
    Bench { dir, settings }
}

impl Bench {
    fn logs(&self) -> Logs {
        Logs::prepare(&self.settings, vec![]).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn say(fd: BorrowedFd<'_>, text: &str) {
    assert_eq!(nix::unistd::write(fd, text.as_bytes()), Ok(text.len()));
}

#[test]
fn loggers_routes_and_requests_apart() {
    let b = bench(|s, at| {
        s.log.loggers = vec![at("file:@/server"), at("bad file:@/bad")];
        s.log.req_loggers = vec![at("file:@/access"), at("slow file:@/slow")];
        s.log.routes = vec!["bad ERROR".into(), "slow both".into()];
        s.log.req_routes = vec!["slow ms=9".into(), "bad status=5".into()];
    });
    let mut logs = b.logs();
    say(logs.stderr(), "one\nERROR two\nha");
    say(logs.stderr(), "lf\nboth\n");
    say(logs.request_log().unwrap(), "GET /\nGET /b ms=9\nGET /c status=5\n");
    logs.on_ready();
    assert_eq!((b.text("server"), b.text("bad")), ("one\nhalf\n".into(), "ERROR two\nGET /c status=5\n".into()));
    assert_eq!((b.text("access"), b.text("slow")), ("GET /\n".into(), "both\nGET /b ms=9\n".into()));
}

#[test]
fn a_request_logger_alone_leaves_the_rest_in_place() {
    let b = bench(|s, at| s.log.req_loggers = vec![at("file:@/access")]);
    let logs = b.logs();
    assert!(logs.server_end.is_none() && logs.request_log().is_some());
    let b = bench(|s, at| {
        s.log.logto = Some(at("@/all"));
        s.log.req_loggers = vec![at("file:@/access")];
    });
    let mut logs = b.logs();
    say(logs.stderr(), "direct\n");
    say(logs.request_log().unwrap(), "req\n");
    logs.on_ready();
    assert_eq!((b.text("all"), b.text("access")), ("direct\n".into(), "req\n".into()));
}

#[test]
fn drain_encoders_and_logto_behind_them() {
    let b = bench(|s, at| {
        s.log.logto = Some(at("@/all"));
        s.log.drain = vec!["/health".into()];
        s.log.encoders = vec![r#"json {"m":"${msg}"}"#.into(), "nl".into(), "prefix:web W".into()];
    });
    let mut logs = b.logs();
    say(logs.stderr(), "GET /health\nsay \"x\"\n");
    logs.on_ready();
    assert_eq!(b.text("all"), "{\"m\":\"say \\\"x\\\"\"}\n");
}

#[test]
fn a_line_that_never_ends_is_cut_and_the_last_one_is_kept() {
    let b = bench(|s, at| {
        s.log.logto = Some(at("@/all"));
        s.log.master = true;
        s.log.master_bufsize = 5;
    });
    let mut logs = b.logs();
    say(logs.stderr(), "aaaabbbbcc");
    logs.on_ready();
    assert_eq!(b.text("all"), "aaaa\nbbbb\n");
    drop(logs);
    assert_eq!(b.text("all"), "aaaa\nbbbb\ncc\n");
}

#[test]
fn udp_takes_one_datagram_a_line() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = bench(|s, _| s.log.logto = Some(udp.local_addr().unwrap().to_string()));
    let mut logs = b.logs();
    say(logs.stderr(), "one\ntwo\n");
    logs.on_ready();
    let mut buffer = [0; 100];
    for expected in ["one\n", "two\n"] {
        let length = udp.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
}

#[test]
fn a_direct_file_rotates_by_size_and_everybody_is_told() {
    let b = bench(|s, at| {
        s.log.logto = Some(at("@/all"));
        s.log.maxsize = 3;
        s.log.backupname = Some(at("@/old"));
    });
    let mut logs = b.logs();
    let due = logs.next_deadline().unwrap();
    assert!(!logs.on_deadline(due).changed);
    say(logs.stderr(), "first\n");
    let due = logs.next_deadline().unwrap();
    let outcome = logs.on_deadline(due);
    assert!(outcome.changed && outcome.errors.is_empty());
    say(logs.stderr(), "second\n");
    assert_eq!((b.text("old"), b.text("all")), ("first\n".into(), "second\n".into()));
    std::fs::rename(b.path("all"), b.path("aside")).unwrap();
    assert!(logs.reopen().changed);
    say(logs.stderr(), "third\n");
    assert_eq!((b.text("aside"), b.text("all")), ("second\n".into(), "third\n".into()));
}

#[test]
fn files_behind_a_pipe_rotate_without_telling_anybody() {
    let b = bench(|s, at| s.log.loggers = vec![at("file:logfile=@/all,maxsize=3,backupname=@/old")]);
    let mut logs = b.logs();
    assert!(logs.next_deadline().is_none());
    say(logs.stderr(), "first\n");
    logs.on_ready();
    say(logs.stderr(), "x\n");
    logs.on_ready();
    assert_eq!((b.text("old"), b.text("all")), ("first\n".into(), "x\n".into()));
    assert!(!logs.rotate().changed);
    assert_eq!((b.text("old"), b.text("all")), ("x\n".into(), "".into()));
}

#[test]
fn pipes_live_through_an_exec_and_end_with_their_last_writer() {
    let b = bench(|s, at| {
        s.log.loggers = vec![at("file:@/server")];
        s.log.req_loggers = vec![at("file:@/access")];
    });
    let mut logs = b.logs();
    let (old_worker, old_requests) =
        (logs.stderr().try_clone_to_owned().unwrap(), logs.request_log().unwrap().try_clone_to_owned().unwrap());
    say(old_worker.as_fd(), "before\n");
    let handed = |logs: &Logs| logs.handover().into_iter().map(|(n, fd)| (n, fd.try_clone_to_owned().unwrap())).collect::<Vec<_>>();
    let over = handed(&logs);
    // An exec closes everything and runs no destructor: nobody reads the line any more on this side.
    logs.streams.clear();
    drop(logs);
    let mut logs = Logs::prepare(&b.settings, over).unwrap();
    say(logs.stderr(), "after\n");
    logs.on_ready();
    assert_eq!(b.text("server"), "before\nafter\n");
    assert_eq!(logs.streams.len(), 2);
    // The next settings want no pipe for request lines: the old generation's are still read.
    let plain = bench(|s, at| s.log.loggers = vec![at("file:@/server")]);
    let over = handed(&logs);
    drop(logs);
    let mut logs = Logs::prepare(&plain.settings, over).unwrap();
    assert!(logs.request_log().is_none());
    say(old_requests.as_fd(), "late request\n");
    logs.on_ready();
    assert_eq!(plain.text("server"), "late request\n");
    drop(old_requests);
    logs.on_ready();
    assert_eq!(logs.streams.len(), 1);
}

#[test]
fn what_cannot_be_followed_is_named() {
    let errors = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        Logs::prepare(&settings, vec![]).unwrap_err().to_string()
    };
    assert!(errors(|s| s.log.loggers = vec!["nosuchkind:x".into()]).contains("nosuchkind"));
    assert!(errors(|s| s.log.encoders = vec!["rot13".into()]).contains("rot13"));
    assert!(errors(|s| s.log.logto = Some("/no/such/dir/x".into())).starts_with("logto = /no/such/dir/x"));
    assert!(errors(|s| s.log.routes = vec!["nobody x".into()]).contains("nobody"));
    assert!(errors(|s| s.log.chown = Some("no-such-user".into())).starts_with("logfile-chown"));
}

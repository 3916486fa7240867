//! The command line: what starts nothing, what refuses to start, and with which exit code.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn imperator(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imperator"));
    command.args(args).current_dir(directory).stdin(Stdio::null());
    command.env_remove("UWSGI_EMPEROR_FD").output().expect("imperator")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A directory with these files.
fn files(list: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    for (name, text) in list {
        std::fs::write(directory.path().join(name), text).expect("write");
    }
    directory
}

#[test]
fn version_and_help_go_to_standard_output() {
    let directory = files(&[]);
    let (code, out, _) = said(&imperator(directory.path(), &["--version"]));
    assert_eq!(code, Some(0));
    assert!(out.starts_with(env!("CARGO_PKG_VERSION")), "{out}");
    for word in ["help", "--help", "-h", "--usage"] {
        let (code, out, _) = said(&imperator(directory.path(), &[word]));
        assert_eq!(code, Some(0), "{word}");
        assert!(out.contains("\n  -s, --socket TEXT"), "{word}");
    }
    let (code, out, _) = said(&imperator(directory.path(), &["--dump-options"]));
    assert_eq!(code, Some(0));
    assert!(out.lines().any(|line| line == "workers"));
}

#[test]
fn get_prints_what_a_file_gives() {
    let directory = files(&[("a.ini", "[uwsgi]\nwhere = /run\nsocket = %(where)/%n.sock\nflag\n")]);
    let (code, out, _) = said(&imperator(directory.path(), &["--ini", "a.ini", "--get", "socket"]));
    assert_eq!((code, out.as_str()), (Some(0), "/run/a.sock\n"));
}

#[test]
fn show_config_comes_before_what_is_wrong() {
    let directory = files(&[("a.ini", "[uwsgi]\nbase = /srv\nprocesses = many\nchdir = %(base)/app\n")]);
    let (code, _, log) = said(&imperator(directory.path(), &["--ini", "a.ini", "--show-config"]));
    let listed = log.find(";end of configuration").expect("the end of the listing");
    assert!(log[..listed].contains("\nprocesses = many\nchdir = /srv/app\nshow-config = true\n"), "{log}");
    assert!(code == Some(1) && log[listed..].contains("`processes`"), "{log}");
}

#[test]
fn what_cannot_start_says_why_and_ends_with_1() {
    let directory = files(&[
        ("many.ini", "[uwsgi]\nsocket = a.sock\n\nprocesses = many\nthreads = -1\n"),
        ("strict.ini", "[uwsgi]\nstrict = true\nsocket = a.sock\nprocceses = 4\n"),
        ("cheaper.ini", "[uwsgi]\nsocket = a.sock\nprocesses = 2\ncheaper = 2\n"),
        ("route.ini", "[uwsgi]\nsocket = a.sock\nroute = ^/secret deny:\n"),
        ("user.ini", "[uwsgi]\nsocket = a.sock\nuid = nobody-of-that-name\n"),
        ("nothing.ini", "[uwsgi]\nprocesses = 2\n"),
        ("plugin.ini", "[uwsgi]\nsocket = a.sock\nneed-plugin = sentry\n"),
    ]);
    for (args, parts) in [
        (&["--ini", "many.ini"][..], &["many.ini:4", "`processes`", "`many`", "many.ini:5", "`threads`", "negative"][..]),
        (&["--ini", "strict.ini"], &["strict.ini:4", "`procceses`", "`processes`"]),
        (&["--ini", "cheaper.ini"], &["cheaper.ini:4", "`cheaper = 2`"]),
        (&["--ini", "route.ini"], &["route.ini:3", "`route` is not done yet"]),
        (&["--ini", "user.ini"], &["user.ini:3", "nobody-of-that-name"]),
        (&["nothing.ini"], &["no socket", "`socket = "]),
        (&["--ini", "plugin.ini"], &["plugin.ini:3", "`sentry`"]),
        (&["--ini", "absent.ini"], &["absent.ini"]),
        (&["--procceses", "4"], &["--procceses", "`processes`"]),
        (&["app.py"], &["app.py", "--wsgi-file"]),
    ] {
        let (code, out, log) = said(&imperator(directory.path(), args));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {log}");
        for part in parts {
            assert!(log.contains(part), "{args:?}: no {part} in {log}");
        }
    }
    assert!(!directory.path().join("a.sock").exists(), "nothing was bound");
}

#[test]
fn exit_ends_with_its_code() {
    let directory = files(&[("a.ini", "[uwsgi]\nsocket = a.sock\nexit = 7\nnonsense\n")]);
    assert_eq!(imperator(directory.path(), &["--ini", "a.ini"]).status.code(), Some(7));
}

#[test]
fn check_starts_nothing_and_tells_good_from_bad() {
    let directory = files(&[
        ("good.ini", "[uwsgi]\nmodule = app\nprocesess = 2\n"),
        ("bad.ini", "[uwsgi]\nsocket = a.sock\nlisten = 99999999\n"),
        ("good.json", "{\"uwsgi\": {\"socket\": \":0\", \"processes\": 3}}"),
    ]);
    let (code, out, _) = said(&imperator(directory.path(), &["check", "good.ini", "good.json"]));
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("good.ini:3: warning: `procesess`") && out.contains("master and 3 workers"), "{out}");
    let (code, out, _) = said(&imperator(directory.path(), &["check", "good.ini", "bad.ini"]));
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("bad.ini:3: error: `listen = 99999999`"), "{out}");
    assert!(!directory.path().join("a.sock").exists());
}

#[test]
fn a_boot_message_that_is_none_is_refused() {
    let directory = files(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_imperator"));
    let output = command.current_dir(directory.path()).env("IMPERATOR_BOOT", "77").output().expect("imperator");
    let (code, _, log) = said(&output);
    assert_eq!(code, Some(1));
    assert!(log.contains("IMPERATOR_BOOT=77"), "{log}");
}

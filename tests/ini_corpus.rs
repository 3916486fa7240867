//! Realistic configurations and what they expand to.
//!
//! `tests/fixtures/ini/expected/NAME.txt` holds the list of `tests/fixtures/ini/NAME.ini` as `show-config` prints it. With UWSGI_ORACLE=/path/to/uwsgi
//! the real one is asked for its list too, and has to give the same, but for the lines in [`BEYOND`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use imperator::config::reader::{Context, Identity, TableOptions, read};

/// Lines in which this reader means to differ: file, ours, uWSGI's.
const BEYOND: [(&str, &str, &str); 3] = [
    // `listen` acts at once in uWSGI, and what acts at once is not expanded
    ("arithmetic", "listen = 512", "listen = %(128 * cores)"),
    // nor is what a file of `inherit` says
    ("vassal-inherit", "chdir = /srv/shop", "chdir = /srv/%(name)"),
    // nor what a placeholder gives, if it stands at the beginning of the value
    ("forward", "home = /srv/shop/venv", "home = %(base)/venv"),
];

const ENV: [(&str, &str); 5] =
    [("HOME", "/home/someone"), ("PORT", "8080"), ("WEB_CONCURRENCY", "3"), ("STAGE", "prod"), ("SERVICES", "SHOP CART")];

/// Files of which uWSGI makes another list altogether: it takes `for = $(LIST)` for one item.
const OWN: [&str; 1] = ["for-environment"];

/// These send uWSGI's words elsewhere before it has shown its list; the oracle gets them under another name.
const ELSEWHERE: [&str; 3] = ["daemonize", "logto", "log-date"];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ini")
}

fn names() -> Vec<String> {
    let paths = std::fs::read_dir(corpus()).expect("corpus").map(|entry| entry.expect("entry").path());
    let mut names: Vec<String> =
        paths.filter_map(|path| path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ini").map(str::to_owned))).collect();
    names.sort();
    assert!(names.len() >= 30, "{names:?}");
    names
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Our list.
fn ours(name: &str, cwd: &Path) -> Vec<String> {
    let context = Context {
        cwd: cwd.to_owned(),
        binary: PathBuf::from("/usr/bin/imperator"),
        hostname: "host".into(),
        cpus: cores(),
        user: Identity { id: 0, name: "root".into() },
        group: Identity { id: 0, name: "root".into() },
        now: Duration::from_secs(1_700_000_000),
        reloading: false,
        version: "0".into(),
        options: Box::new(TableOptions),
    };
    let env: Vec<(String, String)> = ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let reading = read(&["--ini".into(), format!("{name}.ini")], &env, &context).unwrap_or_else(|error| panic!("{name}: {error}"));
    reading.entries.iter().map(|entry| format!("{} = {}", entry.key, entry.value.as_deref().unwrap_or("true"))).collect()
}

/// Without what depends on the place and the machine.
fn portable(name: &str, lines: &[String], cwd: &Path) -> String {
    let cwd = cwd.display().to_string();
    let cores = format!("processes = {}", cores() * 2);
    let one = |line: &String| match line.as_str() {
        hash if hash.starts_with("j = ") => "j = (hash of the path)\n".to_owned(),
        line if line == cores && name == "container" => "processes = (twice the cores)\n".to_owned(),
        line => line.replace(&cwd, "(cwd)") + "\n",
    };
    lines.iter().map(one).collect()
}

#[test]
fn every_file_expands_to_what_is_written_beside_it() {
    let corpus = corpus();
    let mut wrong = BTreeMap::new();
    for name in names() {
        let expected = corpus.join("expected").join(format!("{name}.txt"));
        let text = portable(&name, &ours(&name, &corpus), &corpus);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &text).expect("written");
        } else if std::fs::read_to_string(&expected).expect("expected list") != text {
            wrong.insert(name, text);
        }
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE_EXPECTED=1 writes what is): {wrong:#?}");
}

#[test]
fn uwsgi_gives_the_same_lists() {
    let Some(uwsgi) = std::env::var_os("UWSGI_ORACLE") else {
        eprintln!("SKIPPED: set UWSGI_ORACLE=/path/to/uwsgi to compare with the real one");
        return;
    };
    let mut wrong = BTreeMap::new();
    for name in names() {
        if OWN.contains(&name.as_str()) {
            continue;
        }
        let place = tempfile::tempdir().expect("directory");
        copy(&corpus(), place.path());
        let theirs = shown_by(Path::new(&uwsgi), &name, place.path());
        let mut ours = ours(&name, place.path());
        for (_, line, other) in BEYOND.iter().filter(|(file, ..)| *file == name) {
            ours.iter_mut().filter(|own| own == line).for_each(|own| (*other).clone_into(own));
        }
        if theirs.as_ref() != Some(&ours) {
            wrong.insert(name, (ours, theirs));
        }
    }
    assert!(wrong.is_empty(), "ours, and uWSGI's: {wrong:#?}");
}

/// The corpus, with the keys that would take uWSGI's words away renamed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("corpus").map(|entry| entry.expect("entry").path()) {
        let target = to.join(entry.file_name().expect("name"));
        if entry.is_dir() {
            copy(&entry, &target);
            continue;
        }
        let text = std::fs::read_to_string(&entry).expect("text");
        let renamed = ELSEWHERE.iter().fold(text, |text, key| text.replace(&format!("\n{key}"), &format!("\nx-{key}")));
        std::fs::write(target, renamed).expect("written");
    }
}

/// What uWSGI shows before it starts anything; it is stopped then. `None` if it never shows its list.
fn shown_by(uwsgi: &Path, name: &str, cwd: &Path) -> Option<Vec<String>> {
    let mut child = Command::new("timeout")
        .args(["-s", "KILL", "10"])
        .arg(uwsgi)
        .args(["--ini", &format!("{name}.ini"), "--show-config"])
        .current_dir(cwd)
        .env_clear()
        .envs(ENV)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("uwsgi runs");
    let lines = BufReader::new(child.stderr.take().expect("pipe")).lines().map_while(Result::ok);
    let mut shown = Vec::new();
    let mut complete = false;
    for line in lines.skip_while(|line| line != "[uwsgi]").skip(1) {
        complete = line == ";end of configuration";
        if complete {
            break;
        }
        shown.push(line);
    }
    // its words find no reader any more, and TERM reaches it through timeout
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid")), nix::sys::signal::Signal::SIGINT)
        .expect("signal");
    child.wait().expect("ended");
    complete.then(|| shown.into_iter().filter(|line| line != "show-config = true").collect())
}

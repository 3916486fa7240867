//! `pg://CONN;QUERY`: vassals are the rows of a query. A process beside the emperor talks to the server ([`helper`]) and sends what it finds, so that
//! the emperor never waits for a database; while there is none, what runs goes on.

pub mod helper;
mod rows;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use imperator_sys::fork::{pidfd, pidfd_signal};
use imperator_sys::process::{monotonic_ms, set_nonblocking};
use imperator_sys::spawn::with_default_signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use self::rows::{News, Row, Task};
use super::{Look, Monitor};
use crate::emperor::core::{Found, Owner, Seen, Stamp};

/// The query of a source that names none: uWSGI's.
const QUERY: &str = "SELECT name, config, CAST(EXTRACT(EPOCH FROM ts) AS BIGINT) FROM vassals";
/// Between two starts of a helper that ends.
const PAUSE_MS: u64 = 5000;
/// How long a killed helper may take to be gone: it waits for nothing.
const LAST_MS: u16 = 1000;
/// Bytes of all rows together.
const MOST: usize = 256 << 20;

/// One such source.
pub struct Postgres {
    task: Task,
    directory: PathBuf,
    helper: Option<Helper>,
    /// When a helper may be started (again).
    start_at: u64,
    partial: Vec<u8>,
    /// The rows as they were when the server was there; `None`: it never was.
    rows: Option<BTreeMap<String, Known>>,
    trouble: Option<String>,
}

/// The process that asks. It is gone when this is.
struct Helper {
    output: OwnedFd,
    /// Who it is, also when whoever reaps children was faster.
    process: OwnedFd,
}

impl Helper {
    fn end(&self) {
        let _ = pidfd_signal(self.process.as_fd(), Signal::SIGKILL);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
        let _ = poll(&mut [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)], LAST_MS);
    }
}

struct Known {
    seen: Seen,
    config: Rc<str>,
    socket: Option<String>,
}

impl Postgres {
    /// `rest`: what stands behind `pg://`.
    pub fn new(rest: &str, start_dir: &Path, frequency_s: u32) -> Self {
        let (connection, query) = rest.split_once(';').unwrap_or((rest, ""));
        let query = if query.trim().is_empty() { QUERY } else { query };
        let task =
            Task { connection: connection.trim().into(), query: query.into(), every_s: frequency_s.max(1), parent: std::process::id() };
        Self {
            task,
            directory: start_dir.into(),
            helper: None,
            start_at: 0,
            partial: vec![],
            rows: None,
            trouble: Some("the database has not answered yet".into()),
        }
    }

    fn start_helper(&mut self, now_ms: u64) {
        if self.helper.is_some() || self.start_at > now_ms {
            return;
        }
        self.start_at = now_ms + PAUSE_MS;
        self.partial.clear();
        match spawn(&Task { parent: std::process::id(), ..self.task.clone() }) {
            Ok(helper) => self.helper = Some(helper),
            Err(error) => self.trouble = Some(format!("the process that asks the database cannot be started: {error}")),
        }
    }

    /// Whole lines of what came; whether one of them was news.
    fn take_lines(&mut self) -> bool {
        let mut news = false;
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            match serde_json::from_slice::<News>(&line) {
                Ok(News::Rows(rows)) => {
                    self.trouble = None;
                    self.rows = Some(rows.into_iter().map(|row| (row.name.clone(), known(row))).collect());
                }
                Ok(News::Trouble(text)) => self.trouble = Some(text),
                Err(error) => self.trouble = Some(format!("the process that asks the database talks nonsense: {error}")),
            }
            news = true;
        }
        self.partial.shrink_to(64 * 1024);
        news
    }

    fn lose_helper(&mut self, why: &str) -> bool {
        self.helper = None;
        self.trouble = Some(why.into());
        true
    }
}

fn known(row: Row) -> Known {
    let seen = Seen { id: row.name.clone(), stamp: stamp(&row), owner: Owner { uid: row.uid, gid: row.gid }, touched_ms: 0, busy: false };
    Known { seen, config: row.config.into(), socket: row.socket }
}

/// Another text is a change, whatever the time says.
fn stamp(row: &Row) -> Stamp {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
    for byte in row.config.bytes().chain([0]).chain(row.socket.iter().flat_map(|s| s.bytes())) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    Stamp { mtime_ns: i128::from(row.time) * 1_000_000_000, inode: hash, size: row.config.len() as u64 }
}

/// Our own executable in another role; what it has to do comes over its standard input, so that no password stands in a command line.
fn spawn(task: &Task) -> std::io::Result<Helper> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(helper::VERB).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = with_default_signals(&mut command).spawn()?;
    let process = pidfd(Pid::from_raw(child.id() as i32))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&serde_json::to_vec(task)?)?;
    }
    let output = OwnedFd::from(child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?);
    set_nonblocking(output.as_fd(), true)?;
    Ok(Helper { output, process }) // whoever reaps children reaps this one
}

impl Monitor for Postgres {
    /// Without the connection: a password may be in it.
    fn name(&self) -> String {
        let word = |key: &str| self.task.connection.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('=')).unwrap_or("?");
        format!("pg://host={} dbname={};{}", word("host"), word("dbname"), self.task.query)
    }

    fn look(&mut self) -> Look {
        self.start_helper(monotonic_ms());
        let found = match &self.rows {
            Some(rows) => Found::Files(rows.values().map(|known| known.seen.clone()).collect()),
            None => Found::Unknown,
        };
        let trouble = self.trouble.as_ref().map(|text| format!("{}: {text}", self.name()));
        Look { found, watch: vec![], trouble }
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    fn config(&self, id: &str) -> Option<Rc<str>> {
        self.rows.as_ref()?.get(id).map(|known| known.config.clone())
    }

    fn socket(&self, id: &str) -> Option<String> {
        self.rows.as_ref()?.get(id)?.socket.clone()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.helper.as_ref().map(|helper| helper.output.as_fd())
    }

    fn hear(&mut self, now_ms: u64) -> bool {
        let mut buffer = [0; 64 * 1024];
        let Some(helper) = &self.helper else { return false };
        match nix::unistd::read(&helper.output, &mut buffer) {
            Ok(0) => {
                self.start_at = now_ms + PAUSE_MS;
                self.lose_helper("the process that asks the database has ended; another one is started")
            }
            Ok(n) if self.partial.len() + n > MOST => self.lose_helper("the query gives more than 256 MiB"),
            Ok(n) => {
                self.partial.extend_from_slice(&buffer[..n]);
                self.take_lines()
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(error) => self.lose_helper(error.desc()),
        }
    }

    fn release(&self) {
        self.helper.iter().for_each(Helper::end);
    }

    fn next_deadline(&self) -> Option<u64> {
        self.helper.is_none().then_some(self.start_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, config: &str, time: i64) -> Row {
        Row { name: name.into(), config: config.into(), time, uid: 5, gid: 6, socket: None }
    }

    fn told(source: &mut Postgres, news: &News) -> Look {
        source.partial.extend(serde_json::to_vec(news).expect("JSON"));
        source.partial.push(b'\n');
        assert!(source.take_lines());
        source.start_at = u64::MAX; // no helper here
        source.look()
    }

    #[test]
    fn rows_are_vassals_and_trouble_changes_nothing() {
        let mut source = Postgres::new("host=h dbname=d password=secret;SELECT 1", Path::new("/v"), 3);
        source.start_at = u64::MAX;
        assert!(!source.name().contains("secret"));
        assert_eq!(source.look().found, Found::Unknown);
        let look = told(&mut source, &News::Rows(vec![row("a.ini", "[uwsgi]", 7)]));
        let Found::Files(first) = look.found else { panic!("no rows") };
        assert_eq!((first[0].id.as_str(), first[0].owner, look.trouble), ("a.ini", Owner { uid: 5, gid: 6 }, None));
        let look = told(&mut source, &News::Trouble("connection refused".into()));
        assert_eq!(look.found, Found::Files(first.clone()));
        assert!(look.trouble.is_some_and(|t| t.contains("refused")));
        let Found::Files(changed) = told(&mut source, &News::Rows(vec![row("a.ini", "[uwsgi]\nx=1", 7)])).found else { panic!("no rows") };
        assert_ne!(changed[0].stamp, first[0].stamp);
        assert_eq!(source.config("a.ini").as_deref(), Some("[uwsgi]\nx=1"));
        assert_eq!(told(&mut source, &News::Rows(vec![])).found, Found::Files(vec![]));
    }

    #[test]
    fn a_source_without_a_query_has_uwsgis() {
        let source = Postgres::new("dbname=d", Path::new("/v"), 0);
        assert!(source.task.query.contains("FROM vassals") && source.task.every_s == 1);
    }
}

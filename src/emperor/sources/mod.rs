//! Where vassals come from. Another kind of source (a database, a message queue) is one more file here with a [`Monitor`].

mod files;
mod pg;
mod valid;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::core::{Found, Stamp};

pub use files::Files;
pub use pg::helper;
pub use valid::Rules;

/// One source of vassals (an `emperor` line).
pub trait Monitor {
    /// As `emperor-stats` prints it.
    fn name(&self) -> String;
    /// What it holds now.
    fn look(&mut self) -> Look;
    /// Where its vassals start, and relative to which their ids are paths.
    fn directory(&self) -> PathBuf;
    /// The text of a vassal that has no file: it is sent to it.
    fn config(&self, _id: &str) -> Option<Rc<str>> {
        None
    }
    /// The on-demand socket that the source names for a vassal.
    fn socket(&self, _id: &str) -> Option<String> {
        None
    }
    /// What becomes readable when there is something to [`Self::hear`]. Another one after each start of what is behind it.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Takes what came; whether to look again. Must not wait.
    fn hear(&mut self, _now_ms: u64) -> bool {
        false
    }
    /// The emperor becomes another program: ends what would outlive this. If that fails, it is heard of as a loss.
    fn release(&self) {}
    /// When [`Self::look`] should be called although nothing was heard, in `Now::ms`.
    fn next_deadline(&self) -> Option<u64> {
        None
    }
}

/// The result of looking at a source.
#[derive(Debug)]
pub struct Look {
    pub found: Found,
    /// Files and directories whose change is a reason to look again.
    pub watch: Vec<PathBuf>,
    /// Something to tell the user, if it was not told before.
    pub trouble: Option<String>,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    #[error("emperor = {0}: no such directory (without `dir://` it would be waited for)")]
    Missing(String),
    #[error("emperor = {0}: {1}:// sources do not exist here; there are {kinds} (`imperator --imperial-monitor-list`)", kinds = KINDS.join(", "))]
    NotBuiltIn(String, &'static str),
}

/// The kinds of sources, as `imperial-monitor-list` prints them.
pub const KINDS: [&str; 3] = ["dir", "glob", "pg"];
/// Schemes that uWSGI's plugins or documentation know and Imperator does not have.
const NOT_BUILT_IN: [&str; 5] = ["zmq", "amqp", "mongodb", "ldap", "zoo"];

/// The monitor for one `emperor` line.
///
/// # Errors
/// A `dir://` that does not exist; a scheme that is not built in.
pub fn monitor(line: &str, start_dir: &Path, rules: &Rules, frequency_s: u32) -> Result<Box<dyn Monitor>, SourceError> {
    if let Some(rest) = line.strip_prefix("pg://") {
        return Ok(Box::new(pg::Postgres::new(rest, start_dir, frequency_s)));
    }
    for scheme in NOT_BUILT_IN {
        if line.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")) {
            return Err(SourceError::NotBuiltIn(line.into(), scheme));
        }
    }
    let files = if let Some(pattern) = line.strip_prefix("glob://") {
        Files::pattern(pattern, start_dir, rules)
    } else if let Some(dir) = line.strip_prefix("dir://") {
        if !start_dir.join(dir).is_dir() {
            return Err(SourceError::Missing(line.into()));
        }
        Files::directory(dir, start_dir, rules)
    } else {
        Files::bare(line, start_dir, rules)
    };
    Ok(Box::new(files))
}

/// The stamp of a file.
pub fn stamp(meta: &std::fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    Stamp { mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()), inode: meta.ino(), size: meta.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_that_are_not_built_in_say_so() {
        let rules = Rules::default();
        for line in ["zmq://tcp://0:1", "amqp://h", "mongodb://h,c,{}"] {
            let error = monitor(line, Path::new("/"), &rules, 3).err().expect("refused").to_string();
            assert!(error.contains("do not exist") && error.contains("pg"), "{error}");
        }
    }

    #[test]
    fn an_explicit_directory_must_exist() {
        let line = "dir:///nonexistent/vassals";
        assert_eq!(monitor(line, Path::new("/"), &Rules::default(), 3).err(), Some(SourceError::Missing(line.into())));
        assert!(monitor("/nonexistent/vassals", Path::new("/"), &Rules::default(), 3).is_ok());
    }
}

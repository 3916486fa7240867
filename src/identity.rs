//! Files that tell who runs: pidfiles, and what `vacuum` removes at the end.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use imperator_worker::settings::Process;
use serde::{Deserialize, Serialize};

use crate::privileges::leave_cgroup;

/// A pidfile that cannot be written: the start ends with 1.
#[derive(Debug, thiserror::Error)]
#[error("{option} = {path}: {source}")]
pub struct PidfileError {
    option: &'static str,
    path: String,
    source: io::Error,
}

/// When a pidfile is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `pidfile`: before privileges are dropped.
    Early,
    /// `pidfile2`: after that.
    Later,
    /// `safe-pidfile`, `safe-pidfile2`: when the app is loaded.
    Safe,
}

/// Writes the pidfiles of a moment. A reload writes none (same pid); the FIFO's `P` writes all again.
///
/// # Errors
/// The first one that cannot be written.
pub fn write_pidfiles(settings: &Process, moment: Moment, pid: i32) -> Result<(), PidfileError> {
    for (option, path) in pidfiles(settings).into_iter().filter(|(option, _)| at(option) == moment) {
        fs::write(path, format!("{pid}\n")).map_err(|source| PidfileError { option, path: path.to_owned(), source })?;
    }
    Ok(())
}

fn at(option: &str) -> Moment {
    match option {
        "pidfile" => Moment::Early,
        "pidfile2" => Moment::Later,
        _ => Moment::Safe,
    }
}

fn pidfiles(settings: &Process) -> Vec<(&'static str, &str)> {
    let all = [
        ("pidfile", &settings.pidfile),
        ("pidfile2", &settings.pidfile2),
        ("safe-pidfile", &settings.safe_pidfile),
        ("safe-pidfile2", &settings.safe_pidfile2),
    ];
    all.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?))).collect()
}

/// The files of this instance that are removed when it ends. Serialized into the state that a reload's exec hands over, so that
/// a reload forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vacuum {
    sockets: Vec<SocketFile>,
    pidfiles: Vec<PathBuf>,
    /// Control groups that were made for this instance.
    #[serde(default)]
    groups: Vec<PathBuf>,
}

/// The file by its inode: at the end another instance's may stand there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Vacuum {
    /// Remembers the socket file that was just bound. Nothing is remembered of one that is gone already.
    pub fn socket(&mut self, path: &Path) {
        let (Ok(path), Ok(m)) = (std::path::absolute(path), fs::symlink_metadata(path)) else { return };
        self.sockets.retain(|s| s.path != path);
        self.sockets.push(SocketFile { path, device: m.dev(), inode: m.ino() });
    }

    /// Remembers the pidfiles of the settings; called while the working directory is the one in which they are written.
    pub fn pidfiles(&mut self, settings: &Process) {
        for path in pidfiles(settings).into_iter().filter_map(|(_, path)| std::path::absolute(path).ok()) {
            if !self.pidfiles.contains(&path) {
                self.pidfiles.push(path);
            }
        }
    }

    /// Remembers control groups that had to be made.
    pub fn groups(&mut self, made: Vec<PathBuf>) {
        self.groups.extend(made);
    }

    /// Removes what is still ours; what could not be removed and why.
    pub fn run(&self, pid: i32) -> Vec<(PathBuf, io::Error)> {
        self.groups.iter().rev().for_each(|group| leave_cgroup(group));
        let sockets =
            self.sockets.iter().filter(|s| fs::symlink_metadata(&s.path).is_ok_and(|m| (m.dev(), m.ino()) == (s.device, s.inode)));
        let own = |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| text.trim() == pid.to_string());
        let files = sockets.map(|s| &s.path).chain(self.pidfiles.iter().filter(own));
        files.filter_map(|path| Some((path.clone(), fs::remove_file(path).err()?))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn pidfiles_at_their_moment_and_an_error_names_the_option() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(dir.path().join(name).to_str().unwrap().to_owned());
        let settings = Process { pidfile: at("early"), safe_pidfile: at("safe"), ..Process::default() };
        write_pidfiles(&settings, Moment::Early, 42).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("early")).unwrap(), "42\n");
        assert!(!dir.path().join("safe").exists());
        let bad = Process { pidfile2: at("no/such/dir"), ..Process::default() };
        assert!(write_pidfiles(&bad, Moment::Later, 42).unwrap_err().to_string().starts_with("pidfile2 = "));
    }

    #[test]
    fn vacuum_removes_its_own_and_nothing_else_also_after_a_hand_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut vacuum = Vacuum::default();
        let _mine = UnixListener::bind(at("mine")).unwrap();
        vacuum.socket(&at("mine"));
        let first = UnixListener::bind(at("taken")).unwrap();
        vacuum.socket(&at("taken"));
        fs::rename(at("taken"), at("aside")).unwrap();
        let _second = UnixListener::bind(at("taken")).unwrap();
        drop(first);
        let settings = Process {
            pidfile: Some(at("pid").to_str().unwrap().into()),
            safe_pidfile: Some(at("other").to_str().unwrap().into()),
            ..Process::default()
        };
        vacuum.pidfiles(&settings);
        fs::write(at("pid"), "42\n").unwrap();
        fs::write(at("other"), "43\n").unwrap();
        let handed: Vacuum = serde_json::from_str(&serde_json::to_string(&vacuum).unwrap()).unwrap();
        assert!(handed.run(42).is_empty());
        let left: Vec<bool> = ["mine", "taken", "pid", "other"].iter().map(|n| at(n).exists()).collect();
        assert_eq!(left, [false, true, false, true]);
    }
}

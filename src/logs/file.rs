//! Log files: opening, moving aside, opening again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use imperator_worker::settings::Log;
use nix::unistd::{Gid, Uid, User};

use super::LogError;

/// uWSGI's; umask applies.
const MODE: u32 = 0o640;

/// How files of this instance are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// `logfile-chmod`.
    mode: Option<u32>,
    /// `logfile-chown`.
    owner: Option<(Uid, Option<Gid>)>,
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    style: Style,
    /// Who opens it (`logto2`): the user that the instance serves as, so that root follows no link that he laid.
    user: Option<(Uid, Gid)>,
    /// 0: it may grow.
    pub maxsize: u64,
    pub backup: Option<PathBuf>,
}

impl Style {
    pub fn of(log: &Log) -> Result<Self, LogError> {
        let owner = log.chown.as_deref().map(crate::privileges::owner).transpose();
        Ok(Self { mode: log.chmod, owner: owner.map_err(|e| LogError::new("logfile-chown", log.chown.as_deref().unwrap_or(""), e))? })
    }
}

impl LogFile {
    /// Opens it for appending. The path is made absolute: a later `chdir` does not move a log.
    pub fn open(path: &Path, style: &Style, user: Option<(Uid, Gid)>, truncate: bool) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = as_user(user, || open(&path, truncate))?;
        let log = Self { path, file, style: style.clone(), user, maxsize: 0, backup: None };
        log.adorn()?;
        Ok(log)
    }

    /// Opens the path again: after someone moved the file away. The old file stays in use if that fails.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = as_user(self.user, || open(&self.path, false))?;
        self.adorn()
    }

    /// Moves the file aside and starts a new one.
    pub fn rotate(&mut self, epoch: u64) -> io::Result<()> {
        let aside = match &self.backup {
            Some(path) => path.clone(),
            None => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{epoch}"));
                name.into()
            }
        };
        as_user(self.user, || fs::rename(&self.path, &aside))?;
        self.reopen()
    }

    /// Whether it has grown beyond `log-maxsize`.
    pub fn is_full(&self) -> bool {
        self.maxsize > 0 && self.file.metadata().is_ok_and(|m| m.size() > self.maxsize)
    }

    pub fn error(&self, cause: io::Error) -> LogError {
        LogError::new("log file", &self.path.display().to_string(), cause)
    }

    /// After a rotation by size that failed: trying again and again would fill the log with complaints.
    pub fn give_up(&mut self, cause: io::Error) -> LogError {
        self.maxsize = 0;
        self.error(io::Error::other(format!("{cause}; log-maxsize is off until the next reload")))
    }

    fn adorn(&self) -> io::Result<()> {
        if let Some(mode) = self.style.mode {
            self.file.set_permissions(Permissions::from_mode(mode))?;
        }
        if let Some((uid, gid)) = self.style.owner {
            nix::unistd::fchown(&self.file, Some(uid), gid)?;
        }
        Ok(())
    }
}

impl AsFd for LogFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    if truncate && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Does `work` with the rights of `user`, if we have those of root.
fn as_user<T>(user: Option<(Uid, Gid)>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some((uid, gid)) = user.filter(|_| Uid::effective().is_root()) else { return work() };
    let own = Gid::effective();
    nix::unistd::setegid(gid)?;
    nix::unistd::seteuid(uid)?;
    let done = work();
    nix::unistd::seteuid(Uid::from_raw(0))?;
    nix::unistd::setegid(own)?;
    done
}

/// The user and group of the `uid` and `gid` options.
pub(super) fn serving_user(uid: Option<&str>, gid: Option<&str>) -> Option<(Uid, Gid)> {
    let (uid, entry): (Uid, Option<User>) = crate::privileges::user(uid?).ok()?;
    let group = gid.and_then(|g| crate::privileges::owner(&format!("{uid}:{g}")).ok()?.1);
    Some((uid, group.or(entry.map(|u| u.gid)).unwrap_or(Gid::from_raw(uid.as_raw()))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn appends_rotates_and_reopens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        fs::write(&path, "kept\n").unwrap();
        let style = Style { mode: Some(0o604), owner: None };
        let mut log = LogFile::open(&path, &style, None, false).unwrap();
        log.file.write_all(b"one\n").unwrap();
        log.maxsize = 4;
        assert!(log.is_full());
        log.rotate(77).unwrap();
        assert!(!log.is_full());
        assert_eq!(fs::read_to_string(dir.path().join("l.77")).unwrap(), "kept\none\n");
        log.backup = Some(dir.path().join("old"));
        log.rotate(78).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("old")).unwrap(), "");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
        fs::remove_file(&path).unwrap();
        log.reopen().unwrap();
        assert!(path.exists());
        log.file.write_all(b"x").unwrap();
        drop(LogFile::open(&path, &style, None, true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_failed_rotation_keeps_the_file_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&dir.path().join("l"), &Style::default(), None, false).unwrap();
        log.backup = Some(dir.path().join("no/such/dir"));
        assert!(log.rotate(1).is_err());
        log.file.write_all(b"still").unwrap();
        assert_eq!(fs::read(dir.path().join("l")).unwrap(), b"still");
    }
}

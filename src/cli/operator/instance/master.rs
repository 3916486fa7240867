//! The master of an instance, found by what its file says.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::libc::O_NONBLOCK;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::ask;
use super::super::target::Instance;

/// The way to a master.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// `None`: only its FIFO is known.
    pub pid: Option<i32>,
    fifo: Option<PathBuf>,
}

impl Master {
    /// From the stats server, which is the truth, else from a pidfile; and the first FIFO of the file.
    ///
    /// # Errors
    /// The file has nothing that leads to it, or it does not run.
    pub fn find(instance: &Instance) -> Result<Self> {
        let process = &instance.settings.process;
        let fifo = process.master_fifo.first().map(|path| instance.path(path)).filter(|path| has_reader(path));
        let asked = instance.settings.stats.address.as_ref().map(|_| ask::figures(instance).map(|figures| figures.pid));
        let written = pidfiles(instance).iter().map(|path| from_pidfile(path)).collect::<Vec<_>>();
        if asked.is_none() && written.is_empty() && process.master_fifo.is_empty() {
            bail!("{} has none of `stats =`, `pidfile =` and `master-fifo =`: add one, and it can be found", instance.name);
        }
        let pid = asked.into_iter().chain(written).reduce(|first, next| first.or_else(|e| next.map_err(|_| e)));
        match (pid, fifo) {
            (Some(Ok(pid)), fifo) => Ok(Self { pid: Some(pid), fifo }),
            (_, Some(fifo)) => Ok(Self { pid: None, fifo: Some(fifo) }),
            (Some(Err(error)), None) => Err(error.context(format!("{} does not run", instance.name))),
            (None, None) => bail!("{} does not run: nobody reads its master-fifo", instance.name),
        }
    }

    /// One byte to the FIFO, else the signal; says which.
    pub fn tell(&self, byte: u8, signal: Signal) -> Result<String> {
        if let Some(fifo) = &self.fifo {
            let mut pipe = fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(fifo);
            let written = pipe.as_mut().map_err(|e| e.kind().into()).and_then(|pipe| pipe.write_all(&[byte]));
            match (written, self.pid) {
                (Ok(()), _) => return Ok(format!("`{}` to {}", char::from(byte), fifo.display())),
                (Err(error), None) => return Err(error).with_context(|| format!("writing to {}", fifo.display())),
                (Err(_), Some(_)) => {}
            }
        }
        let pid = self.pid.context("no process to send a signal to")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to process {pid}"))?;
        Ok(format!("{signal} to process {pid}"))
    }
}

fn pidfiles(instance: &Instance) -> Vec<PathBuf> {
    let p = &instance.settings.process;
    [&p.safe_pidfile, &p.safe_pidfile2, &p.pidfile, &p.pidfile2].into_iter().flatten().map(|path| instance.path(path)).collect()
}

/// A FIFO that a master has open.
fn has_reader(path: &Path) -> bool {
    let is_fifo = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_fifo());
    is_fifo && fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).is_ok()
}

fn from_pidfile(path: &Path) -> Result<i32> {
    let text = fs::read_to_string(path).with_context(|| format!("pidfile {}", path.display()))?;
    let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1);
    let pid = pid.with_context(|| format!("pidfile {}: `{}` is no pid", path.display(), text.trim()))?;
    ensure!(alive(pid), "pidfile {}: process {pid} is gone", path.display());
    if let Some(program) = program(pid).filter(|program| !is_server(program)) {
        bail!("pidfile {}: process {pid} is {program} now, the file is left over from an earlier run", path.display());
    }
    Ok(pid)
}

/// The name of a process's executable; `None` where the kernel does not tell.
fn program(pid: i32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
}

/// A pid that went to somebody else meanwhile must not get our signals. An instance without a master is an interpreter's process.
fn is_server(program: &str) -> bool {
    let ours = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    ours.is_some_and(|ours| ours == program) || ["imperator", "uwsgi", "python"].iter().any(|name| program.starts_with(name))
}

/// Whether it runs; one that only waits to be reaped does not.
pub(super) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields.first().map(String::as_str), Some("Z" | "X")))
}

/// Resident bytes of a process that is a child of `master`: pids of another machine or namespace mean nothing here.
pub(super) fn resident(pid: i32, master: i32) -> Option<u64> {
    stat(pid).filter(|fields| fields.get(1).and_then(|ppid| ppid.parse().ok()) == Some(master))?;
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    statm.split(' ').nth(1)?.parse::<u64>().ok()?.checked_mul(u64::try_from(page).ok()?)
}

/// The fields of /proc/PID/stat from the state on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_of_another_program_or_of_nobody_is_told() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("pid");
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        fs::write(&path, format!("{}\n", other.id())).expect("write");
        let error = from_pidfile(&path).expect_err("a sleep").to_string();
        assert!(error.contains(" is ") && error.contains("left over"), "{error}");
        other.kill().expect("kill");
        assert!(!alive(other.id() as i32) || other.wait().is_ok());
        let error = from_pidfile(&path).expect_err("nobody").to_string();
        assert!(error.ends_with("is gone"), "{error}");
        fs::write(&path, "-1\n").expect("write");
        assert!(from_pidfile(&path).expect_err("nonsense").to_string().ends_with("`-1` is no pid"));
    }

    #[test]
    fn memory_of_children_only() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let own = std::process::id() as i32;
        assert!(resident(child.id() as i32, own).is_some_and(|bytes| bytes > 0));
        assert_eq!((resident(child.id() as i32, 1), alive(own)), (None, true));
        child.kill().and_then(|()| child.wait()).expect("its end");
    }
}

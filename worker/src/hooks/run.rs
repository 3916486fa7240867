//! Carrying actions out.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

use super::{Action, HookError, Reaction, Wait};

/// How often something that a hook waits for is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What uWSGI's `wait_for_*` gives up after.
const PATIENCE: Duration = Duration::from_secs(60);

/// What actions want of the process that ran them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// `unix_signal`: signal number and what it does from now on. The last of a number wins.
    pub signals: Vec<(i32, Reaction)>,
    /// `exit`: end with this code now.
    pub exit: Option<i32>,
    /// `alarm`: name and message.
    pub alarms: Vec<(String, String)>,
}

impl Effects {
    /// With those of the next phase, which runs unless the process is to end.
    ///
    /// # Errors
    /// The next phase's.
    pub fn go_on(mut self, next: impl FnOnce() -> Result<Self, HookError>) -> Result<Self, HookError> {
        if self.exit.is_none() {
            let later = next()?;
            self.signals.extend(later.signals);
            self.alarms.extend(later.alarms);
            self.exit = later.exit;
        }
        Ok(self)
    }
}

impl Action {
    /// Does it, waiting for its end.
    pub fn run(&self, effects: &mut Effects) -> Result<(), HookError> {
        match self {
            Self::Exec(command) => exec(command),
            Self::SafeExec(command) => {
                if let Err(error) = exec(command) {
                    crate::log::diag::say(&format!("safeexec: {error}"));
                }
                Ok(())
            }
            Self::UnixSignal { signal, reaction } => {
                effects.signals.push((*signal, *reaction));
                Ok(())
            }
            Self::Exit(code) => {
                effects.exit = Some(*code);
                Ok(())
            }
            Self::Print(text) => {
                crate::log::diag::say(text);
                Ok(())
            }
            Self::Alarm { name, message } => {
                effects.alarms.push((name.clone(), message.clone()));
                Ok(())
            }
            other => other.effect().map_err(|source| HookError::Io { text: other.describe(), source }),
        }
    }

    /// Does it without waiting, for loops that must not block: what would have to wait fails with `WouldBlock`. Commands are the caller's to start.
    pub fn at_once(&self, effects: &mut Effects) -> Result<(), HookError> {
        let waits = |what: &dyn std::fmt::Display| {
            let source = io::Error::new(ErrorKind::WouldBlock, "it would have to wait");
            Err(HookError::Io { text: what.to_string(), source })
        };
        match self {
            Self::Exec(command) | Self::SafeExec(command) => waits(command),
            Self::WaitFor { what, path } if !is_there(*what, path) => waits(&path.display()),
            Self::WriteFifo { path, text, waits: true } => match write_fifo(path, text, false) {
                // No FIFO, or nobody reads it yet.
                Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENXIO)) => waits(&path.display()),
                done => done.map_err(|source| HookError::Io { text: self.describe(), source }),
            },
            other => other.run(effects),
        }
    }

    fn effect(&self) -> io::Result<()> {
        match self {
            Self::Chdir(path) => std::env::set_current_dir(path),
            Self::Mkdir(path) => fs::DirBuilder::new().mode(0o777).create(path),
            Self::PutEnv { name, value } => imperator_sys::environ::set(OsStr::new(name), OsStr::new(value)),
            Self::Chmod { path, mode } => fs::set_permissions(path, Permissions::from_mode(*mode)),
            Self::Chown { path, user, group } => Ok(nix::unistd::chown(path, Some(uid(user)?), Some(gid(group)?))?),
            Self::Sticky(path) => {
                let mode = fs::metadata(path)?.permissions().mode();
                fs::set_permissions(path, Permissions::from_mode(mode | 0o1000))
            }
            Self::Create(path) => fs::File::create(path).map(drop),
            Self::Write { path, text, append } => {
                let mut options = OpenOptions::new();
                options.create(true).mode(0o666).append(*append).write(true).truncate(!*append);
                options.open(path)?.write_all(text.as_bytes())
            }
            Self::WriteFifo { path, text, waits } => write_fifo(path, text, *waits),
            Self::Unlink(path) => fs::remove_file(path),
            Self::Mount { kind, source, target, flags, data } => {
                let data = Some(data.as_str()).filter(|d| !d.is_empty());
                Ok(nix::mount::mount(Some(source.as_str()), target, Some(kind.as_str()), *flags, data)?)
            }
            Self::Umount { target, flags } => Ok(nix::mount::umount2(target, *flags)?),
            Self::Hostname(name) => Ok(nix::unistd::sethostname(name)?),
            Self::WaitFor { what, path } => wait_for(*what, path),
            Self::Exec(_) | Self::SafeExec(_) | Self::UnixSignal { .. } | Self::Exit(_) | Self::Print(_) | Self::Alarm { .. } => Ok(()),
        }
    }

    /// What failed, for the message.
    fn describe(&self) -> String {
        let on = |verb: &str, path: &PathBuf| format!("{verb} {}", path.display());
        match self {
            Self::Chdir(path) => on("chdir", path),
            Self::Mkdir(path) => on("mkdir", path),
            Self::PutEnv { name, .. } => format!("putenv {name}"),
            Self::Chmod { path, .. } => on("chmod", path),
            Self::Chown { path, user, group } => format!("chown {} {user} {group}", path.display()),
            Self::Sticky(path) => on("sticky", path),
            Self::Create(path) => on("create", path),
            Self::Write { path, .. } => on("write", path),
            Self::WriteFifo { path, .. } => on("writefifo", path),
            Self::Unlink(path) => on("unlink", path),
            Self::Mount { target, .. } => on("mount", target),
            Self::Umount { target, .. } => on("umount", target),
            Self::Hostname(name) => format!("hostname {name}"),
            Self::WaitFor { path, .. } => on("waiting for", path),
            Self::Exec(_) | Self::SafeExec(_) | Self::UnixSignal { .. } | Self::Exit(_) | Self::Print(_) | Self::Alarm { .. } => {
                "hook".into()
            }
        }
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    imperator_sys::spawn::with_default_signals(shell.arg("-c").arg(command).stdin(Stdio::null()));
    shell
}

fn exec(command: &str) -> Result<(), HookError> {
    let status = shell(command).status().map_err(|source| HookError::Io { text: command.to_owned(), source })?;
    if status.success() { Ok(()) } else { Err(HookError::Status { command: command.to_owned(), status }) }
}

fn uid(text: &str) -> io::Result<Uid> {
    match text.parse() {
        Ok(number) => Ok(Uid::from_raw(number)),
        Err(_) => User::from_name(text)?.map(|u| u.uid).ok_or_else(|| missing("user", text)),
    }
}

fn gid(text: &str) -> io::Result<Gid> {
    match text.parse() {
        Ok(number) => Ok(Gid::from_raw(number)),
        Err(_) => Group::from_name(text)?.map(|g| g.gid).ok_or_else(|| missing("group", text)),
    }
}

fn missing(what: &str, name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("there is no {what} {name:?}"))
}

fn write_fifo(path: &Path, text: &str, waits: bool) -> io::Result<()> {
    // Without O_NONBLOCK this would hang for as long as nobody reads.
    let open = || OpenOptions::new().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path);
    let mut fifo = open();
    let start = std::time::Instant::now();
    while waits && fifo.is_err() && start.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        fifo = open();
    }
    fifo?.write_all(text.as_bytes())
}

fn wait_for(what: Wait, path: &Path) -> io::Result<()> {
    let start = std::time::Instant::now();
    while !is_there(what, path) {
        if start.elapsed() >= PATIENCE {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("not there after {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn is_there(what: Wait, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| match what {
        Wait::Anything => true,
        Wait::File => m.is_file(),
        Wait::Directory => m.is_dir(),
        Wait::Socket => m.file_type().is_socket(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(text: String) -> Result<(), HookError> {
        Action::parse(&text).unwrap().run(&mut Effects::default())
    }

    #[test]
    fn actions_on_files() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        for action in
            ["mkdir:@/made", "write:@/w one", "append:@/w +three", "writen:@/wn two", "appendn:@/wn four", "create:@/e", "chmod:@/e 640"]
        {
            run(action.replace('@', &d.to_string())).unwrap();
        }
        run(format!("exec:echo five > {d}/x")).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([read("w"), read("wn"), read("e"), read("x")], ["one+three", "two\nfour\n", "", "five\n"]);
        assert_eq!(fs::metadata(dir.path().join("e")).unwrap().permissions().mode() & 0o777, 0o640);
        run(format!("wait_for_dir:{d}/made")).unwrap();
        run(format!("unlink:{d}/e")).unwrap();
        assert!(run(format!("unlink:{d}/e")).unwrap_err().to_string().contains("unlink"));
    }

    #[test]
    fn commands_fail_or_never_fail() {
        assert!(matches!(run("exec:exit 3".into()), Err(HookError::Status { .. })));
        run("safeexec:exit 3".into()).unwrap();
    }

    #[test]
    fn what_would_have_to_wait_says_so() {
        let mut effects = Effects::default();
        for action in ["exec:exit 7", "wait_for_file:/no/such/file", "spinningfifo:/no/such/fifo x"] {
            let waits = Action::parse(action).unwrap().at_once(&mut effects).unwrap_err();
            assert!(matches!(waits, HookError::Io { source, .. } if source.kind() == ErrorKind::WouldBlock), "{action}");
        }
        Action::parse("unix_signal:15 kill_them_all").unwrap().at_once(&mut effects).unwrap();
        assert_eq!(effects.signals, [(15, Reaction::Stop)]);
    }

    #[test]
    fn a_fifo_without_a_reader_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(run(format!("writefifo:{} x", path.display())).is_err());
    }
}

//! One action and how it is written.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags};

use super::mounts;

/// What a hook does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A shell command; its exit code other than 0 is a failure.
    Exec(String),
    /// The same; never a failure.
    SafeExec(String),
    Chdir(PathBuf),
    Mkdir(PathBuf),
    PutEnv {
        name: String,
        value: String,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
    },
    /// Names or numbers, resolved when it runs.
    Chown {
        path: PathBuf,
        user: String,
        group: String,
    },
    Sticky(PathBuf),
    Create(PathBuf),
    Write {
        path: PathBuf,
        text: String,
        append: bool,
    },
    /// `waits`: for a FIFO to appear and for a reader.
    WriteFifo {
        path: PathBuf,
        text: String,
        waits: bool,
    },
    Unlink(PathBuf),
    Mount {
        kind: String,
        source: String,
        target: PathBuf,
        flags: MsFlags,
        data: String,
    },
    Umount {
        target: PathBuf,
        flags: MntFlags,
    },
    Hostname(String),
    WaitFor {
        what: Wait,
        path: PathBuf,
    },
    /// From now on the signal makes the master do that.
    UnixSignal {
        signal: i32,
        reaction: Reaction,
    },
    Exit(i32),
    Print(String),
    /// Has the master raise the alarm of that name.
    Alarm {
        name: String,
        message: String,
    },
}

/// What has to be there before a hook goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Anything,
    File,
    Directory,
    Socket,
}

/// What `unix_signal:NUMBER FUNCTION` names: uWSGI's own functions, of which these are the useful ones in a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// `gracefully_kill_them_all`: finish running requests, then exit 0.
    GracefulStop,
    /// `kill_them_all`: exit 0 at once.
    Stop,
    /// `grace_them_all`: graceful reload.
    Reload,
    /// `reap_them_all`: brutal reload.
    BrutalReload,
    /// `suspend_resume_them_all`: pause, or resume.
    PauseOrResume,
    /// `stats`: print the counters.
    Report,
}

/// Why a hook cannot be understood, or what it failed in.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("unknown hook action {action:?}")]
    Unknown { action: String },
    #[error("hook action {action:?} is not part of this version; remove the line, or use exec")]
    Missing { action: String },
    #[error("hook {text:?}: expected {wanted}")]
    Syntax { text: String, wanted: &'static str },
    #[error("{text}: {source}")]
    Io { text: String, source: std::io::Error },
    #[error("command {command:?} ended with {status}")]
    Status { command: String, status: std::process::ExitStatus },
    #[error("hook of phase {phase}: {source}")]
    Failed { phase: String, source: Box<HookError> },
}

impl Action {
    /// `verb:arguments`, where a verb may stand alone. A leading `!` is skipped.
    ///
    /// # Errors
    /// An unknown verb, or arguments that make no sense.
    pub fn parse(text: &str) -> Result<Self, HookError> {
        let text = text.strip_prefix('!').unwrap_or(text);
        let (verb, rest) = text.split_once(':').unwrap_or((text, ""));
        let wrong = |wanted| HookError::Syntax { text: text.to_owned(), wanted };
        let path = || if rest.is_empty() { Err(wrong("a path")) } else { Ok(PathBuf::from(rest)) };
        let write = |append, newline: &str| {
            let (path, words) = split(rest);
            let text = format!("{words}{newline}");
            if path.is_empty() { Err(wrong("a file, a blank and a text")) } else { Ok(Self::Write { path: path.into(), text, append }) }
        };
        let fifo = |waits| {
            let (path, words) = split(rest);
            let text = words.to_owned();
            if path.is_empty() { Err(wrong("a FIFO, a blank and a text")) } else { Ok(Self::WriteFifo { path: path.into(), text, waits }) }
        };
        let wait = |what| Ok(Self::WaitFor { what, path: path()? });
        match verb {
            "exec" => Ok(Self::Exec(rest.into())),
            "safeexec" => Ok(Self::SafeExec(rest.into())),
            "cd" | "chdir" => Ok(Self::Chdir(path()?)),
            "mkdir" => Ok(Self::Mkdir(path()?)),
            "putenv" => putenv(rest).ok_or_else(|| wrong("NAME=VALUE")),
            "chmod" => chmod(rest).ok_or_else(|| wrong("a file, a blank and an octal mode")),
            "chown" | "chown2" => chown(rest).ok_or_else(|| wrong("a file, a user and a group")),
            "sticky" => Ok(Self::Sticky(path()?)),
            "create" | "creat" => Ok(Self::Create(path()?)),
            "write" => write(false, ""),
            "writen" => write(false, "\n"),
            "append" => write(true, ""),
            "appendn" => write(true, "\n"),
            "writefifo" => fifo(false),
            "spinningfifo" => fifo(true),
            "unlink" => Ok(Self::Unlink(path()?)),
            "mount" => mounts::mount(rest).ok_or_else(|| wrong("TYPE SOURCE TARGET [FLAGS], with flags such as bind,ro")),
            "umount" => mounts::umount(rest).ok_or_else(|| wrong("TARGET [FLAGS], with flags such as detach")),
            "hostname" if !rest.is_empty() => Ok(Self::Hostname(rest.into())),
            "wait_for_fs" => wait(Wait::Anything),
            "wait_for_file" => wait(Wait::File),
            "wait_for_dir" => wait(Wait::Directory),
            "wait_for_socket" => wait(Wait::Socket),
            "unix_signal" => unix_signal(rest).ok_or_else(|| {
                wrong("a signal's number and one of gracefully_kill_them_all, kill_them_all, grace_them_all, reap_them_all, suspend_resume_them_all, stats")
            }),
            "exit" => exit(rest).ok_or_else(|| wrong("a number from 0 to 255")),
            "print" | "log" => Ok(Self::Print(rest.into())),
            "alarm" => alarm(rest).ok_or_else(|| wrong("an alarm's name, a blank and a message")),
            "hostname" => Err(wrong("a host name")),
            "rpc" | "retryrpc" | "call" | "callint" | "callret" | "callintret" | "chroot" | "setns" | "cgroup" => {
                Err(HookError::Missing { action: verb.into() })
            }
            _ => Err(HookError::Unknown { action: verb.into() }),
        }
    }
}

/// The first word and the rest, without the one blank between them.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn putenv(text: &str) -> Option<Action> {
    let (name, value) = text.split_once('=')?;
    (!name.is_empty()).then(|| Action::PutEnv { name: name.into(), value: value.into() })
}

fn chmod(text: &str) -> Option<Action> {
    let (path, mode) = text.rsplit_once(' ')?;
    let mode = u32::from_str_radix(mode, 8).ok().filter(|m| *m <= 0o7777)?;
    Some(Action::Chmod { path: path.trim_end().into(), mode })
}

fn chown(text: &str) -> Option<Action> {
    let (rest, group) = text.rsplit_once(' ')?;
    let (path, user) = rest.trim_end().rsplit_once(' ')?;
    Some(Action::Chown { path: path.trim_end().into(), user: user.into(), group: group.into() })
}

fn unix_signal(text: &str) -> Option<Action> {
    let (number, function) = text.trim().split_once(char::is_whitespace)?;
    let signal = number.parse().ok().filter(|n| nix::sys::signal::Signal::try_from(*n).is_ok())?;
    let reaction = match function.trim() {
        "gracefully_kill_them_all" => Reaction::GracefulStop,
        "kill_them_all" => Reaction::Stop,
        "grace_them_all" => Reaction::Reload,
        "reap_them_all" => Reaction::BrutalReload,
        "suspend_resume_them_all" => Reaction::PauseOrResume,
        "stats" => Reaction::Report,
        _ => return None,
    };
    Some(Action::UnixSignal { signal, reaction })
}

fn alarm(text: &str) -> Option<Action> {
    let (name, message) = text.trim().split_once(' ')?;
    Some(Action::Alarm { name: name.into(), message: message.trim_start().into() })
}

fn exit(text: &str) -> Option<Action> {
    if text.is_empty() { Some(Action::Exit(0)) } else { Some(Action::Exit(i32::from(text.trim().parse::<u8>().ok()?))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_their_arguments() {
        let parse = |text| Action::parse(text).expect(text);
        assert_eq!(parse("appendn:/f"), Action::Write { path: "/f".into(), text: "\n".into(), append: true });
        assert_eq!(parse("write:/f a b"), Action::Write { path: "/f".into(), text: "a b".into(), append: false });
        assert_eq!(parse("chmod:/with blank 640"), Action::Chmod { path: "/with blank".into(), mode: 0o640 });
        assert_eq!(parse("chown:/f www-data 33"), Action::Chown { path: "/f".into(), user: "www-data".into(), group: "33".into() });
        assert_eq!(parse("putenv:A=b=c d"), Action::PutEnv { name: "A".into(), value: "b=c d".into() });
        assert_eq!(parse("!exec:a:b"), Action::Exec("a:b".into()));
        assert_eq!(parse("alarm:bell it is  late"), Action::Alarm { name: "bell".into(), message: "it is  late".into() });
        assert_eq!(parse("exit"), Action::Exit(0));
        assert_eq!(parse("exit:9"), Action::Exit(9));
    }

    #[test]
    fn the_container_idiom() {
        let expected = Action::UnixSignal { signal: 15, reaction: Reaction::GracefulStop };
        assert_eq!(Action::parse("unix_signal:15 gracefully_kill_them_all").expect("known"), expected);
        for bad in ["unix_signal:15 nosuch", "unix_signal:99 kill_them_all", "unix_signal:15"] {
            assert!(matches!(Action::parse(bad), Err(HookError::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_an_error_with_a_hint() {
        for bad in ["chmod:/f 9", "mkdir:", "putenv:x", "exit:x", "mount:proc", "chown:/f a", "alarm:bell"] {
            assert!(matches!(Action::parse(bad), Err(HookError::Syntax { .. })), "{bad}");
        }
        assert!(matches!(Action::parse("rpc:f"), Err(HookError::Missing { .. })));
        assert!(matches!(Action::parse(""), Err(HookError::Unknown { .. })));
    }
}

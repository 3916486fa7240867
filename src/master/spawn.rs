//! Starting a zygote: what happens between the fork and the exec of the user's interpreter (or, for Lua alone, of this executable).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use imperator_sys::process::{self, Fork};
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{BOOT_ENV, Boot, FromZygote, PYTHON_BOOTSTRAP, Role};
use imperator_worker::hooks::{Effects, Hooks};
use imperator_worker::isolation::Files;
use imperator_worker::log::diag::say;
use imperator_worker::metrics::Metrics;
use imperator_worker::privileges::Plan;
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::settings::{Python, Settings};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use super::caches::CacheSet;
use super::interpreter::{extension, interpreter};
use super::{STATE_ENV, Start, shim};
use crate::privileges::{FORCED_ENV, Place, files};
use crate::sockets::Bound;

/// What a new Python process is made of.
pub struct Recipe<'a> {
    pub role: Role,
    pub settings: &'a Settings,
    pub start: &'a Start,
    pub generation: u64,
    pub listeners: &'a [Bound],
    pub scoreboard: &'a Scoreboard,
    pub caches: &'a CacheSet,
    pub metrics: Option<&'a Metrics>,
    pub request_log: Option<BorrowedFd<'a>>,
    /// Descriptors 1 and 2 of the new process, if they are not ours.
    pub log: Option<BorrowedFd<'a>>,
    pub started_at: u64,
    /// What is given up, and when.
    pub plan: &'a Plan,
    pub place: Place,
}

impl Recipe<'_> {
    /// Forks the zygote; its pid and our end of its control pair.
    ///
    /// # Errors
    /// The fork, or what has to be there before it. What goes wrong in the child comes as [`FromZygote::Failed`].
    pub fn zygote(&self) -> Result<(Pid, SeqPacket)> {
        let (ours, theirs) = SeqPacket::pair().context("a control pair for the zygote")?;
        ours.want_credentials()?;
        ours.set_nonblocking(true)?;
        let master = nix::unistd::getpid();
        match process::fork().context("fork of the zygote")? {
            Fork::Parent(pid) => Ok((pid, ours)),
            Fork::Child => {
                drop(ours);
                let (code, message) = match self.become_zygote(&theirs, master) {
                    Ok(code) => (code, "a hook ends it".to_owned()),
                    Err(error) => (1, format!("{error:#}")),
                };
                say(&format!("cannot start the app's process: {message}"));
                let _ = theirs.send(&FromZygote::Failed { code, message }, &[]);
                process::exit_now(code)
            }
        }
    }

    /// Returns only if that fails, or with the code that a hook ends it with.
    fn become_zygote(&self, control: &SeqPacket, master: Pid) -> Result<i32> {
        prctl::set_name(c"zygote")?;
        die_with(master)?;
        quiet_signals()?;
        if let Some(log) = self.log {
            process::redirect(log, 1)?;
            process::redirect(log, 2)?;
        }
        let ours = self.ours()?;
        let effects = self.give_up()?;
        die_with(master)?; // a change of user forgets it
        for (name, message) in effects.alarms {
            control.send(&FromZygote::Alarm { name, message }, &[])?;
        }
        match effects.exit {
            Some(code) => Ok(code),
            None if self.may_go_on() => match self.go_on(control, master)? {},
            None => match self.exec(ours, Some(control), master.as_raw())? {},
        }
    }

    /// `master = false` and `pyrun`: this very process becomes the interpreter. Returns only if that fails, or with the code that a hook ends it with.
    ///
    /// # Errors
    /// A privilege that cannot be given up, no interpreter, no extension.
    pub fn in_place(&self) -> Result<i32> {
        let ours = self.ours()?;
        let effects = self.give_up()?;
        effects.alarms.iter().for_each(|(name, message)| say(&format!("alarm {name}: there is no master, which was to hear: {message}")));
        if let Some(code) = effects.exit {
            return Ok(code);
        }
        imperator_sys::spawn::default_signals()?;
        match self.exec(ours, None, 0)? {}
    }

    /// This executable, where it is the zygote's: opened before a jail or another user cannot reach it.
    fn ours(&self) -> Result<Option<File>> {
        let wanted = !self.settings.wants_python();
        wanted.then(|| File::open("/proc/self/exe").or_else(|_| File::open(&self.start.binary)).context("this executable")).transpose()
    }

    fn give_up(&self) -> Result<Effects> {
        limits(self.settings)?;
        if self.place == Place::AfterLoad {
            return Ok(Effects::default());
        }
        Ok(self.plan.enter(&Hooks::parse(&self.settings.hooks)?)?)
    }

    /// Becomes the interpreter, or `ours`, this executable once more. Returns only if that fails.
    ///
    /// # Errors
    /// No interpreter, no extension, or the exec itself.
    pub fn exec(&self, ours: Option<File>, control: Option<&SeqPacket>, master_pid: i32) -> Result<std::convert::Infallible> {
        let env = environment_now(self.start, self.settings);
        let path = env.iter().find(|(k, _)| k == "PATH").map_or("/usr/local/bin:/usr/bin:/bin", |(_, v)| v.as_str());
        let program = match ours {
            Some(executable) => Program::Ours(executable),
            None => self.python(path)?,
        };
        let mut plan = self.plan.clone();
        if let Some(files) = plan.seal.files.first_mut() {
            *files = std::mem::take(files).and(program.files());
        }
        let boot = self.boot(control, master_pid, &plan)?;
        let env = env.iter().map(|(k, v)| format!("{k}={v}")).chain([format!("{BOOT_ENV}={}", boot.as_raw_fd())]);
        let env = env.map(CString::new).collect::<Result<Vec<_>, _>>().context("an environment variable holds a NUL")?;
        process::set_cloexec(boot.as_fd(), false)?;
        if self.place == Place::BeforeExec {
            plan.seal()?;
        }
        program.exec(&env)
    }

    /// The user's interpreter. A shim is followed to it where files are named: it runs programs from anywhere.
    fn python(&self, path: &str) -> Result<Program> {
        let mut python = self.settings.python.clone();
        if !self.plan.seal.files.is_empty()
            && let Some(behind) = shim::behind(self.settings, self.start)
        {
            python.bin = behind.to_str().map(ToOwned::to_owned);
        }
        Program::python(&python, path, &self.start.binary)
    }

    /// The memfd with all that the new process must know.
    fn boot(&self, control: Option<&SeqPacket>, master_pid: i32, plan: &Plan) -> Result<File> {
        memfd("imperator-boot", &serde_json::to_vec(&*self.record(control, master_pid, plan)?)?)
    }

    /// All that the new process must know; the descriptors in it are made to survive the exec.
    #[inline(never)] // a forked zygote goes on above its caller
    pub(super) fn record(&self, control: Option<&SeqPacket>, master_pid: i32, plan: &Plan) -> Result<Arc<Boot>> {
        let mut settings = self.settings.clone();
        if settings.process.chdir.is_some() && settings.privileges.chroot.is_none() {
            // We are there already, and a relative path would be followed twice.
            settings.process.chdir = std::env::current_dir().ok().and_then(|d| d.into_os_string().into_string().ok());
        }
        let boot = Boot {
            role: self.role,
            settings,
            generation: self.generation,
            listeners: self.listeners.iter().map(Bound::listener).collect(),
            scoreboard: self.scoreboard.as_fd().as_raw_fd(),
            caches: self.caches.descriptors(),
            metrics: self.metrics.map(|m| (m.as_fd().as_raw_fd(), m.names().to_vec())),
            control: control.map(|c| c.as_fd().as_raw_fd()),
            request_log: self.request_log.map(|fd| fd.as_raw_fd()),
            master_pid,
            started_at: self.started_at,
            drop: (self.place == Place::AfterLoad).then(|| plan.clone()),
        };
        let shared =
            self.listeners.iter().map(|l| l.fd.as_fd()).chain([self.scoreboard.as_fd()]).chain(self.caches.iter().map(AsFd::as_fd));
        for fd in shared.chain(self.metrics.map(AsFd::as_fd)).chain(control.map(AsFd::as_fd)).chain(self.request_log) {
            process::set_cloexec(fd, false)?;
        }
        Ok(Arc::new(boot))
    }
}

/// A memfd with `text`, to be read from the start.
pub fn memfd(name: &str, text: &[u8]) -> Result<File> {
    use std::io::Seek as _;
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// This process ends with its parent. Checked after it is set: a parent that is gone by then sends nothing.
pub fn die_with(parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    anyhow::ensure!(getppid() == parent, "the master is gone");
    Ok(())
}

/// Limits of the app's processes; the master has none of them.
pub fn limits(settings: &Settings) -> Result<()> {
    let l = &settings.limits;
    let set = |resource, value: u64, name: &str| -> Result<()> {
        if value > 0 {
            setrlimit(resource, value, value).with_context(|| format!("{name} = {value}"))?;
        }
        Ok(())
    };
    set(Resource::RLIMIT_AS, l.limit_as_mib << 20, "limit-as")?;
    set(Resource::RLIMIT_NPROC, l.limit_nproc, "limit-nproc")?;
    set(Resource::RLIMIT_NOFILE, l.max_fd, "max-fd")
}

/// Signals that a terminal or an init system sends to the whole group are the master's business while the app loads. Workers install their own handlers.
fn quiet_signals() -> Result<()> {
    imperator_sys::spawn::default_signals()?;
    Ok(process::ignore_signals(&[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM])?)
}

/// The environment of the app: that of the start, less what is only ours, with `env` and `unenv`. (`UWSGI_EMPEROR_FD` stays, as in uWSGI: apps look at
/// it to know that they are vassals. The descriptor itself is the master's alone.)
pub fn environment(start: &Start, settings: &Settings) -> Vec<(String, String)> {
    let mut env: Vec<_> = start.env.iter().filter(|(key, _)| !is_ours(key)).cloned().collect();
    for line in &settings.process.env {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        env.retain(|(k, _)| k != key);
        env.push((key.to_owned(), value.to_owned()));
    }
    env.retain(|(key, _)| !settings.process.unenv.contains(key));
    env
}

/// [`environment`] with what `putenv` hooks have changed in this process.
pub fn environment_now(start: &Start, settings: &Settings) -> Vec<(String, String)> {
    let mut env = environment(start, settings);
    put_by_hooks(start, &mut env);
    env
}

/// Variables that are the master's alone.
fn is_ours(name: &str) -> bool {
    [BOOT_ENV, STATE_ENV, FORCED_ENV].contains(&name) || crate::systemd::VARIABLES.contains(&name)
}

/// What `putenv` hooks changed in this process since its start.
pub fn put_by_hooks(start: &Start, env: &mut Vec<(String, String)>) {
    let bookkeeping = |key: &str| is_ours(key) || [super::RELOADS_ENV, super::vassal::FD_ENV].contains(&key);
    for (key, value) in std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))) {
        if !bookkeeping(&key) && !start.env.iter().any(|(k, v)| (k, v) == (&key, &value)) {
            env.retain(|(k, _)| *k != key);
            env.push((key, value));
        }
    }
}

/// An argument that is there for its length: the process writes its title (`uWSGI worker 1`) over its arguments.
const ROOM: &CStr =
    c"(started by an imperator master, which tells it in a memfd what it is to be; its title takes the place of these words)";

/// What a zygote executes.
enum Program {
    Ours(File),
    Python { path: PathBuf, extension: PathBuf, argv: Vec<CString> },
}

impl Program {
    fn python(python: &Python, path: &str, binary: &Path) -> Result<Self> {
        let program = interpreter(python, path)?;
        let extension = extension(binary, &python.plugins_dir)?;
        let argv = arguments(&program, python, &extension)?;
        Ok(Self::Python { path: program, extension, argv })
    }

    /// What it needs itself.
    fn files(&self) -> Files {
        match self {
            Self::Ours(_) => Files::default(),
            Self::Python { path, extension, .. } => files::of_the_interpreter(path, extension),
        }
    }

    fn exec(&self, env: &[CString]) -> Result<std::convert::Infallible> {
        match self {
            Self::Ours(file) => nix::unistd::fexecve(file, &[c"imperator", ROOM], env).context("cannot execute this executable once more"),
            Self::Python { path, argv, .. } => {
                nix::unistd::execve(&argv[0], argv, env).with_context(|| format!("cannot execute {}", path.display()))
            }
        }
    }
}

fn arguments(program: &Path, python: &Python, extension: &Path) -> Result<Vec<CString>> {
    let text = |p: &Path| p.to_str().map(ToOwned::to_owned).with_context(|| format!("{} is no UTF-8", p.display()));
    let mut argv = vec![text(program)?];
    match python.optimize {
        0 => {}
        1 => argv.push("-O".into()),
        _ => argv.push("-OO".into()),
    }
    if python.no_site {
        argv.push("-S".into());
    }
    argv.extend(["-c".into(), PYTHON_BOOTSTRAP.into(), text(extension)?]);
    Ok(argv.into_iter().map(CString::new).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_sees_its_own_environment_and_not_ours() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let env = vec![pair("PATH", "/bin"), pair("HOME", "/root"), pair("NOTIFY_SOCKET", "/n"), pair("LISTEN_FDS", "1")];
        let start = Start { env, ..Start::default() };
        let mut settings = Settings::default();
        settings.process.env = vec!["HOME=/srv".into(), "X=a=b c".into(), "GONE=1".into()];
        settings.process.unenv = vec!["GONE".into()];
        assert_eq!(environment(&start, &settings), [pair("PATH", "/bin"), pair("HOME", "/srv"), pair("X", "a=b c")]);
    }

    #[test]
    fn interpreter_options_come_before_the_program() {
        let python = Python { optimize: 2, no_site: true, ..Python::default() };
        let argv = arguments(Path::new("/bin/python3"), &python, Path::new("/lib/x.so")).expect("argv");
        assert_eq!(argv[..3], [c"/bin/python3".to_owned(), c"-OO".to_owned(), c"-S".to_owned()]);
        assert_eq!(argv[3..].iter().map(|a| a.as_bytes().len()).collect::<Vec<_>>(), [2, PYTHON_BOOTSTRAP.len(), 9]);
    }
}

//! What master, zygote and workers say to each other.
//!
//! All of it is JSON, one message a packet, over `SOCK_SEQPACKET` pairs: one pair between the master and each zygote,
//! one between the master and each worker. The master's ends have `SO_PASSCRED` set, so that it learns a worker's pid from
//! the kernel and not from the worker. The end of the peer is the end of file.

use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// Environment variable that holds the number of the descriptor (a memfd) with a [`Boot`] as JSON. The process that
/// reads it removes it from its environment, so that no child of an app sees it.
pub const BOOT_ENV: &str = "IMPERATOR_BOOT";

/// What the interpreter of a Python zygote runs: `PYTHON [-O|-OO] [-S] -c PYTHON_BOOTSTRAP EXTENSION`, where `EXTENSION` is the
/// absolute path of our extension module. The working directory leaves `sys.path` before anything is imported, so that no file
/// of an app's is taken for a module of Python's; the extension puts the right entries there later.
pub const PYTHON_BOOTSTRAP: &str = "\
import sys
if sys.version_info < (3, 9): sys.exit('%s is Python %d.%d: Imperator needs 3.9 or later; name another one with home or python-bin' % ((sys.executable,) + sys.version_info[:2]))
if sys.path and sys.path[0] == '': del sys.path[0]
import _imp
extension = sys.modules['imperator_python'] = _imp.create_dynamic(type(sys.__spec__)('imperator_python', None, origin=sys.argv[1]))
_imp.exec_dynamic(extension)
extension.main()
";

/// Everything that a zygote (or, with `master = false`, the one process itself) gets from the process that starts it.
/// Descriptors are numbers: they are inherited over the exec, and the receiver sets close-on-exec on them at once.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Boot {
    pub role: Role,
    pub settings: Settings,
    /// Which start or reload this is, from 1.
    pub generation: u64,
    /// Listening sockets in the order of `settings.sockets`.
    pub listeners: Vec<Listener>,
    /// The memfd of this generation's [`crate::scoreboard::Scoreboard`].
    pub scoreboard: i32,
    /// The memory of each cache of `settings.cache`, in their order; `None` for one that is not on this host.
    #[serde(default)]
    pub caches: Vec<Option<i32>>,
    /// The memfd of the user's own metrics, and whose its first cells are, in order.
    #[serde(default)]
    pub metrics: Option<(i32, Vec<String>)>,
    /// The zygote's end of the control pair; absent for [`Role::Single`].
    pub control: Option<i32>,
    /// A pipe or file that takes whole request log lines; `None`: descriptor 2.
    pub request_log: Option<i32>,
    /// The master's pid as the zygote sees it; 0 for [`Role::Single`].
    pub master_pid: i32,
    /// Wall clock when the instance was first started, seconds.
    pub started_at: u64,
    /// What the zygote has still to give up once the app is loaded (`drop-after-apps` and the like), with the hooks of the phases in between.
    #[serde(default)]
    pub drop: Option<crate::privileges::Plan>,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Loads the app, then forks workers on the master's word.
    Zygote,
    /// `master = false`: loads the app and serves as worker 1; forks the other workers itself.
    Single,
    /// `pyrun`: runs a script as `__main__` with the `uwsgi` module, then ends.
    Script,
    /// The `imperator` executable as an emperor below an instance that also has sockets of its own.
    Emperor,
}

/// A bound, listening socket.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub fd: i32,
    pub protocol: crate::settings::Protocol,
    /// As stats and logs print it: `127.0.0.1:3031`, `/run/app.sock`, `@name`.
    pub name: String,
    /// The port for SERVER_PORT, of a TCP socket.
    pub port: Option<u16>,
}

/// Master to zygote.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum ToZygote {
    /// Fork worker `worker` (1-based). The packet carries one descriptor: the worker's end of its own control pair.
    Fork { worker: u32 },
    /// A new log: the packet carries one descriptor, for 1 and 2.
    Logs,
    /// This generation needs no more forks: exit 0.
    Exit,
}

/// Zygote to master.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum FromZygote {
    /// The app is loaded (or will be in each worker, with `lazy-apps`); ready to fork.
    Loaded {
        apps: Vec<App>,
        language: String,
    },
    /// Nothing could be loaded and `need-app` holds, or the app called `sys.exit`: the zygote ends with `code`. The reason is in the log already.
    Failed {
        code: i32,
        message: String,
    },
    ForkFailed {
        worker: u32,
        message: String,
    },
    /// The action `alarm` of a hook.
    Alarm {
        name: String,
        message: String,
    },
}

/// Worker to master, on the worker's own pair.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum FromWorker {
    /// First message. The pid is in the credentials.
    Started,
    /// The worker accepts requests from now on. (With `lazy-apps` this is after the load.)
    Accepting { apps: Vec<App> },
    /// `lazy-apps`: the load failed and `need-app` holds; the worker ends with 22.
    Failed { code: i32, message: String },
    /// The first request of this worker's life is done.
    Loyal,
    /// A request set a deadline of its own (`uwsgi.set_user_harakiri`), or the first one after a calm has begun (see [`crate::scoreboard::sleeper`]): the
    /// master, which sleeps until the next deadline that it knows, has to look at the scoreboard.
    Deadline,
    /// An item that expires was stored in a cache: the master, which sleeps as long as there is none, has to sweep.
    ItemsExpire,
    /// `uwsgi.reload()`: reload the instance, gracefully.
    Reload,
    /// `uwsgi.stop()`.
    Stop,
    /// `uwsgi.alarm()`.
    Alarm { name: String, message: String },
}

/// Master to worker. (A graceful end is SIGHUP, an end at once SIGTERM, as in uWSGI.)
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum ToWorker {
    /// Stop accepting, keep running (SIGTSTP to the master); `false` resumes. `false` to a worker that accepts already has it look at its
    /// listeners anew: a worker that was killed may have been woken for a connection (EPOLLEXCLUSIVE wakes one) that it never took.
    Pause(bool),
    /// As [`ToZygote::Logs`].
    Logs,
}

/// A loaded app, as `apps[]` in the stats.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: u32,
    pub modifier1: u8,
    pub mountpoint: String,
    /// Seconds that loading took.
    pub startup_time: u64,
    pub chdir: String,
}

/// Exit codes of workers that the master knows; numbers as in uWSGI.
pub mod exit {
    /// Monitored exception (`reload-on-exception`).
    pub const EXCEPTION: i32 = 5;
    /// Wants to go cheap.
    pub const CHEAP: i32 = 15;
    /// Reload me: SIGHUP, max-requests, reload-on-rss.
    pub const RELOAD: i32 = 17;
    /// The app could not be loaded.
    pub const FAILED_APP: i32 = 22;
    /// Do not respawn.
    pub const QUIET: i32 = 29;
    /// Ended on SIGINT or SIGTERM.
    pub const END: i32 = 30;
    /// Something is wrong with all of them: reload the instance at once.
    pub const INCONSISTENT: i32 = 31;
}

//! What the emperor decides, without a process, a file or a clock: events and the time go in, [`Action`]s come out.

mod diagnosis;
mod kept;
mod life;
mod orders;
mod penalty;
mod scan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use diagnosis::{Case, diagnose};
pub use kept::Kept;
pub use orders::Outcome;
pub use penalty::{Blacklist, Entry, Flapping};
pub use scan::{Found, Seen};
use serde::{Deserialize, Serialize};
pub use view::State;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps.
    pub ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

impl Now {
    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.wall_ms.div_euclid(1000)
    }
}

/// A vassal, or the `zerg`-th helper of one (1-based; 0 is the vassal itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    pub zerg: u32,
}

impl Key {
    pub fn vassal(id: &str) -> Self {
        Self { id: id.into(), zerg: 0 }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.zerg > 0 { f.write_str(":zerg") } else { Ok(()) }
    }
}

/// What makes one version of a file differ from another: any difference is a change, an older time too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    pub mtime_ns: i128,
    pub inode: u64,
    pub size: u64,
}

impl Stamp {
    /// The modification time in seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.mtime_ns.div_euclid(1_000_000_000) as i64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

pub use crate::pipe as byte;

/// The options that decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub throttle_ms: u64,
    pub max_throttle_ms: u64,
    pub no_blacklist: bool,
    /// From the word to stop to SIGKILL.
    pub curse_tolerance_ms: u64,
    /// The same when the emperor itself ends.
    pub end_mercy_ms: u64,
    pub graceful: bool,
    pub required_heartbeat_ms: u64,
    pub tyrant: bool,
    /// Whether any on-demand option is set, so that new vassals have to be asked for a socket.
    pub on_demand: bool,
    /// Zergs at most, of all vassals.
    pub broodlord: u32,
    /// Vassals at most that were started or reloaded and have not said yet that they accept requests; 0: any number.
    pub parallel_starts: usize,
}

/// How long a vassal that says nothing counts as starting.
const START_SLOT_MS: u64 = 2000;
/// A file is left alone for so long after its last change. (One that is being written waits for its writer, where the kernel tells.)
pub const QUIET_MS: u64 = 30;
/// A file that is missing is looked for once more after so long.
const MISSING_MS: u64 = 50;
/// `emperor-no-blacklist` takes the penalty away, but not the breath.
const NO_BLACKLIST_PAUSE_MS: u64 = 100;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// To be started at `until` (`Now::ms`) if there is room.
    Waiting { until: u64, reason: String },
    /// The shell was told to start it and has not answered.
    Starting,
    /// The shell was asked for its on-demand socket and has not answered.
    Naming,
    /// Its socket waits for a first connection.
    Asleep,
    /// An operator stopped it, and its file is still there.
    Stopped,
    Running {
        pid: i32,
        /// Of the start or the last reload, in `Now::ms`.
        since: u64,
        heartbeat_due: Option<u64>,
    },
    /// Told to end. `counts`: its end is a death, not our wish.
    Stopping { pid: i32, since: u64, next: Step, counts: bool },
}

/// What comes next for one that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Terminate { at: u64 },
    Kill { at: u64 },
}

impl Step {
    fn at(self) -> u64 {
        match self {
            Self::Terminate { at } | Self::Kill { at } => at,
        }
    }
}

/// What `emperor-stats` shows. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Face {
    pub born: i64,
    pub last_mod: i64,
    pub last_heartbeat: i64,
    pub loyal: bool,
    pub ready: bool,
    pub accepting: bool,
    pub last_loyal: i64,
    pub last_ready: i64,
    pub last_accepting: i64,
    pub first_run: i64,
    pub last_run: i64,
    pub cursed: i64,
    pub respawns: u32,
}

/// How the last process of a vassal ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `None`: there never was a process.
    pub exit: Option<Exit>,
    /// In words.
    pub text: String,
    /// Seconds since 1970.
    pub at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vassal {
    pub source: usize,
    pub stamp: Stamp,
    pub owner: Owner,
    pub phase: Phase,
    pub face: Face,
    /// Its file is there (and may be used).
    pub wanted: bool,
    /// Has an on-demand socket.
    pub on_demand: bool,
    /// An operator stopped it: it stays so until he starts it.
    pub halted: bool,
    /// Processes that were started so far.
    pub starts: u32,
    pub last_end: Option<Ended>,
    /// Since when it has no process, seconds since 1970.
    pub resting_since: i64,
    /// It is to be reloaded when there is room, and why.
    reload_due: Option<String>,
    /// Why it is being stopped, where that is a death.
    #[serde(default)]
    blame: Option<String>,
    missing_since: Option<u64>,
    #[serde(default)]
    reloads: Reloads,
}

/// Words to reload, since the process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Reloads {
    told: u64,
    /// Done or refused, by its own word.
    settled: u64,
    /// It gives that word. Of another one only the byte for "accepting" tells, which may still be the life's before.
    counted: bool,
    /// It did not when it was last asked: a version that does not.
    plain: bool,
}

impl Vassal {
    /// The process id, if there is a process.
    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Running { pid, .. } | Phase::Stopping { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a process and answer with `started` or `start_failed`.
    Start(Key),
    /// Find out whether the vassal has an on-demand socket, make it, and answer with `named`.
    Name(Key),
    /// Wait for a connection on its on-demand socket.
    Watch(Key),
    Tell(Key, u8),
    Terminate(Key, i32),
    Kill(Key, i32),
    /// A process of a vassal of this source has ended and was reaped: its pipe can be closed, the stop hook is due.
    Ended(Key, usize),
    /// It is no vassal any more: its on-demand socket goes.
    Forget(Key),
    /// Look at the sources again.
    Scan,
    Log(String),
    /// A line about a death, which what the vassal said last may explain.
    Obituary(Key, String),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(1) => f.write_str("exit code 1 (configuration or start error)"),
            Self::Code(22) => f.write_str("exit code 22 (no application could be loaded)"),
            Self::Code(26) => f.write_str("exit code 26 (nothing to execute, or its configuration could not be had)"),
            Self::Code(n) => write!(f, "exit code {n}"),
            Self::Signal(n) => match nix::sys::signal::Signal::try_from(*n) {
                Ok(signal) => write!(f, "signal {n} ({})", signal.as_str()),
                Err(_) => write!(f, "signal {n}"),
            },
        }
    }
}

/// The emperor's mind.
#[derive(Debug, Clone)]
pub struct Core {
    pub policy: Policy,
    pub vassals: BTreeMap<Key, Vassal>,
    pub blacklist: Blacklist,
    /// Files that may not run, and why (tyrant mode).
    pub refused: BTreeMap<String, String>,
    /// Vassals whose on-demand socket could not be made, and why.
    pub unnamed: BTreeMap<String, String>,
    /// Files whose id is taken by a file of an earlier source: id and number of the source.
    clashes: BTreeSet<(String, usize)>,
    flapping: BTreeMap<Key, Flapping>,
    rescan_at: Option<u64>,
    ending: bool,
}

impl Core {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            vassals: BTreeMap::new(),
            blacklist: Blacklist::default(),
            refused: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            clashes: BTreeSet::new(),
            flapping: BTreeMap::new(),
            rescan_at: None,
            ending: false,
        }
    }

    /// Whether the end was asked for and no process is left.
    pub fn is_done(&self) -> bool {
        self.ending && self.vassals.is_empty()
    }

    pub fn is_ending(&self) -> bool {
        self.ending
    }

    pub fn key_of(&self, pid: i32) -> Option<Key> {
        self.vassals.iter().find(|(_, v)| v.pid() == Some(pid)).map(|(k, _)| k.clone())
    }

    /// Vassals with a process or a sleeping socket.
    pub fn governed(&self) -> usize {
        self.vassals.values().filter(|v| v.pid().is_some() || v.phase == Phase::Asleep).count()
    }

    /// When `tick` has something to do, in `Now::ms`; `None`: not before the next event.
    pub fn next_deadline(&self, now: Now) -> Option<u64> {
        let slot = self.next_slot(now);
        let phases = self.vassals.values().filter_map(|v| match &v.phase {
            Phase::Waiting { until, .. } => Some(slot.max(*until)),
            Phase::Running { heartbeat_due, .. } => *heartbeat_due,
            Phase::Stopping { next, .. } => Some(next.at()),
            Phase::Starting | Phase::Naming | Phase::Asleep | Phase::Stopped => None,
        });
        let reloads = self.vassals.values().filter(|v| v.reload_due.is_some()).map(|_| slot);
        phases.chain(reloads).chain(self.rescan_at).min()
    }

    /// When another vassal may start if nothing happens: 0 is at once.
    fn next_slot(&self, now: Now) -> u64 {
        let busy = || self.vassals.values().filter_map(starting_until).filter(|&t| t > now.ms);
        if self.policy.parallel_starts > 0 && busy().count() >= self.policy.parallel_starts { busy().min().unwrap_or(0) } else { 0 }
    }

    fn rescan_in(&mut self, now: Now, ms: u64) {
        let at = now.ms + ms;
        self.rescan_at = Some(self.rescan_at.map_or(at, |t| t.min(at)));
    }

    /// Starts who waited long enough, the one that waits longest first, as far as there is room.
    fn pump(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.ending {
            return;
        }
        let mut busy = self.vassals.values().filter(|v| starting_until(v).is_some_and(|t| t > now.ms)).count();
        let mut due: Vec<(u64, Key)> = self
            .vassals
            .iter()
            .filter_map(|(k, v)| match v.phase {
                Phase::Waiting { until, .. } if until <= now.ms => Some((until, k.clone())),
                _ => None,
            })
            .collect();
        due.sort();
        let reloads: Vec<Key> = self.vassals.iter().filter(|(_, v)| v.reload_due.is_some()).map(|(k, _)| k.clone()).collect();
        for key in reloads {
            if self.policy.parallel_starts > 0 && busy >= self.policy.parallel_starts {
                break;
            }
            busy += 1;
            self.reload(now, &key, out);
        }
        for (_, key) in due {
            let Some(vassal) = self.vassals.get_mut(&key) else { continue };
            if vassal.on_demand {
                vassal.phase = Phase::Asleep;
                out.push(Action::Watch(key));
            } else if self.policy.parallel_starts == 0 || busy < self.policy.parallel_starts {
                busy += 1;
                vassal.phase = Phase::Starting;
                out.push(Action::Start(key));
            }
        }
    }
}

/// Until when this vassal takes one of the slots for starting ones.
fn starting_until(vassal: &Vassal) -> Option<u64> {
    match vassal.phase {
        Phase::Starting => Some(u64::MAX),
        Phase::Running { since, .. } if !vassal.face.accepting => Some(since + START_SLOT_MS),
        _ => None,
    }
}

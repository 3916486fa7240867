//! One attached daemon: started, found, watched, stopped, started again.

use nix::libc::{SIGHUP, SIGKILL};
use serde::{Deserialize, Serialize};

use super::Ms;

/// A daemon that ran for less than this is started again a little later each time.
const QUICK: Ms = 3000;
/// How much later.
const STEP: Ms = 1000;
/// Between two looks for the pidfile of a smart daemon that has just been started.
const LOOK: Ms = 250;

/// What the settings say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// It has a pidfile and outlives the instance.
    pub smart: bool,
    /// Its end is the instance's.
    pub control: bool,
    /// A smart one is told of reloads and the end.
    pub notify: bool,
    pub stop_signal: i32,
    pub reload_signal: Option<i32>,
    /// The longest pause before it is started again.
    pub longest_pause: Ms,
    /// For its pidfile to appear.
    pub patience: Ms,
    /// From the stop signal to the kill.
    pub mercy: Ms,
}

/// It, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Watched {
    pub life: DaemonLife,
    /// How often it was started.
    pub starts: u64,
    /// Before the next start.
    pub pause: Ms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum DaemonLife {
    /// Not wanted, or (smart) none of ours any more.
    #[default]
    Off,
    /// Its pidfile is being read.
    Checking,
    Starting,
    /// It is started again then.
    Waiting {
        until: Ms,
    },
    /// Smart: the command was started, and its pidfile names nobody yet.
    Launching {
        launcher: Option<i32>,
        since: Ms,
        look_at: Ms,
    },
    /// `child`: ours, and the first of its session; else found by its pidfile.
    Running {
        pid: i32,
        since: Ms,
        child: bool,
    },
    /// It was told to end.
    Ending {
        pid: i32,
        child: bool,
        kill_at: Option<Ms>,
        again: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEvent {
    Start,
    Spawned(i32),
    SpawnFailed,
    /// What the pidfile says, after [`DaemonAct::Look`].
    Found(i32),
    Missing,
    /// That process ended.
    Gone(i32),
    Touched,
    /// The instance was reloaded. `kept`: the new configuration has the same line.
    Reload {
        kept: bool,
    },
    Stop {
        mercy: Ms,
    },
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonAct {
    Spawn,
    /// Read the pidfile, and say who it names.
    Look,
    /// To the process, or if it is a child of ours to all of its session's first group.
    Signal {
        pid: i32,
        signal: i32,
        child: bool,
    },
    /// A control daemon is gone.
    EndInstance,
    Respawning {
        pid: i32,
        pause: Ms,
    },
}

impl Watched {
    /// The process that there is.
    pub fn pid(&self) -> Option<i32> {
        match self.life {
            DaemonLife::Running { pid, .. } | DaemonLife::Ending { pid, .. } => Some(pid),
            DaemonLife::Launching { launcher, .. } => launcher,
            DaemonLife::Off | DaemonLife::Checking | DaemonLife::Starting | DaemonLife::Waiting { .. } => None,
        }
    }

    pub fn next_deadline(&self) -> Option<Ms> {
        match self.life {
            DaemonLife::Waiting { until } => Some(until),
            DaemonLife::Launching { look_at, .. } => Some(look_at),
            DaemonLife::Ending { kill_at, .. } => kill_at,
            _ => None,
        }
    }

    pub fn on(&mut self, rule: &Rule, event: DaemonEvent, now: Ms) -> Vec<DaemonAct> {
        match event {
            DaemonEvent::Start => match self.life {
                DaemonLife::Off => self.start(rule),
                _ => vec![],
            },
            DaemonEvent::Spawned(pid) => {
                self.starts += 1;
                self.life = match rule.smart {
                    true => DaemonLife::Launching { launcher: Some(pid), since: now, look_at: now + LOOK },
                    false => DaemonLife::Running { pid, since: now, child: true },
                };
                vec![]
            }
            DaemonEvent::SpawnFailed => self.wait(rule, 0, now),
            DaemonEvent::Found(pid) => {
                self.life = DaemonLife::Running { pid, since: now, child: false };
                vec![]
            }
            DaemonEvent::Missing => self.missing(rule, now),
            DaemonEvent::Gone(pid) => self.gone(rule, pid, now),
            DaemonEvent::Touched => match self.life {
                DaemonLife::Running { pid, child, .. } => self.end(rule, pid, child, rule.mercy, true, now),
                _ => vec![],
            },
            DaemonEvent::Reload { kept } => self.reload(rule, kept, now),
            DaemonEvent::Stop { mercy } => self.stop(rule, mercy, now),
            DaemonEvent::Tick => self.tick(rule, now),
        }
    }

    fn start(&mut self, rule: &Rule) -> Vec<DaemonAct> {
        self.life = if rule.smart { DaemonLife::Checking } else { DaemonLife::Starting };
        vec![if rule.smart { DaemonAct::Look } else { DaemonAct::Spawn }]
    }

    /// The pidfile names nobody who runs.
    fn missing(&mut self, rule: &Rule, now: Ms) -> Vec<DaemonAct> {
        match self.life {
            DaemonLife::Checking => {
                self.life = DaemonLife::Starting;
                vec![DaemonAct::Spawn]
            }
            DaemonLife::Launching { launcher, since, .. } if now >= since + rule.patience => match launcher {
                // It never went into the background: then this is it.
                Some(pid) => {
                    self.life = DaemonLife::Running { pid, since, child: true };
                    vec![]
                }
                None => self.wait(rule, 0, now),
            },
            DaemonLife::Launching { launcher, since, .. } => {
                self.life = DaemonLife::Launching { launcher, since, look_at: now + LOOK };
                vec![]
            }
            _ => vec![],
        }
    }

    fn gone(&mut self, rule: &Rule, dead: i32, now: Ms) -> Vec<DaemonAct> {
        match self.life {
            DaemonLife::Running { pid, since, .. } if pid == dead => {
                if rule.control {
                    self.life = DaemonLife::Off;
                    return vec![DaemonAct::EndInstance];
                }
                let mut acts = self.wait(rule, now.saturating_sub(since), now);
                acts.push(DaemonAct::Respawning { pid, pause: self.pause });
                acts
            }
            DaemonLife::Launching { launcher: Some(pid), since, look_at } if pid == dead => {
                self.life = DaemonLife::Launching { launcher: None, since, look_at };
                vec![DaemonAct::Look]
            }
            DaemonLife::Ending { pid, again, .. } if pid == dead => {
                self.life = DaemonLife::Off;
                self.pause = 0;
                if again { self.start(rule) } else { vec![] }
            }
            _ => vec![],
        }
    }

    /// Starts it again, the later the more often it ended at once.
    fn wait(&mut self, rule: &Rule, lived: Ms, now: Ms) -> Vec<DaemonAct> {
        self.pause = if lived < QUICK { (self.pause + STEP).min(rule.longest_pause) } else { 0 };
        self.life = DaemonLife::Waiting { until: now + self.pause };
        vec![]
    }

    fn end(&mut self, rule: &Rule, pid: i32, child: bool, mercy: Ms, again: bool, now: Ms) -> Vec<DaemonAct> {
        self.life = DaemonLife::Ending { pid, child, kill_at: Some(now + mercy), again };
        vec![DaemonAct::Signal { pid, signal: rule.stop_signal, child }]
    }

    fn reload(&mut self, rule: &Rule, kept: bool, now: Ms) -> Vec<DaemonAct> {
        match &mut self.life {
            DaemonLife::Running { pid, child, .. } => {
                let (pid, child) = (*pid, *child);
                let signal = rule.reload_signal.or((rule.smart && rule.notify).then_some(SIGHUP)).filter(|_| !rule.smart || rule.notify);
                match signal {
                    Some(signal) if kept => vec![DaemonAct::Signal { pid, signal, child }],
                    _ if rule.smart && kept => vec![],
                    _ if rule.smart => self.stop(rule, rule.mercy, now),
                    _ => self.end(rule, pid, child, rule.mercy, kept, now),
                }
            }
            DaemonLife::Ending { again, .. } => {
                *again = kept;
                vec![]
            }
            DaemonLife::Waiting { until } if kept => {
                *until = now;
                self.pause = 0;
                self.tick(rule, now)
            }
            _ if kept => vec![],
            _ => {
                self.life = DaemonLife::Off;
                vec![]
            }
        }
    }

    /// A smart daemon lives on.
    fn stop(&mut self, rule: &Rule, mercy: Ms, now: Ms) -> Vec<DaemonAct> {
        match &mut self.life {
            DaemonLife::Running { pid, child, .. } => {
                let (pid, child) = (*pid, *child);
                if !rule.smart {
                    return self.end(rule, pid, child, mercy, false, now);
                }
                self.life = DaemonLife::Off;
                if rule.notify { vec![DaemonAct::Signal { pid, signal: rule.stop_signal, child }] } else { vec![] }
            }
            DaemonLife::Ending { kill_at, again, .. } => {
                *again = false;
                *kill_at = kill_at.map(|at| at.min(now + mercy));
                vec![]
            }
            _ => {
                self.life = DaemonLife::Off;
                vec![]
            }
        }
    }

    fn tick(&mut self, rule: &Rule, now: Ms) -> Vec<DaemonAct> {
        match &mut self.life {
            DaemonLife::Waiting { until } if *until <= now => self.start(rule),
            DaemonLife::Launching { look_at, .. } if *look_at <= now => vec![DaemonAct::Look],
            DaemonLife::Ending { pid, child, kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                *kill_at = None;
                vec![DaemonAct::Signal { pid: *pid, signal: SIGKILL, child: *child }]
            }
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DaemonEvent::{Found, Gone, Missing, Reload, Spawned, Start, Stop, Tick, Touched};

    const PLAIN: Rule = Rule {
        smart: false,
        control: false,
        notify: false,
        stop_signal: 15,
        reload_signal: None,
        longest_pause: 2500,
        patience: 1000,
        mercy: 5000,
    };
    const SMART: Rule = Rule { smart: true, ..PLAIN };

    fn running(rule: &Rule, pid: i32) -> Watched {
        let mut watched = Watched::default();
        assert_eq!(watched.on(rule, Start, 0).len(), 1);
        watched.on(rule, if rule.smart { Found(pid) } else { Spawned(pid) }, 0);
        assert_eq!(watched.pid(), Some(pid));
        watched
    }

    fn signal(pid: i32, signal: i32) -> Vec<DaemonAct> {
        vec![DaemonAct::Signal { pid, signal, child: true }]
    }

    #[test]
    fn one_that_ends_at_once_is_started_later_each_time_and_one_that_ran_at_once() {
        let mut watched = running(&PLAIN, 1);
        let mut now = 0;
        for (pid, pause) in [(1, 1000), (2, 2000), (3, 2500), (4, 2500)] {
            now += 10;
            assert_eq!(watched.on(&PLAIN, Gone(pid), now), [DaemonAct::Respawning { pid, pause }]);
            assert_eq!(watched.next_deadline(), Some(now + pause));
            assert_eq!(watched.on(&PLAIN, Tick, now + pause - 1), []);
            now += pause;
            assert_eq!(watched.on(&PLAIN, Tick, now), [DaemonAct::Spawn]);
            watched.on(&PLAIN, Spawned(pid + 1), now);
        }
        assert_eq!(watched.on(&PLAIN, Gone(5), now + QUICK), [DaemonAct::Respawning { pid: 5, pause: 0 }]);
        assert_eq!((watched.next_deadline(), watched.starts), (Some(now + QUICK), 5));
    }

    #[test]
    fn the_end_is_asked_for_and_then_enforced() {
        let mut watched = running(&PLAIN, 7);
        assert_eq!(watched.on(&PLAIN, Stop { mercy: 1000 }, 50), signal(7, 15));
        assert_eq!(watched.on(&PLAIN, Stop { mercy: 10 }, 60), [], "more pressing now");
        assert_eq!(watched.on(&PLAIN, Tick, 70), signal(7, SIGKILL));
        assert_eq!((watched.on(&PLAIN, Tick, 9000), watched.next_deadline()), (vec![], None));
        assert_eq!((watched.on(&PLAIN, Gone(7), 9000), watched.life), (vec![], DaemonLife::Off));
    }

    #[test]
    fn a_control_daemon_takes_the_instance_with_it() {
        let rule = Rule { control: true, ..PLAIN };
        assert_eq!(running(&rule, 7).on(&rule, Gone(7), 1), [DaemonAct::EndInstance]);
        let mut stopped = running(&rule, 7);
        stopped.on(&rule, Stop { mercy: 1 }, 1);
        assert_eq!(stopped.on(&rule, Gone(7), 2), [], "it was us who stopped it");
    }

    #[test]
    fn a_reload_restarts_or_signals_and_forgets_what_is_no_longer_there() {
        let mut restarted = running(&PLAIN, 7);
        assert_eq!(restarted.on(&PLAIN, Reload { kept: true }, 1), signal(7, 15));
        assert_eq!(restarted.on(&PLAIN, Gone(7), 2), [DaemonAct::Spawn]);
        let rule = Rule { reload_signal: Some(1), ..PLAIN };
        let mut signalled = running(&rule, 7);
        assert_eq!(signalled.on(&rule, Reload { kept: true }, 1), signal(7, 1));
        assert_eq!(signalled.pid(), Some(7));
        assert_eq!(signalled.on(&rule, Reload { kept: false }, 2), signal(7, 15));
        assert_eq!(signalled.on(&rule, Gone(7), 3), []);
        let mut waiting = running(&PLAIN, 7);
        waiting.on(&PLAIN, Gone(7), 1);
        assert_eq!(waiting.on(&PLAIN, Reload { kept: true }, 2), [DaemonAct::Spawn]);
    }

    #[test]
    fn a_touch_restarts() {
        let mut watched = running(&PLAIN, 7);
        assert_eq!(watched.on(&PLAIN, Touched, 1), signal(7, 15));
        assert_eq!(watched.on(&PLAIN, Gone(7), 2), [DaemonAct::Spawn]);
    }

    #[test]
    fn a_smart_one_that_runs_is_found_and_left_alone() {
        let mut watched = running(&SMART, 7);
        assert_eq!(watched.on(&SMART, Reload { kept: true }, 1), []);
        assert_eq!((watched.on(&SMART, Stop { mercy: 1 }, 2), watched.life), (vec![], DaemonLife::Off));
        let rule = Rule { notify: true, ..SMART };
        let mut told = running(&rule, 7);
        let found = |signal| vec![DaemonAct::Signal { pid: 7, signal, child: false }];
        assert_eq!(told.on(&rule, Reload { kept: true }, 1), found(SIGHUP));
        assert_eq!(told.on(&rule, Stop { mercy: 1 }, 1), found(15));
    }

    #[test]
    fn a_smart_one_is_started_and_looked_for() {
        let mut watched = Watched::default();
        assert_eq!(watched.on(&SMART, Start, 0), [DaemonAct::Look]);
        assert_eq!(watched.on(&SMART, Missing, 0), [DaemonAct::Spawn]);
        watched.on(&SMART, Spawned(5), 0);
        assert_eq!(watched.on(&SMART, Tick, LOOK), [DaemonAct::Look]);
        watched.on(&SMART, Missing, LOOK);
        assert_eq!(watched.next_deadline(), Some(2 * LOOK));
        assert_eq!(watched.on(&SMART, Gone(5), 300), [DaemonAct::Look], "the command went into the background");
        watched.on(&SMART, Found(6), 300);
        assert_eq!(watched.pid(), Some(6));
        assert_eq!(watched.on(&SMART, Gone(6), 400), [DaemonAct::Respawning { pid: 6, pause: 1000 }]);
        assert_eq!(watched.on(&SMART, Tick, 1400), [DaemonAct::Look], "somebody else may have started it");
    }

    #[test]
    fn a_smart_one_without_a_pidfile_is_tried_again_or_taken_as_it_is() {
        let mut vanished = Watched { life: DaemonLife::Launching { launcher: None, since: 0, look_at: 0 }, ..Watched::default() };
        let mut foreground = Watched { life: DaemonLife::Launching { launcher: Some(5), since: 0, look_at: 0 }, ..Watched::default() };
        vanished.on(&SMART, Missing, SMART.patience);
        foreground.on(&SMART, Missing, SMART.patience);
        assert!(matches!(vanished.life, DaemonLife::Waiting { .. }) && foreground.pid() == Some(5));
    }
}

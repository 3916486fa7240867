//! A world in which vassals crash, refuse to stop, ask for things and change at random: what must hold whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{at, file, policy};
use super::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Write(u8),
    Remove(u8),
    Die(u8),
    Byte(u8, u8),
    Hangup(u8),
    Connect(u8),
    Pass(u16),
    StartsFail(bool),
    Hup,
    Urg,
}

fn event() -> impl Strategy<Value = Event> {
    let bytes =
        prop::sample::select(vec![byte::SPAWNED, byte::ACCEPTING, byte::LOYAL, byte::STOP_ME, byte::HEARTBEAT, byte::REINFORCEMENTS, 99]);
    prop_oneof![
        3 => (0..4u8).prop_map(Event::Write),
        2 => (0..4u8).prop_map(Event::Remove),
        3 => (0..8u8).prop_map(Event::Die),
        3 => ((0..8u8), bytes).prop_map(|(v, b)| Event::Byte(v, b)),
        1 => (0..8u8).prop_map(Event::Hangup),
        2 => (0..4u8).prop_map(Event::Connect),
        6 => (0..3000u16).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(Event::StartsFail),
        1 => Just(Event::Hup),
        1 => Just(Event::Urg),
    ]
}

/// Files and processes, and the rules that the core's actions must keep.
struct World {
    core: Core,
    ms: u64,
    files: BTreeMap<String, u64>,
    versions: u64,
    processes: BTreeMap<i32, Key>,
    next_pid: i32,
    starts_fail: bool,
    /// Vassals whose file never changes and who never die: nothing may happen to them.
    quiet_pid: Option<i32>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let mut world = Self {
            core: Core::new(policy),
            ms: 0,
            files: BTreeMap::from([("quiet.ini".into(), 1)]),
            versions: 1,
            processes: BTreeMap::new(),
            next_pid: 100,
            starts_fail: false,
            quiet_pid: None,
        };
        world.look();
        world.quiet_pid = world.processes.keys().next().copied();
        world
    }

    fn look(&mut self) {
        let found: Vec<Seen> = self.files.iter().map(|(id, version)| file(id, *version)).collect();
        let actions = self.core.scan(at(self.ms), &[Found::Files(found)]);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let more = match action {
                Action::Start(key) => self.start(key),
                Action::Name(key) => self.core.named(at(self.ms), &key, Ok(key.id == "v0.ini")),
                Action::Kill(_, pid) => self.reap(pid, Exit::Signal(9)),
                Action::Tell(key, byte::RELOAD) => {
                    assert_ne!(key.id, "quiet.ini");
                    vec![]
                }
                Action::Tell(key, _) | Action::Terminate(key, _) => {
                    assert!(key.id != "quiet.ini" || self.core.is_ending(), "the quiet one was told to stop");
                    vec![]
                }
                Action::Scan => {
                    self.look();
                    vec![]
                }
                Action::Watch(_) | Action::Ended(..) | Action::Forget(_) | Action::Log(_) | Action::Obituary(..) => vec![],
            };
            self.act(more);
        }
    }

    fn start(&mut self, key: Key) -> Vec<Action> {
        assert!(self.processes.values().all(|k| *k != key), "two processes for {key}");
        assert!(!self.core.is_ending(), "a start at the end");
        if self.starts_fail && key.id != "quiet.ini" {
            return self.core.start_failed(at(self.ms), &key, "no processes left");
        }
        self.next_pid += 1;
        self.processes.insert(self.next_pid, key.clone());
        self.core.started(at(self.ms), &key, self.next_pid)
    }

    fn reap(&mut self, pid: i32, exit: Exit) -> Vec<Action> {
        if self.processes.remove(&pid).is_none() {
            return vec![];
        }
        self.core.exited(at(self.ms), pid, exit)
    }

    /// One of the processes, but never the quiet one.
    fn pick(&self, n: u8) -> Option<(i32, Key)> {
        self.processes.iter().filter(|(pid, _)| Some(**pid) != self.quiet_pid).nth(n.into()).map(|(p, k)| (*p, k.clone()))
    }

    fn happen(&mut self, event: Event) {
        let time = at(self.ms);
        let actions = match event {
            Event::Write(n) => {
                self.versions += 1;
                self.files.insert(format!("v{n}.ini"), self.versions);
                return self.look();
            }
            Event::Remove(n) => {
                self.files.remove(&format!("v{n}.ini"));
                return self.look();
            }
            Event::Die(n) => self.pick(n).map(|(pid, _)| self.reap(pid, Exit::Code(1))).unwrap_or_default(),
            Event::Byte(n, b) => self.pick(n).map(|(_, key)| self.core.byte(time, &key, b)).unwrap_or_default(),
            Event::Hangup(n) => self.pick(n).map(|(_, key)| self.core.hangup(time, &key)).unwrap_or_default(),
            Event::Connect(n) => self.core.wake(&Key::vassal(&format!("v{n}.ini"))),
            Event::StartsFail(fail) => {
                self.starts_fail = fail;
                vec![]
            }
            Event::Pass(ms) => return self.pass(ms.into()),
            Event::Hup => vec![], // would touch the quiet one: see the unit tests
            Event::Urg => self.core.pardon(time),
        };
        self.act(actions);
        self.check();
    }

    /// Lets time pass, with a tick whenever one is due.
    fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        for _ in 0..10_000 {
            match self.core.next_deadline(at(self.ms)) {
                Some(due) if due <= end => {
                    self.ms = self.ms.max(due);
                    let actions = self.core.tick(at(self.ms));
                    self.act(actions);
                    self.check();
                }
                _ => {
                    self.ms = end;
                    return;
                }
            }
        }
        panic!("the core keeps the loop busy");
    }

    fn check(&self) {
        for (pid, key) in &self.processes {
            let vassal = self.core.vassals.get(key).unwrap_or_else(|| panic!("the process of {key} is forgotten"));
            assert_eq!(vassal.pid(), Some(*pid));
        }
        let known = self.core.vassals.values().filter(|v| v.pid().is_some()).count();
        assert_eq!(known, self.processes.len(), "a process that is not there");
        assert!(self.core.vassals.keys().filter(|k| k.zerg > 0).count() <= self.core.policy.broodlord as usize);
        let quiet = self.processes.get(&self.quiet_pid.unwrap_or(0));
        assert!(self.core.is_ending() || quiet == Some(&Key::vassal("quiet.ini")), "the quiet one was disturbed");
    }

    /// When nothing happens any more: who has a file runs (or sleeps), who has none does not.
    fn settle(&mut self) {
        self.starts_fail = false;
        self.look();
        self.pass(400_000);
        self.look();
        self.pass(400_000);
        for (key, vassal) in &self.core.vassals {
            assert!(self.files.contains_key(&key.id), "{key} has no file and is still there");
            assert!(matches!(vassal.phase, Phase::Running { .. } | Phase::Asleep), "{key}: {:?}", vassal.phase);
        }
        for id in self.files.keys() {
            assert!(self.core.vassals.contains_key(&Key::vassal(id)), "{id} has a file and no vassal");
        }
    }

    fn end(&mut self) {
        let actions = self.core.end(at(self.ms));
        self.act(actions);
        self.pass(100_000);
        assert!(self.processes.is_empty() && self.core.is_done(), "the end leaves {:?}", self.processes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens(events in prop::collection::vec(event(), 0..120), on_demand: bool, no_blacklist: bool, parallel_starts in 0..4usize) {
        let mut world = World::new(Policy { on_demand, no_blacklist, parallel_starts, broodlord: 2, max_throttle_ms: 5000, ..policy() });
        for event in events {
            world.happen(event);
        }
        world.settle();
        world.end();
    }
}

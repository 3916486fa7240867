//! The life of an instance as a list of events and what follows from them.

use imperator_worker::control::exit;
use nix::libc::{SIGHUP, SIGINT, SIGKILL};

use super::*;

pub(in crate::master) fn policy(workers: u32) -> Policy {
    Policy {
        workers,
        initial: workers,
        cores: 1,
        mercy: 60_000,
        backoff: 2000,
        lifetime: 0,
        lifetime_delta: None,
        exit_on_reload: false,
        need_app: true,
    }
}

/// What was done, without the log.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|a| !matches!(a, Action::Log(_))).collect()
}

fn fork(generation: u64, worker: u32) -> Action {
    Action::Fork { generation, worker }
}

fn signal(pid: i32, signal: i32) -> Action {
    Action::Signal { pid, signal }
}

/// Begins a generation and brings all of its workers up; worker w of generation g has pid 100 g + w, its zygote 100 g.
fn bring_up(instance: &mut Instance, policy: Policy, now: Ms) -> Vec<Action> {
    let mut out = instance.on(Event::Begin { policy: policy.clone(), brutal: false }, now);
    let generation = instance.last_generation;
    let pid = 100 * generation as i32;
    out.extend(instance.on(Event::ZygoteSpawned { generation, pid }, now));
    out.extend(instance.on(Event::Loaded { generation }, now));
    for worker in 1..=policy.initial {
        out.extend(instance.on(Event::Started { generation, worker, pid: pid + worker as i32 }, now));
        out.extend(instance.on(Event::Accepting { generation, worker }, now));
    }
    deeds(out)
}

pub(in crate::master) fn running(workers: u32) -> Instance {
    let mut instance = Instance::default();
    bring_up(&mut instance, policy(workers), 0);
    instance
}

#[test]
fn a_start_forks_all_workers_once_the_app_is_loaded() {
    let mut instance = Instance::default();
    let out = bring_up(&mut instance, policy(2), 0);
    assert_eq!(out, [Action::SpawnZygote { generation: 1 }, fork(1, 1), fork(1, 2), Action::Serving { generation: 1 }]);
    assert_eq!(instance.next_deadline(), None, "an idle instance wakes up for nothing");
}

#[test]
fn a_reload_drains_the_old_generation_only_when_a_new_worker_accepts() {
    let mut instance = running(1);
    assert_eq!(deeds(instance.on(Event::Reload { brutal: false }, 5)), [Action::Reload { brutal: false }]);
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 5);
    instance.on(Event::ZygoteSpawned { generation: 2, pid: 200 }, 5);
    assert_eq!(deeds(instance.on(Event::Loaded { generation: 2 }, 6)), [fork(2, 1)]);
    assert_eq!(deeds(instance.on(Event::Started { generation: 2, worker: 1, pid: 201 }, 7)), []);
    let out = deeds(instance.on(Event::Accepting { generation: 2, worker: 1 }, 8));
    assert_eq!(out, [Action::EndZygote { generation: 1 }, signal(101, SIGHUP), Action::Serving { generation: 2 }]);
    instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Exited(exit::RELOAD) }, 9);
    assert_eq!(deeds(instance.on(Event::ZygoteGone { generation: 1 }, 9)), [Action::Dropped { generation: 1 }]);
    assert_eq!(instance.generations.len(), 1);
}

#[test]
fn a_reload_that_cannot_load_leaves_the_old_generation_alone() {
    let mut instance = running(2);
    instance.on(Event::Begin { policy: policy(2), brutal: false }, 5);
    instance.on(Event::ZygoteSpawned { generation: 2, pid: 200 }, 5);
    let out = deeds(instance.on(Event::LoadFailed { generation: 2, code: 22 }, 6));
    assert_eq!(out, [signal(200, SIGKILL), Action::ServesOn { generation: 1 }]);
    assert_eq!(deeds(instance.on(Event::ZygoteGone { generation: 2 }, 7)), [Action::Dropped { generation: 2 }]);
    assert_eq!((instance.current().map(|g| g.number), &instance.ending), (Some(1), &None));
}

#[test]
fn lazy_workers_of_a_reload_that_cannot_load_end_the_reload_only() {
    let mut instance = running(1);
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 5);
    instance.on(Event::ZygoteSpawned { generation: 2, pid: 200 }, 5);
    instance.on(Event::Loaded { generation: 2 }, 5);
    instance.on(Event::Started { generation: 2, worker: 1, pid: 201 }, 5);
    let out = deeds(instance.on(Event::WorkerGone { generation: 2, worker: 1, how: How::Exited(exit::FAILED_APP) }, 6));
    assert_eq!(out, [Action::EndZygote { generation: 2 }, Action::ServesOn { generation: 1 }]);
    assert_eq!(instance.current().map(|g| g.number), Some(1));
}

#[test]
fn a_first_start_that_cannot_load_ends_with_its_code() {
    let mut instance = Instance::default();
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 0);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 100 }, 0);
    instance.on(Event::LoadFailed { generation: 1, code: 22 }, 1);
    let out = deeds(instance.on(Event::ZygoteGone { generation: 1 }, 2));
    assert_eq!(out, [Action::Dropped { generation: 1 }, Action::Finish { code: 22 }]);
}

#[test]
fn reloads_during_a_load_are_done_once_afterwards() {
    let mut instance = Instance::default();
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 0);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 100 }, 0);
    for _ in 0..100 {
        assert_eq!(deeds(instance.on(Event::Reload { brutal: false }, 1)), []);
    }
    instance.on(Event::Loaded { generation: 1 }, 2);
    instance.on(Event::Started { generation: 1, worker: 1, pid: 101 }, 2);
    let out = deeds(instance.on(Event::Accepting { generation: 1, worker: 1 }, 3));
    assert_eq!(out, [Action::Serving { generation: 1 }, Action::Reload { brutal: false }]);
    assert_eq!(deeds(instance.on(Event::Tick, 4)), []);
}

#[test]
fn a_reload_asked_for_during_a_first_load_that_fails_is_done_instead_of_ending() {
    let mut instance = Instance::default();
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 0);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 100 }, 0);
    instance.on(Event::Reload { brutal: false }, 1);
    let out = deeds(instance.on(Event::LoadFailed { generation: 1, code: 22 }, 2));
    assert_eq!(out, [signal(100, SIGKILL), Action::Reload { brutal: false }]);
}

#[test]
fn a_load_that_never_ends_makes_room_for_a_reload() {
    let mut instance = running(1);
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 0);
    instance.on(Event::ZygoteSpawned { generation: 2, pid: 200 }, 0);
    instance.on(Event::Reload { brutal: false }, 1);
    let due = instance.next_deadline().expect("patience has an end");
    assert_eq!(deeds(instance.on(Event::Reload { brutal: false }, due - 1)), [], "asking again changes nothing");
    let out = deeds(instance.on(Event::Tick, due));
    assert_eq!(out, [signal(200, SIGKILL), Action::ServesOn { generation: 1 }, Action::Reload { brutal: false }]);
    assert_eq!(instance.current().map(|g| g.number), Some(1));
    // The next one has longer.
    instance.on(Event::Begin { policy: policy(1), brutal: false }, due);
    instance.on(Event::Reload { brutal: false }, due);
    assert!(instance.next_deadline().expect("an end") - due > due);
}

#[test]
fn a_worker_that_still_loads_is_not_waited_for_but_one_that_just_accepted_is() {
    let mut instance = running(2);
    instance.on(Event::WorkerGone { generation: 1, worker: 2, how: How::Killed(9) }, 5000);
    instance.on(Event::Started { generation: 1, worker: 2, pid: 112 }, 5000);
    instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 6000);
    assert_eq!(deeds(instance.on(Event::Tick, 7000)), [signal(100, SIGKILL), signal(112, SIGKILL)]);
    let mut instance = running(1);
    instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(9) }, 5000);
    instance.on(Event::Started { generation: 1, worker: 1, pid: 111 }, 5000);
    instance.on(Event::ReloadWorkers { brutal: false }, 6000);
    instance.on(Event::Accepting { generation: 1, worker: 1 }, 6001);
    assert_eq!(instance.next_deadline(), Some(66_001));
}

#[test]
fn a_brutal_reload_stops_the_workers_first_and_brings_them_back_if_it_fails() {
    let mut instance = running(1);
    let out = deeds(instance.on(Event::Begin { policy: policy(1), brutal: true }, 5));
    assert_eq!(out, [signal(101, SIGINT), Action::SpawnZygote { generation: 2 }]);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Exited(exit::END) }, 6)), []);
    instance.on(Event::ZygoteSpawned { generation: 2, pid: 200 }, 6);
    let out = deeds(instance.on(Event::LoadFailed { generation: 2, code: 22 }, 7));
    assert_eq!(out, [signal(200, SIGKILL), Action::ServesOn { generation: 1 }, fork(1, 1)]);
}

#[test]
fn a_worker_that_dies_at_once_comes_back_ever_later_and_holds_up_nobody() {
    let mut instance = running(2);
    let mut now = 10;
    let mut pauses = vec![];
    for _ in 0..8 {
        let at_once = instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(11) }, now).contains(&fork(1, 1));
        let due = instance.next_deadline().filter(|_| !at_once).unwrap_or(now);
        pauses.push(due - now);
        now = due;
        instance.on(Event::Tick, now);
        instance.on(Event::Started { generation: 1, worker: 1, pid: 7 }, now);
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000]);
    let out = instance.on(Event::WorkerGone { generation: 1, worker: 2, how: How::Killed(9) }, now + 5000);
    assert!(out.contains(&Action::Log("DAMN ! worker 2 (pid: 102) died, killed by signal 9 :( trying respawn ...".into())));
    assert!(out.contains(&fork(1, 2)));
}

#[test]
fn an_idle_stop_needs_no_timer_and_a_stuck_worker_is_killed() {
    let mut instance = running(2);
    let out = deeds(instance.on(Event::Stop { haste: Haste::Now, code: 0 }, 10));
    assert_eq!(out, [Action::EndZygote { generation: 1 }, signal(101, SIGINT), signal(102, SIGINT)]);
    instance.on(Event::ZygoteGone { generation: 1 }, 11);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Exited(exit::END) }, 12)), []);
    let due = instance.next_deadline().expect("the other one's time");
    assert_eq!(deeds(instance.on(Event::Tick, due)), [signal(102, SIGKILL)]);
    let out = deeds(instance.on(Event::WorkerGone { generation: 1, worker: 2, how: How::Killed(9) }, due));
    assert_eq!(out, [Action::Dropped { generation: 1 }, Action::Finish { code: 0 }]);
}

#[test]
fn a_second_stop_is_more_pressing() {
    let mut instance = running(1);
    assert!(deeds(instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 0)).contains(&signal(101, SIGHUP)));
    assert_eq!(deeds(instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 1)), []);
    assert_eq!(deeds(instance.on(Event::Stop { haste: Haste::Now, code: 0 }, 2)), [signal(101, SIGINT)]);
    assert_eq!(deeds(instance.on(Event::Stop { haste: Haste::Now, code: 0 }, 3)), [signal(101, SIGKILL)]);
}

#[test]
fn a_stop_while_a_worker_is_being_forked_reaches_it() {
    let mut instance = Instance::default();
    instance.on(Event::Begin { policy: policy(1), brutal: false }, 0);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 100 }, 0);
    instance.on(Event::Loaded { generation: 1 }, 0);
    assert_eq!(deeds(instance.on(Event::Stop { haste: Haste::Now, code: 0 }, 1)), [Action::EndZygote { generation: 1 }]);
    assert_eq!(deeds(instance.on(Event::Started { generation: 1, worker: 1, pid: 101 }, 2)), [signal(101, SIGINT)]);
}

#[test]
fn a_dead_zygote_is_replaced_and_its_workers_stay() {
    let mut instance = running(1);
    assert_eq!(deeds(instance.on(Event::ZygoteGone { generation: 1 }, 5)), [Action::SpawnZygote { generation: 1 }]);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 110 }, 5);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(9) }, 6)), []);
    assert_eq!(deeds(instance.on(Event::Loaded { generation: 1 }, 7)), [fork(1, 1)]);
}

#[test]
fn a_chain_reload_replaces_one_after_the_other() {
    let mut instance = running(2);
    assert_eq!(deeds(instance.on(Event::ChainReload, 5)), [signal(101, SIGHUP)]);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Exited(exit::RELOAD) }, 6)), [fork(1, 1)]);
    assert_eq!(deeds(instance.on(Event::Started { generation: 1, worker: 1, pid: 111 }, 7)), []);
    assert_eq!(deeds(instance.on(Event::Accepting { generation: 1, worker: 1 }, 8)), [signal(102, SIGHUP)]);
    instance.on(Event::WorkerGone { generation: 1, worker: 2, how: How::Exited(exit::RELOAD) }, 9);
    instance.on(Event::Started { generation: 1, worker: 2, pid: 112 }, 9);
    assert_eq!(deeds(instance.on(Event::Accepting { generation: 1, worker: 2 }, 9)), []);
}

#[test]
fn harakiri_asks_for_the_stack_once_a_request_and_kills_once() {
    use nix::libc::SIGUSR2;
    let mut instance = running(1);
    let strike = |stuck: &[(u32, Ms)]| Event::Harakiri { generation: 1, worker: 1, stuck: stuck.to_vec(), graceful: None, drain: false };
    assert_eq!(deeds(instance.on(strike(&[(0, 10)]), 10)), [signal(101, SIGUSR2)]);
    assert_eq!(deeds(instance.on(strike(&[(0, 10)]), 11)), []);
    assert_eq!(deeds(instance.on(strike(&[(0, 10), (1, 12)]), 12)), [], "the stacks that are being written have it");
    assert!(instance.is_struck(1, 1, 1, 12) && !instance.is_struck(1, 1, 1, 13));
    assert_eq!((instance.generations[0].workers[0].harakiris, instance.next_deadline()), (2, None), "it may help itself");
    let hopeless = Event::Hopeless { generation: 1, worker: 1 };
    assert_eq!(deeds(instance.on(strike(&[(0, 10), (1, 112)]), 112)), [signal(101, SIGUSR2)]);
    assert_eq!(deeds(instance.on(hopeless.clone(), 113)), [signal(101, SIGUSR2)]);
    assert_eq!(deeds(instance.on(hopeless, 114)), []);
    let due = instance.next_deadline().expect("the kill");
    assert_eq!(deeds(instance.on(Event::Tick, due)), [signal(101, SIGKILL)]);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(9) }, due + 1000)), [fork(1, 1)]);
}

#[test]
fn harakiri_with_a_graceful_signal_kills_after_its_time_and_one_that_cannot_help_itself_drains() {
    let mut instance = running(2);
    let graceful = Event::Harakiri { generation: 1, worker: 1, stuck: vec![(0, 10)], graceful: Some((15, 50)), drain: false };
    assert_eq!(deeds(instance.on(graceful, 10)), [signal(101, nix::libc::SIGUSR2), signal(101, 15)]);
    assert_eq!(instance.next_deadline(), Some(60));
    let drain = Event::Harakiri { generation: 1, worker: 2, stuck: vec![(0, 10)], graceful: None, drain: true };
    assert_eq!(deeds(instance.on(drain, 10)), [signal(102, nix::libc::SIGUSR2), signal(102, SIGHUP)]);
}

#[test]
fn a_fork_that_hangs_is_killed_and_then_its_zygote_is() {
    let mut instance = running(1);
    let zygote = instance.generations[0].zygote.pid().expect("a zygote");
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(9) }, 5000)), [fork(1, 1)]);
    let due = instance.next_deadline().expect("its time");
    assert_eq!(deeds(instance.on(Event::Tick, due - 1)), []);
    assert_eq!(instance.on(Event::Tick, due), [Action::KillForks { generation: 1 }]);
    let due = instance.next_deadline().expect("a second look");
    assert_eq!(deeds(instance.on(Event::Tick, due)), [signal(zygote, SIGKILL)]);
    assert!(instance.on(Event::ZygoteGone { generation: 1 }, due).contains(&Action::SpawnZygote { generation: 1 }));
    instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Vanished }, due);
    instance.on(Event::ZygoteSpawned { generation: 1, pid: 77 }, due);
    assert_eq!(deeds(instance.on(Event::Loaded { generation: 1 }, due + 1)), [fork(1, 1)]);
}

#[test]
fn cheap_workers_start_on_demand_and_retire_oldest_first() {
    let mut instance = Instance::default();
    bring_up(&mut instance, Policy { initial: 1, ..policy(3) }, 0);
    assert_eq!(deeds(instance.on(Event::Population { generation: 1, workers: 2 }, 5)), [fork(1, 2)]);
    instance.on(Event::Started { generation: 1, worker: 2, pid: 102 }, 6);
    assert_eq!(deeds(instance.on(Event::Population { generation: 1, workers: 1 }, 7)), [signal(101, SIGHUP)]);
    assert_eq!(deeds(instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Exited(exit::RELOAD) }, 8)), []);
}

#[test]
fn with_no_worker_wanted_a_loaded_generation_serves_at_once() {
    let mut instance = Instance::default();
    let out = bring_up(&mut instance, Policy { initial: 0, ..policy(2) }, 0);
    assert_eq!(out, [Action::SpawnZygote { generation: 1 }, Action::Serving { generation: 1 }]);
}

#[test]
fn the_state_survives_an_exec() {
    let mut instance = running(2);
    instance.on(Event::Stop { haste: Haste::Graceful, code: 0 }, 3);
    let text = serde_json::to_string(&instance).expect("json");
    assert_eq!(serde_json::from_str::<Instance>(&text).expect("back"), instance);
}

#[test]
fn paused_workers_and_those_that_follow_do_not_accept() {
    let mut instance = running(1);
    assert_eq!(deeds(instance.on(Event::PauseOrResume, 1)), [Action::Pause { generation: 1, worker: 1, pause: true }]);
    instance.on(Event::WorkerGone { generation: 1, worker: 1, how: How::Killed(9) }, 5000);
    let out = deeds(instance.on(Event::Started { generation: 1, worker: 1, pid: 9 }, 5001));
    assert_eq!(out, [Action::Pause { generation: 1, worker: 1, pause: true }]);
    assert_eq!(deeds(instance.on(Event::PauseOrResume, 5002)), [Action::Pause { generation: 1, worker: 1, pause: false }]);
}

#[test]
fn without_workers_no_app_is_loaded() {
    let mut instance = Instance::default();
    let out = deeds(instance.on(Event::Begin { policy: policy(0), brutal: false }, 0));
    assert_eq!(out, [Action::Serving { generation: 1 }]);
    let out = deeds(instance.on(Event::Begin { policy: policy(0), brutal: false }, 1));
    assert_eq!(out, [Action::Serving { generation: 2 }, Action::Dropped { generation: 1 }]);
    assert_eq!(deeds(instance.on(Event::Stop { haste: Haste::Now, code: 0 }, 2)).last(), Some(&Action::Finish { code: 0 }));
}

#[test]
fn a_worker_that_finds_the_state_inconsistent_has_the_instance_reloaded_once() {
    let mut instance = running(2);
    let gone = |instance: &mut Instance, worker, code| {
        deeds(instance.on(Event::WorkerGone { generation: 1, worker, how: How::Exited(code) }, 9000))
    };
    assert!(gone(&mut instance, 1, exit::INCONSISTENT).contains(&Action::Reload { brutal: true }));
    instance.on(Event::Begin { policy: policy(2), brutal: true }, 9001);
    assert!(!gone(&mut instance, 2, exit::INCONSISTENT).contains(&Action::Reload { brutal: true }), "it is on its way: the next follows");
    assert_eq!(instance.wanted.map(|w| w.brutal), Some(true));
}

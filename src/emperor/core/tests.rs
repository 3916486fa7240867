#![allow(clippy::unwrap_used)]

use super::*;

pub(super) fn policy() -> Policy {
    Policy {
        throttle_ms: 1000,
        max_throttle_ms: 180_000,
        no_blacklist: false,
        curse_tolerance_ms: 30_000,
        end_mercy_ms: 30_000,
        graceful: false,
        required_heartbeat_ms: 30_000,
        tyrant: false,
        on_demand: false,
        broodlord: 0,
        parallel_starts: 0,
    }
}

pub(super) fn at(ms: u64) -> Now {
    Now { ms, wall_ms: 1_700_000_000_000 + ms as i64 }
}

/// A file that was last touched long ago.
pub(super) fn file(id: &str, version: u64) -> Seen {
    let stamp = Stamp { mtime_ns: i128::from(version) * 1_000_000_000, inode: version, size: 1 };
    Seen { id: id.into(), stamp, owner: Owner { uid: 1, gid: 1 }, touched_ms: 0, busy: false }
}

fn scan(core: &mut Core, ms: u64, files: &[Seen]) -> Vec<Action> {
    silent(core.scan(at(ms), &[Found::Files(files.to_vec())]))
}

/// Without the log lines.
fn silent(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|a| !matches!(a, Action::Log(_) | Action::Obituary(..))).collect()
}

fn key(id: &str) -> Key {
    Key::vassal(id)
}

/// A core with `a.ini` running as pid 7 since 0.
fn running(policy: Policy) -> Core {
    let mut core = Core::new(policy);
    assert_eq!(scan(&mut core, 0, &[file("a.ini", 1)]), [Action::Start(key("a.ini"))]);
    core.started(at(0), &key("a.ini"), 7);
    core
}

fn ended(id: &str) -> Action {
    Action::Ended(key(id), 0)
}

#[test]
fn a_changed_file_reloads_its_vassal_once_and_no_other() {
    let mut core = running(policy());
    scan(&mut core, 0, &[file("a.ini", 1), file("b.ini", 1)]);
    core.started(at(0), &key("b.ini"), 8);
    let changed = [file("a.ini", 2), file("b.ini", 1)];
    assert_eq!(scan(&mut core, 10, &changed), [Action::Tell(key("a.ini"), byte::RELOAD)]);
    assert_eq!(scan(&mut core, 20, &changed), []);
    assert_eq!(core.vassals[&key("a.ini")].face.respawns, 1);
}

#[test]
fn an_older_file_is_a_change_too() {
    let mut core = running(policy());
    scan(&mut core, 1, &[file("a.ini", 9)]);
    assert_eq!(scan(&mut core, 2, &[file("a.ini", 3)]), [Action::Tell(key("a.ini"), byte::RELOAD)]);
}

#[test]
fn a_file_is_left_alone_until_it_is_quiet() {
    let mut core = Core::new(policy());
    let mut fresh = file("a.ini", 1);
    fresh.touched_ms = at(1000).wall_ms;
    assert_eq!(scan(&mut core, 1010, std::slice::from_ref(&fresh)), []);
    assert_eq!(core.next_deadline(at(1010)), Some(1000 + QUIET_MS));
    assert_eq!(silent(core.tick(at(1000 + QUIET_MS))), [Action::Scan]);
    fresh.busy = true;
    assert_eq!(scan(&mut core, 1000 + QUIET_MS, std::slice::from_ref(&fresh)), []);
    assert_eq!(core.next_deadline(at(1000 + QUIET_MS)), Some(1000 + 2 * QUIET_MS), "its writer may have gone then");
    fresh.busy = false;
    assert_eq!(scan(&mut core, 1070, std::slice::from_ref(&fresh)), [Action::Start(key("a.ini"))]);
    // A clock that is ahead is no writer.
    let mut ahead = file("b.ini", 1);
    ahead.touched_ms = at(9_000_000).wall_ms;
    assert_eq!(scan(&mut core, 1080, &[fresh, ahead]), [Action::Start(key("b.ini"))]);
}

#[test]
fn a_file_that_is_missing_for_an_instant_costs_nothing() {
    let mut core = running(policy());
    assert_eq!(scan(&mut core, 100, &[]), []);
    assert_eq!(scan(&mut core, 110, &[file("a.ini", 1)]), []);
    assert_eq!(scan(&mut core, 200, &[]), []);
    assert_eq!(core.next_deadline(at(200)), Some(250));
    assert_eq!(scan(&mut core, 250, &[]), [Action::Tell(key("a.ini"), byte::STOP)]);
    assert_eq!(silent(core.exited(at(300), 7, Exit::Code(0))), [ended("a.ini"), Action::Forget(key("a.ini"))]);
    assert!(core.vassals.is_empty() && core.blacklist.iter().next().is_none());
}

#[test]
fn a_source_that_cannot_be_read_changes_nothing() {
    let mut core = running(policy());
    assert_eq!(silent(core.scan(at(1000), &[Found::Unknown])), []);
    assert_eq!(silent(core.scan(at(2000), &[Found::Unknown])), []);
    assert!(core.vassals[&key("a.ini")].pid().is_some());
}

#[test]
fn a_crash_loop_slows_down_and_a_new_file_ends_the_wait() {
    let mut core = running(policy());
    core.exited(at(10), 7, Exit::Code(1));
    assert_eq!(core.next_deadline(at(10)), Some(11));
    assert_eq!(silent(core.tick(at(11))), [Action::Start(key("a.ini"))]);
    core.started(at(11), &key("a.ini"), 8);
    core.exited(at(20), 8, Exit::Signal(9));
    assert_eq!(core.next_deadline(at(20)), Some(1021));
    assert_eq!(silent(core.tick(at(500))), []);
    assert_eq!(scan(&mut core, 600, &[file("a.ini", 2)]), [Action::Start(key("a.ini"))]);
    assert!(core.blacklist.iter().next().is_none());
}

#[test]
fn a_loyal_vassal_is_back_at_once_and_has_no_entry() {
    let mut core = running(policy());
    core.exited(at(1), 7, Exit::Code(1));
    core.tick(at(2));
    core.started(at(2), &key("a.ini"), 8);
    core.byte(at(3), &key("a.ini"), byte::LOYAL);
    assert!(core.blacklist.iter().next().is_none());
    assert_eq!(silent(core.exited(at(4), 8, Exit::Signal(9))), [ended("a.ini"), Action::Start(key("a.ini"))]);
}

#[test]
fn without_a_blacklist_there_is_only_a_breath() {
    let mut core = running(Policy { no_blacklist: true, ..policy() });
    core.exited(at(0), 7, Exit::Code(1));
    assert_eq!(core.next_deadline(at(0)), Some(100));
    assert!(core.blacklist.iter().next().is_none());
}

#[test]
fn one_that_does_not_stop_is_pressed_and_killed() {
    let mut core = running(Policy { curse_tolerance_ms: 1000, ..policy() });
    scan(&mut core, 0, &[]);
    scan(&mut core, 50, &[]);
    assert_eq!(core.next_deadline(at(50)), Some(550));
    assert_eq!(silent(core.tick(at(550))), [Action::Terminate(key("a.ini"), 7)]);
    assert_eq!(silent(core.tick(at(1049))), []);
    assert_eq!(silent(core.tick(at(1050))), [Action::Kill(key("a.ini"), 7)]);
    assert_eq!(silent(core.tick(at(2050))), [Action::Kill(key("a.ini"), 7)]);
}

#[test]
fn heartbeats_are_demanded_after_the_first() {
    let mut core = running(policy());
    assert_eq!(silent(core.tick(at(100_000))), []);
    core.byte(at(100_000), &key("a.ini"), byte::HEARTBEAT);
    core.byte(at(120_000), &key("a.ini"), byte::HEARTBEAT);
    assert_eq!(core.next_deadline(at(120_000)), Some(150_000));
    assert_eq!(silent(core.tick(at(150_000))), [Action::Kill(key("a.ini"), 7)]);
    assert_eq!(silent(core.exited(at(150_010), 7, Exit::Signal(9))), [ended("a.ini")]);
    assert_eq!(silent(core.tick(at(150_011))), [Action::Start(key("a.ini"))]);
}

#[test]
fn a_tyrant_takes_nothing_of_roots_and_restarts_for_a_new_owner() {
    let mut core = running(Policy { tyrant: true, ..policy() });
    let owned = |uid, gid| Seen { owner: Owner { uid, gid }, ..file("a.ini", 1) };
    assert_eq!(scan(&mut core, 10, &[owned(2, 1)]), [Action::Tell(key("a.ini"), byte::STOP)]);
    assert_eq!(silent(core.exited(at(20), 7, Exit::Code(0))), [ended("a.ini"), Action::Start(key("a.ini"))]);
    core.started(at(20), &key("a.ini"), 8);
    assert_eq!(scan(&mut core, 100, &[owned(2, 0)]), []);
    assert_eq!(scan(&mut core, 150, &[owned(2, 0)]), [Action::Tell(key("a.ini"), byte::STOP)]);
    assert!(core.refused.contains_key("a.ini"));
    assert_eq!(silent(core.exited(at(160), 8, Exit::Code(0))), [ended("a.ini"), Action::Forget(key("a.ini"))]);
    assert_eq!(scan(&mut core, 170, &[owned(0, 5)]), []);
}

#[test]
fn the_first_source_wins_a_name() {
    let mut core = Core::new(policy());
    let both = [Found::Files(vec![file("a.ini", 1)]), Found::Files(vec![file("a.ini", 2)])];
    assert_eq!(silent(core.scan(at(0), &both)), [Action::Start(key("a.ini"))]);
    core.started(at(0), &key("a.ini"), 7);
    assert_eq!(silent(core.scan(at(1), &both)), []);
    // When its file goes the other one takes over, with another directory: a restart.
    let other = [Found::Files(vec![]), both[1].clone()];
    assert_eq!(silent(core.scan(at(2), &other)), [Action::Tell(key("a.ini"), byte::STOP)]);
}

#[test]
fn only_so_many_start_at_once() {
    let mut core = Core::new(Policy { parallel_starts: 2, ..policy() });
    let files: Vec<Seen> = ["a", "b", "c", "d"].iter().map(|n| file(&format!("{n}.ini"), 1)).collect();
    assert_eq!(scan(&mut core, 0, &files), [Action::Start(key("a.ini")), Action::Start(key("b.ini"))]);
    core.started(at(0), &key("a.ini"), 1);
    core.started(at(0), &key("b.ini"), 2);
    assert_eq!(silent(core.byte(at(500), &key("a.ini"), byte::ACCEPTING)), [Action::Start(key("c.ini"))]);
    core.started(at(500), &key("c.ini"), 3);
    assert_eq!(core.next_deadline(at(500)), Some(2000));
    assert_eq!(silent(core.tick(at(2000))), [Action::Start(key("d.ini"))]);
}

#[test]
fn an_on_demand_vassal_sleeps_wakes_and_sleeps_again() {
    let mut core = Core::new(Policy { on_demand: true, ..policy() });
    let a = key("a.ini");
    assert_eq!(scan(&mut core, 0, &[file("a.ini", 1)]), [Action::Name(a.clone())]);
    assert_eq!(silent(core.named(at(1), &a, Ok(true))), [Action::Watch(a.clone())]);
    assert_eq!(scan(&mut core, 2, &[file("a.ini", 2)]), []);
    assert_eq!(silent(core.wake(&a)), [Action::Start(a.clone())]);
    core.started(at(3), &a, 7);
    assert_eq!(silent(core.byte(at(9), &a, byte::STOP_ME)), [Action::Tell(a.clone(), byte::STOP)]);
    assert_eq!(silent(core.exited(at(10), 7, Exit::Code(0))), [ended("a.ini"), Action::Watch(a.clone())]);
    assert!(core.blacklist.iter().next().is_none());
    // A crash leaves the socket alone for the time of the penalty.
    core.wake(&a);
    core.started(at(20), &a, 8);
    assert_eq!(silent(core.exited(at(21), 8, Exit::Code(1))), [ended("a.ini")]);
    assert_eq!(silent(core.tick(at(22))), [Action::Watch(a.clone())]);
    assert_eq!(scan(&mut core, 30, &[]), [Action::Forget(a)]);
}

#[test]
fn a_socket_that_cannot_be_had_is_tried_again() {
    let mut core = Core::new(Policy { on_demand: true, ..policy() });
    let a = key("a.ini");
    scan(&mut core, 0, &[file("a.ini", 1)]);
    core.named(at(0), &a, Err("in use".into()));
    assert_eq!(core.unnamed.get("a.ini").map(String::as_str), Some("in use"));
    assert_eq!(core.next_deadline(at(0)), Some(5000));
    assert_eq!(silent(core.tick(at(5000))), [Action::Scan]);
    assert_eq!(scan(&mut core, 5000, &[file("a.ini", 1)]), [Action::Name(a.clone())]);
    core.named(at(5000), &a, Ok(true));
    assert!(core.unnamed.is_empty());
}

#[test]
fn the_broodlord_counts_all_zergs() {
    let mut core = running(Policy { broodlord: 1, ..policy() });
    let zerg = Key { id: "a.ini".into(), zerg: 1 };
    assert_eq!(silent(core.byte(at(1), &key("a.ini"), byte::REINFORCEMENTS)), [Action::Start(zerg.clone())]);
    core.started(at(1), &zerg, 8);
    assert_eq!(silent(core.byte(at(2), &key("a.ini"), byte::REINFORCEMENTS)), []);
    scan(&mut core, 10, &[]);
    let stops = [Action::Tell(key("a.ini"), byte::STOP), Action::Tell(zerg.clone(), byte::STOP)];
    assert_eq!(scan(&mut core, 60, &[]), stops);
    assert_eq!(zerg.to_string(), "a.ini:zerg");
}

#[test]
fn the_end_stops_everybody_in_parallel_and_starts_nobody() {
    let mut core = running(Policy { graceful: true, ..policy() });
    scan(&mut core, 0, &[file("a.ini", 1), file("b.ini", 1), file("c.ini", 1)]);
    core.started(at(0), &key("b.ini"), 8);
    core.started(at(0), &key("c.ini"), 9);
    core.exited(at(1), 9, Exit::Code(1));
    let told = [
        Action::Tell(key("a.ini"), byte::STOP_GRACEFULLY),
        Action::Tell(key("b.ini"), byte::STOP_GRACEFULLY),
        Action::Forget(key("c.ini")),
    ];
    assert_eq!(silent(core.end(at(2))), told);
    assert_eq!(scan(&mut core, 3, &[file("d.ini", 1)]), []);
    core.exited(at(4), 7, Exit::Code(0));
    assert!(!core.is_done());
    core.exited(at(5), 8, Exit::Signal(9));
    assert!(core.is_done());
}

#[test]
fn one_that_closes_its_pipe_and_stays_has_to_go() {
    let mut core = running(policy());
    core.hangup(at(0), &key("a.ini"));
    assert_eq!(silent(core.tick(at(15_000))), [Action::Terminate(key("a.ini"), 7)]);
    assert_eq!(silent(core.tick(at(30_000))), [Action::Kill(key("a.ini"), 7)]);
}

#[test]
fn sigurg_and_sighup() {
    let mut core = running(policy());
    assert_eq!(silent(core.reload_all(at(1))), [Action::Tell(key("a.ini"), byte::RELOAD)]);
    core.exited(at(2), 7, Exit::Code(1));
    core.tick(at(3));
    core.started(at(3), &key("a.ini"), 8);
    core.exited(at(4), 8, Exit::Code(1));
    assert_eq!(silent(core.pardon(at(5))), [Action::Start(key("a.ini"))]);
}

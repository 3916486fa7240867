//! The JSON of `emperor-stats`: uWSGI's keys in uWSGI's order, then ours.

use serde::Serialize;

use super::core::{Core, Now, Phase, Vassal};

/// What does not come from the core.
pub struct Frame<'f> {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    pub cwd: String,
    /// Names of the sources, in order.
    pub sources: &'f [String],
    /// The on-demand socket of a vassal, by its id.
    pub socket: &'f dyn Fn(&str) -> Option<String>,
}

#[derive(Serialize)]
struct Document<'d> {
    version: &'static str,
    pid: u32,
    uid: u32,
    gid: u32,
    cwd: &'d str,
    emperor: &'d [String],
    emperor_tyrant: u8,
    throttle_level: u8,
    vassals: Vec<Row<'d>>,
    blacklist: Vec<Penalty<'d>>,
    /// Ours: who has a file and no process, and why.
    waiting: Vec<Absent<'d>>,
}

#[derive(Serialize)]
struct Row<'d> {
    id: String,
    pid: i32,
    born: i64,
    last_mod: i64,
    last_heartbeat: i64,
    loyal: u8,
    ready: u8,
    accepting: u8,
    last_loyal: i64,
    last_ready: i64,
    last_accepting: i64,
    first_run: i64,
    last_run: i64,
    cursed: i64,
    zerg: u8,
    on_demand: String,
    uid: u32,
    gid: u32,
    monitor: &'d str,
    respawns: u32,
    /// Ours: `starting`, `running`, `asleep`, `stopping`.
    state: &'static str,
}

#[derive(Serialize)]
struct Penalty<'d> {
    id: &'d str,
    throttle_level: u64,
    attempt: u32,
    first_attempt: i64,
    last_attempt: i64,
}

#[derive(Serialize)]
struct Absent<'d> {
    id: String,
    state: &'static str,
    reason: &'d str,
    /// Seconds since 1970; 0: when the reason is gone.
    next_try: i64,
}

/// The document, with a line end.
pub fn json(core: &Core, now: Now, frame: &Frame<'_>) -> String {
    let document = Document {
        version: env!("CARGO_PKG_VERSION"),
        pid: frame.pid,
        uid: frame.uid,
        gid: frame.gid,
        cwd: &frame.cwd,
        emperor: frame.sources,
        emperor_tyrant: core.policy.tyrant.into(),
        throttle_level: 0,
        vassals: rows(core, frame),
        blacklist: penalties(core),
        waiting: absent(core, now),
    };
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn rows<'d>(core: &Core, frame: &Frame<'d>) -> Vec<Row<'d>> {
    let governed = core.vassals.iter().filter(|(_, v)| state(v).is_some());
    governed
        .map(|(key, v)| Row {
            id: key.to_string(),
            pid: v.pid().unwrap_or(-1),
            born: v.face.born,
            last_mod: v.face.last_mod,
            last_heartbeat: v.face.last_heartbeat,
            loyal: v.face.loyal.into(),
            ready: v.face.ready.into(),
            accepting: v.face.accepting.into(),
            last_loyal: v.face.last_loyal,
            last_ready: v.face.last_ready,
            last_accepting: v.face.last_accepting,
            first_run: v.face.first_run,
            last_run: v.face.last_run,
            cursed: v.face.cursed,
            zerg: (key.zerg > 0).into(),
            on_demand: if v.on_demand { (frame.socket)(&key.id).unwrap_or_default() } else { String::new() },
            uid: v.owner.uid,
            gid: v.owner.gid,
            monitor: frame.sources.get(v.source).map_or("", String::as_str),
            respawns: v.face.respawns,
            state: state(v).unwrap_or_default(),
        })
        .collect()
}

/// `None`: it has neither a process nor a socket, and belongs to those who wait.
pub fn state(vassal: &Vassal) -> Option<&'static str> {
    match vassal.phase {
        Phase::Running { .. } if vassal.face.accepting || vassal.face.loyal => Some("running"),
        Phase::Running { .. } => Some("starting"),
        Phase::Stopping { .. } => Some("stopping"),
        Phase::Asleep => Some("asleep"),
        Phase::Waiting { .. } | Phase::Naming | Phase::Starting | Phase::Stopped => None,
    }
}

fn penalties(core: &Core) -> Vec<Penalty<'_>> {
    core.blacklist
        .iter()
        .map(|(id, e)| Penalty { id, throttle_level: e.level_ms, attempt: e.attempt, first_attempt: e.first, last_attempt: e.last })
        .collect()
}

fn absent(core: &Core, now: Now) -> Vec<Absent<'_>> {
    let waiting = core.vassals.iter().filter_map(|(key, v)| match &v.phase {
        Phase::Waiting { until, reason } => {
            let wall = (now.wall_ms + until.saturating_sub(now.ms) as i64).div_euclid(1000);
            Some(Absent { id: key.to_string(), state: "waiting", reason, next_try: wall })
        }
        Phase::Stopped => Some(Absent { id: key.to_string(), state: "stopped", reason: "an operator stopped it", next_try: 0 }),
        Phase::Naming => Some(Absent { id: key.to_string(), state: "waiting", reason: "for the name of its socket", next_try: 0 }),
        _ => None,
    });
    let refused = core.refused.iter().chain(&core.unnamed);
    waiting.chain(refused.map(|(id, why)| Absent { id: id.clone(), state: "refused", reason: why, next_try: 0 })).collect()
}

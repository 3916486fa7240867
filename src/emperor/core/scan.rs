//! What a look at the sources changes.

use std::collections::BTreeMap;

use super::{Action, Core, Face, Key, MISSING_MS, Now, Owner, Phase, QUIET_MS, Stamp, Vassal, byte};

/// One file that a source holds for a vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub stamp: Stamp,
    pub owner: Owner,
    /// Milliseconds since 1970 of the last change of anything about it (its ctime, which nobody can set).
    pub touched_ms: i64,
    /// Somebody has it open and writes.
    pub busy: bool,
}

impl Seen {
    /// How long the file is to be left alone, if it has not been for a moment. A time in the future is a wrong clock, not a writer.
    fn settles_in(&self, now: Now) -> Option<u64> {
        let age = u64::try_from(now.wall_ms - self.touched_ms).unwrap_or(QUIET_MS);
        if self.busy { Some(QUIET_MS) } else { QUIET_MS.checked_sub(age).filter(|left| *left > 0) }
    }
}

/// What one source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Files(Vec<Seen>),
    /// It could not be read now: its vassals are left as they are.
    Unknown,
}

impl Core {
    /// Compares what the sources hold (one entry a source, in order) with what runs.
    pub fn scan(&mut self, now: Now, found: &[Found]) -> Vec<Action> {
        let mut out = Vec::new();
        if self.ending {
            return out;
        }
        self.rescan_at = None;
        let files = self.select(found, &mut out);
        for (id, (source, file)) in &files {
            self.present(now, id, *source, file, &mut out);
        }
        let known = |source: usize| !matches!(found.get(source), Some(Found::Unknown));
        let absent: Vec<Key> =
            self.vassals.iter().filter(|(k, v)| known(v.source) && !files.contains_key(k.id.as_str())).map(|(k, _)| k.clone()).collect();
        for key in absent {
            self.absent(now, &key, &mut out);
        }
        self.unnamed.retain(|id, _| files.contains_key(id.as_str()));
        if !self.unnamed.is_empty() {
            self.rescan_in(now, 5000);
        }
        self.pump(now, &mut out);
        out
    }

    /// The files that may be vassals: the first source wins if two have the same id, and a tyrant takes none of root's.
    fn select<'f>(&mut self, found: &'f [Found], out: &mut Vec<Action>) -> BTreeMap<&'f str, (usize, &'f Seen)> {
        let mut files: BTreeMap<&str, (usize, &Seen)> = BTreeMap::new();
        let before = std::mem::take(&mut self.refused);
        for (source, found) in found.iter().enumerate() {
            let Found::Files(seen) = found else { continue };
            for file in seen {
                if let Some((first, _)) = files.get(file.id.as_str()) {
                    if *first != source && self.clashes.insert((file.id.clone(), source)) {
                        out.push(Action::Log(format!(
                            "vassal {}: an earlier source has this name already; the second file is ignored",
                            file.id
                        )));
                    }
                } else if self.policy.tyrant && (file.owner.uid == 0 || file.owner.gid == 0) {
                    let why = format!("belongs to uid {} gid {}: in tyrant mode nothing runs as root", file.owner.uid, file.owner.gid);
                    if before.get(&file.id) != Some(&why) {
                        out.push(Action::Log(format!("vassal {}: refused, its file {why}", file.id)));
                    }
                    self.refused.insert(file.id.clone(), why);
                } else {
                    files.insert(&file.id, (source, file));
                }
            }
        }
        files
    }

    fn present(&mut self, now: Now, id: &str, source: usize, file: &Seen, out: &mut Vec<Action>) {
        let keys: Vec<Key> = self.vassals.range(Key::vassal(id)..=Key { id: id.into(), zerg: u32::MAX }).map(|(k, _)| k.clone()).collect();
        for key in &keys {
            if let Some(vassal) = self.vassals.get_mut(key) {
                vassal.missing_since = None;
            }
        }
        let is_news = keys.is_empty() || keys.iter().any(|k| self.vassals.get(k).is_some_and(|v| v.stamp != file.stamp));
        if is_news && let Some(left) = file.settles_in(now) {
            self.rescan_in(now, left);
            return;
        }
        if !keys.iter().any(|k| k.zerg == 0) {
            self.appear(now, id, source, file, out);
        }
        for key in &keys {
            self.compare(now, key, source, file, out);
        }
    }

    fn appear(&mut self, now: Now, id: &str, source: usize, file: &Seen, out: &mut Vec<Action>) {
        let key = Key::vassal(id);
        let until = now.ms.max(self.blacklist.free_at(id));
        let phase = if self.policy.on_demand { Phase::Naming } else { Phase::Waiting { until, reason: "new".into() } };
        if self.policy.on_demand {
            out.push(Action::Name(key.clone()));
        }
        let face = Face { born: file.stamp.seconds(), last_mod: file.stamp.seconds(), ..Face::default() };
        let vassal = Vassal {
            source,
            stamp: file.stamp,
            owner: file.owner,
            phase,
            face,
            wanted: true,
            on_demand: false,
            halted: false,
            starts: 0,
            last_end: None,
            resting_since: now.seconds(),
            reload_due: None,
            blame: None,
            reloads: Default::default(),
            missing_since: None,
        };
        self.vassals.insert(key, vassal);
    }

    /// A file that is there and a vassal that is known.
    fn compare(&mut self, now: Now, key: &Key, source: usize, file: &Seen, out: &mut Vec<Action>) {
        let Some(vassal) = self.vassals.get_mut(key) else { return };
        let changed = vassal.stamp != file.stamp;
        let elsewhere = vassal.source != source || (self.policy.tyrant && vassal.owner != file.owner);
        vassal.wanted = true;
        vassal.stamp = file.stamp;
        vassal.owner = file.owner;
        vassal.source = source;
        match &mut vassal.phase {
            Phase::Waiting { until, reason } if changed || elsewhere => {
                *until = now.ms;
                *reason = "its file has changed".into();
                self.blacklist.forgive(&key.to_string());
            }
            Phase::Asleep | Phase::Stopped if changed => vassal.face.last_mod = file.stamp.seconds(),
            Phase::Running { .. } if elsewhere => self.stop(now, key, false, "its file has another owner or source", out),
            Phase::Running { .. } if changed => vassal.reload_due = Some("its file has changed".into()),
            _ => {}
        }
    }

    fn absent(&mut self, now: Now, key: &Key, out: &mut Vec<Action>) {
        let Some(vassal) = self.vassals.get_mut(key) else { return };
        match vassal.phase {
            // Some editors move a file away for an instant: what is missing must stay so before its vassal ends.
            Phase::Running { .. } => {
                let since = *vassal.missing_since.get_or_insert(now.ms);
                if now.ms < since + MISSING_MS {
                    self.rescan_in(now, since + MISSING_MS - now.ms);
                } else {
                    vassal.wanted = false;
                    self.stop(now, key, false, "its file is gone", out);
                }
            }
            Phase::Starting | Phase::Stopping { .. } => vassal.wanted = false,
            Phase::Waiting { .. } | Phase::Naming | Phase::Asleep | Phase::Stopped => {
                out.push(Action::Log(format!("vassal {key}: its file is gone")));
                self.remove(key, out);
            }
        }
    }

    /// Drops a vassal without a process, and what is remembered of a file that is gone.
    pub(super) fn remove(&mut self, key: &Key, out: &mut Vec<Action>) {
        self.vassals.remove(key);
        self.flapping.remove(key);
        self.blacklist.forgive(&key.to_string());
        out.push(Action::Forget(key.clone()));
    }

    /// Has a running vassal reload now.
    pub(super) fn reload(&mut self, now: Now, key: &Key, out: &mut Vec<Action>) {
        let Some(vassal) = self.vassals.get_mut(key) else { return };
        let Some(why) = vassal.reload_due.take() else { return };
        let Phase::Running { heartbeat_due, since, .. } = &mut vassal.phase else { return };
        *heartbeat_due = None; // demanded again after the next one
        *since = now.ms;
        vassal.face.last_mod = vassal.stamp.seconds();
        vassal.face.last_run = now.seconds();
        vassal.face.ready = false;
        vassal.face.accepting = false;
        vassal.face.respawns += 1;
        vassal.reloads.told += 1;
        out.push(Action::Tell(key.clone(), byte::RELOAD));
        out.push(Action::Log(format!("vassal {key}: reload ({why})")));
    }
}

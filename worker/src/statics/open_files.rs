//! The open-file cache: files that were asked for within the last second, so that a hot one costs one `stat` to be found.
//!
//! An entry is used while `stat` says that the path still leads to the same, unchanged file, and for a second at most: then it is looked
//! up again from the root, so that a change of a link or a directory on the way counts by then too. Nothing is sized by the limits of
//! the process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use nix::sys::stat::stat;

use super::entity::{Content, Entity, Identity};

/// Milliseconds.
pub(super) const LIFE: u64 = 1000;
/// Entries; those in memory have at most [`super::entity::SMALL`] bytes each.
const ENTRIES: usize = 512;
/// Entries that hold a descriptor.
const DESCRIPTORS: usize = 128;
/// Bytes of a file whose descriptor is kept: to open a larger one is nothing beside sending it, and a deleted one keeps its blocks while it is open.
const LARGE: u64 = 1 << 20;

#[derive(Default)]
pub(super) struct OpenFiles {
    entries: DashMap<Box<[u8]>, Entry>,
    descriptors: AtomicUsize,
    /// When the old entries were last thrown away, in milliseconds.
    swept: AtomicU64,
}

struct Entry {
    entity: Arc<Entity>,
    /// Milliseconds.
    born: u64,
}

impl OpenFiles {
    /// The file under that key, if it is still the same. `now` in milliseconds of a clock that only goes forward.
    pub fn fresh(&self, key: &[u8], now: u64) -> Option<Arc<Entity>> {
        let entity = {
            let entry = self.entries.get(key)?;
            (now.saturating_sub(entry.born) < LIFE).then(|| entry.entity.clone())
        };
        let entity = entity.filter(|entity| is_same(&entity.path, &entity.identity));
        if entity.is_none() {
            self.forget(key);
        }
        entity
    }

    /// Keeps a file, if there is room for it.
    pub fn keep(&self, key: &[u8], entity: &Arc<Entity>, now: u64) {
        if holds_descriptor(entity) && entity.length > LARGE {
            return;
        }
        if !self.has_room(entity) {
            self.sweep(now);
            if !self.has_room(entity) {
                return;
            }
        }
        self.descriptors.fetch_add(usize::from(holds_descriptor(entity)), Relaxed);
        let before = self.entries.insert(key.into(), Entry { entity: entity.clone(), born: now });
        self.release(before.as_ref());
    }

    /// Gives all descriptors back.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    fn has_room(&self, entity: &Entity) -> bool {
        self.entries.len() < ENTRIES && (!holds_descriptor(entity) || self.descriptors.load(Relaxed) < DESCRIPTORS)
    }

    /// Throws away what is too old to be used, once a life at most.
    fn sweep(&self, now: u64) {
        if now.saturating_sub(self.swept.load(Relaxed)) >= LIFE {
            self.swept.store(now, Relaxed);
            self.retain(|entry| now.saturating_sub(entry.born) < LIFE);
        }
    }

    fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entry| {
            let kept = keep(entry);
            if !kept {
                self.release(Some(entry));
            }
            kept
        });
    }

    fn forget(&self, key: &[u8]) {
        self.release(self.entries.remove(key).map(|(_, entry)| entry).as_ref());
    }

    fn release(&self, entry: Option<&Entry>) {
        let held = entry.is_some_and(|entry| holds_descriptor(&entry.entity));
        self.descriptors.fetch_sub(usize::from(held), Relaxed);
    }
}

fn holds_descriptor(entity: &Entity) -> bool {
    matches!(entity.content, Content::File(_))
}

fn is_same(path: &Path, identity: &Identity) -> bool {
    stat(path).is_ok_and(|stat| Identity::from(&stat) == *identity)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::statics::resolve;

    fn entity(path: &Path) -> Arc<Entity> {
        let found = resolve::open(path, b"", &[]).unwrap_or_else(|_| panic!("{}", path.display()));
        Arc::new(Entity::new(found, None, None, false, SystemTime::now()))
    }

    #[test]
    fn a_file_is_found_again_until_it_changes_or_its_life_ends() {
        let top = tempfile::tempdir().expect("directory");
        let path = top.path().join("a");
        std::fs::write(&path, "a").expect("write");
        let files = OpenFiles::default();
        files.keep(b"a", &entity(&path), 5000);
        assert!(files.fresh(b"a", 5000 + LIFE - 1).is_some());
        assert!(files.fresh(b"b", 5000).is_none());
        assert!(files.fresh(b"a", 5000 + LIFE).is_none());
        files.keep(b"a", &entity(&path), 7000);
        let replacement = top.path().join("new");
        std::fs::write(&replacement, "b").expect("write");
        std::fs::rename(&replacement, &path).expect("rename");
        assert!(files.fresh(b"a", 7001).is_none(), "a replaced file is seen at once");
        files.keep(b"a", &entity(&path), 7002);
        std::fs::remove_file(&path).expect("remove");
        assert!(files.fresh(b"a", 7003).is_none());
        assert_eq!((files.entries.len(), files.descriptors.load(Relaxed)), (0, 0));
    }

    #[test]
    fn descriptors_are_bounded_and_come_back() {
        let top = tempfile::tempdir().expect("directory");
        let path = top.path().join("a");
        std::fs::write(&path, "a").expect("write");
        let files = OpenFiles::default();
        (0..2 * DESCRIPTORS).for_each(|n| files.keep(&n.to_le_bytes(), &entity(&path), 5000));
        assert_eq!((files.entries.len(), files.descriptors.load(Relaxed)), (DESCRIPTORS, DESCRIPTORS));
        files.keep(b"later", &entity(&path), 5000 + LIFE);
        assert_eq!((files.entries.len(), files.descriptors.load(Relaxed)), (1, 1), "the old ones made room");
        files.clear();
        assert_eq!((files.entries.len(), files.descriptors.load(Relaxed)), (0, 0));
    }

    #[test]
    fn what_is_large_is_not_kept_open() {
        let top = tempfile::tempdir().expect("directory");
        let path = top.path().join("a");
        std::fs::File::create(&path).and_then(|file| file.set_len(LARGE + 1)).expect("create");
        let files = OpenFiles::default();
        files.keep(b"a", &entity(&path), 5000);
        assert!(files.fresh(b"a", 5000).is_none());
    }
}

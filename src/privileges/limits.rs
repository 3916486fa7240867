//! A control group for an instance or a vassal, made with its limits, and removed when it goes.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use imperator_worker::settings::GroupLimits;

use super::hierarchy::{Hierarchy, SUPERVISOR, Tree};

/// Where groups are made if nothing else is said.
const PARENT: &str = "imperator";
/// What a share of processor time is counted over, microseconds.
const PERIOD: u64 = 100_000;

/// A group: one directory, or with version 1 one for each controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    parts: Vec<Part>,
    /// Controllers that this host has not.
    lacks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    controller: &'static str,
    tree: Tree,
    parent: PathBuf,
    directory: PathBuf,
}

impl Group {
    /// The group `name` for these limits. Nothing is made yet.
    pub fn of(limits: &GroupLimits, name: &str, hierarchy: &Hierarchy) -> Self {
        let wanted = [("memory", limits.memory.is_some()), ("cpu", limits.cpu_milli.is_some()), ("pids", limits.pids.is_some())];
        let mut group = Self::default();
        for (controller, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            let Some(tree) = hierarchy.by_controller.get(controller) else {
                group.lacks.push(format!("the control group controller `{controller}`"));
                continue;
            };
            let parent = match limits.parent.as_deref().unwrap_or(PARENT) {
                path if path.starts_with('/') => tree.root.join(path.trim_start_matches('/')),
                path => tree.own.join(path),
            };
            let directory = parent.join(file_name(name));
            group.parts.push(Part { controller, tree: tree.clone(), parent, directory });
        }
        group
    }

    /// The files that take the pids of members, of what is there.
    pub fn members(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.parts.iter().map(|p| p.directory.join("cgroup.procs")).filter(|f| f.exists()).collect();
        files.dedup();
        files
    }

    /// Where it is, for people.
    pub fn directories(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = self.parts.iter().map(|p| p.directory.as_path()).collect();
        all.dedup();
        all
    }

    /// Makes it, or sets other limits on the one that is there. What could not be had, with the reason: a right that this process has not, a
    /// controller that cannot be handed down.
    pub fn make(&self, limits: &GroupLimits) -> Vec<String> {
        let failed = |part: &Part| Some(format!("the control group {}: {}", part.directory.display(), part.make(limits).err()?));
        self.lacks.iter().cloned().chain(self.parts.iter().filter_map(failed)).collect()
    }

    /// Removes it, if nobody is in it any more; whether it is gone.
    pub fn remove(&self) -> bool {
        let mut gone = true;
        for part in &self.parts {
            gone &= fs::remove_dir(&part.directory).is_ok() || !part.directory.exists();
            // With the last one the folder of all goes, too.
            let _ = fs::remove_dir(&part.parent);
        }
        gone
    }
}

impl Part {
    fn make(&self, limits: &GroupLimits) -> Result<()> {
        if self.tree.version2 {
            self.delegate()?;
        }
        fs::create_dir_all(&self.directory)?;
        match (self.controller, self.tree.version2) {
            ("memory", true) => {
                self.set("memory.max", limits.memory)?;
                self.try_set("memory.swap.max", 0)
            }
            ("memory", false) => self.memory_of_version_1(limits.memory.unwrap_or(u64::MAX)),
            ("cpu", true) => fs::write(self.directory.join("cpu.max"), format!("{} {PERIOD}", quota(limits))),
            ("cpu", false) => {
                self.set("cpu.cfs_period_us", Some(PERIOD))?;
                self.set("cpu.cfs_quota_us", Some(quota(limits)))
            }
            _ => self.set("pids.max", limits.pids),
        }
    }

    fn set(&self, file: &str, value: Option<u64>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        fs::write(self.directory.join(file), value.to_string()).map_err(|e| Error::new(e.kind(), format!("{file}: {e}")))
    }

    /// A file that not every kernel has.
    fn try_set(&self, file: &str, value: u64) -> Result<()> {
        if self.directory.join(file).exists() { self.set(file, Some(value)) } else { Ok(()) }
    }

    /// Memory and swap together may never be below memory alone, so that the order depends on what they were.
    fn memory_of_version_1(&self, bytes: u64) -> Result<()> {
        let first = self.set("memory.limit_in_bytes", Some(bytes));
        self.try_set("memory.memsw.limit_in_bytes", bytes)?;
        if first.is_err() { self.set("memory.limit_in_bytes", Some(bytes)) } else { Ok(()) }
    }

    /// Version 2: the controller has to be handed down from our own group, where then no process may be.
    fn delegate(&self) -> Result<()> {
        let top = if self.parent.starts_with(&self.tree.own) { &self.tree.own } else { &self.tree.root };
        let mut group = top.clone();
        let below = self.parent.strip_prefix(top).unwrap_or(Path::new("")).to_owned();
        self.enable(&group)?;
        for name in &below {
            group = group.join(name);
            fs::create_dir_all(&group)?;
            self.enable(&group)?;
        }
        Ok(())
    }

    fn enable(&self, group: &Path) -> Result<()> {
        let control = group.join("cgroup.subtree_control");
        if fs::read_to_string(&control).unwrap_or_default().split_whitespace().any(|c| c == self.controller) {
            return Ok(());
        }
        let word = format!("+{}", self.controller);
        match fs::write(&control, &word) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && group == self.tree.own => {
                let leaf = group.join(SUPERVISOR);
                fs::create_dir_all(&leaf)?;
                fs::write(leaf.join("cgroup.procs"), "0")?;
                fs::write(&control, &word)
            }
            done => done,
        }
        .map_err(|e| Error::new(e.kind(), format!("handing `{}` down in {}: {e}", self.controller, group.display())))
    }
}

/// Microseconds of each period.
fn quota(limits: &GroupLimits) -> u64 {
    // The kernel takes no less than a millisecond.
    (u64::from(limits.cpu_milli.unwrap_or(1000)) * PERIOD / 1000).max(1000)
}

/// What the group of an instance is called: its file's name, and something that tells it from another of that name, the same at each start.
pub fn instance_name(argv: &[String]) -> String {
    let file = argv.iter().skip(1).rev().find(|word| !word.starts_with('-')).and_then(|word| Path::new(word).file_name());
    let name = file.map_or_else(|| "instance".into(), |file| file.to_string_lossy().into_owned());
    let here = std::env::current_dir().unwrap_or_default().display().to_string();
    // FNV-1a: what it has to be is stable, not secret.
    let hash = here
        .bytes()
        .chain(argv.iter().flat_map(|word| word.bytes()))
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{name}-{hash:08x}")
}

/// A name for one directory.
fn file_name(name: &str) -> String {
    let name = name.replace('/', "_");
    if name.is_empty() || name.starts_with('.') || name.contains('\0') { format!("_{}", name.replace('\0', "")) } else { name }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Trees that are folders of a file system, with the files that are written.
    fn hierarchy(root: &Path, version2: bool) -> Hierarchy {
        let tree = |name: &str| {
            let root = if version2 { root.to_owned() } else { root.join(name) };
            fs::create_dir_all(root.join("own")).expect("folders");
            Tree { own: root.join("own"), root, version2 }
        };
        let by_controller: BTreeMap<String, Tree> = ["memory", "cpu", "pids"].iter().map(|n| ((*n).to_owned(), tree(n))).collect();
        Hierarchy { by_controller }
    }

    fn limits() -> GroupLimits {
        GroupLimits { memory: Some(1 << 28), cpu_milli: Some(500), pids: Some(64), ..GroupLimits::default() }
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    #[test]
    fn version_1_has_a_folder_for_each_limit() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = Group::of(&limits(), "shop.ini", &hierarchy(dir.path(), false));
        assert_eq!(group.make(&limits()), Vec::<String>::new());
        let at = |name: &str| dir.path().join(name);
        assert_eq!(read(at("memory/own/imperator/shop.ini/memory.limit_in_bytes")), "268435456");
        assert_eq!(read(at("cpu/own/imperator/shop.ini/cpu.cfs_quota_us")), "50000");
        assert_eq!(read(at("pids/own/imperator/shop.ini/pids.max")), "64");
        assert_eq!(group.directories().len(), 3);
    }

    #[test]
    fn version_2_has_one_folder_and_hands_controllers_down() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = Group::of(&limits(), "shop.ini", &hierarchy(dir.path(), true));
        assert_eq!(group.make(&limits()), Vec::<String>::new());
        let own = dir.path().join("own");
        assert_eq!(read(own.join("imperator/shop.ini/memory.max")), "268435456");
        assert_eq!(read(own.join("imperator/shop.ini/cpu.max")), "50000 100000");
        assert!(read(own.join("cgroup.subtree_control")).starts_with('+'));
        assert!(read(own.join("imperator/cgroup.subtree_control")).starts_with('+'));
        assert_eq!(group.directories(), [own.join("imperator/shop.ini")]);
    }

    #[test]
    fn a_parent_may_be_named_and_names_cannot_climb() {
        let h = hierarchy(tempfile::tempdir().expect("a directory").path(), false);
        let at = |parent: &str, name: &str| {
            let limits = GroupLimits { parent: Some(parent.into()), pids: Some(1), ..GroupLimits::default() };
            Group::of(&limits, name, &h).directories()[0].strip_prefix(&h.by_controller["pids"].root).expect("below").display().to_string()
        };
        assert_eq!((at("/web", "a.ini"), at("web", "a.ini")), ("web/a.ini".into(), "own/web/a.ini".into()));
        assert_eq!((at("/web", "../../x"), at("/web", "..")), ("web/_.._.._x".into(), "web/_..".into()));
    }

    #[test]
    fn what_the_host_has_not_is_named() {
        let group = Group::of(&limits(), "a", &Hierarchy::default());
        assert_eq!((group.make(&limits()).len(), group.members().len(), group.remove()), (3, 0, true));
    }
}

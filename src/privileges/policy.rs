//! What an emperor does about the isolation of its vassals: its own demand (`emperor-isolate` and its parts), which no vassal can loosen.
//!
//! Namespaces, mounts and control groups are made by the emperor's child before it is another user. A vassal that is not root (tyrant mode, or an
//! emperor that is not root) has files, capabilities and system calls taken away there too, before a line of its file is read. A root's vassal needs
//! them to become somebody else: it gets the demand in its environment, and its app is sealed by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imperator_sys::process::{self, Fork};
use imperator_sys::{caps, spawn};
use imperator_worker::isolation::{IsolationError, Mounts, Seal, users};
use imperator_worker::settings::{Isolation, Made, Measures, Settings};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::geteuid;

use super::files;
use super::forced::Forced;
use super::hierarchy::Hierarchy;
use super::kernel::Kernel;
use super::limits::Group;

/// The emperor's side.
#[derive(Debug)]
pub struct Policy {
    demand: Isolation,
    measures: Measures,
    /// Its vassals are not root.
    sealed: bool,
    /// Users of their own are needed for the rest.
    own_users: bool,
    hierarchy: Hierarchy,
    /// Groups of vassals that have gone, but not yet the last of their processes.
    left: BTreeMap<String, Group>,
}

/// What one vassal is put into.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    members: Vec<PathBuf>,
    mounts: Mounts,
    seal: Seal,
    /// For its environment.
    pub environment: Option<(String, String)>,
}

impl Policy {
    /// From the emperor's settings. What the kernel lacks of it is said in one line.
    ///
    /// # Errors
    /// It lacks something, and `emperor-require-isolation` is set.
    pub fn of(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(policy) = Self::plan(settings) else { return Ok(None) };
        let wanted = policy.demand.measures();
        let kernel = policy.kernel();
        let mut lacks = kernel.lacks(&wanted, !wanted.namespaces.is_empty());
        lacks.extend(try_group(&policy.demand, &policy.hierarchy));
        if !lacks.is_empty() {
            let text = format!("isolation of vassals: this system lacks {}", lacks.join("; "));
            anyhow::ensure!(!wanted.required, "{text} (emperor-require-isolation)");
            tracing::warn!("[emperor] {text}");
        }
        Ok(Some(policy))
    }

    /// The same, saying nothing; `None`: nothing is demanded.
    pub fn plan(settings: &Settings) -> Option<Self> {
        let demand = settings.emperor.isolation.clone();
        let wanted = demand.measures();
        if !wanted.any() && !demand.group.any() {
            return None;
        }
        let own_users = !wanted.namespaces.is_empty() && !Kernel::here().may_mount && users_are_given();
        let sealed = settings.emperor.tyrant || !geteuid().is_root() || settings.privileges.uid.is_some();
        let mut policy = Self { measures: wanted.clone(), demand, sealed, own_users, hierarchy: Hierarchy::here(), left: BTreeMap::new() };
        policy.measures = policy.kernel().limit(wanted);
        Some(policy)
    }

    /// What there is with users of their own, if they are needed.
    fn kernel(&self) -> Kernel {
        let kernel = Kernel::here();
        Kernel { may_mount: kernel.may_mount || self.own_users, ..kernel }
    }

    /// What a vassal is cloned into.
    pub fn namespaces(&self) -> CloneFlags {
        let each = self.measures.namespaces.iter().filter_map(|name| spawn::namespaces(name).ok());
        let users = if self.own_users { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() };
        each.fold(users, |all, one| all | one)
    }

    /// For the vassal `name` of the folder `vassals`. `also`: namespaces that it is put into whatever this says. Its control group is made.
    pub fn cell(&mut self, name: &str, vassals: &Path, also: CloneFlags) -> Cell {
        let (forced, mounts) = self.forced_with(name, vassals, also);
        let demand = forced.demand.as_ref().unwrap_or(&self.demand);
        let seal = if self.sealed { self.seal(demand, vassals) } else { Seal::default() };
        Cell { members: self.group(name), mounts, seal, environment: forced.to_environment() }
    }

    /// What the vassal is told, and what is mounted for it before.
    pub fn forced(&self, name: &str, vassals: &Path) -> (Forced, Mounts) {
        self.forced_with(name, vassals, CloneFlags::empty())
    }

    fn forced_with(&self, name: &str, vassals: &Path, also: CloneFlags) -> (Forced, Mounts) {
        let namespaces = self.namespaces() | also;
        let own = |flag| namespaces.contains(flag);
        let mounted = own(CloneFlags::CLONE_NEWNS);
        let demand = self.named(name);
        let hide: Vec<PathBuf> = if mounted { demand.hide.iter().map(PathBuf::from).collect() } else { vec![] };
        let keep = [&demand.read, &demand.write, &demand.exec].into_iter().flatten().map(PathBuf::from);
        let program = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.to_owned()));
        let mounts = Mounts {
            tmp: self.measures.private_tmp && mounted,
            tmp_size: demand.tmp_size,
            keep: keep.chain([vassals.to_owned()]).chain(program).collect(),
            hide,
            proc: mounted && own(CloneFlags::CLONE_NEWPID),
        };
        let made = Made { namespaces: names(namespaces), tmp: mounts.tmp, hidden: mounted, proc: mounts.proc, sealed: self.sealed };
        (Forced { demand: Some(demand), made }, mounts)
    }

    /// The demand with `{name}` in its paths filled in.
    fn named(&self, name: &str) -> Isolation {
        let stem = Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        let mut demand = self.demand.clone();
        let lists = [&mut demand.read, &mut demand.write, &mut demand.exec, &mut demand.hide];
        lists.into_iter().flatten().for_each(|path| *path = path.replace("{name}", &stem));
        demand
    }

    fn seal(&self, demand: &Isolation, vassals: &Path) -> Seal {
        let measures = &self.measures;
        let files = if Kernel::here().landlock > 0 { files::bounds(demand, vassals) } else { None };
        Seal {
            drop_capabilities: measures.drop_capabilities,
            no_new_privs: measures.no_new_privs,
            scope: measures.scope,
            files: files.into_iter().collect(),
            seccomp: measures.seccomp.clone(),
        }
    }

    fn group(&mut self, name: &str) -> Vec<PathBuf> {
        if !self.demand.group.any() {
            return vec![];
        }
        self.left.remove(name);
        let group = Group::of(&self.demand.group, name, &self.hierarchy);
        for failed in group.make(&self.demand.group) {
            tracing::warn!("[emperor] vassal {name}: without {failed}");
        }
        group.members()
    }

    /// A vassal has ended: its group goes, now or when the last of its processes has gone.
    pub fn left(&mut self, name: &str) {
        if self.demand.group.any() {
            self.left.insert(name.to_owned(), Group::of(&self.demand.group, name, &self.hierarchy));
            self.left.retain(|_, group| !group.remove());
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        self.left.retain(|_, group| !group.remove());
    }
}

impl Cell {
    /// While the child is still what the emperor is.
    ///
    /// # Errors
    /// A step that the kernel refused: the vassal is not started.
    pub fn enter(&self) -> anyhow::Result<()> {
        for members in &self.members {
            std::fs::write(members, "0").map_err(|e| anyhow::anyhow!("{}: {e}", members.display()))?;
        }
        self.mounts.make()?;
        if self.seal.drop_capabilities && caps::has(caps::SETPCAP) {
            // What `become another user` takes is in force until then.
            spawn::limit_bounding_set(&[])?;
        }
        Ok(())
    }

    /// Last of all, before the vassal's program.
    ///
    /// # Errors
    /// As [`Cell::enter`].
    pub fn close(&self) -> Result<(), IsolationError> {
        self.seal.close()
    }
}

/// What of the groups cannot be had: one is made and removed.
fn try_group(demand: &Isolation, hierarchy: &Hierarchy) -> Vec<String> {
    if !demand.group.any() {
        return vec![];
    }
    let group = Group::of(&demand.group, &format!("try-{}", std::process::id()), hierarchy);
    let lacks = group.make(&demand.group);
    group.remove();
    lacks
}

/// Whether somebody who is not root gets a user namespace here: a child tries.
fn users_are_given() -> bool {
    match process::fork() {
        Ok(Fork::Child) => {
            // Who was root before may write to its own /proc again.
            let _ = nix::sys::prctl::set_dumpable(true);
            process::exit_now(i32::from(users::enter(CloneFlags::CLONE_NEWNS).is_err()))
        }
        Ok(Fork::Parent(child)) => matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))),
        Err(_) => false,
    }
}

fn names(flags: CloneFlags) -> Vec<String> {
    ["fs", "ipc", "net", "pid", "uts", "user", "cgroup"]
        .into_iter()
        .filter(|name| spawn::namespaces(name).is_ok_and(|flag| flags.contains(flag)))
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use imperator_worker::settings::Level;

    use super::*;

    fn policy(change: impl FnOnce(&mut Settings)) -> Option<Policy> {
        let mut settings = Settings::default();
        change(&mut settings);
        Policy::of(&settings).expect("not required")
    }

    #[test]
    fn no_demand_no_policy() {
        assert!(policy(|_| ()).is_none());
    }

    #[test]
    fn who_is_not_root_is_sealed_before_its_file_is_read() {
        let strict = |tyrant: bool| {
            policy(|s| {
                s.emperor.isolation = Isolation { level: Level::Strict, write: vec!["/srv/{name}".into()], ..Isolation::default() };
                s.emperor.tyrant = tyrant;
            })
            .expect("a policy")
        };
        let cell = strict(true).cell("shop.ini", Path::new("/etc/vassals"), CloneFlags::empty());
        assert!(cell.seal.no_new_privs && !cell.seal.seccomp.is_empty());
        if Kernel::here().landlock > 0 {
            assert!(cell.seal.files[0].write.contains(&"/srv/shop".into()));
        }
        let (_, text) = cell.environment.expect("the demand");
        assert!(text.contains("strict") && text.contains("/srv/shop"), "{text}");
        if geteuid().is_root() {
            assert!(!strict(false).cell("shop.ini", Path::new("/etc/vassals"), CloneFlags::empty()).seal.any());
        }
    }
}

//! Where control groups are on this host: version 2, version 1, or some of both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The group to which a supervisor moves itself, so that its own may have others below (version 2 wants processes in leaves only).
pub const SUPERVISOR: &str = "supervisor";

/// One mounted tree of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub root: PathBuf,
    /// The group that this process was started in.
    pub own: PathBuf,
    pub version2: bool,
}

/// For each controller (`memory`, `cpu`, `pids`) the tree that has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchy {
    pub by_controller: BTreeMap<String, Tree>,
}

impl Hierarchy {
    /// Of this host, for this process.
    pub fn here() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let controllers = |root: &Path| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        Self::parse(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"), &controllers)
    }

    /// From the kernel's texts. `controllers`: what the tree of version 2 that is mounted there has.
    pub fn parse(mounts: &str, own: &str, controllers: &dyn Fn(&Path) -> String) -> Self {
        let mut by_controller = BTreeMap::new();
        for mount in mounts.lines().filter_map(Mount::parse) {
            let names: Vec<String> = match mount.version2 {
                true => controllers(mount.root).split_whitespace().map(ToOwned::to_owned).collect(),
                false => mount.options.split(',').filter(|o| ["memory", "cpu", "pids"].contains(o)).map(ToOwned::to_owned).collect(),
            };
            for name in names {
                let Some(path) = own_path(own, &name, mount.version2) else { continue };
                let below = path.strip_prefix(mount.shown).unwrap_or(path).trim_start_matches('/');
                let group = mount.root.join(below);
                let own = if group.ends_with(SUPERVISOR) { group.parent().unwrap_or(mount.root).to_owned() } else { group };
                let tree = Tree { root: mount.root.to_owned(), own, version2: mount.version2 };
                by_controller.entry(name).or_insert(tree);
            }
        }
        Self { by_controller }
    }
}

/// A line of /proc/self/mountinfo.
struct Mount<'m> {
    /// Which group is seen as the tree's root.
    shown: &'m str,
    root: &'m Path,
    options: &'m str,
    version2: bool,
}

impl<'m> Mount<'m> {
    fn parse(line: &'m str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (shown, root) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        let version2 = kind == "cgroup2";
        let shown = shown.trim_end_matches('/');
        (version2 || kind == "cgroup").then_some(Self { shown, root: Path::new(root), options, version2 })
    }
}

/// The path of this process's group for a controller, from /proc/self/cgroup.
fn own_path<'c>(own: &'c str, controller: &str, version2: bool) -> Option<&'c str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = if version2 { number == "0" } else { controllers.split(',').any(|c| c == controller) };
        fits.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 24 8:1 / / rw - ext4 /dev/sda rw";

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let own = "5:memory:/a/b\n4:cpu,cpuacct:/\n0::/x";
        let h = Hierarchy::parse(V1, own, &|_| String::new());
        let memory = Tree { root: "/sys/fs/cgroup/memory".into(), own: "/sys/fs/cgroup/memory/a/b".into(), version2: false };
        assert_eq!(h.by_controller["memory"], memory);
        assert_eq!(h.by_controller["cpu"].own, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(!h.by_controller.contains_key("pids"));
    }

    #[test]
    fn version_2_has_one_for_all_and_a_supervisor_is_in_a_leaf() {
        let mounts = "25 20 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let h = Hierarchy::parse(mounts, "0::/system.slice/imperator.service/supervisor", &|_| "cpu io memory pids".into());
        let own = Path::new("/sys/fs/cgroup/system.slice/imperator.service");
        assert!(["cpu", "memory", "pids"].iter().all(|c| h.by_controller[*c].own == own && h.by_controller[*c].version2));
    }

    #[test]
    fn in_a_container_the_root_is_a_group_of_the_host() {
        let mounts = "25 20 0:22 /docker/77 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let h = Hierarchy::parse(mounts, "5:memory:/docker/77/x", &|_| String::new());
        assert_eq!(h.by_controller["memory"].own, Path::new("/sys/fs/cgroup/memory/x"));
    }
}

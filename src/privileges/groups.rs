//! Control groups, of both kernels' interfaces.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use imperator_worker::settings::Privileges;

/// Mode of a group's directory that has to be made, uWSGI's.
const DIRECTORY_MODE: u32 = 0o700;

/// This process, and so all that it starts, joins the groups; their files (`cgroup-opt`) are written first. The directories that had to be made.
///
/// # Errors
/// A group that cannot be made or joined, a file that cannot be written.
pub fn join_cgroups(p: &Privileges) -> Result<Vec<PathBuf>> {
    let mut made = vec![];
    for directory in &p.cgroup {
        let path = Path::new(directory);
        if !path.is_dir() {
            let mode = p.cgroup_dir_mode.unwrap_or(DIRECTORY_MODE);
            DirBuilder::new().recursive(true).mode(mode).create(path).with_context(|| format!("cgroup = {directory}"))?;
            made.push(path.to_owned());
        }
        for option in &p.cgroup_opt {
            let (file, value) = split(option).with_context(|| format!("cgroup-opt = {option}: FILE=VALUE is expected"))?;
            fs::write(path.join(file), format!("{value}\n")).with_context(|| format!("cgroup-opt: {directory}/{file}"))?;
        }
        // Version 1 has `tasks`; version 2 has not, and refuses to have it made.
        let members = if path.join("tasks").exists() || !path.join("cgroup.procs").exists() { "tasks" } else { "cgroup.procs" };
        fs::write(path.join(members), format!("{}\n", std::process::id())).with_context(|| format!("cgroup: {directory}/{members}"))?;
    }
    Ok(made)
}

/// This process goes out of the group, to the next one above that takes it, and the group is removed if nobody else is in it.
pub fn leave_cgroup(directory: &Path) {
    let above = directory.ancestors().skip(1).map(|group| group.join("cgroup.procs"));
    above.take_while(|members| members.exists()).find(|members| fs::write(members, "0").is_ok());
    let _ = fs::remove_dir(directory);
}

/// `FILE=VALUE` or `FILE:VALUE`, whichever sign comes first.
fn split(option: &str) -> Option<(&str, &str)> {
    option.split_once(['=', ':']).filter(|(file, _)| !file.is_empty() && !file.contains('/'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_signs_and_no_way_out_of_the_group() {
        assert_eq!(split("memory.max=1:2"), Some(("memory.max", "1:2")));
        assert_eq!(split("memory.limit_in_bytes:9"), Some(("memory.limit_in_bytes", "9")));
        assert_eq!(split("../../etc/passwd=x"), None);
        assert_eq!(split("nothing"), None);
    }

    #[test]
    fn a_group_is_made_set_up_and_joined() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a/b");
        let p = Privileges { cgroup: vec![group.display().to_string()], cgroup_opt: vec!["memory.max=7".into()], ..Privileges::default() };
        assert_eq!(join_cgroups(&p).unwrap(), vec![group.clone()]);
        assert_eq!(join_cgroups(&p).unwrap(), Vec::<PathBuf>::new(), "it was there");
        assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "7\n");
        assert_eq!(fs::read_to_string(group.join("tasks")).unwrap().trim(), std::process::id().to_string());
    }
}

//! From the settings to a plan.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use imperator_worker::log::diag::say;
use imperator_worker::privileges::{Identity, Plan, flags};
use imperator_worker::settings::{Privileges, Settings};
use nix::unistd::{Gid, Uid, geteuid, getgrouplist};

use super::identity::{group, user};
use super::isolation::{Isolated, group_of, isolated};
use super::kernel::Kernel;

/// When the plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the interpreter is executed.
    BeforeExec,
    /// By the zygote, when the app is loaded (`drop-after-apps`, `drop-after-init`, `master-as-root`).
    AfterLoad,
}

/// Everything that the settings want given up, and when.
///
/// # Errors
/// A user, group, namespace or capability that is not there: the start ends with 1.
pub fn plan(settings: &Settings) -> Result<(Plan, Place)> {
    let p = &settings.privileges;
    flags(&p.unshare)?;
    flags(&p.unshare2)?;
    let pivot_root = match &p.pivot_root {
        None => None,
        Some(text) => {
            let (new, old) = text.split_once(' ').with_context(|| format!("pivot_root = {text}: two directories are needed, NEW OLD"))?;
            Some((new.to_owned(), old.trim().to_owned()))
        }
    };
    let Isolated { namespaces, mounts, seal, .. } = isolated(settings, &Kernel::here(), &directory(settings));
    let plan = Plan {
        setns: joined(settings)?.map(ToOwned::to_owned),
        unshare: without_pid(&p.unshare),
        capabilities: capabilities(&p.cap)?,
        // Also if `pid` alone is left out of the list.
        jailed: p.jailed || !p.unshare.is_empty(),
        chroot: p.chroot.clone(),
        pivot_root,
        unshare2: without_pid(&p.unshare2),
        identity: identity(p)?,
        groups: group_of(settings).map(|group| group.members()).unwrap_or_default(),
        own_namespaces: namespaces,
        mounts,
        seal,
    };
    let late = p.drop_after_apps || p.drop_after_init || p.master_as_root;
    Ok((plan, if late { Place::AfterLoad } else { Place::BeforeExec }))
}

/// `setns`.
///
/// # Errors
/// An emperor demands isolation: going elsewhere would undo it.
pub fn joined(settings: &Settings) -> Result<Option<&str>> {
    let place = settings.privileges.setns.as_deref();
    anyhow::ensure!(place.is_none() || settings.isolation.forced.is_none(), "setns: the emperor demands isolation, which this would undo");
    Ok(place)
}

/// Where the app is going to be: a master is there already.
fn directory(settings: &Settings) -> PathBuf {
    let chdir = settings.process.chdir.as_ref().map(PathBuf::from).filter(|chdir| chdir.is_absolute());
    chdir.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| "/".into())
}

/// Whether the master has to be process 1 of a namespace of its own.
pub fn wants_pid_namespace(settings: &Settings) -> bool {
    let p = &settings.privileges;
    isolated(settings, &Kernel::here(), Path::new("/")).pid_namespace
        || p.unshare.iter().chain(&p.unshare2).any(|list| list.split(',').any(|name| name.trim() == "pid"))
}

/// Without those that only named it.
fn without_pid(lists: &[String]) -> Vec<String> {
    let rest = |list: &String| list.split(',').map(str::trim).filter(|n| *n != "pid" && !n.is_empty()).collect::<Vec<_>>().join(",");
    lists.iter().map(rest).filter(|list| !list.is_empty()).collect()
}

fn capabilities(lists: &[String]) -> Result<Option<Vec<u32>>> {
    let each = lists
        .iter()
        .map(|list| imperator_sys::spawn::capabilities(list).map_err(|name| anyhow::anyhow!("cap: there is no capability {name:?}")));
    let all = each.collect::<Result<Vec<_>>>()?.concat();
    Ok((!lists.is_empty()).then_some(all))
}

/// `immediate-uid`, `immediate-gid`: this very process, before it does anything else.
///
/// # Errors
/// No such user, or the kernel refuses.
pub fn take_at_once(p: &Privileges) -> Result<()> {
    let (uid, gid) = (p.immediate_uid.clone(), p.immediate_gid.clone());
    let wanted = identity(&Privileges { uid, gid, no_initgroups: p.no_initgroups, ..Privileges::default() }).context("immediate-uid")?;
    wanted.map_or(Ok(()), |identity| identity.take(None)).context("immediate-uid")
}

/// `None`: who we are already.
fn identity(p: &Privileges) -> Result<Option<Identity>> {
    if p.uid.is_none() && p.gid.is_none() && p.add_gid.is_empty() {
        return Ok(None);
    }
    let wanted = p.uid.as_deref().map(|name| user(name).with_context(|| format!("uid = {name}"))).transpose()?;
    let gid = p.gid.as_deref().map(|name| group(name).with_context(|| format!("gid = {name}"))).transpose()?;
    let more: Vec<Gid> = p.add_gid.iter().map(|name| group(name).with_context(|| format!("add-gid = {name}"))).collect::<Result<_>>()?;
    if !geteuid().is_root() {
        if wanted.as_ref().is_some_and(|(uid, _)| *uid != geteuid()) {
            say("warning: uid and gid have no effect: this process is not root");
        }
        return Ok(None);
    }
    let (uid, entry) = match wanted {
        None => (None, None),
        Some((uid, _)) if uid.is_root() && p.uid.as_deref() == Some("0") => bail!("uid = 0: an instance stays root if no uid is given"),
        Some((uid, entry)) => (Some(uid), entry),
    };
    // Without `gid` the user's own group: staying in root's would leave most of what `uid` is to take away.
    let gid = gid.or(entry.as_ref().map(|e| e.gid)).or(uid.filter(|u| !u.is_root()).map(|u| Gid::from_raw(u.as_raw())));
    let gid = gid.unwrap_or_else(nix::unistd::getegid);
    let mut groups = match &entry {
        Some(entry) if !p.no_initgroups => getgrouplist(&std::ffi::CString::new(entry.name.as_str())?, gid).unwrap_or_else(|_| vec![gid]),
        _ => vec![],
    };
    groups.extend(more);
    Ok(Some(Identity { uid: uid.map(Uid::as_raw), gid: gid.as_raw(), groups: groups.into_iter().map(Gid::as_raw).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Privileges)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings.privileges);
        settings
    }

    #[test]
    fn unknown_names_are_errors_that_name_the_option() {
        let text = |s: &Settings| format!("{:#}", plan(s).expect_err("refused"));
        assert!(text(&settings(|p| p.uid = Some("no-such-user".into()))).contains("uid = no-such-user"));
        assert!(text(&settings(|p| p.gid = Some("no-such-group".into()))).contains("gid = no-such-group"));
        assert!(text(&settings(|p| p.cap = vec!["fly".into()])).contains("fly"));
        assert!(text(&settings(|p| p.unshare = vec!["uts,nonsense".into()])).contains("nonsense"));
    }

    #[test]
    fn a_pid_namespace_is_the_masters() {
        let s = settings(|p| p.unshare = vec!["pid,net".into(), "pid".into()]);
        assert!(wants_pid_namespace(&s));
        let plan = plan(&s).expect("plan").0;
        assert_eq!((plan.unshare, plan.jailed), (vec!["net".to_owned()], true), "the post-jail stage runs with any of them");
    }

    #[test]
    fn nobody_goes_elsewhere_under_an_emperor_that_demands_isolation() {
        let mut s = settings(|p| p.setns = Some("/proc/1/ns".into()));
        assert_eq!(plan(&s).expect("plan").0.setns.as_deref(), Some("/proc/1/ns"));
        s.isolation.forced = Some(Box::default());
        assert!(plan(&s).is_err() && joined(&s).is_err());
    }

    #[test]
    fn late_drops_are_told_apart() {
        assert_eq!(plan(&settings(|_| ())).expect("plan"), (Plan::default(), Place::BeforeExec));
        assert_eq!(plan(&settings(|p| p.drop_after_apps = true)).expect("plan").1, Place::AfterLoad);
    }
}

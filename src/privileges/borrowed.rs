//! Doing something with an app's rights, in a process that keeps its own.

use anyhow::{Context, Result};
use imperator_worker::privileges::Plan;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};

use super::Place;

/// Runs `work` as the user and group that the app will have, so that no link in a folder of theirs leads a root master to a file of somebody else's. If they
/// are given up later only (`drop-after-apps` ...), or not at all, it runs as this process is.
///
/// # Errors
/// The kernel refuses the change; nothing was done then.
pub fn as_app<T>(plan: &Plan, place: Place, work: impl FnOnce() -> T) -> Result<T> {
    let Some(identity) = plan.identity.as_ref().filter(|_| place == Place::BeforeExec && geteuid().is_root()) else { return Ok(work()) };
    let before = Before { uid: geteuid(), gid: getegid(), groups: getgroups().context("the groups of this process")? };
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).context("setgroups")?;
    setegid(Gid::from_raw(identity.gid)).with_context(|| format!("setegid to {}", identity.gid))?;
    if let Some(uid) = identity.uid {
        seteuid(Uid::from_raw(uid)).with_context(|| format!("seteuid to {uid}"))?;
    }
    let done = work();
    drop(before);
    Ok(done)
}

/// Puts everything back, also when what runs in between panics or a step fails.
struct Before {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Drop for Before {
    fn drop(&mut self) {
        let back = seteuid(self.uid).and_then(|()| setegid(self.gid)).and_then(|()| setgroups(&self.groups));
        if let Err(error) = back {
            // A master that has lost its rights can start nothing that it should.
            imperator_worker::log::diag::say(&format!("cannot go back to uid {}: {error}", self.uid));
            imperator_sys::process::exit_now(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use imperator_worker::privileges::Identity;

    use super::*;

    #[test]
    fn rights_are_borrowed_and_given_back() {
        let plan = Plan { identity: Some(Identity { uid: Some(65534), gid: 65534, groups: vec![65534] }), ..Plan::default() };
        let who = || (geteuid().as_raw(), getegid().as_raw());
        let own = who();
        let inside = as_app(&plan, Place::BeforeExec, who).expect("possible");
        assert_eq!(inside, if own.0 == 0 { (65534, 65534) } else { own });
        assert_eq!(as_app(&plan, Place::AfterLoad, who).expect("possible"), own);
        assert_eq!(who(), own);
    }
}

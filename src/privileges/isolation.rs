//! From `isolate` and its parts to what the app's process does about them.

use std::path::Path;

use imperator_worker::isolation::{Mounts, Seal};
use imperator_worker::log::diag::say;
use imperator_worker::settings::{Measures, Settings};

use super::files;
use super::hierarchy::Hierarchy;
use super::kernel::Kernel;
use super::limits::Group;

/// What of it the app's process has to do itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Isolated {
    pub namespaces: Vec<String>,
    /// The master is to be process 1 of a namespace.
    pub pid_namespace: bool,
    pub mounts: Mounts,
    pub seal: Seal,
}

/// Everything that can be had here. `directory`: where the app is going to be.
pub fn isolated(settings: &Settings, kernel: &Kernel, directory: &Path) -> Isolated {
    let measures = kernel.limit(settings.isolation.measures());
    if !measures.any() {
        return Isolated::default();
    }
    let made = &settings.isolation.made;
    let mounts = mounts(settings, &measures, directory);
    let wanted = wanted_namespaces(settings, &measures);
    let pid_namespace = wanted.iter().any(|name| name == "pid");
    let mounts = Mounts { proc: !made.proc && kernel.may_mount && (pid_namespace || has(&made.namespaces, "pid")), ..mounts };
    let mut namespaces: Vec<String> = wanted.into_iter().filter(|name| name != "pid" && name != "fs").collect();
    if mounts.any() {
        namespaces.insert(0, "fs".into());
    }
    let drop_capabilities = measures.drop_capabilities && settings.privileges.cap.is_empty();
    let mut files = vec![];
    if measures.files {
        files.push(files::of_the_system().and(files::of_the_app(settings, directory)));
    }
    // The emperor's bounds, if it could not set them itself before it started the master.
    files.extend(settings.isolation.forced.as_ref().filter(|_| !made.sealed).and_then(|forced| files::bounds(forced, directory)));
    let seal = Seal { drop_capabilities, no_new_privs: measures.no_new_privs, scope: measures.scope, files, seccomp: measures.seccomp };
    Isolated { namespaces, pid_namespace, mounts, seal }
}

fn mounts(settings: &Settings, measures: &Measures, directory: &Path) -> Mounts {
    let (isolation, made) = (&settings.isolation, &settings.isolation.made);
    let tmp = measures.private_tmp && !made.tmp;
    let app = files::of_the_app(settings, directory);
    let keep = if tmp { app.read.into_iter().chain(app.write).chain(app.exec).collect() } else { vec![] };
    let hide = if made.hidden { &isolation.hide } else { &measures.hide };
    Mounts { tmp, tmp_size: isolation.tmp_size, keep, hide: hide.iter().map(|p| directory.join(p)).collect(), proc: false }
}

/// `unshare` says which namespaces in place of `isolate`; what the emperor has made is there already.
fn wanted_namespaces(settings: &Settings, measures: &Measures) -> Vec<String> {
    let (privileges, made) = (&settings.privileges, &settings.isolation.made);
    let chosen = !privileges.unshare.is_empty() || !privileges.unshare2.is_empty();
    let mounts = measures.private_tmp || !measures.hide.is_empty();
    let names = measures.namespaces.iter().filter(|name| !chosen || (**name == "fs" && mounts));
    names.filter(|name| !has(&made.namespaces, name)).map(|name| (*name).to_owned()).collect()
}

fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|one| one == name)
}

/// Whether namespaces or mounts have to be made by this instance itself.
pub fn needs_namespaces(settings: &Settings) -> bool {
    let measures = settings.isolation.measures();
    let made = &settings.isolation.made;
    let mounts = (measures.private_tmp && !made.tmp) || !settings.isolation.hide.is_empty() || (!measures.hide.is_empty() && !made.hidden);
    mounts || !wanted_namespaces(settings, &measures).is_empty()
}

/// The control group that this instance makes for itself, if its configuration limits something.
pub fn group_of(settings: &Settings) -> Option<Group> {
    let limits = &settings.isolation.group;
    limits.any().then(|| Group::of(limits, &limits.name, &Hierarchy::here()))
}

/// Makes the control group, and says in one line at each start and reload what this system lacks of what is asked for.
///
/// # Errors
/// It lacks something, and `require-isolation` is set.
pub fn report(settings: &Settings) -> anyhow::Result<()> {
    let measures = settings.isolation.measures();
    let mut lacks = Kernel::here().lacks(&measures, needs_namespaces(settings));
    if let Some(group) = group_of(settings) {
        lacks.extend(group.make(&settings.isolation.group));
    }
    if lacks.is_empty() {
        return Ok(());
    }
    let text = format!("isolation: this system lacks {}", lacks.join("; "));
    anyhow::ensure!(!measures.required, "{text} (require-isolation)");
    say(&format!("warning: {text}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use imperator_worker::settings::{Isolation, Level, Made};

    use super::*;

    const ALL: Kernel = Kernel { landlock: 7, seccomp: true, may_mount: true };

    fn strict(change: impl FnOnce(&mut Settings)) -> Isolated {
        let mut settings = Settings::default();
        settings.isolation.level = Level::Strict;
        change(&mut settings);
        isolated(&settings, &ALL, Path::new("/srv/app"))
    }

    #[test]
    fn nothing_is_done_unasked() {
        assert_eq!(isolated(&Settings::default(), &ALL, Path::new("/")), Isolated::default());
    }

    #[test]
    fn strict_is_done_by_the_app_itself() {
        let done = strict(|_| ());
        assert_eq!((done.namespaces, done.pid_namespace), (vec!["fs".into(), "ipc".into(), "uts".into()], true));
        assert!(done.mounts.tmp && done.mounts.proc && done.seal.drop_capabilities && !done.seal.files.is_empty());
    }

    #[test]
    fn what_is_said_alone_takes_the_place_of_its_part() {
        let done = strict(|s| {
            s.privileges.unshare = vec!["net".into()];
            s.privileges.cap = vec!["net_bind_service".into()];
        });
        assert_eq!((done.namespaces, done.pid_namespace), (vec!["fs".into()], false));
        assert!(done.mounts.tmp && !done.mounts.proc && !done.seal.drop_capabilities);
    }

    #[test]
    fn what_the_emperor_has_made_is_not_made_twice() {
        let made =
            Made { namespaces: ["fs", "ipc", "uts", "pid"].map(Into::into).to_vec(), tmp: true, hidden: true, proc: true, sealed: true };
        let forced = Some(Box::new(Isolation { level: Level::Strict, hide: vec!["/run/x".into()], ..Isolation::default() }));
        let done = strict(|s| (s.isolation.made, s.isolation.forced) = (made.clone(), forced));
        assert_eq!((done.namespaces, done.pid_namespace, done.mounts.any()), (vec![], false, false));
        let more = strict(|s| (s.isolation.made, s.isolation.hide) = (made, vec!["var".into()]));
        assert_eq!((more.namespaces, more.mounts.hide), (vec!["fs".into()], vec!["/srv/app/var".into()]));
    }
}

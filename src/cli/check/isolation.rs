//! `imperator check --isolation FILE...`: what an app, or each vassal of an emperor, may still do and see on this host.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use imperator_worker::isolation::Files;
use imperator_worker::settings::{GroupLimits, Isolation, Seccomp, Settings};
use nix::unistd::{Uid, User, geteuid};

use super::arguments;
use crate::cli::print;
use crate::config;
use crate::emperor::{self, Known};
use crate::privileges::{FORCED_ENV, Forced, Group, Hierarchy, Kernel, Policy, files, isolated, needs_namespaces};

/// Columns of a row's text.
const WIDTH: usize = 110;
/// All of them, with what they are to people.
const NAMESPACES: [(&str, &str); 6] =
    [("pid", "processes"), ("fs", "mounts"), ("net", "network"), ("ipc", "shared memory"), ("uts", "host name"), ("user", "users")];

/// Prints it for each file; 0 if all of them could be read, else 1.
pub fn run(names: &[String], env: &[(String, String)]) -> i32 {
    let mut code = 0;
    for name in names {
        let (text, good) = report(name, env);
        print(&text);
        code |= i32::from(!good);
    }
    code
}

fn report(name: &str, env: &[(String, String)]) -> (String, bool) {
    let env: Vec<(String, String)> = env.iter().filter(|(key, _)| !key.starts_with("UWSGI_") && key != FORCED_ENV).cloned().collect();
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    match settings(&arguments(name), &env) {
        Err(error) => (format!("{name}\n{error}\n"), false),
        Ok(settings) if settings.emperor.sources.is_empty() => (table(name, &View::of(settings, &here, None)), true),
        Ok(settings) => vassals(name, &settings, &here, &env),
    }
}

fn settings(argv: &[String], env: &[(String, String)]) -> Result<Settings, String> {
    let all = |errors: &[config::Diagnostic]| errors.iter().map(|e| format!("  {e}\n")).collect::<String>();
    match config::inspect(argv, env) {
        Ok((_, applied)) if applied.errors.is_empty() => Ok(applied.settings),
        Ok((_, applied)) => Err(all(&applied.errors)),
        Err(error) => Err(all(&error.errors)),
    }
}

/// Each vassal as this emperor would start it.
fn vassals(name: &str, emperor: &Settings, here: &Path, env: &[(String, String)]) -> (String, bool) {
    let mut out = String::new();
    let mut good = true;
    let directory = emperor.process.chdir.as_ref().map_or_else(|| here.to_owned(), |chdir| here.join(chdir));
    let known = match emperor::known(emperor, &directory) {
        Ok(known) => known,
        Err(error) => return (format!("{name}\n  {error:#}\n"), false),
    };
    let policy = Policy::plan(emperor);
    let _ = writeln!(
        out,
        "{name}: an emperor of {} vassals{}\n",
        known.len(),
        if policy.is_some() { "" } else { ", which demands nothing of them" }
    );
    for vassal in known {
        let (text, read) = one(&vassal, emperor, policy.as_ref(), env);
        out.push_str(&text);
        good &= read;
    }
    let _ = std::env::set_current_dir(here);
    (out, good)
}

fn one(vassal: &Known, emperor: &Settings, policy: Option<&Policy>, env: &[(String, String)]) -> (String, bool) {
    let argv: Vec<String> = ["imperator".to_owned()].into_iter().chain(vassal.arguments.iter().cloned()).collect();
    // Its words name files relative to where it starts.
    let gone = std::env::set_current_dir(&vassal.directory).err();
    let read = gone.map_or_else(|| settings(&argv, env), |e| Err(format!("  {}: {e}\n", vassal.directory.display())));
    let mut settings = match read {
        Ok(settings) => settings,
        Err(error) => return (format!("{}\n{error}\n", vassal.id), false),
    };
    let forced = policy.map(|policy| policy.forced(&vassal.id, &vassal.directory).0).unwrap_or_default();
    forced.clone().hold(&mut settings);
    let owner = emperor.emperor.tyrant.then_some(vassal.owner);
    (table(&vassal.id, &View::of(settings, &vassal.directory, Some((forced, owner)))), true)
}

/// All that the table is made from.
struct View {
    settings: Settings,
    kernel: Kernel,
    directory: PathBuf,
    forced: Option<Forced>,
    owner: Option<(u32, u32)>,
}

impl View {
    fn of(settings: Settings, start: &Path, emperor: Option<(Forced, Option<(u32, u32)>)>) -> Self {
        let directory = settings.process.chdir.as_ref().map_or_else(|| start.to_owned(), |chdir| start.join(chdir));
        let (forced, owner) = emperor.map_or((None, None), |(forced, owner)| (Some(forced), owner));
        Self { settings, kernel: Kernel::here(), directory, forced, owner }
    }
}

fn table(name: &str, view: &View) -> String {
    let mut out = format!("{name}\n");
    for (title, text) in rows(view) {
        let mut title = title;
        for line in wrapped(&text) {
            let _ = writeln!(out, "  {title:14} {line}");
            title = "";
        }
    }
    out.push('\n');
    out
}

fn rows(view: &View) -> Vec<(&'static str, String)> {
    let settings = &view.settings;
    let measures = view.kernel.limit(settings.isolation.measures());
    let done = isolated(settings, &view.kernel, &view.directory);
    let mut rows = vec![("user", user(view)), ("namespaces", namespaces(view, &done.namespaces, done.pid_namespace))];
    rows.extend(settings.privileges.setns_socket.iter().map(|socket| ("handed out", format!("its namespaces, on {socket}"))));
    rows.extend(settings.privileges.chroot.iter().map(|root| ("root folder", root.clone())));
    rows.extend(file_rows(view, &done.seal.files));
    let tmp = if measures.private_tmp { "its own and empty: /tmp, /var/tmp, /dev/shm" } else { "/tmp, /var/tmp and /dev/shm of the host" };
    rows.push(("temporary", tmp.into()));
    rows.push(("hidden", measures.hide.join(", ")));
    let scope = if measures.scope { "of its own processes only" } else { "as its user may" };
    rows.push(("signals", scope.into()));
    rows.push(("abstract", if measures.scope { "sockets of its own processes only" } else { "sockets of anybody" }.into()));
    rows.extend(call_rows(&measures.seccomp));
    rows.push(("capabilities", capabilities(settings, measures.drop_capabilities, view.owner.is_some())));
    let gain =
        if done.seal.no_new_privs || measures.files { "not by any program (no_new_privs)" } else { "by setuid programs, as its user may" };
    rows.push(("more rights", gain.into()));
    rows.push(("control group", group(view)));
    rows.push(("limits", limits(settings)));
    rows.push(("lacking here", view.kernel.lacks(&settings.isolation.measures(), needs_namespaces(settings)).join("; ")));
    rows.retain(|(_, text)| !text.is_empty());
    rows
}

fn user(view: &View) -> String {
    let p = &view.settings.privileges;
    if let Some((uid, gid)) = view.owner {
        return format!("{} (uid {uid}, gid {gid}), the owner of its file", user_name(uid));
    }
    let who = match (&p.uid, &p.gid) {
        (Some(uid), Some(gid)) => format!("{uid}, group {gid}"),
        (Some(uid), None) => uid.clone(),
        (None, gid) => format!("{}{}", user_name(geteuid().as_raw()), gid.as_ref().map_or(String::new(), |gid| format!(", group {gid}"))),
    };
    let more = if p.add_gid.is_empty() { String::new() } else { format!(", and groups {}", p.add_gid.join(", ")) };
    let late = p.drop_after_apps || p.drop_after_init || p.master_as_root;
    format!("{who}{more}{}", if late { ", once the app is loaded: until then nothing of this holds" } else { "" })
}

fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn namespaces(view: &View, own: &[String], pid: bool) -> String {
    let p = &view.settings.privileges;
    let mut listed: Vec<&str> = p.unshare.iter().chain(&p.unshare2).flat_map(|list| list.split(',')).map(str::trim).collect();
    listed.extend(own.iter().chain(&view.settings.isolation.made.namespaces).map(String::as_str));
    listed.extend(pid.then_some("pid"));
    let has = |name: &str| listed.iter().any(|l| *l == name || (name == "fs" && ["ns", "mount", "mnt"].contains(l)));
    let part =
        |wanted: bool| NAMESPACES.iter().filter(|(name, _)| has(name) == wanted).map(|(_, what)| *what).collect::<Vec<_>>().join(", ");
    let made = match (part(true), part(false)) {
        (own, _) if own.is_empty() => "all of the host".to_owned(),
        (own, host) => format!("its own {own}; of the host {host}"),
    };
    match &p.setns {
        Some(place) if view.settings.isolation.forced.is_some() => format!("{made}; {place} is refused, as the emperor demands isolation"),
        Some(place) => format!("{made}; but what {place} gives is joined before"),
        None => made,
    }
}

/// Of several layers all hold: the second is the emperor's bound.
fn file_rows(view: &View, layers: &[Files]) -> Vec<(&'static str, String)> {
    let mut layers = layers.to_vec();
    // What the emperor's child has done is no step of the vassal's any more.
    let sealed = view.forced.as_ref().filter(|f| f.made.sealed && view.kernel.landlock > 0);
    layers.extend(sealed.and_then(|f| files::bounds(f.demand.as_ref()?, &view.directory)));
    if layers.is_empty() {
        return vec![("files", "all that its user may read, change and run".into())];
    }
    let list = |paths: &[PathBuf]| {
        let mut there: Vec<String> = paths.iter().filter(|p| p.exists()).map(|p| p.display().to_string()).collect();
        there.sort();
        there.dedup();
        there.join(", ")
    };
    let mut rows = vec![];
    for (number, files) in layers.iter().enumerate() {
        let [read, change, run] =
            if number == 0 { ["may read", "may change", "may run"] } else { ["of it at most", "change at most", "run at most"] };
        let more = if number == 0 && view.settings.wants_python() { ", and the folders of its Python" } else { "" };
        rows.push((read, list(&files.read)));
        rows.push((change, list(&files.write)));
        rows.push((run, format!("{}{more}", list(&files.exec))));
    }
    rows
}

fn call_rows(profiles: &[Seccomp]) -> Vec<(&'static str, String)> {
    if profiles.is_empty() {
        return vec![("system calls", "all".into())];
    }
    let mut rows: Vec<(&'static str, String)> = vec![];
    for (seccomp, profile) in profiles.iter().filter_map(|s| Some((s, s.profile()?))) {
        let refused = profile.refused();
        let only = match profile.default {
            imperator_worker::isolation::profile::Answer::Allow => "all but",
            _ => "a list; refused are what is not on it, and",
        };
        rows.push(("system calls", format!("{}: {only} {} by name, and some by their arguments", seccomp.name(), refused.len())));
        let refused = refused.join(" ");
        if !rows.iter().any(|(_, said)| *said == refused) {
            rows.push(("refused", refused));
        }
    }
    rows
}

fn capabilities(settings: &Settings, dropped: bool, tyrant: bool) -> String {
    let p = &settings.privileges;
    if !p.cap.is_empty() {
        return p.cap.join(", ");
    }
    let root = !tyrant && p.uid.is_none() && geteuid().is_root();
    if dropped || !root { "none".into() } else { "all of root's".into() }
}

fn group(view: &View) -> String {
    let emperors = view.forced.as_ref().and_then(|f| f.demand.as_ref()).map(|d: &Isolation| limits_of(&d.group)).unwrap_or_default();
    let own = &view.settings.isolation.group;
    let mut parts = vec![];
    if !emperors.is_empty() {
        parts.push(format!("{emperors} (the emperor's)"));
    }
    if own.any() {
        let group = Group::of(own, &own.name, &Hierarchy::here());
        let places = group.directories().iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ");
        parts.push(format!(
            "{} in {}",
            limits_of(own),
            if places.is_empty() { "no group: this host has no such controllers" } else { &places }
        ));
    }
    parts.extend((!view.settings.privileges.cgroup.is_empty()).then(|| view.settings.privileges.cgroup.join(", ")));
    parts.join("; ")
}

fn limits_of(limits: &GroupLimits) -> String {
    let memory = limits.memory.map(|bytes| format!("memory {} MiB", bytes >> 20));
    let cpu = limits.cpu_milli.map(|milli| format!("{} % of a processor", milli / 10));
    let pids = limits.pids.map(|n| format!("{n} processes and threads"));
    [memory, cpu, pids].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn limits(settings: &Settings) -> String {
    let l = &settings.limits;
    let each =
        [(l.limit_as_mib, "MiB of addresses a process"), (l.limit_nproc, "processes of its user"), (l.max_fd, "open files a process")];
    each.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
}

/// In lines, broken at blanks.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.len() - 1;
        if !lines[line].is_empty() && lines[line].len() + word.len() >= WIDTH {
            lines.push(word.to_owned());
        } else {
            let blank = if lines[line].is_empty() { "" } else { " " };
            lines[line].push_str(blank);
            lines[line].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(file: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.ini");
        std::fs::write(&path, file).expect("write");
        report(&path.display().to_string(), &[]).0
    }

    #[test]
    fn who_asks_for_nothing_is_told_that_all_is_open() {
        let text = checked("[uwsgi]\nsocket = @a\n");
        for row in ["files          all that its user may", "namespaces     all of the host", "system calls   all\n"] {
            assert!(text.contains(row), "{row} in\n{text}");
        }
    }

    #[test]
    fn what_is_joined_and_handed_out_is_told() {
        let text = checked("[uwsgi]\nsocket = @a\nsetns = /run/netns/blue\nsetns-socket = /run/ns\n");
        assert!(
            text.contains("what /run/netns/blue gives is joined") && text.contains("handed out     its namespaces, on /run/ns"),
            "{text}"
        );
    }

    #[test]
    fn the_rows_say_what_is_left() {
        let text = checked(
            "[uwsgi]\nsocket = @a\nchdir = /usr/share\nmodule = a\nisolate = strict\nlandlock-write = /var/log\ncgroup-memory = 64M\nlimit-as = 512\n",
        );
        let kernel = Kernel::here();
        assert!(text.contains("memory 64 MiB") && text.contains("512 MiB of addresses"), "{text}");
        assert!(text.contains("capabilities   none"), "{text}");
        if kernel.landlock > 0 {
            assert!(text.contains("/usr/share") && text.contains("/var/log") && text.contains("may run"), "{text}");
        }
        if kernel.seccomp {
            assert!(text.contains("default: all but") && text.contains(" ptrace "), "{text}");
        }
    }

    #[test]
    fn each_vassal_of_an_emperor_has_a_table_with_what_is_demanded() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("v")).expect("a folder");
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).expect("write");
        write("v/shop.ini", "[uwsgi]\nsocket = @a\nisolate = off\n".into());
        write("v/bad.ini", "[uwsgi]\nprocesses = many\n".into());
        write("e.ini", format!("[uwsgi]\nemperor = {}/v\nemperor-no-new-privs = true\n", dir.path().display()));
        let (text, good) = report(&dir.path().join("e.ini").display().to_string(), &[]);
        assert!(!good && text.contains("an emperor of 2 vassals") && text.contains("`many`"), "{text}");
        assert!(text.contains("shop.ini") && text.contains("not by any program"), "{text}");
    }

    #[test]
    fn long_rows_are_broken_at_blanks() {
        let lines = wrapped(&"word ".repeat(60));
        assert!(lines.len() > 2 && lines.iter().all(|l| l.len() <= WIDTH), "{lines:?}");
    }
}

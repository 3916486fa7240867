//! `imperator check FILE...`: what a configuration means here, and what is wrong with it. Starts nothing.

use std::fmt::Write as _;
use std::io::IsTerminal;

use imperator_worker::settings::Settings;

mod isolation;

use super::{complain, print};
use crate::config::table::{self, Status};
use crate::config::{self, Applied, Diagnostic, Entry, Origin};

const USAGE: &str = "\
Usage: imperator check [--isolation] FILE...     FILE.ini (also FILE.ini:SECTION), .xml, .yaml or .json

Says for each file what is without effect here and why, what is not done yet, what looks like a mistake, and what the file amounts to.
Nothing is started, and options of this shell's environment do not count. A missing socket is no error: an emperor, systemd or the
command line may pass one. Files and directories that are missing on this machine are warnings.
--isolation: what the app, or each vassal of an emperor, may still do and see on this host: user, files, system calls, limits.
Exit code: 0 if every file can be started from, 1 if one has an error.
";

/// Checks each file; 0 if all of them would start, else 1.
pub fn run(files: &[String], env: &[(String, String)]) -> i32 {
    if let Some("--help" | "-h") = files.first().map(String::as_str) {
        print(USAGE);
        return 0;
    }
    if let Some(("--isolation", names)) = files.split_first().map(|(first, rest)| (first.as_str(), rest))
        && !names.is_empty()
    {
        return isolation::run(names, env);
    }
    if files.iter().all(|word| word.starts_with("--")) {
        complain("check: name the files (FILE.ini, FILE.ini:SECTION, ...)");
        return 1;
    }
    let colours = Colours(std::io::stdout().is_terminal());
    let mut code = 0;
    for file in files {
        let (text, good) = report(file, env, colours);
        print(&text);
        code |= i32::from(!good);
    }
    code
}

/// The report of one file, and whether it would start.
fn report(file: &str, env: &[(String, String)], colours: Colours) -> (String, bool) {
    let mut out = format!("{}\n", colours.bold(file));
    // Options of this shell's environment are no part of the file.
    let env: Vec<(String, String)> = env.iter().filter(|(key, _)| !key.starts_with("UWSGI_")).cloned().collect();
    match config::inspect(&arguments(file), &env) {
        Ok((reading, mut applied)) => {
            let missing = config::missing_here(&applied.settings);
            let verdict = verdict(&applied, !missing.is_empty());
            applied.warnings.extend(missing);
            let written: Vec<&Entry> = reading.entries.iter().filter(|entry| entry.origin != Origin::CommandLine).collect();
            counts(&mut out, &written);
            no_effect(&mut out, &written);
            messages(&mut out, &applied.errors, &applied.warnings, colours);
            summary(&mut out, &applied);
            let _ = writeln!(out, "  {verdict}\n");
            (out, applied.errors.is_empty())
        }
        Err(error) => {
            messages(&mut out, &error.errors, &error.warnings, colours);
            out.push_str("  would not start\n\n");
            (out, false)
        }
    }
}

fn verdict(applied: &Applied, lacking: bool) -> &'static str {
    match (applied.errors.is_empty(), lacking) {
        (true, false) => "would start",
        (true, true) => "would start, once what this machine lacks is there",
        (false, _) => "would not start",
    }
}

/// As the command line would name it: only `--ini` and its like take a section.
pub(super) fn arguments(file: &str) -> Vec<String> {
    let name = file.rsplit_once(':').map_or(file, |(name, _)| name);
    let option = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("xml") => "--xml",
        Some("yaml" | "yml") => "--yaml",
        Some("json" | "js") => "--json",
        _ => "--ini",
    };
    vec!["imperator".into(), option.into(), file.into()]
}

fn counts(out: &mut String, entries: &[&Entry]) {
    let (mut done, mut idle, mut missing, mut own) = (0, 0, 0, 0);
    for entry in entries {
        match table::lookup(&entry.key).map(|spec| spec.status) {
            Some(Status::Done(_) | Status::Immediate) => done += 1,
            Some(Status::NoEffect(_)) => idle += 1,
            Some(Status::NotYet { .. }) => missing += 1,
            None => own += 1,
        }
    }
    let _ =
        writeln!(out, "  {} lines: {done} done, {idle} without effect here, {missing} not done yet, {own} own variables", entries.len());
}

fn no_effect(out: &mut String, entries: &[&Entry]) {
    for entry in entries {
        if let Some(Status::NoEffect(why)) = table::lookup(&entry.key).map(|spec| spec.status) {
            let _ = writeln!(out, "  {}: `{}` has no effect here: {why}", entry.origin, entry.key);
        }
    }
}

fn messages(out: &mut String, errors: &[Diagnostic], warnings: &[Diagnostic], colours: Colours) {
    let mut warnings: Vec<&Diagnostic> = warnings.iter().collect();
    warnings.sort_by_key(|warning| line(&warning.origin));
    for warning in warnings {
        let _ = writeln!(out, "  {}: {} {}", warning.origin, colours.yellow("warning:"), warning.text);
    }
    for error in errors {
        let _ = writeln!(out, "  {}: {} {}", error.origin, colours.red("error:"), error.text);
    }
}

/// For the order of messages: by file and line, what has none at the end.
fn line(origin: &Origin) -> (bool, std::path::PathBuf, u32) {
    match origin {
        Origin::File { path, line } => (false, path.clone(), *line),
        Origin::Derived { from } => line(from),
        _ => (true, std::path::PathBuf::new(), 0),
    }
}

fn summary(out: &mut String, applied: &Applied) {
    let settings = &applied.settings;
    let mut row = |name: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:11} {text}");
        }
    };
    row("listens on", listens_on(settings));
    row("app", app(settings));
    row("vassals", settings.emperor.sources.join(", "));
    if settings.emperor.sources.is_empty() || !settings.sockets.is_empty() {
        row("processes", processes(settings));
    }
    row("runs as", runs_as(settings));
    row("limits", limits(settings));
    row("log", settings.log.logto.clone().or_else(|| settings.process.daemonize.clone()).unwrap_or_default());
    row("stats", settings.stats.address.clone().unwrap_or_default());
}

fn listens_on(settings: &Settings) -> String {
    let mut sockets: Vec<String> =
        settings.sockets.iter().map(|socket| format!("{} ({})", socket.address, socket.protocol.name())).collect();
    if sockets.is_empty() && settings.emperor.sources.is_empty() {
        sockets.push("nothing that is named here: the command line, systemd or an emperor must pass a socket".into());
    }
    sockets.join(", ")
}

fn app(settings: &Settings) -> String {
    let python = &settings.python;
    let mut parts = Vec::new();
    parts.extend(python.module.as_ref().map(|module| format!("module {module}")));
    parts.extend(python.wsgi_file.as_ref().map(|file| format!("file {file}")));
    parts.extend(python.callable.as_ref().map(|callable| format!("callable {callable}")));
    parts.extend(python.mounts.iter().map(|mount| format!("mount {mount}")));
    parts.extend(python.home.as_ref().map(|home| format!("Python of {home}")));
    parts.extend(settings.process.chdir.as_ref().map(|directory| format!("in {directory}")));
    parts.join(", ")
}

fn processes(settings: &Settings) -> String {
    let process = &settings.process;
    let master = if process.master { "master and " } else { "no master, " };
    let least = process.cheaper.map(|least| format!("{least} to ")).unwrap_or_default();
    let threads = if process.threads > 1 { format!(" of {} threads", process.threads) } else { String::new() };
    let lazy = if process.lazy_apps || process.lazy { ", each loading the app" } else { "" };
    format!("{master}{least}{} worker{}{threads}{lazy}", process.workers, if process.workers == 1 { "" } else { "s" })
}

fn runs_as(settings: &Settings) -> String {
    let privileges = &settings.privileges;
    match (&privileges.uid, &privileges.gid) {
        (None, None) => String::new(),
        (Some(user), None) => format!("user {user}"),
        (None, Some(group)) => format!("group {group}"),
        (Some(user), Some(group)) => format!("user {user}, group {group}"),
    }
}

fn limits(settings: &Settings) -> String {
    let limits = &settings.limits;
    let mut parts = Vec::new();
    if limits.harakiri > 0 {
        parts.push(format!("a request lasts at most {} s", limits.harakiri));
    }
    if limits.max_requests > 0 {
        parts.push(format!(
            "a worker serves about {} requests, and lives at least {} s (min-worker-lifetime)",
            limits.max_requests, limits.min_worker_lifetime
        ));
    }
    if limits.max_worker_lifetime > 0 {
        parts.push(format!("a worker lives about {} s", limits.max_worker_lifetime));
    }
    if limits.reload_on_rss_mib > 0 {
        parts.push(format!("a worker takes at most {} MiB", limits.reload_on_rss_mib));
    }
    parts.join("; ")
}

/// Escape sequences, if somebody sees them.
#[derive(Clone, Copy)]
struct Colours(bool);

impl Colours {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, text: &str) -> (String, bool) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("write");
        let (report, good) = report(&path.to_string_lossy(), &[], Colours(false));
        (report.replace(&*path.to_string_lossy(), "FILE"), good)
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (report, good) = checked(
            "shop.ini",
            "[uwsgi]\nsocket = /tmp/%n.sock\nmodule = shop.wsgi\nhome = /nowhere/venv\nchdir = /\nprocesses = 4\nthreads = 2\nthunder-lock = true\n\
             harakiri = 30\nbase = x\n",
        );
        assert!(good, "{report}");
        for line in [
            "FILE\n  9 lines: 7 done, 1 without effect here, 0 not done yet, 1 own variables\n",
            "  FILE:8: `thunder-lock` has no effect here: ",
            "  FILE:4: warning: `home = /nowhere/venv`: there is no /nowhere/venv/bin/python on this machine",
            "  listens on  /tmp/shop.sock (uwsgi)\n",
            "  app         module shop.wsgi, Python of /nowhere/venv, in /\n",
            "  processes   master and 4 workers of 2 threads\n",
            "  limits      a request lasts at most 30 s\n",
            "  would start, once what this machine lacks is there\n",
        ] {
            assert!(report.contains(line), "{line}\nin\n{report}");
        }
    }

    #[test]
    fn no_socket_is_no_error_and_mistakes_are_told() {
        let (report, good) = checked("a.ini", "[uwsgi]\nmodule = a\nprocesess = 4\n");
        assert!(good && report.contains("FILE:3: warning: `procesess`") && report.contains("must pass a socket"), "{report}");
        let (report, good) = checked("a.ini", "[uwsgi]\nsocket = :1\nprocesses = many\n");
        assert!(
            !good && report.contains("FILE:3: error: `processes`: `many` is not a number") && report.contains("would not start"),
            "{report}"
        );
        let (report, good) = checked("a.ini:nothing", "[uwsgi]\n");
        assert!(!good, "{report}");
    }

    #[test]
    fn the_ending_tells_the_reader() {
        assert_eq!(arguments("a.ini:x")[1], "--ini");
        assert_eq!(arguments("a.yml")[1], "--yaml");
        assert_eq!(arguments("a.json")[1], "--json");
        assert_eq!(arguments("a.xml:id")[1], "--xml");
    }
}

//! What a configuration names and this machine lacks. Only `imperator check` asks: a start finds out by itself.

use std::path::{Path, PathBuf};

use imperator_worker::settings::Settings;

use super::Diagnostic;
use super::conflicts::origin;

/// A warning for each directory and file that is not there.
pub fn missing(settings: &Settings) -> Vec<Diagnostic> {
    if settings.privileges.chroot.is_some() {
        return vec![];
    }
    let directory = PathBuf::from(settings.process.chdir.as_deref().unwrap_or("."));
    let mut found = Vec::new();
    let mut say = |names: &[&str], text: String| found.push(Diagnostic::new(&origin(settings, names), text));
    if let Some(chdir) = settings.process.chdir.as_deref().filter(|chdir| known(chdir) && !Path::new(chdir).is_dir()) {
        say(&["chdir"], format!("`chdir = {chdir}`: there is no such directory on this machine"));
    } else if let Some(file) = settings.python.wsgi_file.as_deref().filter(|file| {
        let path = directory.join(file);
        path.to_str().is_some_and(known) && !path.is_file()
    }) {
        say(&["wsgi-file"], format!("`wsgi-file = {file}`: there is no {} on this machine", directory.join(file).display()));
    }
    if let Some(home) = settings.python.home.as_deref().filter(|home| known(home) && !has_python(Path::new(home))) {
        say(
            &["home"],
            format!("`home = {home}`: there is no {home}/bin/python on this machine (python3 -m venv {home} makes a virtualenv)"),
        );
    }
    for socket in &settings.sockets {
        if let Some(directory) = folder(&socket.address) {
            say(&["socket", "uwsgi-socket", "http-socket", "http11-socket"], no_folder("socket", &socket.address, &directory));
        }
    }
    let files = [("logto", &settings.log.logto), ("daemonize", &settings.process.daemonize)];
    for (name, file) in files {
        if let Some((file, directory)) = file.as_deref().and_then(|file| Some((file, folder(file)?))) {
            say(&[name], no_folder(name, file, &directory));
        }
    }
    found
}

/// The folder of an absolute path, if it is not there.
fn folder(path: &str) -> Option<PathBuf> {
    let folder = Path::new(path).parent().filter(|_| path.starts_with('/') && known(path))?;
    (!folder.is_dir()).then(|| folder.to_owned())
}

fn no_folder(name: &str, value: &str, folder: &Path) -> String {
    format!("`{name} = {value}`: there is no directory {} on this machine", folder.display())
}

fn has_python(home: &Path) -> bool {
    ["python", "python3"].iter().any(|name| home.join("bin").join(name).is_file())
}

/// Not with a placeholder in it that somebody else fills in.
fn known(path: &str) -> bool {
    !path.contains("%(") && !path.contains("$(")
}

#[cfg(test)]
mod tests {
    use super::*;
    use imperator_worker::settings::{Protocol, Socket};

    fn said(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        change(&mut settings);
        missing(&settings).into_iter().map(|one| one.text).collect()
    }

    #[test]
    fn what_is_there_is_passed_over_and_what_is_not_is_named() {
        let there = tempfile::tempdir().expect("a directory");
        std::fs::write(there.path().join("app.py"), "").expect("a file");
        let folder = there.path().to_string_lossy().into_owned();
        let with = |file: &str, folder: &str, socket: &str| {
            said(|s| {
                s.process.chdir = Some(folder.to_owned());
                s.python.wsgi_file = Some(file.into());
                s.sockets.push(Socket { address: socket.into(), protocol: Protocol::Uwsgi });
            })
        };
        assert!(with("app.py", &folder, &format!("{folder}/a.sock")).is_empty());
        assert!(with("app.py", &folder, "127.0.0.1:3031").is_empty());
        assert!(with("no.py", &folder, "@a")[0].contains(&format!("{folder}/no.py")));
        assert!(with("app.py", "/nowhere/at/all", ":1")[0].starts_with("`chdir = /nowhere/at/all`"));
        assert!(with("app.py", &folder, "/nowhere/at/a.sock")[0].contains("no directory /nowhere/at on"));
        assert!(said(|s| s.python.home = Some(folder.clone()))[0].contains("bin/python"));
        assert!(said(|s| s.log.logto = Some("/nowhere/at/log".into()))[0].starts_with("`logto"));
    }

    #[test]
    fn what_others_fill_in_and_what_a_chroot_moves_is_not_judged() {
        let unknown = |s: &mut Settings| {
            s.process.chdir = Some("%(base)/x".into());
            s.python.wsgi_file = Some("app.py".into());
        };
        assert!(said(unknown).is_empty());
        let jailed = |s: &mut Settings| {
            s.privileges.chroot = Some("/jail".into());
            s.process.chdir = Some("/nowhere/at/all".into());
        };
        assert!(said(jailed).is_empty());
    }
}

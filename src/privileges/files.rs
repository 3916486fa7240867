//! The files of `isolate = strict`: what every program needs of the system, and what the configuration names as the app's.

use std::path::{Path, PathBuf};

use imperator_worker::isolation::Files;
use imperator_worker::settings::{Isolation, Settings, is_lua_mount};

/// Programs and libraries.
const EXECUTED: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// Settings of the system, and what kernel and resolver tell.
const READ: [&str; 8] = ["/etc", "/proc", "/sys", "/dev/random", "/dev/urandom", "/dev/zero", "/run/systemd/resolve", "/run/resolvconf"];
const WRITTEN: [&str; 9] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm", "/tmp", "/var/tmp"];

/// What a process of any app needs.
pub fn of_the_system() -> Files {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
    Files { read: paths(&READ), write: paths(&WRITTEN), exec: paths(&EXECUTED) }
}

/// What the emperor allows at all, if it names anything: the system, the vassals' files, our own program, and what it names.
pub fn bounds(demand: &Isolation, vassals: &Path) -> Option<Files> {
    let named = !demand.read.is_empty() || !demand.write.is_empty() || !demand.exec.is_empty();
    let all = |list: &[String]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    let program = executable();
    let beside = program.as_ref().and_then(|p| Some(p.parent()?.to_owned()));
    named.then(|| {
        let read = all(&demand.read).into_iter().chain(beside).chain([vassals.to_owned()]).collect();
        let exec = all(&demand.exec).into_iter().chain(program).collect();
        of_the_system().and(Files { read, write: all(&demand.write), exec })
    })
}

/// What the configuration names, and `landlock-read`, `-write`, `-exec`. Relative paths count from `directory`, where the app is going to be.
pub fn of_the_app(settings: &Settings, directory: &Path) -> Files {
    let isolation = &settings.isolation;
    let absolute = |path: &str| directory.join(path);
    let all = |list: &[String]| list.iter().map(|path| absolute(path)).collect::<Vec<_>>();
    let mut exec = all(&isolation.exec);
    exec.extend(settings.python.home.as_deref().map(absolute));
    exec.extend(executable());
    Files { read: app_folders(settings, directory).into_iter().chain(all(&isolation.read)).collect(), write: all(&isolation.write), exec }
}

/// Folders and files from which code, templates and static files are read.
pub fn app_folders(settings: &Settings, directory: &Path) -> Vec<PathBuf> {
    let (python, lua, statics) = (&settings.python, &settings.lua, &settings.statics);
    let absolute = |path: &str| directory.join(path);
    let mut folders: Vec<PathBuf> = vec![];
    // Only where somebody chose it: a server that was started in / would open all.
    folders.extend(Some(directory.to_owned()).filter(|d| settings.process.chdir.is_some() || d.components().count() > 2));
    let mounted = python.mounts.iter().chain(&lua.mounts).filter_map(|line| Some((line, line.split_once('=')?.1)));
    let mounted = mounted.filter(|(line, what)| is_lua_mount(line) || what.contains('/') || what.ends_with(".py"));
    let files = python.wsgi_file.iter().chain(&python.pyrun).chain(&lua.app).chain(&lua.load).map(String::as_str);
    for file in files.chain(mounted.map(|(_, what)| what)) {
        folders.extend(absolute(file).parent().map(Path::to_owned));
    }
    folders.extend(python.pythonpath.iter().chain(&python.plugins_dir).chain(&settings.process.chdir2).map(|p| absolute(p)));
    folders.extend(statics.map.iter().chain(&statics.map2).map(|m| absolute(&m.target)));
    folders.extend(statics.check.iter().chain(&statics.safe).chain(&statics.mimefile).map(|p| absolute(p)));
    folders.extend(settings.request.error_pages.iter().map(|(_, file)| absolute(file)));
    folders.extend(executable().and_then(|e| Some(e.parent()?.to_owned())));
    folders.retain(|folder| folder != Path::new("/"));
    folders.sort();
    folders.dedup();
    folders
}

/// What an interpreter needs beside the system's folders: itself with its library, and our extension.
pub fn of_the_interpreter(program: &Path, extension: &Path) -> Files {
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let bin = real.parent().filter(|bin| bin.file_name().is_some_and(|name| name == "bin"));
    let prefix = bin.and_then(Path::parent).filter(|prefix| *prefix != Path::new("/"));
    let extension = extension.parent().unwrap_or(extension).to_owned();
    Files { read: vec![extension], write: vec![], exec: [Some(real.as_path()), prefix].into_iter().flatten().map(Path::to_owned).collect() }
}

fn executable() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_names_is_the_apps() {
        let mut settings = Settings::default();
        settings.process.chdir = Some("/srv/shop".into());
        settings.python.wsgi_file = Some("wsgi/app.py".into());
        settings.python.home = Some("/srv/venv".into());
        settings.isolation.write = vec!["var".into(), "/srv/upload".into()];
        let files = of_the_app(&settings, Path::new("/srv/shop"));
        for folder in ["/srv/shop", "/srv/shop/wsgi"] {
            assert!(files.read.contains(&folder.into()), "{files:?}");
        }
        assert_eq!(files.write, [PathBuf::from("/srv/shop/var"), "/srv/upload".into()]);
        assert!(files.exec.contains(&"/srv/venv".into()));
    }

    #[test]
    fn a_server_that_was_started_in_the_root_opens_not_everything() {
        let mut settings = Settings::default();
        settings.python.module = Some("app".into());
        for directory in ["/", "/root"] {
            assert!(!app_folders(&settings, Path::new(directory)).contains(&directory.into()), "{directory}");
        }
        assert!(app_folders(&settings, Path::new("/srv/shop")).contains(&"/srv/shop".into()));
    }

    #[test]
    fn an_interpreter_of_its_own_brings_its_library() {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("py/bin");
        std::fs::create_dir_all(&bin).expect("folders");
        std::fs::write(bin.join("python3"), "").expect("a file");
        let files = of_the_interpreter(&bin.join("python3"), Path::new("/opt/i/x.so"));
        let prefix = std::fs::canonicalize(dir.path().join("py")).expect("there");
        assert_eq!((files.exec[1].clone(), files.read), (prefix, vec![PathBuf::from("/opt/i")]));
        assert_eq!(of_the_interpreter(Path::new("/bin-less"), Path::new("/x.so")).exec.len(), 1);
    }
}

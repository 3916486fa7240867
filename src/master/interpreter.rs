//! Which Python runs a zygote, and where our extension module is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imperator_worker::settings::Python;
use nix::unistd::{AccessFlags, access};

/// Names of the extension module: as installed, and as cargo builds it.
const EXTENSION_NAMES: [&str; 2] = ["imperator_python.abi3.so", "libimperator_python.so"];

/// No interpreter, or no extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpreterError {
    #[error("home = {0}: there is no bin/python in it that this user may execute (is it a virtualenv? make one with python3 -m venv)")]
    Home(String),
    #[error("python-bin = {0}: not found on PATH, or not executable by this user; give a version that is there (3.12) or a path")]
    Bin(String),
    #[error("there is no {0} on PATH that this user may execute: name one with python-bin or home")]
    None(String),
    #[error(
        "the Python extension ({0}) is neither beside {1} nor in ../lib/imperator nor in a plugins-dir: put it beside the binary, or name its folder with plugins-dir"
    )]
    Extension(&'static str, String),
}

/// The interpreter that the settings mean. To be called as the user that is going to run it.
///
/// # Errors
/// Nothing that fits and may be executed.
pub fn interpreter(python: &Python, path: &str) -> Result<PathBuf, InterpreterError> {
    if let Some(home) = &python.home {
        let bin = Path::new(home).join("bin");
        let found = ["python", "python3"].iter().map(|name| bin.join(name)).find(|p| executable(p));
        return found.ok_or_else(|| InterpreterError::Home(home.clone()));
    }
    if let Some(wanted) = &python.bin {
        if wanted.contains('/') {
            return Some(PathBuf::from(wanted)).filter(|p| executable(p)).ok_or_else(|| InterpreterError::Bin(wanted.clone()));
        }
        let name = if wanted.starts_with(|c: char| c.is_ascii_digit()) { format!("python{wanted}") } else { wanted.clone() };
        return on_path(&name, path).ok_or_else(|| InterpreterError::Bin(wanted.clone()));
    }
    // `plugins = python36` was written for another machine as often as not; `need-plugin` asks by `bin`.
    let wanted =
        python.wanted_version.as_deref().filter(|version| !too_old(version)).and_then(|version| on_path(&format!("python{version}"), path));
    wanted.or_else(|| on_path("python3", path)).ok_or(InterpreterError::None("python3".into()))
}

/// Python 3 before 3.9, which has not what the extension needs.
fn too_old(version: &str) -> bool {
    version.strip_prefix("3.").and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor < 9)
}

fn on_path(name: &str, path: &str) -> Option<PathBuf> {
    path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(name)).find(|p| executable(p))
}

fn executable(path: &Path) -> bool {
    access(path, AccessFlags::X_OK).is_ok() && path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The extension module: beside the executable, in `../lib/imperator`, or in a `plugins-dir`.
///
/// # Errors
/// It is in none of them.
pub fn extension(binary: &Path, plugins_dir: &[String]) -> Result<PathBuf, InterpreterError> {
    let beside = binary.parent().unwrap_or(Path::new("."));
    let mut places = vec![beside.to_owned(), beside.join("../lib/imperator")];
    places.extend(plugins_dir.iter().map(PathBuf::from));
    let candidates = places.iter().flat_map(|place| EXTENSION_NAMES.map(|name| place.join(name)));
    let found = candidates.filter_map(|p| std::path::absolute(p).ok()).find(|p| p.is_file());
    found.ok_or_else(|| InterpreterError::Extension(EXTENSION_NAMES[0], binary.display().to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn home_comes_before_path_and_what_is_not_executable_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, venv) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("venv"));
        program(&a.join("python3"), 0o644);
        program(&b.join("python3"), 0o755);
        program(&b.join("python3.12"), 0o755);
        program(&b.join("python3.8"), 0o755);
        program(&venv.join("bin/python"), 0o755);
        let path = format!("{}:{}", a.display(), b.display());
        let find = |p: Python| interpreter(&p, &path);
        assert_eq!(find(Python::default()), Ok(b.join("python3")));
        assert_eq!(find(Python { bin: Some("3.12".into()), ..Python::default() }), Ok(b.join("python3.12")));
        assert_eq!(
            find(Python { home: Some(venv.display().to_string()), bin: Some("3.12".into()), ..Python::default() }),
            Ok(venv.join("bin/python"))
        );
        assert_eq!(find(Python { bin: Some("3.7".into()), ..Python::default() }), Err(InterpreterError::Bin("3.7".into())));
        for (wanted, found) in [("3.12", "python3.12"), ("3", "python3"), ("3.6", "python3"), ("3.8", "python3")] {
            assert_eq!(find(Python { wanted_version: Some(wanted.into()), ..Python::default() }), Ok(b.join(found)), "{wanted}");
        }
        let home = a.display().to_string();
        assert_eq!(find(Python { home: Some(home.clone()), ..Python::default() }), Err(InterpreterError::Home(home)));
    }

    #[test]
    fn the_extension_is_found_beside_the_executable_or_where_plugins_are() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, plugins) = (dir.path().join("bin/imperator"), dir.path().join("plugins"));
        program(&binary, 0o755);
        assert!(matches!(extension(&binary, &[]), Err(InterpreterError::Extension(..))));
        program(&plugins.join("imperator_python.abi3.so"), 0o644);
        assert_eq!(extension(&binary, &[plugins.display().to_string()]), Ok(plugins.join("imperator_python.abi3.so")));
        program(&dir.path().join("bin/libimperator_python.so"), 0o644);
        assert_eq!(extension(&binary, &[]), Ok(dir.path().join("bin/libimperator_python.so")));
    }
}

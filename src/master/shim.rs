//! pyenv and asdf put scripts called `python3` on PATH, in a folder `shims`. Each run of one starts dozens of processes to find the Python that is meant.
//! Where process ids are counted anew (`unshare = pid`), that is asked before, outside.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imperator_worker::settings::Settings;

use super::Start;
use super::interpreter::interpreter;
use super::spawn::environment;
use crate::privileges::plan;

/// How long it may think.
const PATIENCE: Duration = Duration::from_secs(5);
const QUESTION: &str = "import sys; sys.stdout.write(sys.executable)";

/// The Python behind the shim that these settings lead to; `None`: it is no shim, or does not say, and is to be run as it is.
pub fn behind(settings: &Settings, start: &Start) -> Option<PathBuf> {
    let env = environment(start, settings);
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, path)| path.as_str())?;
    let program = interpreter(&settings.python, path).ok().filter(|p| is_shim(p) && settings.privileges.chroot.is_none())?;
    let directory = settings.process.chdir.as_ref().map_or(start.directory.clone(), |d| start.directory.join(d));
    let mut command = Command::new(program);
    command.args(["-c", QUESTION]).env_clear().envs(env).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Never as somebody with more rights than the app.
    if let Some(identity) = &plan(settings).ok()?.0.identity {
        command.gid(identity.gid);
        identity.uid.map(|uid| command.uid(uid));
    }
    let found = PathBuf::from(answer(&mut command)?);
    (found.is_absolute() && found.is_file()).then_some(found)
}

fn is_shim(program: &Path) -> bool {
    let mut start = [0; 2];
    let script = std::fs::File::open(program).is_ok_and(|mut file| file.read_exact(&mut start).is_ok()) && &start == b"#!";
    script && program.parent().and_then(Path::file_name).is_some_and(|name| name == "shims")
}

fn answer(command: &mut Command) -> Option<String> {
    let (mut child, deadline) = (command.spawn().ok()?, Instant::now() + PATIENCE);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    // A path is less than a pipe holds.
    let mut text = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn start_with(folder: &Path, script: &str) -> Start {
        std::fs::create_dir_all(folder).unwrap();
        let shim = folder.join("python3");
        std::fs::write(&shim, script).unwrap();
        std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        Start { env: vec![("PATH".into(), folder.display().to_string())], directory: "/".into(), ..Start::default() }
    }

    #[test]
    fn a_shim_is_asked_and_a_wrapper_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let says = "#!/bin/sh\nprintf /bin/sh\n";
        let settings = Settings::default();
        assert_eq!(behind(&settings, &start_with(&dir.path().join("shims"), says)), Some("/bin/sh".into()));
        assert_eq!(behind(&settings, &start_with(&dir.path().join("bin"), says)), None);
        assert_eq!(behind(&settings, &start_with(&dir.path().join("shims"), "#!/bin/sh\nexit 3\n")), None);
        assert_eq!(behind(&settings, &start_with(&dir.path().join("shims"), "#!/bin/sh\nprintf nowhere\n")), None);
    }
}

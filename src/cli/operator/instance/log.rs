//! `imperator log FILE`: the end of an instance's log file, and what comes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::target::Instance;
use super::super::words::Ask;
use crate::cli::print;

/// What is read of the end of a log.
const TAIL: u64 = 1 << 20;
/// Between two looks with `-f`.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(ask: &Ask, instance: &Instance) -> Result<()> {
    let path = path(instance)?;
    let (lines, mut file) = tail(&path, ask.lines)?;
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    if !ask.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK);
        print(&more(&path, &mut file)?);
    }
}

/// The file that the instance logs to.
///
/// # Errors
/// It logs to no file: the message says where else.
pub(super) fn path(instance: &Instance) -> Result<PathBuf> {
    let (log, process) = (&instance.settings.log, &instance.settings.process);
    let logger = log.loggers.iter().find_map(|line| line.split_once("file:").map(|(_, path)| path.to_owned()));
    let named = [&log.logto2, &log.logto, &process.daemonize, &process.daemonize2].into_iter().flatten().next().cloned().or(logger);
    match named {
        // `HOST:PORT` is a machine that lines are sent to.
        Some(path) if path.contains(':') => bail!("{} sends its log to {path}", instance.name),
        Some(path) => Ok(instance.path(&path)),
        None => bail!(
            "{} logs to its standard error: see the journal of its service (journalctl -u NAME), or add `logto = FILE`",
            instance.name
        ),
    }
}

/// The last `lines` lines, and the file at its end.
pub(super) fn tail(path: &Path, lines: usize) -> Result<(Vec<String>, File)> {
    let mut file = File::open(path).with_context(|| format!("the log {}", path.display()))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = vec![];
    file.by_ref().take(TAIL).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    Ok((all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect(), file))
}

/// A place in a log, to tell later what was written after it.
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

impl Mark {
    /// The end of the instance's log as it is; `None`: it logs to no file.
    pub fn here(instance: &Instance) -> Option<Self> {
        let path = path(instance).ok()?;
        let mut file = File::open(&path).ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self { path, file })
    }

    /// The last `lines` of the lines behind it.
    pub fn since(&mut self, lines: usize) -> Vec<String> {
        let text = more(&self.path, &mut self.file).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect()
    }
}

/// What was written since, also where the log was rotated or emptied meanwhile.
fn more(path: &Path, file: &mut File) -> Result<String> {
    let mut text = vec![];
    if file.stream_position()? > file.metadata()?.len() {
        file.seek(SeekFrom::Start(0))?;
    }
    file.read_to_end(&mut text)?;
    let newer = File::open(path).ok().filter(|newer| newer.metadata().ok().map(|m| m.ino()) != file.metadata().ok().map(|m| m.ino()));
    if let Some(mut newer) = newer {
        newer.read_to_end(&mut text)?;
        *file = newer;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_and_what_follows_over_a_rotation_and_a_truncation() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        std::fs::write(&path, "1\n2\n3\n").expect("write");
        let (lines, mut file) = tail(&path, 2).expect("a tail");
        assert_eq!(lines, ["2", "3"]);
        let mut mark = Mark { path: path.clone(), file: tail(&path, 0).expect("its end").1 };
        let mut writer = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
        writer.write_all(b"4\n").expect("write");
        assert_eq!(more(&path, &mut file).expect("more"), "4\n");
        assert_eq!((mark.since(5), mark.since(5)), (vec!["4".to_owned()], vec![]));
        writer.write_all(b"5\n").expect("write");
        std::fs::rename(&path, directory.path().join("old")).expect("rename");
        std::fs::write(&path, "6\n").expect("write");
        assert_eq!(more(&path, &mut file).expect("more"), "5\n6\n");
        std::fs::write(&path, "").expect("truncate");
        assert_eq!(more(&path, &mut file).expect("more"), "");
        std::fs::write(&path, "7\n").expect("write");
        assert_eq!(more(&path, &mut file).expect("more"), "7\n");
    }
}

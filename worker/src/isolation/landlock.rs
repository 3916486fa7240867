//! Landlock: which files may be opened for what, and whom a process may reach by signal or abstract socket.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope,
};
use serde::{Deserialize, Serialize};

use super::IsolationError;

/// The newest interface of the kernel whose rules are used: of a later one nothing is taken that was not tried. What an older kernel lacks of it is
/// left out.
const TRIED: ABI = ABI::V7;
/// From here on there are scopes.
pub const SCOPES: i32 = 6;

/// Files and folders (with all below) that may be used. What is not there is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Files {
    pub read: Vec<PathBuf>,
    /// Read, changed, made and removed.
    pub write: Vec<PathBuf>,
    /// Read, and executed as programs.
    pub exec: Vec<PathBuf>,
}

impl Files {
    /// All of both.
    pub fn and(mut self, more: Self) -> Self {
        self.read.extend(more.read);
        self.write.extend(more.write);
        self.exec.extend(more.exec);
        self
    }
}

/// 0: the kernel has none, or it is switched off.
pub fn version() -> i32 {
    imperator_sys::landlock::version()
}

/// Restricts this thread and all that it starts.
///
/// # Errors
/// The kernel takes not all of it.
pub fn enter(scope: bool, files: &[Files]) -> Result<(), IsolationError> {
    let scope = scope && version() >= SCOPES;
    let alone = (scope && files.is_empty()).then_some((true, None));
    let layers = files.iter().enumerate().map(|(number, files)| (scope && number == 0, Some(files)));
    for (scope, files) in layers.chain(alone) {
        let status = restrict(scope, files).map_err(|e| IsolationError::Landlock(e.to_string()))?;
        if status == RulesetStatus::NotEnforced {
            return Err(IsolationError::NoLandlock);
        }
    }
    Ok(())
}

fn restrict(scope: bool, files: Option<&Files>) -> Result<RulesetStatus, landlock::RulesetError> {
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if scope {
        rules = rules.scope(Scope::from_all(TRIED))?;
    }
    if files.is_some() {
        rules = rules.handle_access(AccessFs::from_all(TRIED))?;
    }
    let mut rules = rules.create()?;
    if let Some(files) = files {
        let (read, look) = (AccessFs::ReadFile | AccessFs::ReadDir, AccessFs::from_all(TRIED));
        // Devices are made by root, and programs are executed where that is said.
        let change = look & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
        for (paths, access) in [(&files.read, read), (&files.write, change), (&files.exec, read | AccessFs::Execute)] {
            for path in paths {
                rules = add(rules, path, access)?;
            }
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn add(
    rules: landlock::RulesetCreated,
    path: &PathBuf,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, landlock::RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    // A rule for a file may not speak of folders.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(TRIED) };
    rules.add_rule(PathBeneath::new(fd, access))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// In a thread of its own, as it is for ever.
    #[test]
    fn only_what_is_named_can_be_opened() {
        if version() == 0 {
            eprintln!("skipped: this kernel has no landlock");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["r", "w", "none"] {
            fs::create_dir(at(name)).expect("a folder");
            fs::write(at(name).join("f"), "x").expect("a file");
        }
        let files = Files { read: vec![at("r"), at("none/not-there")], write: vec![at("w")], exec: vec![] };
        let paths: Vec<PathBuf> = ["r/f", "w/f", "none/f", "r/new", "w/new"].into_iter().map(at).collect();
        let tried = std::thread::spawn(move || {
            enter(true, &[files]).expect("restricted");
            let read = paths[..3].iter().map(|p| fs::read(p).is_ok()).collect::<Vec<_>>();
            (read, fs::write(&paths[3], "").is_ok(), fs::write(&paths[4], "").is_ok())
        });
        assert_eq!(tried.join().expect("thread"), (vec![true, true, false], false, true));
        assert!(fs::read(at("none/f")).is_ok(), "other threads are as they were");
    }
}

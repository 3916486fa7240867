//! Files in a directory, and files that match a pattern.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::emperor::core::{Found, Seen};

use super::{Look, Monitor, Rules};

/// `DIR`, `dir://DIR`, a pattern, or `glob://PATTERN`.
pub struct Files {
    given: String,
    start_dir: PathBuf,
    rules: Rules,
    kind: Kind,
}

enum Kind {
    Directory(PathBuf),
    Pattern,
    /// A bare name that did not exist yet: a directory or a file, when it comes.
    Undecided,
}

/// Whether a bare source is a pattern.
fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

impl Files {
    pub fn directory(dir: &str, start_dir: &Path, rules: &Rules) -> Self {
        let joined = start_dir.join(dir);
        let absolute = joined.canonicalize().unwrap_or(joined);
        Self { given: dir.into(), start_dir: start_dir.into(), rules: rules.clone(), kind: Kind::Directory(absolute) }
    }

    pub fn pattern(pattern: &str, start_dir: &Path, rules: &Rules) -> Self {
        Self { given: pattern.into(), start_dir: start_dir.into(), rules: rules.clone(), kind: Kind::Pattern }
    }

    /// Neither scheme: a pattern is a directory if that is its one match.
    pub fn bare(text: &str, start_dir: &Path, rules: &Rules) -> Self {
        if is_glob(text) {
            let matches = expand(text, start_dir);
            return match matches.as_slice() {
                [only] if start_dir.join(only).is_dir() => Self::directory(&only.to_string_lossy(), start_dir, rules),
                _ => Self::pattern(text, start_dir, rules),
            };
        }
        let undecided = Self { given: text.into(), start_dir: start_dir.into(), rules: rules.clone(), kind: Kind::Undecided };
        undecided.decided().unwrap_or(undecided)
    }

    /// What a bare name turned out to be, once it exists.
    fn decided(&self) -> Option<Self> {
        let path = self.start_dir.join(&self.given);
        if path.is_dir() {
            Some(Self::directory(&self.given, &self.start_dir, &self.rules))
        } else {
            path.exists().then(|| Self::pattern(&self.given, &self.start_dir, &self.rules))
        }
    }

    fn look_at_directory(&self, dir: &Path) -> Look {
        let mut watch = vec![dir.to_path_buf()];
        match self.list(dir, &mut watch) {
            Ok(files) => Look { found: Found::Files(files), watch, trouble: None },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Look {
                found: Found::Files(vec![]),
                watch: vec![nearest_existing(dir)],
                trouble: Some(format!("the directory {} is not there; its vassals start when it comes", dir.display())),
            },
            Err(e) => Look { found: Found::Unknown, watch, trouble: Some(format!("the directory {} cannot be read: {e}", dir.display())) },
        }
    }

    fn list(&self, dir: &Path, watch: &mut Vec<PathBuf>) -> io::Result<Vec<Seen>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            self.note(name, &entry.path(), &mut files, watch);
        }
        Ok(files)
    }

    fn look_at_pattern(&self) -> Look {
        let mut files = Vec::new();
        let mut watch: Vec<PathBuf> = pattern_directories(&self.given, &self.start_dir);
        for path in expand(&self.given, &self.start_dir) {
            if let Some(id) = path.to_str() {
                self.note(id, &self.start_dir.join(&path), &mut files, &mut watch);
            }
        }
        let trouble = files.is_empty().then(|| format!("the pattern {} matches no vassal", self.given));
        Look { found: Found::Files(files), watch, trouble }
    }

    fn note(&self, id: &str, path: &Path, files: &mut Vec<Seen>, watch: &mut Vec<PathBuf>) {
        let Some(seen) = self.rules.seen(id, path) else { return };
        files.push(seen);
        if path.is_symlink() && !self.rules.nofollow {
            watch.push(path.to_path_buf()); // a link's target may change elsewhere
        }
    }
}

impl Monitor for Files {
    fn name(&self) -> String {
        match &self.kind {
            Kind::Directory(dir) => dir.display().to_string(),
            Kind::Pattern | Kind::Undecided => self.given.clone(),
        }
    }

    fn look(&mut self) -> Look {
        if matches!(self.kind, Kind::Undecided)
            && let Some(decided) = self.decided()
        {
            *self = decided;
        }
        match &self.kind {
            Kind::Directory(dir) => self.look_at_directory(dir),
            Kind::Pattern => self.look_at_pattern(),
            Kind::Undecided => Look {
                found: Found::Files(vec![]),
                watch: vec![nearest_existing(&self.start_dir.join(&self.given))],
                trouble: Some(format!("emperor = {}: there is no such directory or file yet; it is waited for", self.given)),
            },
        }
    }

    fn directory(&self) -> PathBuf {
        match &self.kind {
            Kind::Directory(dir) => dir.clone(),
            Kind::Pattern | Kind::Undecided => self.start_dir.clone(),
        }
    }
}

/// What the shell would match, relative to the start directory and spelt as the pattern is.
fn expand(pattern: &str, start_dir: &Path) -> Vec<PathBuf> {
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let absolute = start_dir.join(pattern);
    let relative = !Path::new(pattern).is_absolute();
    let Some(text) = absolute.to_str() else { return vec![] };
    let escaped = if relative { format!("{}/{pattern}", glob::Pattern::escape(&start_dir.to_string_lossy())) } else { text.to_owned() };
    let Ok(matches) = glob::glob_with(&escaped, options) else { return vec![] };
    let spelt = |path: PathBuf| if relative { path.strip_prefix(start_dir).map(Path::to_path_buf).unwrap_or(path) } else { path };
    matches.filter_map(Result::ok).map(spelt).collect()
}

/// The directories in which a match may appear: the expansion of every leading part of the pattern.
fn pattern_directories(pattern: &str, start_dir: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let whole = Path::new(pattern);
    for ancestor in whole.ancestors().skip(1) {
        let Some(text) = ancestor.to_str() else { continue };
        if !is_glob(text) {
            found.insert(nearest_existing(&start_dir.join(ancestor)));
            break; // what lies above does not move unless somebody moves the whole tree; the slow scan sees that
        }
        found.extend(expand(text, start_dir).into_iter().map(|p| start_dir.join(p)).filter(|p| p.is_dir()));
    }
    found.into_iter().collect()
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (sub, name) in [("g1/conf", "g1.ini"), ("g2/conf", "g2.ini"), ("g3/other", "g3.ini"), ("v", "a.ini"), ("v", "b.txt")] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("made");
            std::fs::write(dir.path().join(sub).join(name), "[uwsgi]").expect("written");
        }
        dir
    }

    fn ids(look: Look) -> Vec<String> {
        let Found::Files(files) = look.found else { return vec!["unknown".into()] };
        let mut ids: Vec<String> = files.into_iter().map(|f| f.id).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_directory_gives_bare_names() {
        let dir = tree();
        let mut files = Files::bare("v", dir.path(), &Rules::default());
        assert_eq!(ids(files.look()), ["a.ini"]);
        assert_eq!(files.directory(), dir.path().join("v").canonicalize().expect("real"));
        assert_eq!(Files::bare("[v]", dir.path(), &Rules::default()).name(), files.name());
    }

    #[test]
    fn a_pattern_gives_the_paths_as_globbed() {
        let dir = tree();
        let mut files = Files::bare("*/conf/*.ini", dir.path(), &Rules::default());
        assert_eq!(ids(files.look()), ["g1/conf/g1.ini", "g2/conf/g2.ini"]);
        let mut absolute = Files::pattern(&format!("{}/v/*", dir.path().display()), Path::new("/"), &Rules::default());
        assert_eq!(ids(absolute.look()), [format!("{}/v/a.ini", dir.path().display())]);
        let watched = pattern_directories("g*/conf/*.ini", dir.path());
        assert_eq!(watched, ["", "g1", "g1/conf", "g2", "g2/conf", "g3"].map(|p| dir.path().join(p)));
    }

    #[test]
    fn a_bare_name_is_waited_for() {
        let dir = tree();
        let mut files = Files::bare("late", dir.path(), &Rules::default());
        let look = files.look();
        assert!(look.trouble.is_some());
        assert_eq!(look.watch, [dir.path()]);
        std::fs::create_dir(dir.path().join("late")).expect("made");
        std::fs::write(dir.path().join("late/x.ini"), "").expect("written");
        assert_eq!(ids(files.look()), ["x.ini"]);
    }

    #[test]
    fn a_directory_that_goes_takes_its_vassals_along() {
        let dir = tree();
        let mut files = Files::directory("v", dir.path(), &Rules::default());
        std::fs::remove_dir_all(dir.path().join("v")).expect("removed");
        let look = files.look();
        assert_eq!(look.found, Found::Files(vec![]));
        assert!(look.trouble.is_some());
    }
}

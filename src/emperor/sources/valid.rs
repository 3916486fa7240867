//! Which files are vassals, and what is noted of them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::emperor::core::{Owner, Seen};

use super::stamp;

/// The options that say which files count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// `emperor-extra-extension`: plain suffixes.
    pub extra: Vec<String>,
    /// `emperor-nofollow`: time and existence of the link itself.
    pub nofollow: bool,
    /// `emperor-tyrant-nofollow`: owner of the link itself.
    pub tyrant_nofollow: bool,
}

/// Suffix and the option that loads such a file.
const LOADERS: [(&str, &str); 6] =
    [(".ini", "--ini"), (".xml", "--xml"), (".yml", "--yaml"), (".yaml", "--yaml"), (".js", "--json"), (".json", "--json")];
/// Names are shorter than this many bytes.
const LONGEST: usize = 255;

impl Rules {
    /// The option with which a vassal of that name loads its file; `None`: it is no vassal.
    pub fn loader(&self, name: &str) -> Option<&'static str> {
        if name.len() >= LONGEST {
            return None;
        }
        let known = LOADERS.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, option)| *option);
        known.or_else(|| self.extra.iter().any(|suffix| name.ends_with(suffix.as_str())).then_some("--config"))
    }

    /// The file at `path` as the vassal `id`, if it is one.
    pub fn seen(&self, id: &str, path: &Path) -> Option<Seen> {
        self.loader(id)?;
        let link = std::fs::symlink_metadata(path).ok()?;
        let target = if link.is_symlink() { std::fs::metadata(path).ok()? } else { link.clone() };
        if !target.is_file() {
            return None;
        }
        let (file, owner) = (if self.nofollow { &link } else { &target }, if self.tyrant_nofollow { &link } else { &target });
        Some(Seen { id: id.into(), stamp: stamp(file), owner: owner_of(owner), touched_ms: changed_ms(&target), busy: false })
    }
}

fn owner_of(meta: &Metadata) -> Owner {
    Owner { uid: meta.uid(), gid: meta.gid() }
}

fn changed_ms(meta: &Metadata) -> i64 {
    meta.ctime().saturating_mul(1000).saturating_add(meta.ctime_nsec() / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_decides() {
        let rules = Rules { extra: vec![".vassal".into()], ..Rules::default() };
        for (name, loader) in
            [("a.ini", "--ini"), (".x.ini", "--ini"), ("a.yml", "--yaml"), ("a.js", "--json"), ("a.xml", "--xml"), ("a.vassal", "--config")]
        {
            assert_eq!(rules.loader(name), Some(loader), "{name}");
        }
        for name in ["a.txt", "a.skel", "a.ini.bak", "a.ini~", "a.conf", "README", "ini"] {
            assert_eq!(rules.loader(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_of_255_bytes_is_too_long() {
        let name = |n: usize| format!("{}.ini", "x".repeat(n - 4));
        assert!(Rules::default().loader(&name(254)).is_some());
        assert!(Rules::default().loader(&name(255)).is_none());
    }

    #[test]
    fn links_count_with_their_target_or_themselves() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("t.skel"), "12345").expect("written");
        std::os::unix::fs::symlink(path("t.skel"), path("l.ini")).expect("linked");
        std::os::unix::fs::symlink(path("nowhere"), path("broken.ini")).expect("linked");
        std::fs::create_dir(path("d.ini")).expect("made");
        let follow = Rules::default();
        let own = Rules { nofollow: true, ..Rules::default() };
        assert_eq!(follow.seen("l.ini", &path("l.ini")).map(|s| s.stamp.size), Some(5));
        assert_ne!(own.seen("l.ini", &path("l.ini")).map(|s| s.stamp.inode), follow.seen("l.ini", &path("l.ini")).map(|s| s.stamp.inode));
        assert_eq!(follow.seen("broken.ini", &path("broken.ini")), None);
        assert_eq!(follow.seen("d.ini", &path("d.ini")), None);
    }
}

//! The `[emperor]` section of a vassal's own file: what it tells its emperor, and not itself.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::O_NONBLOCK;

/// Bytes of a file that are read for it.
const MOST: u64 = 256 * 1024;

/// Attributes by name; the last of a name counts.
pub type Attributes = BTreeMap<String, String>;

/// The section of an ini text.
pub fn parse(text: &str) -> Attributes {
    let mut found = Attributes::new();
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            is_ours = name.split(']').next().map(str::trim) == Some("emperor");
        } else if is_ours
            && !line.starts_with([';', '#'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

/// Those of a file; none if it is no ini file or cannot be read. It may be anybody's file: only a regular one is read, and a part of it.
pub fn of_file(path: &Path) -> Attributes {
    if path.extension().is_none_or(|e| e != "ini") {
        return Attributes::new();
    }
    let mut text = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|m| m.is_file())
        && file.take(MOST).read_to_end(&mut text).is_ok()
    {
        return parse(&String::from_utf8_lossy(&text));
    }
    Attributes::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_emperors_section_counts() {
        let found =
            parse("wrapper = no\n[uwsgi]\nwrapper = no\n[emperor]\n; wrapper = no\n wrapper = /bin/x \nname=a=b\n[other]\nname = no\n");
        assert_eq!(found.get("wrapper").map(String::as_str), Some("/bin/x"));
        assert_eq!(found.get("name").map(String::as_str), Some("a=b"));
    }

    #[test]
    fn files_that_are_none_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("p.ini");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(of_file(&pipe).is_empty() && of_file(&dir.path().join("no.ini")).is_empty() && of_file(dir.path()).is_empty());
        std::fs::write(dir.path().join("a.ini"), "[emperor]\nwrapper=/w\n").unwrap();
        assert_eq!(of_file(&dir.path().join("a.ini")).len(), 1);
    }
}

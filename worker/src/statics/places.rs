//! Where files are looked for, in the order in which the places are tried.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::settings::{Mapping, Static};

pub(super) struct Place {
    /// Of PATH_INFO; empty for `check-static`.
    prefix: Vec<u8>,
    /// Whether the prefix is kept below the target.
    keep_prefix: bool,
    /// A directory, or the one file of this place; `None`: the request's DOCUMENT_ROOT.
    target: Option<PathBuf>,
}

/// `check-static`, `static-map`, `static-map2`, `check-static-docroot`: in this order, each in its own.
pub(super) fn all(settings: &Static) -> Vec<Place> {
    let below_all = |target| Place { prefix: vec![], keep_prefix: true, target };
    let mapped = |mapping: &Mapping, keep_prefix| Place {
        prefix: mapping.prefix.as_bytes().to_vec(),
        keep_prefix,
        target: Some(mapping.target.as_str().into()),
    };
    let mut places: Vec<_> = settings.check.iter().map(|directory| below_all(Some(directory.into()))).collect();
    places.extend(settings.map.iter().map(|mapping| mapped(mapping, false)));
    places.extend(settings.map2.iter().map(|mapping| mapped(mapping, true)));
    places.extend(settings.check_docroot.then(|| below_all(None)));
    places
}

impl Place {
    /// What is looked for below the target, if `path` is below the prefix: whole segments, so that `/s` does not catch `/sa`.
    pub fn rest<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.prefix.as_slice())?;
        let whole = rest.is_empty() || rest[0] == b'/' || self.prefix.is_empty() || self.prefix.ends_with(b"/");
        whole.then_some(if self.keep_prefix { path } else { rest })
    }

    /// `document_root` is the request's; one that is missing or has a NUL is no place.
    pub fn target<'p>(&'p self, document_root: Option<&'p [u8]>) -> Option<&'p Path> {
        match &self.target {
            Some(target) => Some(target),
            None => document_root.filter(|root| !root.is_empty() && !root.contains(&0)).map(|root| Path::new(OsStr::from_bytes(root))),
        }
    }

    /// The target, if the configuration names it.
    pub fn own_target(&self) -> Option<&Path> {
        self.target.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(prefix: &str, keep_prefix: bool) -> Place {
        Place { prefix: prefix.into(), keep_prefix, target: Some("/srv".into()) }
    }

    #[test]
    fn prefixes_end_with_segments() {
        for (prefix, path, rest) in [
            ("/s", "/s/a", Some("/a")),
            ("/s", "/s", Some("")),
            ("/s", "/sa", None),
            ("/s", "/", None),
            ("/s/", "/s/a", Some("a")),
            ("/s/", "/s", None),
            ("/", "/a", Some("a")),
            ("", "/a", Some("/a")),
            ("/favicon.ico", "/favicon.icoX", None),
        ] {
            assert_eq!(place(prefix, false).rest(path.as_bytes()), rest.map(str::as_bytes), "{prefix} {path}");
        }
        assert_eq!(place("/s", true).rest(b"/s/a"), Some(&b"/s/a"[..]));
    }

    #[test]
    fn the_order_is_fixed() {
        let mapping = |text| Mapping::parse(text).expect("sound");
        let settings = Static {
            map2: vec![mapping("/b=/b")],
            map: vec![mapping("/a=/a1"), mapping("/a=/a2")],
            check: vec!["/c".into()],
            check_docroot: true,
            ..Static::default()
        };
        let order: Vec<_> = all(&settings).iter().map(|place| place.target(Some(b"/root")).map(Path::to_owned)).collect();
        assert_eq!(order, ["/c", "/a1", "/a2", "/b", "/root"].map(|path| Some(PathBuf::from(path))));
        let root = &all(&settings)[4];
        assert!(root.target(None).is_none() && root.target(Some(b"")).is_none() && root.target(Some(b"/a\0")).is_none());
    }
}

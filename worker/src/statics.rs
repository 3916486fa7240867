//! Static files before the app: `static-map`, `static-map2`, `check-static`, `static-index`, `static-safe`, `mimefile`.
//!
//! Not here yet, and refused or noted by the option table: ranges, precompressed variants, expires, file-serve-mode and
//! offloading; they belong into [`Statics::send`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat};

use crate::language::NoLock;
use crate::log::diag;
use crate::request::Request;
use crate::settings::Static;

/// Where files are looked for.
pub(crate) struct Statics {
    places: Vec<Place>,
    index: Vec<String>,
    /// Other directories that links may lead to, resolved.
    safe: Vec<PathBuf>,
    /// Extensions in lower case, of `mimefile`.
    types: HashMap<String, String>,
}

struct Place {
    /// Of PATH_INFO; empty for `check-static`.
    prefix: String,
    /// Whether the prefix is kept below the directory.
    keep_prefix: bool,
    target: PathBuf,
}

/// What was found: open, checked to lie where it may, of a kind that can be sent.
struct Found {
    file: OwnedFd,
    stat: FileStat,
}

impl Statics {
    pub fn new(settings: &Static) -> Self {
        let mut places: Vec<_> =
            settings.check.iter().map(|directory| Place { prefix: String::new(), keep_prefix: true, target: directory.into() }).collect();
        for (lines, keep_prefix) in [(&settings.map, false), (&settings.map2, true)] {
            for line in lines {
                match line.split_once('=') {
                    Some((prefix, target)) => places.push(Place { prefix: prefix.into(), keep_prefix, target: target.into() }),
                    None => diag::say(&format!("static-map = {line}: it has to be /prefix=/directory; the line is left out")),
                }
            }
        }
        for place in places.iter().filter(|p| !p.target.exists()) {
            diag::say(&format!("static-map: {} does not exist yet; it is looked for again at each request", place.target.display()));
        }
        let safe = settings.safe.iter().filter_map(|directory| std::fs::canonicalize(directory).ok()).collect();
        Self { places, index: settings.index.clone(), safe, types: read_types(&settings.mimefile) }
    }

    /// Answers a request for a file; false: the app has to. `path` is memory that is used again.
    pub fn serve(&self, request: &mut Request<'_>, path: &mut Vec<u8>) -> bool {
        if self.places.is_empty() || !matches!(request.var(b"REQUEST_METHOD"), Some(b"GET" | b"HEAD")) {
            return false;
        }
        path.clear();
        path.extend_from_slice(request.var(b"PATH_INFO").unwrap_or_default());
        if path.contains(&0) {
            return false;
        }
        for place in &self.places {
            if let Some(rest) = place.rest(path)
                && let Some((found, name)) = self.find(place, rest)
            {
                self.send(request, &found, &name);
                return true;
            }
        }
        false
    }

    /// The file below a place that `rest` names, or the index of the directory that it names.
    fn find(&self, place: &Place, rest: &[u8]) -> Option<(Found, PathBuf)> {
        let relative = Path::new(OsStr::from_bytes(rest.trim_ascii_start().strip_prefix(b"/").unwrap_or(rest)));
        let relative = relative.strip_prefix("/").unwrap_or(relative);
        let found = self.open(&place.target, relative)?;
        match kind(&found.stat) {
            SFlag::S_IFREG => Some((found, if rest.is_empty() { place.target.clone() } else { relative.into() })),
            SFlag::S_IFDIR => self.index.iter().find_map(|index| {
                let name = relative.join(index);
                self.open(&place.target, &name).filter(|f| kind(&f.stat) == SFlag::S_IFREG).map(|f| (f, name))
            }),
            _ => None,
        }
    }

    /// Opens `relative` below `target`, or `target` itself if it is a file. No link and no `..` leads out of it, except
    /// into a `static-safe` directory.
    fn open(&self, target: &Path, relative: &Path) -> Option<Found> {
        let base = open_at(AT_FDCWD, target, ResolveFlag::empty()).ok()?;
        let stat = fstat(base.as_fd()).ok()?;
        if kind(&stat) == SFlag::S_IFREG || relative.as_os_str().is_empty() {
            return Some(Found { file: base, stat });
        }
        let file = match open_at(base.as_fd(), relative, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS) {
            Ok(file) => file,
            // A link with an absolute path, or one that leads out: decide by where it ends.
            Err(Errno::EXDEV) => self.open_elsewhere(target, relative)?,
            Err(_) => return None,
        };
        let stat = fstat(file.as_fd()).ok()?;
        Some(Found { file, stat })
    }

    fn open_elsewhere(&self, target: &Path, relative: &Path) -> Option<OwnedFd> {
        let resolved = std::fs::canonicalize(target.join(relative)).ok()?;
        let own = std::fs::canonicalize(target).ok()?;
        let Some(root) = std::iter::once(&own).chain(&self.safe).find(|root| resolved.starts_with(root)) else {
            diag::say(&format!("security: {} leads out of {} to {}", relative.display(), target.display(), resolved.display()));
            return None;
        };
        let base = open_at(AT_FDCWD, root, ResolveFlag::empty()).ok()?;
        let rest = resolved.strip_prefix(root).ok()?;
        open_at(base.as_fd(), rest, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS).ok()
    }

    fn send(&self, request: &mut Request<'_>, found: &Found, name: &Path) {
        let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(found.stat.st_mtime).unwrap_or(0));
        let date = httpdate::fmt_http_date(modified);
        let result = if not_newer(request.var(b"HTTP_IF_MODIFIED_SINCE"), modified) {
            self.head(request, b"304 Not Modified", &[(b"Last-Modified", date.as_bytes())])
        } else {
            let length = found.stat.st_size.max(0).to_string();
            let kind = self.media_type(name);
            let headers =
                [(&b"Content-Type"[..], kind.as_bytes()), (b"Content-Length", length.as_bytes()), (b"Last-Modified", date.as_bytes())];
            self.head(request, b"200 OK", &headers[usize::from(kind.is_empty())..])
        };
        let head_only = request.var(b"REQUEST_METHOD") == Some(b"HEAD") || request.status() == 304;
        // A client that leaves is counted by the response.
        let _ = match result {
            Ok(()) if head_only => request.write(b"", &NoLock),
            Ok(()) => request.send_file(found.file.as_fd(), 0, None, &NoLock),
            Err(_) => {
                request.fail(500, &NoLock);
                Ok(())
            }
        };
        request.no_body_expected(head_only);
    }

    fn head(&self, request: &mut Request<'_>, status: &[u8], headers: &[(&[u8], &[u8])]) -> Result<(), crate::request::HeadError> {
        request.set_status(status)?;
        headers.iter().try_for_each(|(name, value)| request.add_header(name, value))
    }

    /// By the extension; empty if it is not known.
    fn media_type(&self, name: &Path) -> &str {
        let extension = name.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        match self.types.get(&extension) {
            Some(known) => known,
            None => mime_guess::from_ext(&extension).first_raw().unwrap_or_default(),
        }
    }
}

impl Place {
    /// What is looked for below the target, if `path` is below the prefix: whole segments, so that `/s` does not catch `/sa`.
    fn rest<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.prefix.as_bytes())?;
        let whole = rest.is_empty() || rest[0] == b'/' || self.prefix.is_empty() || self.prefix.ends_with('/');
        whole.then_some(if self.keep_prefix { path } else { rest })
    }
}

fn open_at(base: std::os::fd::BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    // Non-blocking, so that a FIFO in the directory holds nobody up before its kind is known.
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).resolve(resolve);
    openat2(base, path, how)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether the client's copy is as new.
fn not_newer(since: Option<&[u8]>, modified: SystemTime) -> bool {
    let since = since.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| httpdate::parse_http_date(text).ok());
    since.is_some_and(|since| modified <= since)
}

/// Lines of a type and its extensions.
fn read_types(files: &[String]) -> HashMap<String, String> {
    let mut types = HashMap::new();
    for name in files {
        let mut text = String::new();
        if let Err(error) = File::open(name).and_then(|mut file| file.read_to_string(&mut text)) {
            diag::say(&format!("mimefile = {name}: {error}"));
        }
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            let mut words = line.split_ascii_whitespace();
            let Some(kind) = words.next() else { continue };
            for extension in words {
                types.entry(extension.to_ascii_lowercase()).or_insert_with(|| kind.to_owned());
            }
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statics(directory: &Path, settings: Static) -> Statics {
        Statics::new(&Static { map: vec![format!("/s={}", directory.display())], ..settings })
    }

    fn content(statics: &Statics, path: &str) -> Option<String> {
        let place = &statics.places[0];
        let (found, _) = statics.find(place, place.rest(path.as_bytes())?)?;
        let mut text = String::new();
        File::from(found.file).read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn only_files_below_the_directory_are_found() {
        let top = tempfile::tempdir().expect("directory");
        let (public, private) = (top.path().join("pub"), top.path().join("pub-private"));
        std::fs::create_dir_all(public.join("sub")).expect("mkdir");
        std::fs::create_dir(&private).expect("mkdir");
        std::fs::write(public.join("a.txt"), "a").expect("write");
        std::fs::write(public.join("sub/index.html"), "index").expect("write");
        std::fs::write(private.join("key"), "secret").expect("write");
        std::os::unix::fs::symlink(public.join("a.txt"), public.join("inner")).expect("link");
        std::os::unix::fs::symlink("../pub-private/key", public.join("outer")).expect("link");
        nix::unistd::mkfifo(&public.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");

        let plain = statics(&public, Static::default());
        assert_eq!(content(&plain, "/s/a.txt").as_deref(), Some("a"));
        assert_eq!(content(&plain, "/s//a.txt").as_deref(), Some("a"));
        assert_eq!(content(&plain, "/s/inner").as_deref(), Some("a"), "a link that stays inside");
        for none in ["/sa.txt", "/s/none", "/s/sub", "/s/outer", "/s/../pub-private/key", "/s/sub/../../pub-private/key", "/s/fifo", "/s"] {
            assert_eq!(content(&plain, none), None, "{none}");
        }
        let indexed = statics(&public, Static { index: vec!["index.html".into()], ..Static::default() });
        assert_eq!(content(&indexed, "/s/sub").as_deref(), Some("index"));
        assert_eq!(content(&indexed, "/s/sub/").as_deref(), Some("index"));
        let safe = statics(&public, Static { safe: vec![private.display().to_string()], ..Static::default() });
        assert_eq!(content(&safe, "/s/outer").as_deref(), Some("secret"));
    }

    #[test]
    fn a_file_can_be_mapped_itself() {
        let top = tempfile::tempdir().expect("directory");
        std::fs::write(top.path().join("f.ico"), "icon").expect("write");
        let icon = Statics::new(&Static { map: vec![format!("/favicon.ico={}/f.ico", top.path().display())], ..Static::default() });
        assert_eq!(content(&icon, "/favicon.ico").as_deref(), Some("icon"));
        assert_eq!(content(&icon, "/favicon.icoX"), None);
    }

    #[test]
    fn types_come_from_the_files_first() {
        let top = tempfile::tempdir().expect("directory");
        let file = top.path().join("types");
        std::fs::write(&file, "# comment\ntext/own  own txt\n").expect("write");
        let statics = Statics::new(&Static { mimefile: vec![file.display().to_string()], ..Static::default() });
        let types: Vec<_> =
            ["a.own", "a.TXT", "a.css", "a.nothing", "none"].iter().map(|name| statics.media_type(Path::new(name))).collect();
        assert_eq!(types, ["text/own", "text/own", "text/css", "", ""]);
    }
}

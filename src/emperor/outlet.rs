//! Where the lines of vassals go: among the emperor's own lines, each with its vassal's name, or into a file a vassal.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_NOFOLLOW;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};

/// What a pipe takes in one piece (PIPE_BUF).
const PIECE: usize = 4096;
/// Bytes that may wait for a descriptor 2 that takes nothing.
const BACKLOG: usize = 64 * 1024;

/// `vassal-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Vassals write to the emperor's own descriptors, as in uWSGI: nothing is read, kept or marked.
    Inherited,
    /// Descriptor 2, as `[NAME] line`.
    Standard,
    /// A file for each path that the pattern gives.
    Files { pattern: String, maxsize: u64 },
}

impl Place {
    /// `text`: the option, if it is there; `base`: where relative paths begin.
    pub fn parse(text: Option<&str>, maxsize: u64, base: &Path) -> Self {
        match text {
            None | Some("stderr") => Self::Standard,
            Some("inherit") => Self::Inherited,
            Some(path) => {
                let is_directory = path.ends_with('/') || base.join(path).is_dir();
                let path = base.join(path).to_string_lossy().into_owned();
                Self::Files { pattern: if is_directory { format!("{}/%n.log", path.trim_end_matches('/')) } else { path }, maxsize }
            }
        }
    }
}

/// `%n` the name without its ending, `%s` with it, `%e` the ending, `%c` the name of its directory; of the vassal `id` below `directory`.
pub fn expand(pattern: &str, id: &str, directory: &Path) -> PathBuf {
    let whole = directory.join(id);
    let part = |part: Option<&std::ffi::OsStr>| {
        let text = part.map(|p| p.to_string_lossy().replace('/', "_")).unwrap_or_default();
        if matches!(text.as_str(), "" | "." | "..") { "_".to_owned() } else { text }
    };
    let mut out = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push_str(&part(whole.file_stem())),
            Some('s') => out.push_str(&part(whole.file_name())),
            Some('e') => out.push_str(&part(whole.extension())),
            Some('c') => out.push_str(&part(whole.parent().and_then(Path::file_name))),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out.into()
}

/// Lines that wait for descriptor 2. A reader there that does not read keeps nobody but the vassals waiting.
#[derive(Debug, Default)]
pub struct Standard {
    waiting: Vec<u8>,
}

impl Standard {
    pub fn push(&mut self, name: &str, line: &[u8]) {
        if self.waiting.len() + line.len() >= BACKLOG {
            self.flush(); // a little at a time needs little memory, and always the same
        }
        self.waiting.push(b'[');
        self.waiting.extend_from_slice(name.as_bytes());
        self.waiting.extend_from_slice(b"] ");
        self.waiting.extend_from_slice(line);
        self.waiting.push(b'\n');
    }

    /// So much waits that nothing more should be read.
    pub fn is_full(&self) -> bool {
        self.waiting.len() > BACKLOG
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes what can be written without waiting.
    pub fn flush(&mut self) {
        let stderr = io::stderr();
        let is_file = fstat(&stderr).is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
        let mut done = 0;
        while done < self.waiting.len() {
            let rest = &self.waiting[done..];
            let piece = if is_file { rest } else { piece(rest) };
            if !is_file && !is_writable(stderr.as_fd()) {
                break;
            }
            match nix::unistd::write(&stderr, piece) {
                Ok(n) if n > 0 => done += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                _ => done = self.waiting.len(), // a full disk, nobody who reads: the lines are lost, and there is nobody to tell
            }
        }
        self.waiting.drain(..done);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(BACKLOG);
        }
    }
}

/// Whole lines, as far as they fit into one piece.
fn piece(text: &[u8]) -> &[u8] {
    let end = text.len().min(PIECE);
    match text[..end].iter().rposition(|b| *b == b'\n') {
        Some(at) => &text[..=at],
        None => &text[..end],
    }
}

fn is_writable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Appends to a vassal's file. It is opened each time, so that moving it away is all that a rotation needs; beyond `maxsize` bytes (0: any) it is
/// moved to `PATH.1` first.
///
/// # Errors
/// It cannot be opened or written.
pub fn append(path: &Path, text: &[u8], maxsize: u64) -> io::Result<()> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(O_NOFOLLOW).open(path);
    let mut file = open()?;
    let meta = file.metadata()?;
    if maxsize > 0 && meta.is_file() && meta.len() + text.len() as u64 > maxsize && meta.len() > 0 {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        std::fs::rename(path, aside)?;
        file = open()?;
    }
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_pattern_is_filled_from_the_vassal_and_stays_where_it_is() {
        let of = |pattern, id| expand(pattern, id, Path::new("/v")).display().to_string();
        assert_eq!(of("/l/%n.log", "a.ini"), "/l/a.log");
        assert_eq!(of("/l/%s-%e-%c-%%-%x", "/srv/app/b.yml"), "/l/b.yml-yml-app-%-%x");
        assert_eq!(of("/l/%n", ".."), "/l/_");
        assert_eq!(of("/l/%n", "..ini"), "/l/_");
    }

    #[test]
    fn the_option_says_where() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let files = |pattern: String| Place::Files { pattern, maxsize: 9 };
        assert_eq!(Place::parse(None, 9, dir.path()), Place::Standard);
        assert_eq!(Place::parse(Some("inherit"), 9, dir.path()), Place::Inherited);
        assert_eq!(Place::parse(Some("/l/"), 9, dir.path()), files("/l/%n.log".into()));
        assert_eq!(Place::parse(Some("logs"), 9, dir.path()), files(dir.path().join("logs/%n.log").display().to_string()));
        assert_eq!(Place::parse(Some("/l/%s"), 9, dir.path()), files("/l/%s".into()));
    }

    #[test]
    fn a_file_that_is_full_is_moved_aside_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        append(&path, b"0123456789\n", 16).unwrap();
        append(&path, b"abc\n", 16).unwrap();
        append(&path, b"def\n", 16).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "def\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("a.log.1")).unwrap(), "0123456789\nabc\n");
        std::os::unix::fs::symlink(&path, dir.path().join("l.log")).unwrap();
        assert!(append(&dir.path().join("l.log"), b"x", 0).is_err());
    }

    #[test]
    fn pieces_end_with_lines() {
        assert_eq!(piece(b"ab\ncd"), b"ab\n");
        assert_eq!(piece(&[b'x'; 9000]).len(), PIECE);
        let mut text = vec![b'x'; 4000];
        text.extend_from_slice(
            b"\nlonger than the rest of the piece, so that it has to wait for the next one, whatever it says here and now ......\n",
        );
        assert_eq!(piece(&text).len(), 4001);
    }
}

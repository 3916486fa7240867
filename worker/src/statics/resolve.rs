//! From a path of a request to an open file that lies where it may: the kernel keeps the walk beneath the directory, so that no `..`, no
//! link and no change in between leads out of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat, stat};

/// Attempts at a walk that a rename disturbed.
const ATTEMPTS: usize = 4;

/// What was found: open, and checked to lie where it may.
pub(super) struct Found {
    pub file: OwnedFd,
    pub stat: FileStat,
    /// The path as it was asked for, below the target as the configuration names it.
    pub path: PathBuf,
    /// A link is, or may be, on the way: the file has another name than the one asked for.
    pub by_link: bool,
}

/// Why there is nothing to serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Miss {
    Nothing,
    /// There is something, outside of where it may be.
    Outside(PathBuf),
    /// There is something that cannot be opened: rights, or a kernel without openat2.
    Refused(PathBuf, Errno),
    /// The process or the system is out of descriptors or memory.
    Exhausted(Errno),
}

/// Opens what `relative` names below `target`, or `target` itself if it is a file. `relative` has no NUL; slashes at its start do not count.
/// Links may lead to anywhere in `target` and in the directories of `safe`.
pub(super) fn open(target: &Path, relative: &[u8], safe: &[PathBuf]) -> Result<Found, Miss> {
    let slashes = relative.iter().take_while(|&&byte| byte == b'/').count();
    let relative = Path::new(OsStr::from_bytes(&relative[slashes..]));
    let path = if relative.as_os_str().is_empty() { target.to_owned() } else { target.join(relative) };
    if relative.as_os_str().is_empty() {
        return open_target(target, path);
    }
    // Most paths are the app's: one look is all that they cost.
    match stat(&path) {
        Ok(_) => {}
        Err(Errno::ENOTDIR) => {
            return open_target(target, path).and_then(|found| if is_file(&found.stat) { Ok(found) } else { Err(Miss::Nothing) });
        }
        Err(errno) => return Err(miss(path, errno)),
    }
    let base = open_at(AT_FDCWD, target, OFlag::O_PATH, ResolveFlag::empty()).map_err(|errno| miss(path.clone(), errno))?;
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let mut by_link = false;
    let mut opened = open_at(base.as_fd(), relative, OFlag::O_RDONLY, beneath | ResolveFlag::RESOLVE_NO_SYMLINKS);
    if matches!(opened, Err(Errno::ELOOP)) {
        by_link = true;
        opened = open_at(base.as_fd(), relative, OFlag::O_RDONLY, beneath);
    }
    let file = match opened {
        Ok(file) => file,
        // A link with an absolute path, or a way that leaves the target: where it ends decides.
        Err(Errno::EXDEV) => {
            by_link = true;
            open_elsewhere(target, &path, safe)?
        }
        Err(errno) => return Err(miss(path, errno)),
    };
    let stat = fstat(file.as_fd()).map_err(|errno| miss(path.clone(), errno))?;
    Ok(Found { file, stat, path, by_link })
}

/// Opens what a path was found to be some time ago. Where it lies is judged anew, and it has to be a file still.
pub(super) fn open_remembered(target: &Path, path: PathBuf, safe: &[PathBuf]) -> Result<Found, Miss> {
    let file = open_resolved(target, path.clone(), safe)?;
    let stat = fstat(file.as_fd()).map_err(|errno| miss(path.clone(), errno))?;
    if is_file(&stat) { Ok(Found { file, stat, path, by_link: true }) } else { Err(Miss::Nothing) }
}

/// The path without links, if it still leads to the file with that `stat`.
pub(super) fn resolved(path: &Path, of: &FileStat) -> Option<PathBuf> {
    let resolved = std::fs::canonicalize(path).ok()?;
    let there = stat(&resolved).ok()?;
    ((there.st_dev, there.st_ino) == (of.st_dev, of.st_ino)).then_some(resolved)
}

pub(super) fn is_file(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFREG
}

pub(super) fn is_directory(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The target as the configuration names it: links in it are the administrator's.
fn open_target(target: &Path, path: PathBuf) -> Result<Found, Miss> {
    let opened = open_at(AT_FDCWD, target, OFlag::O_RDONLY, ResolveFlag::empty());
    let found = opened.and_then(|file| Ok((fstat(file.as_fd())?, file)));
    let (stat, file) = found.map_err(|errno| miss(path.clone(), errno))?;
    // A file that stands for all paths below its prefix has one name only.
    let path = if is_file(&stat) { target.to_owned() } else { path };
    Ok(Found { file, stat, path, by_link: true })
}

fn open_elsewhere(target: &Path, path: &Path, safe: &[PathBuf]) -> Result<OwnedFd, Miss> {
    let resolved = std::fs::canonicalize(path).map_err(|_| Miss::Nothing)?;
    open_resolved(target, resolved, safe)
}

/// Opens a path that had no link in it a moment ago: one that is there by now came too late.
fn open_resolved(target: &Path, resolved: PathBuf, safe: &[PathBuf]) -> Result<OwnedFd, Miss> {
    let mut roots = std::iter::once(target).chain(safe.iter().map(PathBuf::as_path)).filter_map(|root| std::fs::canonicalize(root).ok());
    let Some(root) = roots.find(|root| resolved.starts_with(root)) else { return Err(Miss::Outside(resolved)) };
    let rest = resolved.strip_prefix(&root).map_err(|_| Miss::Nothing)?;
    if rest.as_os_str().is_empty() {
        return open_at(AT_FDCWD, &root, OFlag::O_RDONLY, ResolveFlag::RESOLVE_NO_SYMLINKS).map_err(|errno| miss(root, errno));
    }
    let base = open_at(AT_FDCWD, &root, OFlag::O_PATH, ResolveFlag::RESOLVE_NO_SYMLINKS);
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let opened = base.and_then(|base| open_at(base.as_fd(), rest, OFlag::O_RDONLY, beneath));
    opened.map_err(|errno| miss(resolved, errno))
}

fn open_at(base: BorrowedFd<'_>, path: &Path, access: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    // Non-blocking, so that a FIFO in the directory holds nobody up before its kind is known.
    let flags = if access == OFlag::O_PATH { access } else { access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let mut result = Err(Errno::EAGAIN);
    for _ in 0..ATTEMPTS {
        result = openat2(base, path, how);
        if !matches!(result, Err(Errno::EAGAIN | Errno::EINTR)) {
            break;
        }
    }
    result
}

fn miss(path: PathBuf, errno: Errno) -> Miss {
    match errno {
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => Miss::Exhausted(errno),
        Errno::EACCES | Errno::EPERM | Errno::ENOSYS | Errno::EIO => Miss::Refused(path, errno),
        _ => Miss::Nothing,
    }
}

#[cfg(test)]
mod tests;

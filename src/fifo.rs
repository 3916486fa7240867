//! The master FIFO: a named pipe of which every byte is a command.
//!
//! The pipe is kept open for reading and writing, so that a writer that goes away is no event and nothing that was
//! written is lost between two readers. An existing pipe of our own is used again: a reload does not lose it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::master::Order;

/// What one byte asks for (spec: process, part 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Order(Order),
    /// `l`
    LogReopen,
    /// `L`
    LogRotate,
}

impl Command {
    /// The command of a byte; `None` for those that mean nothing (a newline, say).
    pub fn of(byte: u8) -> Option<Self> {
        Some(Self::Order(match byte {
            b'r' => Order::Reload,
            b'R' => Order::BrutalReload,
            b'w' => Order::ReloadWorkers,
            b'W' => Order::BrutalReloadWorkers,
            b'c' => Order::ChainReload,
            b'q' => Order::GracefulStop,
            b'Q' => Order::Stop,
            b'p' => Order::PauseOrResume,
            b'+' => Order::OneWorkerMore,
            b'-' => Order::OneWorkerLess,
            b'C' => Order::Cheap,
            b's' => Order::Report,
            b'P' => Order::WritePidfiles,
            b'B' => Order::Reinforcements,
            b'E' => Order::EmperorRescan,
            b'f' => Order::ForkMaster,
            b'S' => Order::BlockSubscriptions,
            b'l' => return Some(Self::LogReopen),
            b'L' => return Some(Self::LogRotate),
            _ => return None,
        }))
    }
}

/// Why a FIFO cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FifoError {
    #[error("master-fifo {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("master-fifo {path}: there is something that is no FIFO; remove it or name another path")]
    NotAFifo { path: PathBuf },
}

/// The list of FIFOs of which one is open.
#[derive(Debug)]
pub struct Fifo {
    paths: Vec<PathBuf>,
    slot: usize,
    pipe: File,
}

impl Fifo {
    /// Opens the first of `paths`; `None` if there is none.
    pub fn open(paths: &[String]) -> Result<Option<Self>, FifoError> {
        let Some(first) = paths.first() else { return Ok(None) };
        Ok(Some(Self { pipe: open_pipe(Path::new(first))?, slot: 0, paths: paths.iter().map(PathBuf::from).collect() }))
    }

    /// The commands that have arrived, in order. A digit closes this FIFO and opens the one of that number; what stood
    /// behind the digit is done still.
    ///
    /// The error is that of a FIFO that a digit names and that cannot be opened (the old one stays open), or of reading.
    pub fn on_ready(&mut self) -> (Vec<Command>, Option<FifoError>) {
        let mut buffer = [0; 4096];
        let length = match self.pipe.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(source) => return (vec![], Some(FifoError::Io { path: self.paths[self.slot].clone(), source })),
        };
        let mut failed = None;
        for slot in buffer[..length].iter().filter(|b| b.is_ascii_digit()).map(|b| usize::from(b - b'0')) {
            failed = self.switch(slot).err().or(failed);
        }
        (buffer[..length].iter().filter_map(|b| Command::of(*b)).collect(), failed)
    }

    fn switch(&mut self, slot: usize) -> Result<(), FifoError> {
        let Some(path) = self.paths.get(slot).filter(|_| slot != self.slot) else { return Ok(()) };
        self.pipe = open_pipe(path)?;
        self.slot = slot;
        Ok(())
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn open_pipe(path: &Path) -> Result<File, FifoError> {
    let io = |source| FifoError::Io { path: path.to_owned(), source };
    if !is_ours(path)? {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| io(e.into()))?;
    }
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits();
    let pipe = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(io)?;
    if !pipe.metadata().map_err(io)?.file_type().is_fifo() {
        return Err(FifoError::NotAFifo { path: path.to_owned() });
    }
    pipe.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
    Ok(pipe)
}

/// Whether a FIFO of our own stands there already. Another user's is removed: he may hold it open.
fn is_ours(path: &Path) -> Result<bool, FifoError> {
    let io = |source| FifoError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(e)),
        Ok(m) if !m.file_type().is_fifo() => Err(FifoError::NotAFifo { path: path.to_owned() }),
        Ok(m) if m.uid() == geteuid().as_raw() => Ok(true),
        Ok(_) => std::fs::remove_file(path).map(|()| false).map_err(io),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fifo(dir: &tempfile::TempDir) -> Fifo {
        let paths: Vec<String> = ["a", "b"].iter().map(|n| dir.path().join(n).to_str().unwrap().to_owned()).collect();
        Fifo::open(&paths).unwrap().unwrap()
    }

    fn say(path: PathBuf, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn commands_come_in_order_and_unknown_bytes_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut fifo = fifo(&dir);
        assert_eq!(std::fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o600);
        say(dir.path().join("a"), "rp\n?Q");
        assert_eq!(fifo.on_ready().0, [Command::Order(Order::Reload), Command::Order(Order::PauseOrResume), Command::Order(Order::Stop)]);
        assert_eq!(fifo.on_ready().0, []);
        say(dir.path().join("a"), "w");
        assert_eq!(fifo.on_ready().0, [Command::Order(Order::ReloadWorkers)]);
    }

    #[test]
    fn a_digit_switches() {
        let dir = tempfile::tempdir().unwrap();
        let mut fifo = fifo(&dir);
        say(dir.path().join("a"), "1");
        assert!(fifo.on_ready().1.is_none());
        say(dir.path().join("b"), "0r");
        assert_eq!(fifo.on_ready().0, [Command::Order(Order::Reload)]);
        say(dir.path().join("a"), "c7");
        assert_eq!(fifo.on_ready().0, [Command::Order(Order::ChainReload)]);
    }

    #[test]
    fn a_pipe_is_used_again_and_a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let held = fifo(&dir);
        let inode = held.pipe.metadata().unwrap().ino();
        assert_eq!(fifo(&dir).pipe.metadata().unwrap().ino(), inode);
        std::fs::remove_file(dir.path().join("a")).unwrap();
        say(dir.path().join("a"), "precious");
        let path = dir.path().join("a").to_str().unwrap().to_owned();
        assert!(matches!(Fifo::open(&[path]), Err(FifoError::NotAFifo { .. })));
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"precious");
    }
}

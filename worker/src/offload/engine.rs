//! The threads of the engine: each a tokio runtime of its own that waits for its sockets.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::pieces::{Pieces, Step};
use super::stream::{Stream, Turn};
use super::ward::Ward;

/// Bytes of stack: futures are on the heap.
const STACK: usize = 256 * 1024;

pub(super) struct Engine {
    threads: Vec<Handle>,
    /// Whose turn it is.
    next: AtomicUsize,
}

impl Engine {
    pub fn start(threads: usize) -> io::Result<Self> {
        let runtimes =
            (0..threads).map(|_| Builder::new_current_thread().enable_io().enable_time().build()).collect::<io::Result<Vec<_>>>()?;
        let mut handles = vec![];
        for (number, runtime) in runtimes.into_iter().enumerate() {
            handles.push(runtime.handle().clone());
            std::thread::Builder::new().name(format!("offload {}", number + 1)).stack_size(STACK).spawn(move || run(&runtime))?;
        }
        Ok(Self { threads: handles, next: AtomicUsize::new(0) })
    }

    fn thread(&self) -> &Handle {
        &self.threads[self.next.fetch_add(1, Relaxed) % self.threads.len()]
    }

    pub fn transfer(&self, ward: Ward, socket: OwnedFd, pieces: Pieces, patience: Duration) {
        self.thread().spawn(async move {
            if let Ok(socket) = transfer(socket, pieces, patience).await {
                ward.settle(socket);
            }
        });
    }

    pub fn stream(&self, stream: Arc<Stream>, socket: OwnedFd, patience: Duration) {
        self.thread().spawn(async move {
            if let Err(error) = follow(&stream, socket, patience).await {
                stream.fail(error.kind());
            }
        });
    }
}

/// Runs as long as the process. Signals are for the threads that serve requests.
fn run(runtime: &Runtime) {
    let _ = SigSet::all().thread_block();
    runtime.block_on(std::future::pending::<()>());
}

/// Has the runtime watch a socket. (To it a stream socket is a stream socket, of whatever family.)
fn watch(socket: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(socket.into())
}

async fn writable(socket: &UnixStream, patience: Duration) -> io::Result<()> {
    timeout(patience, socket.writable()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Sends all of `pieces` and gives the socket back; one whose peer reads nothing for too long, or whose file is too short, is closed.
async fn transfer(socket: OwnedFd, mut pieces: Pieces, patience: Duration) -> io::Result<OwnedFd> {
    let socket = watch(socket)?;
    match send_all(&socket, &mut pieces, patience).await {
        Ok(()) => Ok(socket.into_std()?.into()),
        Err(error) => {
            cut(&socket, &error);
            Err(error)
        }
    }
}

async fn send_all(socket: &UnixStream, pieces: &mut Pieces, patience: Duration) -> io::Result<()> {
    loop {
        writable(socket, patience).await?;
        let step = socket.try_io(Interest::WRITABLE, || match pieces.send(socket.as_fd())? {
            Step::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            step => Ok(step),
        });
        match step {
            Ok(Step::Done) => return Ok(()),
            Ok(_) => yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Ends a connection before the end of its response. The system forgets what a peer that does not read has still to get, and the peer learns that it
/// is not all: a response without a length would seem complete otherwise.
fn cut(socket: &UnixStream, error: &io::Error) {
    if error.kind() == io::ErrorKind::TimedOut {
        let _ = setsockopt(socket, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 });
    } else {
        // Said expressly: a process that the app forked may hold the socket as well.
        let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(socket), Shutdown::Both);
    }
}

/// Sends what an app makes until its request thread takes the rest back.
async fn follow(stream: &Stream, socket: OwnedFd, patience: Duration) -> io::Result<()> {
    let socket = watch(socket)?;
    let mut blocked = false;
    loop {
        if blocked {
            writable(&socket, patience).await?;
        }
        let turn = socket.try_io(Interest::WRITABLE, || match stream.step(socket.as_fd()) {
            Turn::Socket => Err(io::ErrorKind::WouldBlock.into()),
            turn => Ok(turn),
        });
        blocked = false;
        match turn {
            Ok(Turn::End) => return Ok(()),
            Ok(Turn::App) => stream.news().await,
            Ok(_) => yield_now().await,
            Err(_) => blocked = true,
        }
    }
}

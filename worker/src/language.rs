//! The boundary between the container and a language.
//!
//! A language plugin implements [`Language`]; the event loop calls it with a [`Request`] that has been read, routed and
//! found not to be a static file. Adding a language is one crate that implements this trait, and a line in the zygote that chooses it.

use crate::control::App;
use crate::request::Request;

/// A language runtime in a worker. One value a process, shared by all request threads.
pub trait Language: Send + Sync {
    /// As in the start line and stats: `python 3.11.7`.
    fn name(&self) -> String;

    /// The modifier1 values it answers (0 and 30 for Python, 6 for Lua).
    fn modifiers(&self) -> &[u8];

    /// The apps that are loaded now.
    fn apps(&self) -> Vec<App>;

    /// Called first in each request thread, in the order of cores; core 0 is the main thread of the worker.
    fn enter_thread(&self, core: u32);

    /// Called last in each request thread.
    fn leave_thread(&self, core: u32);

    /// Serves one request: chooses the app (mount points, SCRIPT_NAME), calls it and sends its response through `request`.
    ///
    /// All errors of the app's are dealt with inside (logged, and 500 if nothing was sent yet); the value only says what the loop has to do next.
    fn serve(&self, request: &mut Request<'_>) -> After;

    /// Has the request of that core end soon, with a 504, by whatever means the language has; whether it has any for what runs there. Called by
    /// a thread that is none of the request threads, and may wait for the language's lock. The request may have ended meanwhile: then nothing
    /// may happen to the next one.
    fn interrupt(&self, core: u32) -> bool {
        let _ = core;
        false
    }

    /// Called once after the last request, before the process ends (atexit handlers). Not called when the process is killed.
    fn teardown(&self);
}

/// What follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Continue,
    /// The worker ends with this code after this request (`reload-on-exception`: [`crate::control::exit::EXCEPTION`], dynamic reload).
    Exit(i32),
}

/// How a language lets other threads run while its own one waits for the network (Python's interpreter lock).
pub trait Yield {
    /// Runs `wait`, which may block, with the language's lock released.
    fn allow(&self, wait: &mut dyn FnMut());
}

/// For callers that hold no lock.
pub struct NoLock;

impl Yield for NoLock {
    fn allow(&self, wait: &mut dyn FnMut()) {
        wait();
    }
}

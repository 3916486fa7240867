//! Programs on a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};

use super::wait_for;

/// One program, and everything that it has written to its terminal.
pub struct Pty {
    child: Child,
    keys: Option<File>,
    seen: Arc<Mutex<Vec<u8>>>,
    gone: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Of 132 columns and 30 lines.
    pub fn start(command: &mut Command) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal");
        // A program that had the other end too would never see it closed.
        fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("close on exec");
        let end = || Stdio::from(pair.slave.try_clone().expect("its end"));
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        let keys = Some(File::from(pair.master.as_fd().try_clone_to_owned().expect("a copy")));
        let screen = File::from(pair.master);
        let (seen, gone) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicBool::new(false)));
        let (shared, told) = (seen.clone(), gone.clone());
        let reader = Some(std::thread::spawn(move || read(screen, &shared, &told)));
        Self { child, keys, seen, gone, reader }
    }

    /// The terminal is closed.
    pub fn hang_up(&mut self) {
        self.keys = None;
        self.gone.store(true, Relaxed);
        self.reader.take().expect("not yet").join().expect("no panic");
    }

    /// All that was written so far, without the sequences that place and colour it.
    pub fn text(&self) -> String {
        let raw = self.raw();
        let mut out = String::new();
        let mut rest = raw.as_str();
        while let Some(at) = rest.find('\u{1b}') {
            out.push_str(&rest[..at]);
            let sequence = &rest[at + 1..];
            let end = match sequence.strip_prefix('[') {
                Some(body) => body.find(|c: char| c.is_ascii_alphabetic()).map(|end| end + 2),
                None => sequence.char_indices().nth(1).map(|(end, _)| end),
            };
            rest = end.and_then(|end| sequence.get(end..)).unwrap_or("");
        }
        out + rest
    }

    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic")).into_owned()
    }

    /// Until that was written. Programs leave blanks out that are on the screen already, so that blanks do not count.
    pub fn wait_for(&self, text: &str) {
        let solid = |text: &str| text.split_whitespace().collect::<String>();
        wait_for(&format!("{text:?} on the screen"), || solid(&self.text()).contains(&solid(text)).then_some(()));
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.as_mut().expect("a terminal").write_all(keys.as_bytes()).expect("keys");
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the program's end", || self.child.try_wait().expect("wait"))
    }
}

fn read(mut screen: File, seen: &Mutex<Vec<u8>>, gone: &AtomicBool) {
    let mut chunk = [0; 4096];
    while !gone.load(Relaxed) {
        let mut fds = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 50u8).is_ok_and(|ready| ready == 0) {
            continue;
        }
        match screen.read(&mut chunk) {
            Ok(length @ 1..) => seen.lock().expect("no panic").extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- terminal\n{}", self.text());
        }
    }
}

//! `emperor://NAME`: the configuration of a vassal that has no file. The emperor sends its text over a descriptor of its own; at a reload the vassal
//! asks for it again (uWSGI's protocol: spec emperor, part 5).

use std::fs::File;
use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use imperator_sys::process::duplicate;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pipe;

/// Names the vassal's end of the descriptor that the text comes over.
pub const FD_ENV: &str = "UWSGI_EMPEROR_FD_CONFIG";
/// First byte of the head: its other three are the text's length (little endian) and a 0.
pub const MAGIC: u8 = 115;
/// As long as the length can say.
pub const LONGEST: usize = 0xffff;
/// Milliseconds for each part, uWSGI's number.
const PATIENCE: u16 = 5000;

/// The text has come once unasked.
static ASKED_BEFORE: AtomicBool = AtomicBool::new(false);
/// What has come last, for the next life of this process.
static LAST: Mutex<Option<Vec<u8>>> = Mutex::new(None);
/// What the life before has left.
static KEPT: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// The text that was read last: a reload looks at it before the exec and again after it, and the emperor is asked once.
pub fn last() -> Option<Vec<u8>> {
    LAST.lock().ok()?.take()
}

/// The next [`load`] is this one, if there is any.
pub fn remember(text: Option<Vec<u8>>) {
    if let Ok(mut kept) = KEPT.lock() {
        *kept = text;
    }
}

/// The text.
///
/// # Errors
/// This is no vassal of that kind, or nothing comes in time.
pub fn load() -> io::Result<Vec<u8>> {
    if let Some(kept) = KEPT.lock().ok().and_then(|mut kept| kept.take()) {
        return Ok(kept);
    }
    let is_reload = [crate::master::STATE_ENV, "UWSGI_RELOADS"].iter().any(|name| std::env::var_os(name).is_some());
    let again = ASKED_BEFORE.swap(true, Ordering::Relaxed) || is_reload;
    let text = receive(again)?;
    if let Ok(mut last) = LAST.lock() {
        *last = again.then(|| text.clone());
    }
    Ok(text)
}

/// The text as it comes; `again`: not unasked any more.
fn receive(again: bool) -> io::Result<Vec<u8>> {
    let mut stream = inherited(FD_ENV)?;
    if again {
        inherited("UWSGI_EMPEROR_FD")?.write_all(&[pipe::SEND_CONFIG])?;
    }
    let mut head = [0; 4];
    read_exact(&mut stream, &mut head)?;
    if head[0] != MAGIC {
        return Err(Error::new(ErrorKind::InvalidData, "the emperor does not send a configuration"));
    }
    let mut text = vec![0; usize::from(u16::from_le_bytes([head[1], head[2]]))];
    read_exact(&mut stream, &mut text)?;
    Ok(text)
}

/// A copy of a descriptor that the emperor gave us: whoever owns it keeps it.
fn inherited(name: &str) -> io::Result<File> {
    let number = std::env::var(name).ok().and_then(|n| n.parse().ok());
    let number = number.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no emperor sends a configuration ({name} is not set)")))?;
    Ok(duplicate(number)?.into())
}

fn read_exact(stream: &mut File, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        if poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE))? == 0 {
            return Err(Error::new(ErrorKind::TimedOut, "the emperor does not send the configuration within 5 s"));
        }
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = &mut std::mem::take(&mut buffer)[n..],
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Head and text, as they go over the descriptor; `None`: it is too long.
pub fn packet(text: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok()?.to_le_bytes();
    Some([&[MAGIC, length[0], length[1], 0], text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_a_head_of_four_bytes() {
        assert_eq!(packet("[uwsgi]").as_deref(), Some(&b"s\x07\0\0[uwsgi]"[..]));
        assert!(packet(&"x".repeat(LONGEST)).is_some() && packet(&"x".repeat(LONGEST + 1)).is_none());
    }

    #[test]
    fn what_the_life_before_has_left_is_taken_once() {
        remember(Some(b"[uwsgi]".to_vec()));
        assert_eq!(load().expect("kept"), b"[uwsgi]");
        assert!(load().is_err());
    }

    #[test]
    fn nobody_sends_anything_to_a_process_that_is_no_vassal() {
        let error = load().expect_err("no emperor").to_string();
        assert!(error.contains(FD_ENV), "{error}");
    }
}

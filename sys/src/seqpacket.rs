//! Messages with descriptors and the sender's pid over `SOCK_SEQPACKET`: how master, zygote and workers talk.
//!
//! One JSON text a packet. The peer may be an app's process, so that nothing it sends is trusted: a packet that is too long or
//! no valid message is an error, and descriptors that nobody asked for are closed.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg, sendmsg, setsockopt,
    socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest packet: well above 64 apps with long mount points, well below the kernel's default send buffer.
pub const MAX_PACKET: usize = 128 * 1024;
/// Descriptors in one packet (`Logs` carries two).
const MAX_FDS: usize = 8;
/// The kernel's own limit (SCM_MAX_FD). With room for that many, no packet can leave descriptors behind that nobody closes.
const KERNEL_MAX_FDS: usize = 253;

/// One end of a pair.
#[derive(Debug)]
pub struct SeqPacket {
    fd: OwnedFd,
}

/// What arrived.
#[derive(Debug)]
pub struct Received<T> {
    pub message: T,
    /// Close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The sender's pid as the kernel knows it; only on an end with [`SeqPacket::want_credentials`].
    pub pid: Option<i32>,
}

impl SeqPacket {
    /// Two connected ends, both close-on-exec and blocking.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self { fd: a }, Self { fd: b }))
    }

    /// An end that came over an exec or in a packet.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// From now on packets carry their sender's pid.
    pub fn want_credentials(&self) -> Result<()> {
        Ok(setsockopt(&self.fd, sockopt::PassCred, &true)?)
    }

    /// A non-blocking end gives [`ErrorKind::WouldBlock`] instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        crate::process::set_nonblocking(self.fd.as_fd(), nonblocking)
    }

    /// Whether a message, or the end of file, is there, or comes within so many milliseconds.
    ///
    /// # Errors
    /// A signal came first (EINTR).
    pub fn is_readable_within(&self, milliseconds: u16) -> Result<bool> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::from(milliseconds))? > 0)
    }

    /// Sends one message with `fds`, which stay open here.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(Error::new(ErrorKind::InvalidInput, format!("a message of {} bytes is too long", text.len())));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            match sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The next message; `None` at the end of file. A packet that is no `T` is [`ErrorKind::InvalidData`] and consumed.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>> {
        // As long as the message: who waits holds no memory for the longest one.
        let mut buffer = vec![0; self.next_length()?.min(MAX_PACKET)];
        let mut space = nix::cmsg_space!([RawFd; KERNEL_MAX_FDS], UnixCredentials);
        let (length, truncated, fds, pid) = self.recv_raw(&mut buffer, &mut space)?;
        if length == 0 && !truncated {
            return Ok(None);
        }
        if truncated {
            return Err(Error::new(ErrorKind::InvalidData, "a packet was too long, or carried too many descriptors"));
        }
        let message = serde_json::from_slice(&buffer[..length]).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
        Ok(Some(Received { message, fds, pid }))
    }

    /// Waits for the next message.
    fn next_length(&self) -> Result<usize> {
        loop {
            match nix::sys::socket::recv(self.fd.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(0),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn recv_raw(&self, buffer: &mut [u8], space: &mut Vec<u8>) -> Result<(usize, bool, Vec<OwnedFd>, Option<i32>)> {
        let mut slices = [IoSliceMut::new(buffer)];
        let packet = loop {
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut slices, Some(&mut *space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(packet) => break packet,
                Err(Errno::EINTR) => space.clear(),
                Err(Errno::ECONNRESET) => return Ok((0, false, vec![], None)),
                Err(e) => return Err(e.into()),
            }
        };
        let (mut fds, mut pid) = (vec![], None);
        for control in packet.cmsgs().into_iter().flatten() {
            match control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
                ControlMessageOwned::ScmRights(raw) => fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })),
                ControlMessageOwned::ScmCredentials(who) => pid = Some(who.pid()),
                _ => {}
            }
        }
        let truncated = packet.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        Ok((packet.bytes, truncated, fds, pid))
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_brings_its_descriptor_and_its_sender() {
        let (here, there) = SeqPacket::pair().unwrap();
        here.want_credentials().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        there.send(&("hello", 7), &[writer.as_fd()]).unwrap();
        let got = here.recv::<(String, u32)>().unwrap().unwrap();
        assert_eq!((got.message, got.pid), (("hello".into(), 7), Some(std::process::id() as i32)));
        drop(writer);
        std::fs::File::from(got.fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn the_end_of_the_peer_is_none() {
        let (here, there) = SeqPacket::pair().unwrap();
        drop(there);
        assert!(here.recv::<u8>().unwrap().is_none());
    }

    #[test]
    fn a_packet_that_is_no_message_is_an_error_and_the_next_one_is_read() {
        let (here, there) = SeqPacket::pair().unwrap();
        there.send(&"text", &[]).unwrap();
        there.send(&5, &[]).unwrap();
        assert_eq!(here.recv::<u8>().unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(here.recv::<u8>().unwrap().unwrap().message, 5);
    }

    #[test]
    fn a_message_that_waits_shows() {
        let (a, b) = SeqPacket::pair().expect("pair");
        let is_readable = |within| b.is_readable_within(within).expect("poll");
        assert!(!is_readable(0));
        a.send(&1, &[]).expect("sent");
        assert!(is_readable(0) && is_readable(60_000));
        assert!(b.recv::<i32>().expect("received").is_some());
        assert!(!is_readable(1));
        drop(a);
        assert!(is_readable(60_000), "the end of file");
    }

    #[test]
    fn nothing_there_does_not_block_a_non_blocking_end() {
        let (here, _there) = SeqPacket::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        assert_eq!(here.recv::<u8>().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

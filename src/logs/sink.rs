//! Where lines go.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::LogError;
use super::file::{LogFile, Style};
use super::syslog::Header;

/// As much as a pipe that polls writable takes without blocking.
const PIPE_BUF: usize = 4096;
const SYSLOG: &str = "/dev/log";

/// A `logger` or `req-logger`, or where everything else goes.
#[derive(Debug)]
pub(super) struct Sink {
    /// With an id it gets routed lines only.
    pub id: Option<String>,
    pub target: Target,
}

#[derive(Debug)]
pub(super) enum Target {
    File(LogFile),
    /// Descriptor 2 of this process, wherever it leads by now.
    Standard,
    Fd(Rc<OwnedFd>),
    Udp(UdpSocket),
    Unix(UnixDatagram, PathBuf),
    /// Datagrams with a header and without the line end.
    Syslog(Box<Target>, Header),
}

/// What the making of a sink needs.
pub(super) struct Making<'m> {
    pub style: &'m Style,
    /// The instance's own standard output, before anything was redirected.
    pub stdout: &'m Rc<OwnedFd>,
}

impl Sink {
    /// `[id ]type:argument`, of `option`.
    ///
    /// # Errors
    /// An unknown type, or an argument that cannot be used.
    pub fn parse(option: &'static str, text: &str, making: &Making<'_>) -> Result<Self, LogError> {
        let failed = |cause: String| LogError::new(option, text, cause);
        let (id, rest) = match text.split_once(' ') {
            Some((id, rest)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()) => (Some(id.to_owned()), rest.trim_start()),
            _ => (None, text),
        };
        let (kind, arg) = rest.split_once(':').unwrap_or((rest, ""));
        let target = match kind {
            "file" => file(arg, making.style),
            "fd" => match arg.parse() {
                Ok(number) => imperator_sys::process::duplicate(number).map(|fd| Target::Fd(Rc::new(fd))),
                Err(_) => Err(io::Error::other(format!("{arg:?} is no descriptor's number"))),
            },
            "stdio" => Ok(Target::Fd(making.stdout.clone())),
            "socket" => datagram(arg),
            "syslog" => Header::local(arg).map_err(io::Error::other).and_then(|h| syslog(datagram(SYSLOG)?, h)),
            "rsyslog" => rsyslog(arg),
            "redislog" | "mongodblog" | "zeromq" | "pipe" | "crypto" | "graylog2" | "systemd" => {
                return Err(failed(format!("loggers of type {kind} are not part of this version; use file, socket, syslog or rsyslog")));
            }
            _ => return Err(failed(format!("there is no logger type {kind:?}; known are file, fd, stdio, socket, syslog, rsyslog"))),
        };
        Ok(Self { id, target: target.map_err(|e| failed(e.to_string()))? })
    }
}

impl Target {
    /// A UDP address or the path of a unix datagram socket, as `socket:` and `logto` name it.
    pub fn datagram(text: &str) -> io::Result<Self> {
        datagram(text)
    }

    /// Writes one line without ever waiting; what cannot be written now is lost.
    pub fn write(&mut self, line: &[u8]) {
        // There is nobody to tell if a log cannot be written.
        let _ = match self {
            Self::File(file) => all(file.as_fd(), line),
            Self::Standard => at_once(io::stderr().as_fd(), line),
            Self::Fd(fd) => at_once(fd.as_fd(), line),
            Self::Udp(socket) => socket.send(line).map(drop),
            Self::Unix(socket, path) => socket.send_to(line, path).map(drop),
            Self::Syslog(inner, header) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
                inner.write(&header.packet(line.strip_suffix(b"\n").unwrap_or(line), now));
                Ok(())
            }
        };
    }
}

/// `PATH`, or `logfile=PATH,maxsize=N,backupname=PATH`.
fn file(arg: &str, style: &Style) -> io::Result<Target> {
    let pairs: Option<Vec<(&str, &str)>> =
        arg.split(',').map(|p| p.split_once('=').filter(|(k, _)| matches!(*k, "logfile" | "maxsize" | "backupname"))).collect();
    let value = |name: &str| pairs.iter().flatten().rev().find(|(k, _)| *k == name).map(|(_, v)| *v);
    let path = if pairs.is_some() { value("logfile").unwrap_or("") } else { arg };
    if path.is_empty() {
        return Err(io::Error::other("it names no file"));
    }
    let mut log = LogFile::open(Path::new(path), style, None, false)?;
    if let Some(size) = value("maxsize") {
        log.maxsize = size.parse().map_err(|_| io::Error::other(format!("maxsize {size:?} is no number of bytes")))?;
    }
    log.backup = value("backupname").map(std::path::absolute).transpose()?;
    Ok(Target::File(log))
}

fn datagram(text: &str) -> io::Result<Target> {
    if !text.contains(':') || text.starts_with('/') {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        return Ok(Target::Unix(socket, text.into()));
    }
    let text = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    let address: SocketAddr = text.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    let socket = UdpSocket::bind(if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(Target::Udp(socket))
}

/// `HOST[:PORT][,IDENT[,PRIORITY]]`, or a path instead of the host.
fn rsyslog(arg: &str) -> io::Result<Target> {
    let mut parts = arg.split(',');
    let host = parts.next().unwrap_or("");
    let header = Header::remote(parts.next(), parts.next()).map_err(io::Error::other)?;
    let address = if host.starts_with('/') || host.contains(':') { host.to_owned() } else { format!("{host}:514") };
    syslog(datagram(&address)?, header)
}

fn syslog(socket: Target, header: Header) -> io::Result<Target> {
    Ok(Target::Syslog(Box::new(socket), header))
}

fn all(fd: BorrowedFd<'_>, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match nix::unistd::write(fd, line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => line = &line[n..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// To a pipe or terminal of somebody else's, who may not read: the master must not wait for him.
fn at_once(fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    for part in line.chunks(PIPE_BUF) {
        let mut ready = [PollFd::new(fd, PollFlags::POLLOUT)];
        if poll(&mut ready, PollTimeout::ZERO)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        all(fd, part)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sink(text: &str) -> Result<Sink, LogError> {
        let stdout = Rc::new(imperator_sys::process::duplicate(1).unwrap());
        Sink::parse("logger", text, &Making { style: &Style::default(), stdout: &stdout })
    }

    #[test]
    fn files_with_and_without_keys_and_ids() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let mut one = sink(&format!("web file:{d}/a b")).unwrap();
        one.target.write(b"x\n");
        assert_eq!((one.id.as_deref(), std::fs::read_to_string(dir.path().join("a b")).unwrap().as_str()), (Some("web"), "x\n"));
        let two = sink(&format!("file:logfile={d}/k,maxsize=9,backupname={d}/o")).unwrap();
        let Target::File(file) = two.target else { panic!("a file") };
        assert_eq!((file.maxsize, file.backup), (9, Some(dir.path().join("o"))));
        assert!(dir.path().join("k").exists() && two.id.is_none());
    }

    #[test]
    fn datagrams_over_udp_and_unix_and_syslog_packets() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 200];
        sink(&format!("socket:{}", udp.local_addr().unwrap())).unwrap().target.write(b"one\n");
        let n = udp.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"one\n");
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixDatagram::bind(dir.path().join("s")).unwrap();
        sink(&format!("rsyslog:{},me,13", dir.path().join("s").display())).unwrap().target.write(b"two\n");
        let n = unix.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..n]).unwrap();
        assert!(text.starts_with("<13>") && text.ends_with(" me: two"), "{text}");
    }

    #[test]
    fn a_reader_that_does_not_read_is_not_waited_for() {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let mut target = Target::Fd(Rc::new(writer));
        for _ in 0..1000 {
            target.write(&[b'x'; 1000]);
        }
    }

    #[test]
    fn unknown_types_are_named() {
        for bad in ["nosuchkind:x", "redislog:x", "fd:x", "file:", "rsyslog:127.0.0.1,me,bad"] {
            let error = sink(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}

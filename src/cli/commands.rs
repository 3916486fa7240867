//! Commands of uWSGI's command line that start nothing.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stream::Stream;
use super::{VERSION, complain, help, print};
use crate::config::Command;

/// How long a peer of `connect-and-read` may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// modifier1 of a ping; modifier2 of its answer is 1.
const PING: u8 = 100;

/// Does it; the exit code.
pub fn run(command: &Command) -> i32 {
    let done = match command {
        Command::Help => {
            print(&help::text());
            Ok(())
        }
        Command::Version => {
            print(&format!("{VERSION} (Imperator, speaking uWSGI 2.0.30)\n"));
            Ok(())
        }
        Command::Print(lines) => {
            print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
            Ok(())
        }
        Command::Signal { pidfile, signal } => send(pidfile, *signal),
        Command::Read(address) => read(address),
        Command::Ping { address, timeout } => return ping(address, *timeout),
        Command::Exit(code) => return *code,
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("{error:#}"));
            1
        }
    }
}

fn send(pidfile: &str, signal: i32) -> Result<()> {
    let text = std::fs::read_to_string(pidfile).with_context(|| format!("pidfile {pidfile}"))?;
    let pid: i32 =
        text.trim().parse().ok().filter(|pid| *pid > 1).with_context(|| format!("pidfile {pidfile}: `{}` is no pid", text.trim()))?;
    let signal = Signal::try_from(signal)?;
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to process {pid} of {pidfile}"))
}

/// uWSGI prints what it reads to standard error, and so do we.
fn read(address: &str) -> Result<()> {
    let mut stream = Stream::connect(address, SILENCE)?;
    std::io::copy(&mut stream, &mut std::io::stderr().lock()).with_context(|| format!("reading from {address}"))?;
    Ok(())
}

/// 0: up; 1: down; 2: up, with a warning, which is printed.
fn ping(address: &str, timeout: u32) -> i32 {
    match answer(address, Duration::from_secs(timeout.max(1).into())) {
        Ok(warning) if warning.is_empty() => 0,
        Ok(warning) => {
            complain(&String::from_utf8_lossy(&warning));
            2
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            1
        }
    }
}

fn answer(address: &str, timeout: Duration) -> Result<Vec<u8>> {
    let mut stream = Stream::connect(address, timeout)?;
    stream.ask(&[PING, 0, 0, 0]).with_context(|| format!("ping to {address}"))?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).with_context(|| format!("no answer from {address}"))?;
    let [PING, low, high, 1] = head else { bail!("{address} does not answer pings") };
    let mut warning = vec![0; usize::from(u16::from_le_bytes([low, high]))];
    stream.read_exact(&mut warning).with_context(|| format!("the answer of {address} is cut"))?;
    Ok(warning)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one connection with these bytes.
    fn peer(answer: &'static [u8]) -> (String, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut asked = vec![0; 4];
            let n = stream.read(&mut asked).expect("read");
            asked.truncate(n);
            stream.write_all(answer).expect("write");
            asked
        });
        (address, thread)
    }

    #[test]
    fn a_ping_tells_up_warned_and_down() {
        for (reply, code) in [(&[100, 0, 0, 1][..], 0), (&[100, 3, 0, 1, b'l', b'o', b'w'], 2), (b"HTTP/1.1 200 OK", 1), (&[100], 1)] {
            let (address, peer) = peer(reply);
            assert_eq!(run(&Command::Ping { address, timeout: 5 }), code);
            assert_eq!(peer.join().expect("peer"), [100, 0, 0, 0]);
        }
        let directory = tempfile::tempdir().expect("directory");
        let nobody = directory.path().join("nobody.sock").to_string_lossy().into_owned();
        assert_eq!(run(&Command::Ping { address: nobody, timeout: 1 }), 1);
    }

    #[test]
    fn sockets_of_the_file_system_are_read_too() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a.sock");
        let listener = UnixListener::bind(&path).expect("bind");
        let thread = std::thread::spawn(move || listener.accept().expect("accept").0.write_all(b"{}\n"));
        assert_eq!(run(&Command::Read(path.to_string_lossy().into_owned())), 0);
        thread.join().expect("thread").expect("write");
    }

    #[test]
    fn a_signal_goes_to_the_pid_of_the_file() {
        let directory = tempfile::tempdir().expect("directory");
        let pidfile = directory.path().join("a.pid").to_string_lossy().into_owned();
        let send = || run(&Command::Signal { pidfile: pidfile.clone(), signal: 2 });
        assert_eq!(send(), 1, "no file");
        for text in ["nonsense", "0", "-1", "1"] {
            std::fs::write(&pidfile, text).expect("write");
            assert_eq!(send(), 1, "{text}");
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        std::fs::write(&pidfile, format!("{}\n", child.id())).expect("write");
        assert_eq!(send(), 0);
        assert!(!child.wait().expect("wait").success());
        assert_eq!(send(), 1, "dead");
    }
}

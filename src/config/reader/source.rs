//! Where a text comes from: a file, standard input, a command, a descriptor.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::What;

/// A configuration is far smaller; this bounds what /dev/zero or a runaway command may give.
const LIMIT: u64 = 64 << 20;

/// Whether `location` is one of uWSGI's schemes rather than the name of a file.
pub fn is_scheme(location: &str) -> bool {
    location == "-" || SCHEMES.iter().any(|scheme| location.starts_with(scheme))
}

const SCHEMES: [&str; 9] = ["http://", "https://", "fd://", "exec://", "data://", "sym://", "section://", "emperor://", "call://"];

/// The bytes at `location`; a relative name is one below `cwd`. `key` is the option that asks.
pub fn load(key: &str, location: &str, cwd: &Path) -> Result<Vec<u8>, What> {
    let unreadable = |error| What::Unreadable { key: key.to_owned(), file: location.to_owned(), error };
    if location == "-" {
        return bounded(io::stdin().lock()).map_err(unreadable);
    }
    if let Some(command) = location.strip_prefix("exec://") {
        return output_of(command, cwd).map_err(unreadable);
    }
    if location.starts_with("emperor://") {
        return super::from_emperor::load().map_err(unreadable);
    }
    if let Some(number) = location.strip_prefix("fd://") {
        return descriptor(number).map_err(unreadable);
    }
    if let Some(reason) = refusal(location) {
        return Err(What::Scheme { key: key.to_owned(), file: location.to_owned(), reason });
    }
    std::fs::File::open(cwd.join(location)).and_then(bounded).map_err(unreadable)
}

fn refusal(location: &str) -> Option<&'static str> {
    let (scheme, _) = location.split_once("://")?;
    Some(match scheme {
        "http" | "https" => "configurations are not fetched over the network; use exec://curl -fsS URL if you trust it",
        "data" | "sym" | "section" => "nothing is embedded in this executable",
        "call" => "only functions of this executable could be called; use exec://",
        _ => return None,
    })
}

/// What the shell command prints; its exit status does not matter, as in uWSGI.
fn output_of(command: &str, cwd: &Path) -> io::Result<Vec<u8>> {
    let mut child = Command::new("/bin/sh").arg("-c").arg(command).current_dir(cwd).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().map_or_else(|| Ok(Vec::new()), bounded);
    // a command that prints too much gets a broken pipe, so this ends
    child.wait()?;
    output
}

/// An open descriptor, through /proc, so that its owner keeps it: regular files are read from their beginning. Sockets cannot be read so.
fn descriptor(number: &str) -> io::Result<Vec<u8>> {
    let number: u32 = number.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "fd:// needs the number of a descriptor"))?;
    std::fs::File::open(format!("/proc/self/fd/{number}")).and_then(bounded)
}

fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 MiB, so it is no configuration"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn text(location: &str) -> Result<String, String> {
        load("ini", location, Path::new("/")).map(|bytes| String::from_utf8(bytes).expect("utf-8")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_relative_to_the_directory_given() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("a.ini"), "text").expect("written");
        assert_eq!(load("ini", "a.ini", directory.path()).expect("read"), b"text");
        assert!(load("ini", "b.ini", directory.path()).expect_err("absent").to_string().contains("b.ini"));
        assert!(load("ini", ".", directory.path()).is_err());
    }

    #[test]
    fn a_command_gives_its_output_whatever_its_status() {
        assert_eq!(text("exec://echo a b; exit 3").as_deref(), Ok("a b\n"));
        assert_eq!(text("exec://cat").as_deref(), Ok(""));
    }

    #[test]
    fn a_descriptor_is_read_from_its_beginning_and_stays_open() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "text").expect("written");
        let location = format!("fd://{}", file.as_file().as_raw_fd());
        assert_eq!(text(&location).as_deref(), Ok("text"));
        assert_eq!(text(&location).as_deref(), Ok("text"));
        assert!(text("fd://x").is_err());
    }

    #[test]
    fn the_network_and_embedded_data_are_refused_with_a_reason() {
        for location in ["http://localhost/x.ini", "https://h/x", "data://0", "sym://x", "section://x", "call://f"] {
            assert!(is_scheme(location));
            let message = text(location).expect_err("refused");
            assert!(message.contains(location) && message.len() > location.len() + 30, "{message}");
        }
        assert!(!is_scheme("/srv/http.ini") && !is_scheme("a:b"));
    }

    #[test]
    fn endless_sources_are_cut_off() {
        assert!(text("/dev/zero").expect_err("endless").contains("64 MiB"));
        assert!(text("exec://yes").expect_err("endless").contains("64 MiB"));
    }
}

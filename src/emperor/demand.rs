//! On-demand vassals: which socket belongs to one, and the socket.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use imperator_worker::settings::{Emperor, Protocol, Settings, Socket};

use crate::sockets;

/// Where the name of a socket comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Socket(String),
    /// An ordinary vassal.
    None,
    /// This program has to be asked.
    Ask(String),
}

/// uWSGI's order: the file beside it, the directory, the program.
pub fn socket_of(emperor: &Emperor, id: &str, directory: &Path) -> Answer {
    if let Some(extension) = &emperor.on_demand_extension
        && let Some(line) = first_line(&directory.join(format!("{id}{extension}")))
    {
        return Answer::Socket(line);
    }
    if let Some(sockets) = &emperor.on_demand_directory {
        let name = Path::new(id).file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| id.into());
        return Answer::Socket(format!("{sockets}/{name}.socket"));
    }
    emperor.on_demand_exec.clone().map_or(Answer::None, Answer::Ask)
}

/// The first line of a file or of a program's output, if there is anything in it.
fn first_line(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(std::fs::File::open(path).ok()?).read_line(&mut line).ok()?;
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A listening socket that waits for its vassal.
pub struct Demand {
    pub name: String,
    pub fd: OwnedFd,
    /// Removed with it.
    pub path: Option<PathBuf>,
}

impl Demand {
    /// Binds it; UNIX sockets are open to everybody (mode 0666).
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(name: &str, backlog: Option<i32>) -> anyhow::Result<Self> {
        let sockets = vec![Socket { address: name.into(), protocol: Protocol::Uwsgi }];
        let mut settings = Settings { sockets, ..Settings::default() };
        settings.socket_options.backlog = backlog;
        settings.socket_options.chmod = Some(0o666);
        let bound = sockets::bind_all(&settings, &[], &[])?.pop().with_context(|| format!("{name}: nothing to listen on"))?;
        Ok(Self { name: name.into(), fd: bound.fd.try_clone()?, path: bound.label.path })
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_beside_it_comes_first_then_the_directory_then_the_program() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a.ini.where"), "127.0.0.1:99\nrest\n").expect("written");
        let mut emperor = Emperor { on_demand_exec: Some("/where".into()), ..Emperor::default() };
        assert_eq!(socket_of(&emperor, "a.ini", dir.path()), Answer::Ask("/where".into()));
        emperor.on_demand_directory = Some("/run/od".into());
        assert_eq!(socket_of(&emperor, "a.ini", dir.path()), Answer::Socket("/run/od/a.socket".into()));
        assert_eq!(socket_of(&emperor, "/v/b.ini", dir.path()), Answer::Socket("/run/od/b.socket".into()));
        emperor.on_demand_extension = Some(".where".into());
        assert_eq!(socket_of(&emperor, "a.ini", dir.path()), Answer::Socket("127.0.0.1:99".into()));
        assert_eq!(socket_of(&Emperor::default(), "a.ini", dir.path()), Answer::None);
    }

    #[test]
    fn the_socket_goes_with_its_vassal() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.socket");
        let demand = Demand::bind(&path.display().to_string(), None).expect("bound");
        assert!(path.exists());
        drop(demand);
        assert!(!path.exists());
    }
}

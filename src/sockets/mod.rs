//! Listening sockets: bound before anything loads, made once, kept over reloads.

mod address;
mod bind;
mod inherit;
pub mod zerg;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use imperator_worker::control::Listener;
use imperator_worker::log::diag::say;
use imperator_worker::settings::{Protocol, Settings, Socket, SocketOptions};
use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError};
pub use inherit::Inherited;

/// Our default backlog, if net.core.somaxconn allows as much.
const DEFAULT_BACKLOG: i32 = 4096;

/// A listening socket of this instance.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Shared by the generations that listen on it; closed with the last of them.
    pub fd: Rc<OwnedFd>,
    pub label: Label,
}

/// All about a socket but its descriptor: what a reload hands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub protocol: Protocol,
    /// As stats and logs print it.
    pub name: String,
    pub port: Option<u16>,
    /// Two sockets of the same key are the same: an absolute path, or the address as configured.
    pub key: String,
    /// The file to remove at the end.
    pub path: Option<PathBuf>,
    /// The port was the kernel's choice.
    #[serde(default)]
    pub automatic: bool,
}

/// A socket that cannot be had: the start ends with 1.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    pub address: String,
    pub cause: String,
}

impl Bound {
    /// What a zygote is told about it.
    pub fn listener(&self) -> Listener {
        use std::os::fd::AsRawFd;
        Listener { fd: self.fd.as_raw_fd(), protocol: self.label.protocol, name: self.label.name.clone(), port: self.label.port }
    }
}

/// Those of `labels` that were there when the process started, and that no line of `settings` names.
pub fn given<'l>(labels: impl Iterator<Item = &'l Label>, settings: &Settings) -> Vec<Inherited> {
    let named = |label: &Label| settings.sockets.iter().any(|s| s.address.trim() == label.key);
    let number = |label: &Label| label.key.strip_prefix("fd://").and_then(|n| n.parse().ok());
    let each = labels.filter(|label| !named(label));
    each.filter_map(|label| Some(Inherited { fd: number(label)?, protocol: Some(label.protocol) })).collect()
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.path, self.port, self.name.starts_with('@')) {
            (Some(_), _, _) | (_, None, true) => "UNIX",
            (_, Some(_), _) if self.name.starts_with('[') => "TCP6",
            (_, Some(_), _) => "TCP",
            _ => "inherited",
        };
        let automatic = if self.automatic { "(port auto-assigned) " } else { "" };
        write!(f, "bound to {kind} address {} {automatic}({})", self.name, self.protocol.name())
    }
}

/// All sockets that the settings ask for, in their order. Those of `kept` (what the running generations listen on) that are asked for again are
/// shared. `inherited` are those of systemd or inetd: one that listens where a `socket` line would takes that line's place and protocol, as in uWSGI.
///
/// # Errors
/// The first one that cannot be had.
pub fn bind_all(settings: &Settings, kept: &[Bound], inherited: &[Inherited]) -> Result<Vec<Bound>, BindError> {
    let backlog = backlog(settings.socket_options.backlog)?;
    let mut passed = passed(settings, kept, inherited, backlog)?;
    let mut all: Vec<Bound> = zergs(settings, kept)?;
    for socket in own_sockets(settings, &all) {
        let failed = |cause: String| BindError { address: socket.address.clone(), cause };
        let (text, address) = named(&socket.address, &settings.shared_sockets).map_err(failed)?;
        let key = key(text, &address);
        if all.iter().any(|bound| bound.label.key == key) {
            continue;
        }
        let bound = match kept.iter().find(|bound| bound.label.key == key) {
            Some(old) => Bound { fd: old.fd.clone(), label: Label { protocol: socket.protocol, ..old.label.clone() } },
            None if let Some(at) = passed.iter().position(|bound| bind::listens_at(bound.fd.as_fd(), &address)) => {
                let bound = passed.remove(at);
                Bound { fd: bound.fd, label: Label { protocol: socket.protocol, key, ..bound.label } }
            }
            None => make(text, &address, key, socket.protocol, &settings.socket_options, backlog).map_err(|e| failed(explain(&e)))?,
        };
        all.push(bound);
    }
    all.extend(passed);
    Ok(all)
}

/// Sockets of whoever started us. Their files are not ours to remove.
fn passed(settings: &Settings, kept: &[Bound], inherited: &[Inherited], backlog: i32) -> Result<Vec<Bound>, BindError> {
    let options = &settings.socket_options;
    let each = inherited.iter().map(|socket| {
        let text = socket.to_string();
        if let Some(old) = kept.iter().find(|bound| bound.label.key == text) {
            return Ok(old.clone());
        }
        let protocol = socket.protocol.unwrap_or(options.protocol);
        make(&text, &Address::Inherited(socket.fd), text.clone(), protocol, options, backlog)
            .map_err(|e| BindError { address: text, cause: explain(&e) })
    });
    each.collect()
}

/// Those of all zerg servers.
fn zergs(settings: &Settings, kept: &[Bound]) -> Result<Vec<Bound>, BindError> {
    let options = &settings.socket_options;
    let mut all = vec![];
    for path in &options.zerg {
        match zerg::attach(path, options.protocol, kept) {
            Ok(bound) => all.extend(bound),
            Err(e) if options.zerg_fallback && !settings.sockets.is_empty() => {
                say(&format!("zerg = {path}: {e}; our own sockets are bound instead (zerg-fallback)"));
            }
            Err(e) => {
                let cause = format!("{e}; start its server first, or give `socket` and `zerg-fallback`");
                return Err(BindError { address: format!("zerg server {path}"), cause });
            }
        }
    }
    Ok(all)
}

/// The `socket` lines, unless they are only for the case that no zerg server is there.
fn own_sockets<'s>(settings: &'s Settings, zergs: &[Bound]) -> &'s [Socket] {
    let spare = settings.socket_options.zerg_fallback && !zergs.is_empty();
    if spare { &[] } else { &settings.sockets }
}

/// Sockets that are bound for others only (`zerg-pool`).
///
/// # Errors
/// The first one that cannot be had.
pub fn bind_pool(addresses: &[String], settings: &Settings, kept: &[Bound]) -> Result<Vec<Bound>, BindError> {
    let options = SocketOptions { zerg: vec![], ..settings.socket_options.clone() };
    let sockets = addresses.iter().map(|a| Socket { address: a.clone(), protocol: options.protocol }).collect();
    let only = Settings { sockets, shared_sockets: settings.shared_sockets.clone(), socket_options: options, ..Settings::default() };
    bind_all(&only, kept, &[])
}

/// A listener that services of the master use: unix only. `mode`: of its file; `None`: what the umask leaves.
///
/// # Errors
/// It cannot be had.
pub fn bind_unix(text: &str, mode: Option<u32>) -> Result<Bound, BindError> {
    let failed = |cause: String| BindError { address: text.to_owned(), cause };
    let address = Address::parse(text).map_err(|e| failed(e.to_string()))?;
    if !matches!(address, Address::Unix(_) | Address::Abstract(_)) {
        return Err(failed("descriptors go over unix sockets only: write a path or @NAME".into()));
    }
    make(text, &address, key(text, &address), Protocol::Uwsgi, &SocketOptions { chmod: mode, ..SocketOptions::default() }, DEFAULT_BACKLOG)
        .map_err(|e| failed(explain(&e)))
}

/// The address that was written, or that of the `shared-socket` it names.
fn named<'t>(text: &'t str, shared: &'t [String]) -> Result<(&'t str, Address), String> {
    match Address::parse(text).map_err(|e| e.to_string())? {
        Address::Shared(number) => {
            let text = shared.get(number).ok_or_else(|| format!("there is no shared-socket number {number} (they count from 0)"))?;
            Ok((text, Address::parse(text).map_err(|e| e.to_string())?))
        }
        address => Ok((text, address)),
    }
}

fn make(text: &str, address: &Address, key: String, protocol: Protocol, options: &SocketOptions, backlog: i32) -> std::io::Result<Bound> {
    let fd = bind::listen_at(address, options, backlog)?;
    let (real, port) = bind::actual(fd.as_fd()).unwrap_or_default();
    let automatic = matches!(address, Address::Tcp(a) if a.port() == 0);
    let found = automatic || text.contains('*') && port.is_some();
    let name = match address {
        Address::Inherited(_) => real,
        Address::Unix(path) => path.display().to_string(),
        _ if found => real,
        _ => text.trim().to_owned(),
    };
    let path = matches!(address, Address::Unix(_)).then(|| key.clone().into());
    Ok(Bound { fd: Rc::new(fd), label: Label { protocol, name, port, key, path, automatic } })
}

fn key(text: &str, address: &Address) -> String {
    match address {
        Address::Unix(path) => absolute(path).display().to_string(),
        _ => text.trim().to_owned(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the address is already in use; another process listens there".into(),
        std::io::ErrorKind::PermissionDenied => format!("{error}; ports below 1024 and other users' directories need root"),
        std::io::ErrorKind::NotFound => "its directory does not exist: create it (under systemd with RuntimeDirectory=)".into(),
        std::io::ErrorKind::AddrNotAvailable => format!("{error}; no interface of this host has that address"),
        _ => error.to_string(),
    }
}

/// `listen`, checked against what the kernel gives.
///
/// # Errors
/// More than that was asked for.
pub fn backlog(wanted: Option<i32>) -> Result<i32, BindError> {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|s| s.trim().parse().ok()).unwrap_or(DEFAULT_BACKLOG);
    match wanted {
        Some(n) if n > most => Err(BindError {
            address: format!("with listen = {n}"),
            cause: format!("net.core.somaxconn is {most}: lower the option or raise the system's limit"),
        }),
        Some(n) => Ok(n.max(1)),
        None => Ok(most.min(DEFAULT_BACKLOG)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn settings(addresses: &[&str]) -> Settings {
        let sockets = addresses.iter().map(|a| Socket { address: (*a).into(), protocol: Protocol::Uwsgi }).collect();
        Settings { sockets, ..Settings::default() }
    }

    #[test]
    fn the_same_address_twice_is_bound_once_and_a_reload_keeps_the_descriptor() {
        let first = bind_all(&settings(&["127.0.0.1:0", "127.0.0.1:0"]), &[], &[]).unwrap();
        assert_eq!(first.len(), 1);
        let (fd, name) = (first[0].fd.as_raw_fd(), first[0].label.name.clone());
        let second = bind_all(&settings(&["127.0.0.1:0", "@imperator-test-keep"]), &first, &[]).unwrap();
        assert_eq!((second[0].fd.as_raw_fd(), &second[0].label.name), (fd, &name));
        assert_eq!(second.len(), 2);
    }

    #[test]
    fn a_failure_names_the_address_and_the_cause() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind_all(&settings(&["127.0.0.1:0", &address]), &[], &[]).unwrap_err();
        assert!(error.to_string().contains(&address) && error.to_string().contains("in use"), "{error}");
        let error = bind_all(&settings(&["/nowhere/at/all/a.sock"]), &[], &[]).unwrap_err();
        assert!(error.to_string().contains("directory does not exist: create it"), "{error}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = bind_all(&settings(&[path.to_str().unwrap()]), &[], &[]).unwrap();
        assert_eq!(bound[0].label.path.as_deref(), Some(path.as_path()));
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        let file = dir.path().join("b");
        std::fs::write(&file, "precious").unwrap();
        assert!(bind_all(&settings(&[file.to_str().unwrap()]), &[], &[]).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn shared_sockets_go_by_number() {
        let mut s = settings(&["=0", "=1"]);
        s.shared_sockets = vec!["127.0.0.1:0".into()];
        let error = bind_all(&s, &[], &[]).unwrap_err();
        assert!(error.to_string().contains("shared-socket number 1"), "{error}");
        s.sockets.pop();
        assert_eq!(bind_all(&s, &[], &[]).unwrap().len(), 1);
    }
}

//! Handing out listening sockets (`zerg-server`, `zerg-pool`): whoever connects gets one message with them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use imperator_sys::socket::{accept, listen_queue};
use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};

use super::decide::{Distress, Ms, Pressure};
use super::poll::Source;
use super::running::Master;
use super::services::ZERG;
use super::{handover, namespaces, vassal};
use crate::sockets::{Bound, Label, bind_pool, bind_unix, zerg};

/// Whoever gets descriptors of namespaces could keep them alive.
const NAMESPACES_MODE: u32 = 0o600;

/// One place that hands out.
#[derive(Debug)]
struct Place {
    listener: Bound,
    gives: Gives,
}

/// What whoever connects is given.
#[derive(Debug)]
enum Gives {
    /// The instance's own sockets (`zerg-server`).
    Own,
    /// Those of a pool.
    Pool(Vec<Bound>),
    /// Namespaces (`setns-socket`).
    Namespaces,
}

impl Gives {
    fn pool(&self) -> &[Bound] {
        if let Self::Pool(pool) = self { pool } else { &[] }
    }
}

/// All places behind one descriptor.
#[derive(Debug)]
pub struct ZergServer {
    epoll: Epoll,
    places: Vec<Place>,
    /// Given up for a moment when descriptors run out, to turn away who waits: the connection would wake us for ever.
    spare: Option<File>,
}

/// What a reload hands over: numbers of descriptors with what is known of them.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Kept {
    listeners: Vec<(i32, Label)>,
    pool: Vec<(i32, Label)>,
}

impl Kept {
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        self.listeners.iter().chain(&self.pool).map(|(fd, _)| *fd)
    }
}

/// The same with the descriptors themselves.
#[derive(Debug, Default)]
pub struct Taken {
    listeners: Vec<Bound>,
    pool: Vec<Bound>,
}

impl Taken {
    /// # Errors
    /// A descriptor is not there.
    pub fn from(kept: Kept) -> Result<Self> {
        let take = |all: Vec<(i32, Label)>| {
            all.into_iter().map(|(fd, label)| Ok(Bound { fd: Rc::new(handover::take(fd)?), label })).collect::<Result<Vec<_>>>()
        };
        Ok(Self { listeners: take(kept.listeners)?, pool: take(kept.pool)? })
    }
}

impl ZergServer {
    /// All that the settings ask for; `None`: nothing.
    ///
    /// # Errors
    /// A socket that cannot be had, or a pool that is not written as PATH:ADDRESS,...
    pub fn open(settings: &Settings, kept: &Taken) -> Result<Option<Self>> {
        let options = &settings.socket_options;
        let mut server = Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, places: vec![], spare: spare() };
        if let Some(path) = &options.zerg_server {
            server.add(path, Gives::Own, kept).with_context(|| format!("zerg-server = {path}"))?;
        }
        for line in &options.zerg_pool {
            let failed = || format!("zerg-pool = {line}");
            let (path, addresses) = pool(line).context("write it as PATH:ADDRESS,...").with_context(failed)?;
            anyhow::ensure!(addresses.len() <= zerg::MOST, "zerg-pool = {line}: {} sockets are the most", zerg::MOST);
            let sockets = bind_pool(&addresses, settings, &kept.pool).with_context(failed)?;
            server.add(path, Gives::Pool(sockets), kept).with_context(failed)?;
        }
        if let Some(path) = &settings.privileges.setns_socket {
            server.add(path, Gives::Namespaces, kept).with_context(|| format!("setns-socket = {path}"))?;
        }
        Ok((!server.places.is_empty()).then_some(server))
    }

    fn add(&mut self, path: &str, gives: Gives, kept: &Taken) -> Result<()> {
        let same = |name: &Bound| name.label.name == path.trim();
        let listener = match kept.listeners.iter().find(|old| same(old)) {
            Some(old) => old.clone(),
            None => {
                let namespaces = matches!(gives, Gives::Namespaces);
                let what = if namespaces { "namespaces are handed out" } else { "Zerg server enabled" };
                say(&format!("*** {what} on {path} ***"));
                bind_unix(path, namespaces.then_some(NAMESPACES_MODE))?
            }
        };
        self.epoll.add(listener.fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.places.len() as u64))?;
        self.places.push(Place { listener, gives });
        Ok(())
    }

    /// Serves everybody who waits. `own` are the instance's sockets, `theirs` opens what `setns-socket` gives.
    pub fn on_ready(&mut self, own: &[Bound], theirs: impl Fn() -> std::io::Result<Vec<OwnedFd>>) {
        let mut events = [EpollEvent::empty(); 16];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for place in events[..count].iter().filter_map(|e| self.places.get(e.data() as usize)) {
            let sockets = |all: &[Bound], spare: &mut Option<File>| {
                let all: Vec<_> = all.iter().map(|b| b.fd.as_fd()).collect();
                let send = |client: BorrowedFd<'_>| zerg::send(client, &all);
                hand_out(place.listener.fd.as_fd(), &format!("{} sockets", all.len()), send, spare);
            };
            match &place.gives {
                Gives::Own => sockets(own, &mut self.spare),
                Gives::Pool(pool) => sockets(pool, &mut self.spare),
                Gives::Namespaces => {
                    let send = |client: BorrowedFd<'_>| namespaces::send(client, &theirs()?);
                    hand_out(place.listener.fd.as_fd(), "namespaces", send, &mut self.spare);
                }
            }
        }
    }

    pub fn handover(&self) -> Kept {
        let held = |b: &Bound| (b.fd.as_raw_fd(), b.label.clone());
        Kept {
            listeners: self.places.iter().map(|p| held(&p.listener)).collect(),
            pool: self.places.iter().flat_map(|p| p.gives.pool().iter().map(held)).collect(),
        }
    }

    fn sockets(&self) -> Taken {
        Taken {
            listeners: self.places.iter().map(|p| p.listener.clone()).collect(),
            pool: self.places.iter().flat_map(|p| p.gives.pool().iter().cloned()).collect(),
        }
    }

    /// The socket files that are its own.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.places.iter().flat_map(|p| p.gives.pool().iter().chain([&p.listener])).filter_map(|b| b.label.path.as_deref())
    }
}

impl AsFd for ZergServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// PATH:ADDRESS,... in its parts.
fn pool(line: &str) -> Option<(&str, Vec<String>)> {
    let (path, addresses) = line.trim().split_once(':')?;
    let addresses: Vec<String> = addresses.split(',').map(str::trim).filter(|a| !a.is_empty()).map(Into::into).collect();
    (!path.is_empty() && !addresses.is_empty()).then_some((path, addresses))
}

/// To those who wait, a few a call, so that a flood cannot keep the loop. A new connection has room for the message: nothing waits.
fn hand_out(listener: BorrowedFd<'_>, what: &str, send: impl Fn(BorrowedFd<'_>) -> std::io::Result<()>, reserve: &mut Option<File>) {
    for _ in 0..16 {
        match accept(listener) {
            Ok(client) => match send(client.as_fd()) {
                Ok(()) => say(&format!("{what} handed out")),
                Err(error) => say(&format!("{what} cannot be handed out: {error}")),
            },
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(Errno::EMFILE | Errno::ENFILE) if reserve.take().is_some() => {
                say(&format!("who asks for {what} is turned away: no descriptor is free"));
                drop(accept(listener));
                *reserve = spare();
            }
            Err(_) => return,
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// `vassal-sos` and `vassal-sos-backlog`.
pub fn distress(settings: &Settings) -> Distress {
    Distress { busy: settings.vassal.sos, backlog: settings.vassal.sos_backlog }
}

impl Master {
    /// Of these settings, with what the life before left.
    pub(super) fn open_zerg(&mut self, settings: &Settings) -> Result<()> {
        self.zerg = ZergServer::open(settings, &self.kept_zerg)?;
        // Still there if these settings fail in another place and those of before are taken again.
        self.kept_zerg = self.zerg.as_ref().map(ZergServer::sockets).unwrap_or_default();
        if let Some(server) = &self.zerg {
            self.poll.add(server, Source::Service(ZERG))?;
            server.files().for_each(|path| self.vacuum.socket(path));
        }
        Ok(())
    }

    /// Asks the emperor for a zerg if there is too much to do.
    pub(super) fn look_for_distress(&mut self, settings: &Settings, now: Ms) {
        let Some(((_, workers), (_, runtime))) = self.population().zip(self.current()) else { return };
        let queue = |b: &Bound| listen_queue(b.fd.as_fd()).map_or(0, |(queue, _)| queue);
        let queue = runtime.listeners.iter().map(queue).max().unwrap_or(0);
        let pressure = Pressure { workers, busy: runtime.busy(), queue };
        if distress(settings).asks(pressure, self.timers.asked, now) && self.tell_emperor(vassal::REINFORCEMENTS) {
            self.timers.asked = Some(now);
            say("asking the emperor for reinforcements");
        }
    }

    pub(super) fn serve_zergs(&mut self) {
        let Some((number, own, settings)) = self.current().map(|(n, r)| (n, r.listeners.clone(), r.settings.clone())) else { return };
        let zygote = self.instance.generations.iter().find(|g| g.number == number).and_then(|g| g.zygote.pid());
        let theirs = || namespaces::open(&settings.privileges, zygote);
        if let Some(server) = &mut self.zerg {
            server.on_ready(&own, theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_path_and_addresses() {
        assert_eq!(pool("/run/p:127.0.0.1:1, /run/a.sock"), Some(("/run/p", vec!["127.0.0.1:1".into(), "/run/a.sock".into()])));
        assert_eq!(pool("@p::3031"), Some(("@p", vec![":3031".into()])));
        for wrong in ["", "/run/p", "/run/p:", ":1"] {
            assert_eq!(pool(wrong), None, "{wrong}");
        }
    }
}

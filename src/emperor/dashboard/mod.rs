//! `emperor-dashboard`: the estate as a web page. [`request`] and [`access`] decide who gets what, [`page`] is what a browser runs, [`shared`] lets
//! all viewers share one round of questions to the vassals. Connections are those of [`super::command`], behind a descriptor of their own.

mod access;
mod answer;
mod page;
mod request;
mod shared;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;

use imperator_worker::settings::Settings;
use serde::Serialize;

use self::access::{Access, Secret};
use self::answer::{HTML, JSON, head};
use self::page::Page;
use self::request::{Act, Asked, LONGEST_HEAD, Wanted};
use self::shared::{Shared, Step, Viewer};
use super::command::say::{Done, Failed, Ps, json};
use super::command::{Door, Limits, Order, Server};
use super::core::Core;
use super::shell::{Shell, now};
use super::upgrade::State;
use crate::sockets::Address;

/// A hundred pages of a hundred colleagues, and their browsers' spare connections.
const LIMITS: Limits = Limits { clients: 256, patience_ms: 15_000, request: LONGEST_HEAD };

pub struct Dashboard {
    server: Server,
    access: Access,
    page: Page,
    shared: Shared,
}

/// The answer to `ps`, for the page.
#[derive(Serialize)]
struct Estate {
    /// When it was made, milliseconds since 1970.
    at: i64,
    /// Whether the page may offer to do something.
    actions: bool,
    #[serde(flatten)]
    ps: Ps,
}

impl Dashboard {
    /// Listens where the options say; `None` if they do not. `life`: what the emperor of before left.
    ///
    /// # Errors
    /// The address or the secret cannot be had; actions without a secret.
    pub fn open(settings: &Settings, life: Option<&State>) -> anyhow::Result<Option<Self>> {
        let options = &settings.emperor;
        let Some(address) = &options.dashboard else { return Ok(None) };
        let secret = options.dashboard_secret.as_deref().map(Secret::read).transpose()?;
        if options.dashboard_actions && secret.is_none() {
            anyhow::bail!(
                "emperor-dashboard-actions: only with emperor-dashboard-secret = FILE, or everybody on this host could stop vassals"
            );
        }
        let kept = life.map(|state| state.door(Door::Dashboard, address)).transpose()?.flatten();
        let mut server = Server::new(LIMITS)?;
        server.open(Door::Dashboard, address, Some(settings.socket_options.chmod.unwrap_or(0o600)), kept)?;
        let listens = if let Ok(Address::Tcp(address)) = Address::parse(address) { Some(address) } else { None };
        if secret.is_none() && listens.is_some_and(|address| !address.ip().is_loopback()) {
            tracing::warn!(
                "[emperor] emperor-dashboard = {address}: whoever reaches this address can read the names, paths and log lines of all vassals: set \
                 emperor-dashboard-secret, or listen on 127.0.0.1"
            );
        }
        let access = Access { address: listens, names: options.dashboard_host.clone(), secret, actions: options.dashboard_actions };
        Ok(Some(Self { server, access, page: Page::new(), shared: Shared::default() }))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.server.fd()
    }

    /// For the next life.
    pub fn held(&self) -> Vec<(Door, i32, String)> {
        self.server.held()
    }

    /// The files of its sockets.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.server.paths()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.server.next_deadline()
    }

    pub fn tick(&mut self, now_ms: u64) {
        self.server.tick(now_ms);
    }

    fn answer(&mut self, to: Viewer, status: u16, body: impl Into<Rc<str>>) {
        self.send(to, &head(status, JSON, None), body.into());
    }

    fn show_page(&mut self, to: Viewer) {
        let Page { text, policy } = self.page.clone();
        self.send(to, &head(200, HTML, Some(&policy)), text);
    }

    fn send(&mut self, to: Viewer, head: &str, body: Rc<str>) {
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        self.server.answer_with(to.client, &head, if to.only_head { "".into() } else { body }, now().ms);
    }
}

impl Shell {
    /// Browsers ask.
    pub(super) fn serve_dashboard(&mut self) {
        let requests = self.dashboard.as_mut().map(|d| d.server.on_ready(now().ms)).unwrap_or_default();
        for asked in requests {
            self.serve_viewer(asked.client, &asked.text);
        }
    }

    fn serve_viewer(&mut self, client: u64, bytes: &[u8]) {
        let Some(dashboard) = &mut self.dashboard else { return };
        let (wanted, viewer) = match request::read(bytes, &dashboard.access) {
            Ok(Asked { wanted, only_head }) => (wanted, Viewer { client, only_head }),
            Err(refusal) => {
                let viewer = Viewer { client, only_head: false };
                return dashboard.answer(viewer, refusal.status, json(&Failed { error: refusal.why }));
            }
        };
        match wanted {
            Wanted::Page => dashboard.show_page(viewer),
            Wanted::Estate => match dashboard.shared.want(viewer, now().ms) {
                Step::Serve(text) => dashboard.answer(viewer, 200, text),
                Step::Ask => self.gather_estate(),
                Step::Wait => {}
            },
            Wanted::Why(name) => {
                let outcome = self.why(&name);
                self.tell_viewer(viewer, outcome);
            }
            Wanted::Act(act, name) => {
                let outcome = self.carry_out_order("the dashboard", &name, order(act)).map(|done| json(&Done { done }));
                self.tell_viewer(viewer, outcome);
            }
        }
    }

    fn tell_viewer(&mut self, viewer: Viewer, outcome: Result<String, String>) {
        let (status, body) = outcome.map_or_else(|error| (404, json(&Failed { error })), |text| (200, text));
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.answer(viewer, status, body);
        }
    }

    /// The vassals have answered.
    pub(super) fn show_estate(&mut self, ps: Ps) {
        let time = now();
        let Some(dashboard) = &mut self.dashboard else { return };
        let text: Rc<str> = json(&Estate { at: time.wall_ms, actions: dashboard.access.actions, ps }).into();
        for viewer in dashboard.shared.made(text.clone(), time.ms) {
            dashboard.answer(viewer, 200, text.clone());
        }
    }
}

fn order(act: Act) -> Order {
    match act {
        Act::Reload => Core::order_reload,
        Act::Stop => Core::order_stop,
        Act::Start => Core::order_start,
    }
}

//! What operators and programs ask a running emperor, and what it answers: `imperator ps`, `why`, `stop` ... and Prometheus.
//!
//! [`wish`] reads a request, [`say`] is the answers' JSON, [`server`] and [`client`] are the sockets. What needs the vassals' own word (figures,
//! statistics, metrics) is a [`Job`] until each of them has answered or its time is over.

mod client;
mod estate;
pub mod say;
mod server;
mod wish;

use std::collections::{BTreeMap, BTreeSet};

pub use server::{Door, Limits, Request, Server};

use self::say::{Beside, Done, Failed, Followed, Log, Ps, json};
use self::wish::Wish;
use super::asked;
use super::core::{Core, Key, Now, Outcome, Vassal};
use super::inquiry::Said;
use super::shell::{Shell, now};
use super::taps::Lines;
use super::upgrade::Cause;
use crate::ask::Question;
use crate::stats::{Figures, merge};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer that vassals contribute to.
struct Job {
    client: u64,
    what: Gather,
    /// The vassal that it is about; `None`: all.
    only: Option<Key>,
    /// Who has not answered yet.
    missing: BTreeSet<Key>,
    texts: BTreeMap<Key, String>,
}

/// What is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gather {
    Ps,
    /// One vassal's statistics.
    Stats,
    /// One vassal's metrics.
    Metrics,
    /// Those of all.
    AllMetrics,
    /// What [`Gather::Ps`] is, for the dashboard.
    Estate,
    /// The sum of all figures for our own emperor, whose number of the question stands for the client.
    Sum,
    /// The metrics of all, for it.
    Below,
}

impl Gather {
    fn question(self) -> Question {
        match self {
            Self::Ps | Self::Estate | Self::Sum => Question::Figures,
            Self::Stats => Question::Stats,
            Self::Metrics | Self::AllMetrics | Self::Below => Question::Prometheus,
        }
    }
}

/// What an operator may order of one vassal.
pub(super) type Order = fn(&mut Core, Now, &str) -> Outcome;

/// Answers that are being made, and who follows which log.
#[derive(Default)]
pub struct Jobs {
    open: BTreeMap<u64, Job>,
    next: u64,
    followers: Vec<(u64, String)>,
}

impl Shell {
    /// Somebody asks.
    pub(super) fn serve_clients(&mut self) {
        for request in self.clients.on_ready(now().ms) {
            self.serve_request(request);
        }
    }

    fn serve_request(&mut self, request: Request) {
        let client = request.client;
        match request.door {
            Door::Command => match Wish::parse(&request.text) {
                Ok(wish) => self.fulfil(client, wish),
                Err(error) => self.reply(client, &Failed { error }),
            },
            Door::Prometheus if request.text == b"/metrics" => self.gather(client, Gather::AllMetrics, None),
            Door::Prometheus => self.clients.answer(client, 404, TEXT, "metrics are at /metrics\n", now().ms),
            Door::Dashboard => {} // has a server of its own
        }
    }

    fn fulfil(&mut self, client: u64, wish: Wish) {
        match wish {
            Wish::Ps(None) => {
                self.scan();
                self.gather(client, Gather::Ps, None);
            }
            Wish::Ps(Some(name)) => self.gather_one(client, Gather::Ps, &name),
            Wish::Stats(None) => {
                self.scan();
                let text = self.document();
                self.clients.answer(client, 200, JSON, &text, now().ms);
            }
            Wish::Stats(Some(name)) => self.gather_one(client, Gather::Stats, &name),
            Wish::Prometheus(None) => self.gather(client, Gather::AllMetrics, None),
            Wish::Prometheus(Some(name)) => self.gather_one(client, Gather::Metrics, &name),
            Wish::Reload(None) => {
                let actions = self.core.reload_all(now());
                self.act(actions);
                self.reply(client, &Done { done: "all vassals reload, some at a time".into() });
            }
            Wish::Reload(Some(name)) => self.order(client, &name, Core::order_reload),
            Wish::Stop(name) => self.order(client, &name, Core::order_stop),
            Wish::Start(name) => self.order(client, &name, Core::order_start),
            Wish::Why(name) => self.explain(client, &name),
            Wish::Log { name, follow } => self.show_log(client, &name, follow),
            Wish::Upgrade => self.upgrade_for(client),
        }
    }

    fn reply<T: serde::Serialize>(&mut self, client: u64, value: &T) {
        self.clients.answer(client, 200, JSON, &json(value), now().ms);
    }

    fn order(&mut self, client: u64, name: &str, order: Order) {
        match self.carry_out_order("an operator", name, order) {
            Ok(done) => self.reply(client, &Done { done }),
            Err(error) => self.reply(client, &Failed { error }),
        }
    }

    /// What was done, or why nothing was. `who`: for the log.
    pub(super) fn carry_out_order(&mut self, who: &str, name: &str, order: Order) -> Result<String, String> {
        let id = self.core.find(name)?;
        let (done, actions) = order(&mut self.core, now(), &id)?;
        tracing::info!("[emperor] {who}: {done}");
        self.act(actions);
        Ok(done)
    }

    fn explain(&mut self, client: u64, name: &str) {
        match self.why(name) {
            Ok(text) => self.clients.answer(client, 200, JSON, &text, now().ms),
            Err(error) => self.reply(client, &Failed { error }),
        }
    }

    /// The JSON of `why`.
    pub(super) fn why(&mut self, name: &str) -> Result<String, String> {
        self.core.find(name).and_then(|id| {
            let key = Key::vassal(&id);
            self.hear_rest(&key);
            let Some(vassal) = self.core.vassals.get(&key) else {
                return say::refused(&self.core).find(|row| row.name == id).map(|row| json(&row)).ok_or_else(|| format!("{id} is gone"));
            };
            let log = self.taps.file(&id, &self.directory_of(&key));
            Ok(json(&say::why(&key, vassal, now(), self.beside(&key, vassal), log.as_deref())))
        })
    }

    /// Asks the vassals for the dashboard.
    pub(super) fn gather_estate(&mut self) {
        self.gather(0, Gather::Estate, None);
    }

    fn upgrade_for(&mut self, client: u64) {
        match self.check_upgrade() {
            Ok(()) => {
                let done = "the emperor executes its binary anew; vassals run on".into();
                self.reply(client, &Done { done });
                self.become_next(Cause::Upgrade, None);
            }
            Err(error) => self.reply(client, &Failed { error: format!("{error:#}") }),
        }
    }

    fn show_log(&mut self, client: u64, name: &str, follow: bool) {
        let id = match self.core.find(name) {
            Ok(id) if self.taps.is_on() => id,
            Ok(_) => {
                let error = "vassal-log = inherit: the vassals' lines go where the emperor's go, and it reads none of them".into();
                return self.reply(client, &Failed { error });
            }
            Err(error) => return self.reply(client, &Failed { error }),
        };
        let key = Key::vassal(&id);
        self.hear_rest(&key);
        let log = self.taps.file(&id, &self.directory_of(&key)).map(|p| p.display().to_string());
        let text = json(&Log { name: id.clone(), lines: say::lines(self.taps.ring(&key), usize::MAX), log });
        if follow {
            self.clients.begin_following(client, &text);
            self.jobs.followers.push((client, id));
        } else {
            self.clients.answer(client, 200, JSON, &text, now().ms);
        }
    }

    /// Whether anybody follows what a vassal says.
    pub(super) fn has_followers(&mut self) -> bool {
        let clients = &self.clients;
        self.jobs.followers.retain(|(client, _)| clients.has(*client));
        !self.jobs.followers.is_empty()
    }

    /// Lines that vassals have just said.
    pub(super) fn tell_followers(&mut self, lines: Lines) {
        let clients = &mut self.clients;
        for (key, line) in lines {
            let text = json(&Followed::Line(line));
            self.jobs.followers.retain(|(client, id)| *id != key.id || clients.follow(*client, &text));
        }
    }

    fn gather_one(&mut self, client: u64, what: Gather, name: &str) {
        match self.core.find(name) {
            Ok(id) => self.gather(client, what, Some(Key::vassal(&id))),
            Err(error) => self.reply(client, &Failed { error }),
        }
    }

    /// Asks one vassal, or all.
    pub(super) fn gather(&mut self, client: u64, what: Gather, only: Option<Key>) {
        self.jobs.next += 1;
        let number = self.jobs.next;
        let keys: Vec<&Key> = only.as_ref().map_or_else(|| self.core.vassals.keys().collect(), |key| vec![key]);
        let missing = keys.into_iter().filter(|key| self.inquiry.ask(number, key, what.question())).cloned().collect();
        self.jobs.open.insert(number, Job { client, what, only, missing, texts: BTreeMap::new() });
        self.push_questions();
        self.finish_jobs();
    }

    /// Sends what questions may be sent.
    pub(super) fn push_questions(&mut self) {
        let said = self.inquiry.pump(now().ms);
        self.hear_said(said);
    }

    /// Answers of vassals, or that there will be none.
    pub(super) fn hear_said(&mut self, said: Vec<Said>) {
        for Said { job, key, text } in said {
            let Some(job) = self.jobs.open.get_mut(&job) else { continue };
            job.missing.remove(&key);
            job.texts.extend(text.map(|text| (key, text)));
        }
    }

    pub(super) fn finish_jobs(&mut self) {
        let done: Vec<u64> = self.jobs.open.iter().filter(|(_, job)| job.missing.is_empty()).map(|(number, _)| *number).collect();
        for number in done {
            let Some(job) = self.jobs.open.remove(&number) else { continue };
            self.finish(&job);
        }
    }

    fn finish(&mut self, job: &Job) {
        let one = || job.texts.values().next();
        let nothing = || Failed { error: "the vassal does not answer: it has no process, starts, hangs, or is no Imperator".into() };
        match job.what {
            Gather::Ps => {
                let ps = self.ps(job);
                self.reply(job.client, &ps);
            }
            Gather::Estate => {
                let ps = self.ps(job);
                self.show_estate(ps);
            }
            Gather::Sum => {
                let text = serde_json::to_string(&asked::sum(job.texts.values())).unwrap_or_default();
                self.answer_above(job.client, text);
            }
            Gather::Below => {
                let text = self.metrics(&job.texts);
                self.answer_above(job.client, text);
            }
            Gather::Stats => match one().map(|text| serde_json::from_str::<serde_json::Value>(text)) {
                Some(Ok(value)) => self.reply(job.client, &value),
                Some(Err(e)) => self.reply(job.client, &Failed { error: format!("the vassal answers no JSON: {e}") }),
                None => self.reply(job.client, &nothing()),
            },
            Gather::Metrics => match one() {
                Some(text) => self.clients.answer(job.client, 200, METRICS, text, now().ms),
                None => self.reply(job.client, &nothing()),
            },
            Gather::AllMetrics => {
                let text = self.metrics(&job.texts);
                self.clients.answer(job.client, 200, METRICS, &text, now().ms);
            }
        }
    }

    fn ps(&self, job: &Job) -> Ps {
        let time = now();
        let is_meant = |id: &str| job.only.as_ref().is_none_or(|only| only.id == id);
        let rows = self.core.vassals.iter().filter(|(key, _)| is_meant(&key.id)).map(|(key, vassal)| {
            let figures = job.texts.get(key).and_then(|text| serde_json::from_str::<Figures>(text).ok());
            say::Row { figures, ..say::row(key, vassal, time, self.beside(key, vassal)) }
        });
        let mut vassals: Vec<say::Row> = rows.collect();
        vassals.extend(say::refused(&self.core).filter(|row| is_meant(&row.name)));
        Ps {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: self.since,
            sources: self.sources.iter().map(|s| s.name()).collect(),
            vassals,
        }
    }

    /// What all say, each sample with its vassal's name, behind what we say of them.
    fn metrics(&self, texts: &BTreeMap<Key, String>) -> String {
        let names: Vec<(String, &str)> = texts.iter().map(|(key, text)| (key.to_string(), text.as_str())).collect();
        let pages: Vec<(&str, &str)> = names.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        merge(&estate::page(&self.core, now(), self.since), &pages)
    }

    fn beside(&self, key: &Key, vassal: &Vassal) -> Beside<'_> {
        let config = self.sources.get(vassal.source).map_or_else(|| key.id.clone(), |s| s.directory().join(&key.id).display().to_string());
        Beside {
            config,
            ring: self.taps.ring(key),
            flood: self.taps.flood(key, now().ms),
            socket: self.demands.get(key).map(|d| d.name.clone()),
        }
    }
}

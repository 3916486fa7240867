//! The metrics of an instance: their segment, their collection where something needs it, and the files of `metrics-dir`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use imperator_worker::log::diag::say;
use imperator_worker::metrics::{Collector, Definition, Metrics, Row, Source, Threshold, builtin, value};
use imperator_worker::settings::{MetricSettings, Settings};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::decide::Ms;
use super::running::Master;

/// How often files are written and accumulators grow: uWSGI's collector runs once a second.
const TICK: Ms = 1000;
/// A file of `metrics-dir` is a page, so that readers can map it.
const PAGE: u64 = 4096;
/// What is read of the file of a collector.
const FILE: u64 = 4096;

/// What the master holds of them.
#[derive(Default)]
pub struct Meter {
    segment: Option<Metrics>,
    settings: Option<Rc<Settings>>,
    /// When the next collection is due; `None`: nothing needs one.
    pub(super) due: Option<Ms>,
    /// When each accumulator grows next.
    accumulate: BTreeMap<String, Ms>,
    /// What the files say.
    written: BTreeMap<String, i64>,
    /// When each threshold was last acted on, by its place in the settings.
    reached: BTreeMap<usize, Ms>,
}

impl Meter {
    /// Goes on with a segment of the life before.
    pub fn resume(segment: Option<Metrics>) -> Self {
        Self { segment, ..Self::default() }
    }

    /// Makes room for the metrics of these settings.
    ///
    /// # Errors
    /// There is no memory, or there are too many of them.
    pub fn define(&mut self, settings: &Rc<Settings>, now: Ms) -> Result<()> {
        let options = &settings.metrics;
        self.settings = Some(settings.clone());
        self.reached.clear();
        self.due = needs_collection(options).then_some(now);
        if options.definitions.is_empty() {
            return Ok(());
        }
        let mut definitions = options.definitions.clone();
        if let Some(directory) = options.directory.as_ref().filter(|_| options.restore) {
            definitions.iter_mut().for_each(|definition| restore(definition, Path::new(directory)));
        }
        let segment = match &mut self.segment {
            Some(segment) => segment,
            none => none.insert(Metrics::create().context("shared memory for metrics")?),
        };
        Ok(segment.define(definitions.iter())?)
    }

    pub fn segment(&self) -> Option<&Metrics> {
        self.segment.as_ref()
    }
}

/// The values that definitions refer to.
struct Values<'m> {
    options: &'m MetricSettings,
    segment: Option<&'m Metrics>,
    builtin: &'m [Row],
}

impl Source for Values<'_> {
    fn definition(&self, name: &str) -> Option<&Definition> {
        self.options.definitions.iter().find(|d| d.name == name)
    }

    fn stored(&self, name: &str) -> Option<i64> {
        let own = self.segment.filter(|_| self.definition(name).is_some()).and_then(|segment| segment.get(name));
        own.or_else(|| self.builtin.iter().find(|row| row.name == name).map(|row| row.value))
    }

    /// Never waits: what is no regular file has no number.
    fn file(&self, path: &str) -> Option<String> {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).ok()?;
        let mut text = vec![];
        file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        file.take(FILE).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Master {
    /// All metrics as they are now; `None`: nothing asks for any.
    pub(super) fn metrics(&self) -> Option<Vec<Row>> {
        let (_, runtime) = self.current()?;
        let options = &runtime.settings.metrics;
        if !options.enabled {
            return None;
        }
        let queue = |b: &crate::sockets::Bound| imperator_sys::socket::listen_queue(b.fd.as_fd()).map_or(0, |(queue, _)| queue.into());
        let queues: Vec<u64> = runtime.listeners.iter().map(queue).collect();
        let mut rows = builtin::rows(&runtime.scoreboard, &queues, !options.no_cores);
        let source = Values { options, segment: self.meter.segment(), builtin: &rows };
        let own: Vec<Row> = options.definitions.iter().map(|d| own(d, &source)).collect();
        rows.extend(own);
        Some(rows)
    }

    /// The user's own among them.
    pub(super) fn own_metrics(&self) -> Vec<Row> {
        let own = self.current().map_or(0, |(_, r)| r.settings.metrics.definitions.len());
        let mut rows = self.metrics().unwrap_or_default();
        rows.split_off(rows.len().saturating_sub(own))
    }

    /// Collects, if it is time.
    pub(super) fn metrics_due(&mut self, now: Ms) {
        if self.meter.due.is_none_or(|due| due > now) {
            return;
        }
        self.meter.due = Some(now + TICK);
        let Some(rows) = self.metrics() else { return };
        self.accumulate(&rows, now);
        self.write_files(&rows);
        self.look_at_thresholds(&rows, now);
    }

    fn look_at_thresholds(&mut self, rows: &[Row], now: Ms) {
        let Some(settings) = self.meter.settings.clone() else { return };
        for (index, threshold) in settings.metrics.thresholds.iter().enumerate() {
            let last = self.meter.reached.get(&index).map(|at| now.saturating_sub(*at));
            let Some(value) = rows.iter().find(|row| row.name == threshold.key).map(|row| row.value) else {
                if last.is_none() {
                    say(&format!("metric-threshold: there is no metric {}, so that it is never reached", threshold.key));
                    self.meter.reached.insert(index, now);
                }
                continue;
            };
            if threshold.is_reached(value, last) {
                self.meter.reached.insert(index, now);
                self.act_on(threshold, value);
            }
        }
    }

    fn act_on(&mut self, threshold: &Threshold, value: i64) {
        let own = self.meter.settings.iter().flat_map(|s| &s.metrics.definitions).any(|d| d.name == threshold.key && !d.is_collected());
        if let Some((segment, reset)) = self.meter.segment.as_ref().zip(threshold.reset).filter(|_| own) {
            segment.update(&threshold.key, |_| Some(reset));
        }
        if let Some(alarm) = &threshold.alarm {
            self.raise(alarm, &threshold.message(value));
        }
    }

    fn accumulate(&mut self, rows: &[Row], now: Ms) {
        let Some(settings) = &self.meter.settings else { return };
        let value = |name: &String| rows.iter().find(|row| row.name == *name).map_or(0, |row| row.value);
        for definition in settings.metrics.definitions.iter().filter(|d| d.collector == Some(Collector::Accumulator)) {
            let due = self.meter.accumulate.entry(definition.name.clone()).or_insert(now);
            if *due <= now {
                *due = now + Ms::from(definition.freq) * TICK;
                let sum = definition.children.iter().map(value).fold(0, i64::wrapping_add);
                self.meter.segment.as_ref().map(|segment| segment.update(&definition.name, |old| Some(old.wrapping_add(sum))));
            }
        }
    }

    fn write_files(&mut self, rows: &[Row]) {
        let Some(directory) = self.meter.settings.as_ref().and_then(|s| s.metrics.directory.clone()) else { return };
        for row in rows.iter().filter(|row| self.meter.written.get(&row.name) != Some(&row.value)).collect::<Vec<_>>() {
            if let Err(error) = write(&Path::new(&directory).join(&row.name), row.value)
                && self.meter.written.is_empty()
            {
                // Once, not for each file each second.
                say(&format!("metrics-dir = {directory}: {}: {error}; make it writable for the master, or leave the option out", row.name));
            }
            self.meter.written.insert(row.name.clone(), row.value);
        }
    }

    /// Metrics with `reset_after_push` begin again.
    pub(super) fn reset_pushed(&self) {
        let definitions =
            self.meter.settings.iter().flat_map(|s| &s.metrics.definitions).filter(|d| d.reset_after_push && !d.is_collected());
        for definition in definitions {
            self.meter.segment.as_ref().map(|segment| segment.update(&definition.name, |_| Some(definition.initial)));
        }
    }
}

fn needs_collection(options: &MetricSettings) -> bool {
    options.directory.is_some()
        || !options.thresholds.is_empty()
        || options.definitions.iter().any(|d| d.collector == Some(Collector::Accumulator))
}

fn own(definition: &Definition, source: &Values<'_>) -> Row {
    let value = value(source, &definition.name).unwrap_or(0);
    Row { name: definition.name.clone(), oid: definition.oid.clone(), kind: definition.kind, value }
}

/// The value that a file of `metrics-dir` had at the last end becomes the initial one.
fn restore(definition: &mut Definition, directory: &Path) {
    let text = std::fs::read(directory.join(&definition.name)).unwrap_or_default();
    let line = text.split(|b| *b == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    if let Some(number) = line.and_then(|line| line.trim().parse().ok()) {
        definition.initial = number;
    }
}

/// Names have no slash in them, and no link is followed: the directory may belong to somebody else.
fn write(path: &Path, value: i64) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .mode(0o644)
        .open(path)?;
    let mut text = format!("{value}\n").into_bytes();
    text.resize(32, 0);
    file.write_all(&text)?;
    file.set_len(PAGE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_page_with_the_number_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("a"), 12_345).unwrap();
        write(&directory.path().join("a"), -7).unwrap();
        let text = std::fs::read(directory.path().join("a")).unwrap();
        assert_eq!((text.len(), &text[..4]), (4096, &b"-7\n\0"[..]));
        let mut definition = Definition::parse("a").unwrap();
        restore(&mut definition, directory.path());
        assert_eq!(definition.initial, -7);
        std::os::unix::fs::symlink(directory.path().join("a"), directory.path().join("link")).unwrap();
        assert!(write(&directory.path().join("link"), 1).is_err());
    }

    #[test]
    fn a_collector_waits_for_no_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let options = MetricSettings::default();
        let source = Values { options: &options, segment: None, builtin: &[] };
        assert_eq!(source.file(fifo.to_str().unwrap()), None);
        assert!(source.file("/proc/loadavg").is_some());
    }
}

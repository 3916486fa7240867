//! The list of entries to settings: in order, each by its row of the table.

use std::collections::HashSet;

use imperator_worker::settings::Settings;

use super::plugins::{self, Plugin};
use super::reader::Reading;
use super::table::{self, Section, Spec, Status};
use super::{Diagnostic, Entry, Origin, lint, near, values};

/// What the entries give, before it is judged as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    pub settings: Settings,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    /// The texts of `print`.
    pub prints: Vec<String>,
    pub show_config: bool,
}

/// Applies everything that was read.
pub fn apply(reading: &Reading) -> Applied {
    let mut applied = Applied { warnings: reading.diagnostics.clone(), ..Applied::default() };
    applied.early(&reading.entries);
    let mut complained = HashSet::new();
    for entry in &reading.entries {
        match table::lookup(&entry.key).zip(table::section(&entry.key)) {
            Some((spec, section)) => applied.option(&spec, section, entry, &mut complained),
            None => applied.unknown(entry, reading, &mut complained),
        }
    }
    applied.exposed(&reading.entries);
    applied.finish();
    applied
}

impl Applied {
    /// `protocol` counts for every plain `socket`, above or below it.
    fn early(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| table::lookup(&entry.key).is_some_and(|spec| spec.name == "protocol")) {
            if let Some(Status::Done(apply)) = table::lookup(&entry.key).map(|spec| spec.status) {
                // An error is found again, and reported, in its turn.
                let _ = apply(&mut self.settings, entry.value.as_deref());
            }
        }
    }

    fn option(&mut self, spec: &Spec, section: Section, entry: &Entry, complained: &mut HashSet<String>) {
        for text in lint::value(spec, section, entry) {
            self.warn(&entry.origin, text);
        }
        match spec.status {
            Status::Done(apply) => {
                if let Err(problem) = apply(&mut self.settings, entry.value.as_deref()) {
                    self.refuse(&entry.origin, format!("`{}`: {problem}", entry.key));
                }
            }
            Status::Immediate => self.immediate(spec.name, entry),
            Status::NoEffect(_) => {}
            Status::NotYet { stops, instead } => {
                let off = spec.kind.is_flag() && !values::flag(entry.value.as_deref());
                if !off && (stops || complained.insert(spec.name.into())) {
                    let text = format!("`{}` is not done yet: {instead}", entry.key);
                    if stops { self.refuse(&entry.origin, text) } else { self.warn(&entry.origin, text) }
                }
            }
        }
    }

    /// What is not a setting and was left for us by the reader.
    fn immediate(&mut self, name: &str, entry: &Entry) {
        let value = entry.value.as_deref().unwrap_or("");
        match name {
            "plugins" => plugins::split(value).for_each(|plugin| self.plugin(plugin, entry, false)),
            "need-plugins" => plugins::split(value).for_each(|plugin| self.plugin(plugin, entry, true)),
            "print" | "iprint" => self.prints.push(value.to_owned()),
            "show-config" => self.show_config = values::flag(entry.value.as_deref()),
            _ => {}
        }
    }

    fn plugin(&mut self, name: &str, entry: &Entry, needed: bool) {
        match plugins::identify(name) {
            Plugin::BuiltIn | Plugin::Python(None) => {}
            Plugin::Python(Some(version)) if needed => {
                self.settings.python.bin.get_or_insert(version);
            }
            Plugin::Python(version) => self.settings.python.wanted_version = version,
            Plugin::Unknown if needed => self.refuse(&entry.origin, format!("`{}`: there is no plugin `{name}`", entry.key)),
            Plugin::Unknown => self.warn(&entry.origin, format!("`{}`: there is no plugin `{name}`; it is left out", entry.key)),
        }
    }

    /// A variable, unless it is `strict`, or nothing refers to it and an option's name is near.
    fn unknown(&mut self, entry: &Entry, reading: &Reading, complained: &mut HashSet<String>) {
        if reading.variables.contains(&entry.key) || !complained.insert(entry.key.clone()) {
            return;
        }
        let meant = near::nearest(&entry.key);
        if reading.strict {
            let hint = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            let text = format!("`{}` is no option{hint} (`strict` is on: define variables by `set-placeholder`)", entry.key);
            self.refuse(&entry.origin, text);
        } else if let Some(meant) = meant.filter(|_| !reading.referenced.contains(&entry.key)) {
            self.warn(&entry.origin, format!("`{}` is no option and nothing refers to it; did you mean `{meant}`?", entry.key));
        }
    }

    /// `uwsgi.opt` and where its values come from.
    fn exposed(&mut self, entries: &[Entry]) {
        let settings = &mut self.settings;
        let mut places = std::collections::HashMap::new();
        for Entry { key, value, origin } in entries {
            let at = *places.entry(key.as_str()).or_insert_with(|| {
                settings.opt.push((key.clone(), vec![]));
                settings.origins.push((key.clone(), vec![]));
                settings.opt.len() - 1
            });
            settings.opt[at].1.push(value.clone());
            settings.origins[at].1.push(origin.to_string());
        }
    }

    /// Settings that follow from others.
    fn finish(&mut self) {
        let settings = &mut self.settings;
        if settings.socket_options.abstract_names {
            for socket in settings.sockets.iter_mut().filter(|socket| is_path(&socket.address)) {
                socket.address.insert(0, '@');
            }
        }
        if settings.log.chown_to_user {
            let user = settings.privileges.uid.as_deref().unwrap_or_default();
            let owner = settings.privileges.gid.as_deref().map_or_else(|| user.to_owned(), |group| format!("{user}:{group}"));
            settings.log.chown = Some(owner).filter(|owner| !owner.is_empty());
        }
        if let Some(least) = settings.process.cheaper {
            settings.process.cheaper_initial =
                settings.process.cheaper_initial.map(|n| n.clamp(least, settings.process.workers.max(least)));
        }
    }

    fn warn(&mut self, origin: &Origin, text: impl Into<String>) {
        self.warnings.push(Diagnostic::new(origin, text));
    }

    fn refuse(&mut self, origin: &Origin, text: impl Into<String>) {
        self.errors.push(Diagnostic::new(origin, text));
    }
}

fn is_path(address: &str) -> bool {
    !address.is_empty() && !address.contains(':') && !address.starts_with(['@', '='])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[(&str, &str)]) -> Applied {
        let entry = |(line, (key, value)): (usize, &(&str, &str))| Entry {
            key: (*key).into(),
            value: Some((*value).into()),
            origin: Origin::File { path: "a.ini".into(), line: line as u32 + 1 },
        };
        apply(&Reading {
            entries: lines.iter().enumerate().map(entry).collect(),
            referenced: vec!["procesess".into()],
            ..Reading::default()
        })
    }

    #[test]
    fn later_values_win_and_lists_add_up() {
        let it = applied(&[("processes", "4"), ("workers", "2"), ("env", "A=1"), ("env", "B=2"), ("own", "x")]);
        assert_eq!((it.settings.process.workers, it.settings.process.env.len()), (2, 2));
        assert_eq!(it.settings.opt[2], ("env".into(), vec![Some("A=1".into()), Some("B=2".into())]));
        assert_eq!(it.settings.origins[2], ("env".into(), vec!["a.ini:3".into(), "a.ini:4".into()]));
        assert_eq!(it.settings.opt[3].0, "own");
        assert_eq!((it.errors, it.warnings), (vec![], vec![]));
    }

    #[test]
    fn errors_name_option_value_and_line() {
        let it = applied(&[("master", "true"), ("processes", "many"), ("http", ":80"), ("worker-logger", "a"), ("worker-logger", "b")]);
        let errors: Vec<String> = it.errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors[0], "a.ini:2: `processes`: `many` is not a number");
        assert!(errors[1].starts_with("a.ini:3: `http` is not done yet: use `http-socket`"));
        assert_eq!(errors.len(), 2);
        assert_eq!(it.warnings.len(), 1, "said once: {:?}", it.warnings);
    }

    #[test]
    fn a_probable_mistake_is_told_unless_it_is_used() {
        let it = applied(&[("procesess", "2"), ("proceses", "2"), ("vassal_name", "x"), ("guid", "www-data"), ("http-raw-body", "false")]);
        let warnings: Vec<String> = it.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "a.ini:2: `proceses` is no option and nothing refers to it; did you mean `processes`?",
                "a.ini:4: `guid` is no option and nothing refers to it; did you mean `gid`?",
            ]
        );
    }

    #[test]
    fn strict_refuses_what_is_no_option() {
        let entry = |key: &str| Entry { key: key.into(), value: Some("1".into()), origin: Origin::CommandLine };
        let entries = vec![entry("mine"), entry("procceses"), entry("zzz"), entry("processes")];
        let it =
            apply(&Reading { entries, strict: true, variables: vec!["mine".into()], referenced: vec!["zzz".into()], ..Reading::default() });
        let errors: Vec<&str> = it.errors.iter().map(|error| error.text.as_str()).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors[0].starts_with("`procceses` is no option; did you mean `processes`?") && errors[1].starts_with("`zzz` is no option (")
        );
    }

    #[test]
    fn the_protocol_counts_for_plain_sockets_wherever_it_stands() {
        let it = applied(&[("socket", ":1"), ("protocol", "http"), ("uwsgi-socket", ":2"), ("abstract-socket", "1"), ("socket", "a.sock")]);
        let spoken: Vec<_> = it.settings.sockets.iter().map(|s| (s.address.as_str(), s.protocol.name())).collect();
        assert_eq!(spoken, [(":1", "http"), (":2", "uwsgi"), ("@a.sock", "http")]);
    }

    #[test]
    fn plugins_that_are_built_in_need_no_word() {
        let it = applied(&[
            ("plugins", "python36,http"),
            ("plugin", "sentry"),
            ("print", "hello"),
            ("need-plugin", "php"),
            ("show-config", "true"),
        ]);
        assert_eq!(it.settings.python.wanted_version.as_deref(), Some("3.6"));
        assert_eq!((it.warnings.len(), it.errors.len()), (1, 1));
        assert!(it.show_config && it.prints == ["hello"]);
        assert_eq!(applied(&[("need-plugin", "python311")]).settings.python.bin.as_deref(), Some("3.11"));
    }

    #[test]
    fn the_log_is_given_to_the_user_if_asked() {
        let it = applied(&[("logfile-chown", "true"), ("uid", "root"), ("gid", "root")]);
        assert_eq!(it.settings.log.chown.as_deref(), Some("root:root"));
        assert_eq!(applied(&[("logfile-chown", "true")]).settings.log.chown, None);
    }
}

//! What does not go together, and what is missing.

use imperator_worker::settings::Settings;

use super::table;
use super::{Diagnostic, Origin};

/// What the system and the process that started us say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// net.core.somaxconn.
    pub somaxconn: i32,
    /// systemd passes sockets.
    pub sockets_passed: bool,
    /// Descriptor 0 is a socket.
    pub zero_is_socket: bool,
    /// An emperor has started this instance.
    pub vassal: bool,
}

/// Errors of a configuration whatever it is run for.
pub fn errors(settings: &Settings, around: &Surroundings) -> Vec<Diagnostic> {
    let process = &settings.process;
    let limits = &settings.limits;
    let mut found = Vec::new();
    if let Some(least) = process.cheaper.filter(|least| *least >= process.workers) {
        found.push((
            &["cheaper"][..],
            format!("`cheaper = {least}` is the least number of workers and must be below `processes = {}`, the largest", process.workers),
        ));
    }
    if limits.max_worker_lifetime > 0 && limits.max_worker_lifetime <= limits.min_worker_lifetime {
        let text = format!(
            "`max-worker-lifetime = {}` must be above `min-worker-lifetime` ({}; 10 if it is not set)",
            limits.max_worker_lifetime, limits.min_worker_lifetime
        );
        found.push((&["max-worker-lifetime"], text));
    }
    let rules = &process.cheaper_rules;
    if rules.rss_hard > 0 && rules.rss_hard <= rules.rss_soft {
        let text = format!("`cheaper-rss-limit-hard = {}` must be above `cheaper-rss-limit-soft` ({})", rules.rss_hard, rules.rss_soft);
        found.push((&["cheaper-rss-limit-hard"], text));
    }
    if let Some(backlog) = settings.socket_options.backlog.filter(|backlog| *backlog > around.somaxconn) {
        let text = format!(
            "`listen = {backlog}` is above the system's limit of {}: raise net.core.somaxconn (sysctl), or lower `listen`",
            around.somaxconn
        );
        found.push((&["listen"], text));
    }
    let mut diagnostics: Vec<_> = found.into_iter().map(|(names, text)| Diagnostic::new(&origin(settings, names), text)).collect();
    if let Err(error) = settings.cache.all() {
        diagnostics.push(Diagnostic::new(&origin(settings, &[error.option()]), error.to_string()));
    }
    diagnostics
}

/// Why there is nothing to run.
pub fn nothing_to_do(settings: &Settings, around: &Surroundings) -> Option<Diagnostic> {
    let options = &settings.socket_options;
    let something = !settings.sockets.is_empty()
        || !settings.emperor.sources.is_empty()
        || settings.python.pyrun.is_some()
        || !settings.background.daemons.is_empty()
        || !settings.background.crons.is_empty()
        || !options.zerg.is_empty()
        || !options.zerg_pool.is_empty()
        || around.sockets_passed
        || (around.zero_is_socket && !options.skip_zero);
    (!something).then(|| {
        let text = "there is no socket: add `socket = /run/app.sock` for nginx, or `http-socket = 127.0.0.1:8080`; for an emperor add `emperor = DIRECTORY`";
        Diagnostic::new(&Origin::Whole, text)
    })
}

/// What works, but not as it looks.
pub fn warnings(settings: &Settings, around: &Surroundings) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !settings.process.master && !around.vassal {
        for (key, _) in &settings.opt {
            if let Some(spec) = table::lookup(key).filter(|spec| spec.needs_master) {
                found.push((vec![key.as_str()], format!("`{}` does nothing without a master: remove `master = false`", spec.name)));
            }
        }
    }
    if settings.python.catch_exceptions {
        found.push((
            vec!["catch-exceptions"],
            "`catch-exceptions` shows tracebacks and variables to every client: for development only".into(),
        ));
    }
    if settings.names_app()
        && settings.process.workers == 1
        && settings.process.cheaper_initial.is_some()
        && settings.process.cheaper.is_none()
    {
        found.push((vec!["cheaper-initial"], "`cheaper-initial` does nothing without `cheaper`".into()));
    }
    found.into_iter().map(|(names, text)| Diagnostic::new(&origin(settings, &names), text)).collect()
}

/// Where the last of these options was written, as text.
pub(super) fn origin(settings: &Settings, names: &[&str]) -> Origin {
    let is_one = |key: &str| table::lookup(key).is_some_and(|spec| names.iter().any(|name| spec.names().any(|own| own == *name)));
    let written = settings.origins.iter().filter(|(key, _)| is_one(key)).filter_map(|(_, places)| places.last()).next_back();
    written.map_or(Origin::Whole, |place| Origin::Text(place.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings = Surroundings { somaxconn: 4096, sockets_passed: false, zero_is_socket: false, vassal: false };

    fn settings(lines: &[(&str, &str)]) -> Settings {
        let entries = lines.iter().map(|(key, value)| crate::config::Entry {
            key: (*key).into(),
            value: Some((*value).into()),
            origin: Origin::File { path: "a.ini".into(), line: 7 },
        });
        let reading = crate::config::reader::Reading { entries: entries.collect(), ..Default::default() };
        crate::config::apply::apply(&reading).settings
    }

    #[test]
    fn contradictions_are_errors() {
        for (lines, part) in [
            (&[("processes", "2"), ("cheaper", "2")][..], "cheaper = 2"),
            (&[("cheaper-rss-limit-soft", "5"), ("cheaper-rss-limit-hard", "5")][..], "cheaper-rss-limit-hard = 5"),
            (&[("max-worker-lifetime", "10")], "max-worker-lifetime = 10"),
            (&[("listen", "5000")], "somaxconn"),
        ] {
            let errors = errors(&settings(lines), &AROUND);
            assert_eq!(errors.len(), 1, "{lines:?}");
            assert!(errors[0].to_string().starts_with("a.ini:7: ") && errors[0].text.contains(part), "{}", errors[0]);
        }
        assert_eq!(
            errors(&settings(&[("processes", "3"), ("cheaper", "2"), ("max-worker-lifetime", "60"), ("listen", "4096")]), &AROUND),
            vec![]
        );
    }

    #[test]
    fn something_must_be_asked_for() {
        assert!(nothing_to_do(&settings(&[("master", "true")]), &AROUND).is_some());
        assert!(nothing_to_do(&settings(&[]), &Surroundings { sockets_passed: true, ..AROUND }).is_none());
        let by_inetd = Surroundings { zero_is_socket: true, ..AROUND };
        assert!(nothing_to_do(&settings(&[]), &by_inetd).is_none());
        assert!(nothing_to_do(&settings(&[("skip-zero", "1")]), &by_inetd).is_some());
        for line in [("socket", ":1"), ("emperor", "/etc/vassals"), ("pyrun", "a.py")] {
            assert_eq!(nothing_to_do(&settings(&[line]), &AROUND), None, "{line:?}");
        }
    }

    #[test]
    fn options_of_the_master_are_told_where_there_is_none() {
        let lines = [("master", "false"), ("harakiri", "30"), ("stats", ":1717"), ("processes", "2")];
        let warnings = warnings(&settings(&lines), &AROUND);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].text.contains("`harakiri` does nothing"));
        assert_eq!(super::warnings(&settings(&lines), &Surroundings { vassal: true, ..AROUND }), vec![], "a vassal always has one");
        assert_eq!(super::warnings(&settings(&lines[1..]), &AROUND), vec![]);
    }
}

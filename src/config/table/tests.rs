//! What must hold of every row.

use std::collections::{HashMap, HashSet};

use super::{Kind, Section, Status, all, chapters, lookup, names};

#[test]
fn no_name_and_no_letter_is_given_twice() {
    let mut seen = HashSet::new();
    let twice: Vec<_> = names().filter(|name| !seen.insert(*name)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut letters = HashMap::new();
    for spec in all() {
        if let Some(letter) = spec.short {
            assert_eq!(letters.insert(letter, spec.name), None, "-{letter}");
        }
    }
}

#[test]
fn every_row_says_what_it_is() {
    for spec in all() {
        assert!(spec.help.len() > 3 && !spec.help.ends_with('.'), "{}", spec.name);
        match spec.status {
            Status::NoEffect(why) => assert!(!why.is_empty(), "{}", spec.name),
            Status::NotYet { instead, .. } => assert!(!instead.is_empty(), "{}", spec.name),
            Status::Done(_) | Status::Immediate => {}
        }
        assert!(spec.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')), "{}", spec.name);
    }
}

#[test]
fn chapters_come_in_the_manuals_order() {
    let sections: Vec<Section> = chapters().map(|(section, _)| section).collect();
    assert!(sections.is_sorted());
}

/// The names that uWSGI 2.0.31 and its master branch have, with their plugins.
#[test]
fn every_name_of_uwsgi_is_known() {
    let unknown: Vec<_> = include_str!("uwsgi-names.txt").lines().filter(|name| lookup(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The options that make up 95 % of all uses in 232 real files, but for those of later issues.
#[test]
fn the_most_used_options_are_done() {
    let used = "master processes workers socket chdir module wsgi uid vacuum gid chmod-socket plugins plugin home virtualenv venv wsgi-file file \
        enable-threads pidfile threads harakiri buffer-size die-on-term logto max-requests callable env emperor http-socket stats daemonize pythonpath \
        python-path touch-reload thunder-lock lazy-apps ini chown-socket disable-logging http-timeout static-map auto-procname need-app log-master logger \
        memory-report single-interpreter cheaper endif endfor disable-write-exception post-buffering strict hook-master-start ignore-sigpipe \
        ignore-write-errors log-maxsize log-date logdate log-5xx log-format logformat procname-prefix-spaced socket-timeout log-4xx log-backupname \
        manage-script-name mount protocol reload-on-rss req-logger harakiri-verbose log-x-forwarded-for stats-http if-env log-reopen logfile-chown \
        no-defer-accept vassals-set vassal-set vhost worker-reload-mercy emperor-stats emperor-stats-server exit-on-reload import logformat-strftime no-orphans \
        plugins-dir show-config uwsgi-socket check-static hook-as-root http11-socket if-file if-not-env lazy listen logto2 max-fd max-worker-lifetime \
        offload-threads py-auto-reload py-autoreload python-autoreload reload-mercy vassals-include binary-path cheaper-initial close-on-exec die-on-idle \
        hook-pre-app idle inherit log-route procname-master procname-prefix set-placeholder umask";
    for name in used.split_whitespace() {
        let spec = lookup(name).unwrap_or_else(|| panic!("{name} is unknown"));
        assert!(!matches!(spec.status, Status::NotYet { .. }), "{name}");
    }
}

#[test]
fn aliases_are_the_same_option() {
    for same in [
        ["processes", "workers"],
        ["home", "virtualenv"],
        ["home", "pyhome"],
        ["wsgi-file", "file"],
        ["module", "wsgi"],
        ["pythonpath", "pp"],
        ["log-date", "log-prefix"],
        ["log-format", "logformat"],
        ["vassals-set", "vassal-set"],
        ["emperor-stats", "emperor-stats-server"],
        ["py-auto-reload", "python-autoreload"],
        ["endif", "end-if"],
        ["stats", "stats-server"],
        ["plugins", "plugin"],
    ] {
        let [one, other] = same.map(|name| lookup(name).map(|spec| spec.name));
        assert!(one.is_some() && one == other, "{same:?}");
    }
}

#[test]
fn rows_apply_to_the_settings() {
    let mut settings = imperator_worker::settings::Settings::default();
    let mut apply = |name: &str, value: Option<&str>| match lookup(name).expect(name).status {
        Status::Done(apply) => apply(&mut settings, value),
        _ => panic!("{name} is not done"),
    };
    for (name, value) in [
        ("workers", Some("2 ; two")),
        ("master", Some("false ; x")),
        ("die-on-term", None),
        ("chmod-socket", Some("660")),
        ("socket", Some("127.0.0.1:3031 # x")),
        ("http-socket", Some(":80")),
        ("logto", Some("")),
        ("env", Some("A=b=c d")),
        ("env", Some("GONE")),
        ("reload-on-rss", Some("256")),
        ("log-date", Some("True")),
        ("procname-prefix-spaced", Some("shop")),
        ("buffer-size", Some("65536")),
        ("hook-as-root", Some("exec:true")),
        ("no-defer-accept", Some("1")),
        ("cheaper", Some("true")),
        ("lazy", Some("true")),
        ("uid", Some("root")),
        ("vassal-set", Some("a=b")),
    ] {
        assert_eq!(apply(name, value), Ok(()), "{name}");
    }
    for (name, value) in [
        ("processes", "many"),
        ("processes", "-1"),
        ("processes", "0"),
        ("uid", "no-such-user-here"),
        ("uid", "0"),
        ("cheaper-algo", "guess"),
        ("protocol", "gopher"),
        ("wsgi-env-behaviour", "odd"),
        ("umask", "9"),
        ("socket", ""),
        ("threads", "99999999999999"),
    ] {
        assert!(apply(name, Some(value)).is_err(), "{name} = {value}");
    }
    assert_eq!(apply("socket", None), Err("needs an address".into()));
    assert_eq!((settings.process.workers, settings.process.master, settings.process.die_on_term), (2, false, Some(true)));
    assert_eq!(settings.sockets[0].address, "127.0.0.1:3031");
    assert_eq!(settings.socket_options.chmod, Some(0o660));
    assert!(!settings.socket_options.defer_accept);
    assert_eq!((settings.log.logto, settings.log.date), (None, Some(String::new())));
    assert_eq!((settings.process.env, settings.process.unenv), (vec!["A=b=c d".to_owned()], vec!["GONE".to_owned()]));
    assert_eq!((settings.request.buffer_size, settings.process.cheaper, settings.process.lazy_apps), (Some(65535), None, true));
    assert_eq!(settings.process.procname_prefix.as_deref(), Some("shop "));
    assert_eq!((settings.hooks[0].phase.as_str(), settings.hooks[0].kind.as_str()), ("as-root", "hook"));
}

#[test]
fn kinds_tell_how_the_command_line_reads_them() {
    for (name, kind) in [
        ("master", Kind::Flag),
        ("need-app", Kind::OptionalFlag),
        ("memory-report", Kind::OptionalFlag),
        ("chmod-socket", Kind::OptionalText),
        ("endif", Kind::OptionalText),
        ("help", Kind::Flag),
        ("limit-as", Kind::Megabytes),
        ("ini", Kind::Text),
    ] {
        assert_eq!(lookup(name).expect(name).kind, kind, "{name}");
    }
}

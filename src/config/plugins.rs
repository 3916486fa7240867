//! `plugin` lines: every distribution's files have them, and everything that is here is built in.

/// What a plugin's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugin {
    BuiltIn,
    /// A Python, perhaps of a version: `3`, `3.11`.
    Python(Option<String>),
    Unknown,
}

/// uWSGI's plugins whose work is done here, or whose options the table reports one by one.
const BUILT_IN: &[&str] = &[
    "alarm_curl",
    "cache",
    "carbon",
    "cheaper_backlog2",
    "cheaper_busyness",
    "corerouter",
    "cron",
    "dummy",
    "echo",
    "emperor",
    "fastrouter",
    "gevent",
    "greenlet",
    "http",
    "logfile",
    "logpipe",
    "logsocket",
    "lua",
    "lua51",
    "luajit",
    "nagios",
    "notfound",
    "ping",
    "rawrouter",
    "router_access",
    "router_basicauth",
    "router_cache",
    "router_expires",
    "router_hash",
    "router_http",
    "router_memcached",
    "router_metrics",
    "router_radius",
    "router_redirect",
    "router_redis",
    "router_rewrite",
    "router_spnego",
    "router_static",
    "router_uwsgi",
    "router_xmldir",
    "rpc",
    "rsyslog",
    "signal",
    "spooler",
    "sslrouter",
    "stats",
    "stats_pusher_file",
    "stats_pusher_socket",
    "stats_pusher_statsd",
    "symcall",
    "syslog",
    "transformation_chunked",
    "transformation_gzip",
    "transformation_offload",
    "transformation_template",
    "transformation_tofile",
    "transformation_toupper",
    "ugreen",
    "zergpool",
];

/// The plugins of one `plugins = a, b` value.
pub fn split(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// A name in any spelling: `python3`, `0:python3`, `/usr/lib/uwsgi/plugins/python311_plugin.so`, `python3.9`.
pub fn identify(name: &str) -> Plugin {
    let name = name.split_once(':').filter(|(modifier, _)| modifier.bytes().all(|b| b.is_ascii_digit())).map_or(name, |(_, name)| name);
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix(".so").unwrap_or(name);
    let name = name.strip_suffix("_plugin").unwrap_or(name);
    if let Some(version) = name.strip_prefix("python").or_else(|| name.strip_prefix("py")) {
        return python(version);
    }
    if BUILT_IN.contains(&name.replace('-', "_").as_str()) { Plugin::BuiltIn } else { Plugin::Unknown }
}

/// `` , `3`, `36`, `311`, `3.11`.
fn python(version: &str) -> Plugin {
    let version = version.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let digits = version.replace('.', "");
    if digits.is_empty() && version.is_empty() {
        return Plugin::Python(None);
    }
    match digits.strip_prefix('3') {
        Some("") => Plugin::Python(Some("3".into())),
        Some(minor) if minor.len() <= 2 && minor.bytes().all(|b| b.is_ascii_digit()) => Plugin::Python(Some(format!("3.{minor}"))),
        _ => Plugin::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_python_is_understood() {
        for name in ["python", "0:python", "python_plugin.so", "/usr/lib/uwsgi/plugins/python_plugin.so"] {
            assert_eq!(identify(name), Plugin::Python(None), "{name}");
        }
        for (name, version) in [
            ("python3", "3"),
            ("0:python3", "3"),
            ("python36", "3.6"),
            ("python311", "3.11"),
            ("python3.9", "3.9"),
            ("/x/python39_plugin.so", "3.9"),
        ] {
            assert_eq!(identify(name), Plugin::Python(Some(version.into())), "{name}");
        }
        for name in ["python2", "python27", "pythonx.y", "php", "psgi", "sentry", "python3a.", "rack"] {
            assert_eq!(identify(name), Plugin::Unknown, "{name}");
        }
        for name in ["http", "logfile", "router_static", "gevent", "0:http", "lua", "6:luajit", "lua51_plugin.so"] {
            assert_eq!(identify(name), Plugin::BuiltIn, "{name}");
        }
        assert_eq!(split(" python3 , http,,").collect::<Vec<_>>(), ["python3", "http"]);
    }
}

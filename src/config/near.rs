//! The option that somebody probably meant.

use super::table;

/// What people write who come from other programs, or who mistype in a way that no distance tells.
const KNOWN_MISTAKES: &[(&str, &str)] =
    &[("guid", "gid"), ("user", "uid"), ("group", "gid"), ("chown", "chown-socket"), ("procname-prefix-spiders", "procname-prefix-spaced")];

/// More options than this that begin with a key mean that it is just a common word.
const FEW: usize = 3;

/// The option whose name is near; `None` for what is probably a variable.
pub fn nearest(key: &str) -> Option<&'static str> {
    let plain = key.to_ascii_lowercase().replace('_', "-");
    if let Some((_, meant)) = KNOWN_MISTAKES.iter().find(|(mistake, _)| *mistake == plain) {
        return Some(meant);
    }
    if let Some(spec) = table::lookup(&plain) {
        return Some(spec.name);
    }
    // `static-map /static = x`: the `=` was forgotten.
    if let Some(spec) = key.split_once([' ', '\t', ':']).and_then(|(first, _)| table::lookup(first)) {
        return Some(spec.name);
    }
    let most = tolerated(key);
    mistyped(&plain, most.min(2)).or_else(|| unfinished(&plain)).or_else(|| overdone(key)).or_else(|| mistyped(&plain, most))
}

/// How many letters may differ. Names with underscores are variables more often than not.
fn tolerated(key: &str) -> usize {
    let most: usize = match key.len() {
        0..4 => 0,
        4..8 => 1,
        8..13 => 2,
        _ => 3,
    };
    if key.contains('_') { most.saturating_sub(1) } else { most }
}

fn mistyped(key: &str, tolerated: usize) -> Option<&'static str> {
    let distance = |name: &&'static str| strsim::damerau_levenshtein(key, name);
    table::names()
        .filter(|name| name.len().abs_diff(key.len()) <= tolerated)
        .min_by_key(distance)
        .filter(|name| distance(name) <= tolerated)
}

/// `exec-pre`, `threaded-log`, `process`.
fn unfinished(key: &str) -> Option<&'static str> {
    let mut found = table::names().filter(|name| name.starts_with(key));
    let first = found.next().filter(|_| key.len() >= 5)?;
    (found.count() < FEW).then_some(first)
}

/// `strict-mode`, `pidfile-chmod`.
fn overdone(key: &str) -> Option<&'static str> {
    let (base, _) = key.rsplit_once('-').filter(|(base, _)| base.len() >= 5 && !key.contains('_'))?;
    table::lookup(base).map(|spec| spec.name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn mistakes_of_real_files_are_understood() {
        for (key, meant) in [
            ("guid", "gid"),
            ("procfesses", "processes"),
            ("procesess", "processes"),
            ("enabled-threads", "enable-threads"),
            ("py-callos-afterfork", "py-call-osafterfork"),
            ("chmod-sock", "chmod-socket"),
            ("chown", "chown-socket"),
            ("process", "processes"),
            ("strict-mode", "strict"),
            ("threaded-log", "threaded-logger"),
            ("procname-prefix-spiders", "procname-prefix-spaced"),
            ("pidfile-chmod", "pidfile"),
            ("static-map /static", "static-map"),
            ("http_socket", "http-socket"),
            ("MASTER", "master"),
            ("harakri", "harakiri"),
            ("max-request", "max-requests"),
        ] {
            assert_eq!(nearest(key), Some(meant), "{key}");
        }
        assert!(nearest("exec-pre").is_some_and(|name| name.starts_with("exec-pre-")));
    }

    #[test]
    fn own_variables_are_left_alone() {
        for key in [
            "base",
            "project",
            "vassal_name",
            "base_dir",
            "name",
            "projectname",
            "username",
            "api_ca_file",
            "app",
            "bin_name",
            "homedir",
            "lib",
            "project_root",
            "projecthome",
            "www",
            "reponame",
            "workonhome",
            "public_ip",
            "vassal-name",
            "domain",
            "site",
            "path",
            "app_dir",
            "x",
            "venv_dir",
            "RuntimeDirectory",
            "",
        ] {
            assert_eq!(nearest(key), None, "{key}");
        }
    }
}

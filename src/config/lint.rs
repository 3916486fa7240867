//! What a value says that its writer hardly meant. Warnings only; nearly always what uWSGI does with it is done all the same.

use super::table::{Kind, Section, Spec, Status};
use super::{Entry, Origin, values};

/// What is odd about this value of this option; without the origin.
pub fn value(spec: &Spec, section: Section, entry: &Entry) -> Vec<String> {
    let Some(value) = entry.value.as_deref() else { return vec![] };
    if matches!(spec.status, Status::Immediate) {
        return vec![];
    }
    let key = &entry.key;
    let mut said = Vec::new();
    let bare = values::without_comment(value);
    if spec.kind.is_flag() {
        said.extend(flag(key, value, bare));
    } else if spec.kind.is_number() {
        said.extend(number(key, value, bare));
    } else {
        said.extend(text(spec, section, entry, value, bare));
    }
    said
}

fn flag(key: &str, value: &str, bare: &str) -> Option<String> {
    if bare != value {
        let uwsgi = if values::is_false(bare) { "; uWSGI takes the whole for true" } else { "" };
        return Some(format!(
            "`{key} = {value}`: the comment is left out, as if it were `{bare}`{uwsgi}; put comments on lines of their own"
        ));
    }
    let known = bare.is_empty() || values::is_false(bare) || values::is_true(bare) || bare.bytes().all(|b| b.is_ascii_digit());
    (!known).then(|| format!("`{key}` is a flag: `{value}` does nothing but switch it on; write true or false"))
}

fn number(key: &str, value: &str, bare: &str) -> Option<String> {
    if bare.is_empty() || values::is_true(bare) {
        return Some(format!("`{key} = {value}` is 0, as in uWSGI; write a number"));
    }
    if bare != value {
        return Some(format!("`{key} = {value}`: the comment is left out; put comments on lines of their own"));
    }
    let digits = bare.trim_start_matches(['+', '-']);
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() < digits.len() && !rest.is_empty() {
        return Some(format!("`{key} = {value}`: `{rest}` is ignored, there are no units and no sums here"));
    }
    let size: u64 = bare.parse().ok()?;
    (key == "buffer-size" && size > 65535).then(|| format!("`{key} = {value}` is cut to 65535, the most that the protocol has"))
}

fn text(spec: &Spec, section: Section, entry: &Entry, value: &str, bare: &str) -> Vec<String> {
    let key = &entry.key;
    let mut said = Vec::new();
    if section == Section::Sockets && is_address(spec) {
        said.extend(address(key, bare));
    } else if bare != value && (spec.kind == Kind::Octal || spec.name == "chmod-socket") {
        said.push(format!("`{key} = {value}`: the comment is left out (uWSGI refuses such a mode); put comments on lines of their own"));
    } else if bare != value && in_file(&entry.origin) && !holds_commands(spec, section) {
        let comment = value[bare.len()..].trim_start();
        said.push(format!("`{key} = {value}`: `{comment}` is part of the value, as in uWSGI; put comments on lines of their own"));
    }
    if !holds_commands(spec, section) {
        said.extend(undefined(value).map(|name| {
            format!("`{key}`: nothing here defines %({name}), which stays as it is; write `{name} = ...` above, or let the emperor's vassal-set do it")
        }));
    }
    if value.len() > 1 && ["\"", "'"].iter().any(|quote| value.starts_with(quote) && value.ends_with(quote)) {
        said.push(format!("`{key} = {value}`: the quotes are part of the value; leave them out"));
    }
    if value.is_empty() && !matches!(spec.kind, Kind::OptionalText) {
        said.push(format!("`{key}` has no value and is left out"));
    }
    if matches!(spec.name, "daemonize" | "logto") && values::is_true(value) {
        said.push(format!("`{key} = {value}` logs into a file of the name `{value}`; write the path of the log"));
    }
    said
}

/// Names of placeholders that are still there when all is expanded.
fn undefined(value: &str) -> impl Iterator<Item = &str> {
    value.split("%(").skip(1).filter_map(|rest| rest.split_once(')').map(|(name, _)| name)).filter(|name| !name.is_empty())
}

fn is_address(spec: &Spec) -> bool {
    spec.list && (spec.name == "socket" || spec.name.ends_with("-socket"))
}

fn address(key: &str, address: &str) -> Option<String> {
    if !address.is_empty() && address.bytes().all(|b| b.is_ascii_digit()) {
        return Some(format!(
            "`{key} = {address}` is a unix socket of that name; for the port write `{key} = :{address}` or `127.0.0.1:{address}`"
        ));
    }
    let path = address.strip_prefix("unix:")?;
    Some(format!("`{key} = {address}` is taken for the path (uWSGI listens at some TCP port instead); write `{key} = {path}`"))
}

/// Where a `;` or `#` may well be meant.
fn holds_commands(spec: &Spec, section: Section) -> bool {
    matches!(section, Section::Hooks | Section::Routing | Section::Background | Section::Stats | Section::Config)
        || matches!(
            spec.name,
            "env" | "ienv" | "eval" | "pyargv" | "log-format" | "vassals-start-hook" | "vassals-stop-hook" | "touch-exec" | "add-header"
        )
        || spec.name.starts_with("log-")
        || spec.name.ends_with("logger")
}

fn in_file(origin: &Origin) -> bool {
    match origin {
        Origin::File { .. } => true,
        Origin::Derived { from } => in_file(from),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;

    fn said(key: &str, value: &str) -> String {
        let entry = Entry { key: key.into(), value: Some(value.into()), origin: Origin::File { path: "a.ini".into(), line: 1 } };
        let section = table::section(key).expect(key);
        super::value(&table::lookup(key).expect(key), section, &entry).join("\n")
    }

    #[test]
    fn traps_are_named() {
        for (key, value, part) in [
            ("master", "false ; x", "uWSGI takes the whole for true"),
            ("vhost", "a.host.name", "is a flag"),
            ("threads", "true", "is 0"),
            ("processes", "2 ; two", "comment is left out"),
            ("harakiri", "60s", "`s` is ignored"),
            ("buffer-size", "65536", "cut to 65535"),
            ("module", "app ; x", "`; x` is part of the value"),
            ("socket", "8000", ":8000"),
            ("socket", "unix:x.sock", "`socket = x.sock`"),
            ("chmod-socket", "664 ; nginx", "comment is left out"),
            ("chmod-socket", "664 ; nginx", "uWSGI refuses"),
            ("umask", "022 ; x", "comment is left out"),
            ("callable", "\"app\"", "quotes"),
            ("daemonize", "true", "file of the name"),
            ("chdir", "%(base)/x", "nothing here defines %(base)"),
            ("pidfile", "", "has no value"),
            ("logfile-chown", "www-data", "is a flag"),
        ] {
            assert!(said(key, value).contains(part), "{key} = {value}: {}", said(key, value));
        }
    }

    #[test]
    fn good_values_are_passed_over() {
        for (key, value) in [
            ("master", "True"),
            ("master", "1"),
            ("threads", "4"),
            ("buffer-size", "65535"),
            ("socket", "127.0.0.1:3031 ; main"),
            ("socket", "/run/a.sock"),
            ("env", "A=1 ; 2"),
            ("hook-as-root", "exec:a ; b"),
            ("log-format", "%(uri) # %(status)"),
            ("log-date", ""),
            ("chdir", "/srv/a#b"),
            ("chmod-socket", "660"),
        ] {
            assert_eq!(said(key, value), "", "{key} = {value}");
        }
    }
}

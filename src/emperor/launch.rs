//! The command line and the environment of a vassal.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use imperator_worker::settings::Emperor;

use super::core::Key;
use super::sources::Rules;

/// Programs to try, in this order, each with the same arguments.
pub fn programs(emperor: &Emperor, own: &OsStr) -> Vec<OsString> {
    let usual = emperor.wrapper.as_ref().map_or_else(|| own.to_owned(), OsString::from);
    let (before, after) = (emperor.wrapper_override.iter().map(OsString::from), emperor.wrapper_fallback.iter().map(OsString::from));
    before.chain([usual]).chain(after).collect()
}

/// Where a vassal's configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// In the file of its name.
    File,
    /// It is the output of this file.
    Output(PathBuf),
    /// It is sent.
    Sent,
}

impl Text {
    pub fn of(is_sent: bool, executable: Option<PathBuf>) -> Self {
        if is_sent { Self::Sent } else { executable.map_or(Self::File, Self::Output) }
    }
}

/// The arguments after the program's name, in uWSGI's order.
pub fn arguments(emperor: &Emperor, rules: &Rules, key: &Key, text: &Text) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut all = |option: &str, values: &[String]| args.extend(values.iter().flat_map(|v| [OsString::from(option), OsString::from(v)]));
    all("--inherit", &emperor.inherit_before);
    all("--include", &emperor.include_before);
    all("--set", &emperor.vassal_set);
    // A name without an ending tells no format; a text that is sent is an ini text then.
    let unknown = if *text == Text::Sent { "--ini" } else { "--config" };
    args.push(rules.loader(&key.id).unwrap_or(unknown).into());
    args.push(match text {
        Text::File => key.to_string().into(),
        Text::Output(path) => exec_url(path),
        Text::Sent => format!("emperor://{key}").into(),
    });
    let mut all = |option: &str, values: &[String]| args.extend(values.iter().flat_map(|v| [OsString::from(option), OsString::from(v)]));
    all("--inherit", &emperor.inherit);
    all("--include", &emperor.include);
    args
}

/// `exec://` hands its rest to a shell, so that a path with anything unusual in it has to be quoted.
fn exec_url(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let plain = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-+,@".contains(b));
    let mut url = b"exec://".to_vec();
    if plain {
        url.extend_from_slice(bytes);
    } else {
        url.push(b'\'');
        url.extend(bytes.iter().flat_map(|b| if *b == b'\'' { b"'\\''".to_vec() } else { vec![*b] }));
        url.push(b'\'');
    }
    OsString::from_vec(url)
}

/// The environment of a vassal: the emperor's own, where `UWSGI_VASSAL_X` has become `UWSGI_X`. What the emperor itself was configured with
/// (`UWSGI_EMPEROR...`) is left out, or every vassal would be an emperor over the same directory.
pub fn environment(own: impl Iterator<Item = (OsString, OsString)>, (pipe, asked): (i32, i32), zerg: u32) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    let mut passed = Vec::new();
    for (name, value) in own {
        let bytes = name.as_bytes();
        if let Some(rest) = bytes.strip_prefix(b"UWSGI_VASSAL_") {
            passed.push((OsString::from_vec([b"UWSGI_", rest].concat()), value));
        } else if !is_ours(bytes) && !bytes.starts_with(b"UWSGI_EMPEROR") && bytes != b"UWSGI_BROODLORD_NUM" {
            env.push((name, value));
        }
    }
    env.retain(|(name, _)| passed.iter().all(|(p, _)| p != name));
    env.append(&mut passed);
    env.push(("UWSGI_EMPEROR_FD".into(), pipe.to_string().into()));
    env.push((crate::ask::FD_ENV.into(), asked.to_string().into()));
    if zerg > 0 {
        env.push(("UWSGI_BROODLORD_NUM".into(), zerg.to_string().into()));
    }
    env
}

/// What the emperor was told by whoever started it, and by its reloads.
fn is_ours(name: &[u8]) -> bool {
    name == b"UWSGI_RELOADS" || name == crate::ask::FD_ENV.as_bytes() || crate::systemd::VARIABLES.iter().any(|own| own.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emperor() -> Emperor {
        let list = |v: &str| vec![v.to_owned()];
        Emperor {
            inherit_before: list("/inhb"),
            include_before: list("/incb"),
            vassal_set: list("a=1"),
            inherit: list("/inh"),
            include: list("/inc"),
            ..Emperor::default()
        }
    }

    #[test]
    fn arguments_are_in_uwsgis_order() {
        let args = arguments(&emperor(), &Rules::default(), &Key::vassal("x.ini"), &Text::File);
        let expected =
            ["--inherit", "/inhb", "--include", "/incb", "--set", "a=1", "--ini", "x.ini", "--inherit", "/inh", "--include", "/inc"];
        assert_eq!(args, expected.map(OsString::from));
    }

    #[test]
    fn a_zerg_names_its_section_and_an_executable_its_path() {
        let plain = Emperor::default();
        let zerg = Key { id: "x.ini".into(), zerg: 2 };
        assert_eq!(arguments(&plain, &Rules::default(), &zerg, &Text::File), ["--ini", "x.ini:zerg"]);
        let args = arguments(&plain, &Rules::default(), &Key::vassal("g.ini"), &Text::Output("/v/g.ini".into()));
        assert_eq!(args, ["--ini", "exec:///v/g.ini"]);
        let odd = arguments(&plain, &Rules::default(), &Key::vassal("g.ini"), &Text::Output("/v/a';b.ini".into()));
        assert_eq!(arguments(&plain, &Rules::default(), &Key::vassal("shop"), &Text::Sent), ["--ini", "emperor://shop"]);
        assert_eq!(odd[1], OsString::from("exec://'/v/a'\\'';b.ini'"));
    }

    #[test]
    fn wrappers_are_tried_in_order() {
        let e = Emperor { wrapper_override: vec!["/o".into()], wrapper_fallback: vec!["/f".into()], ..Emperor::default() };
        assert_eq!(programs(&e, OsStr::new("/bin/imperator")), ["/o", "/bin/imperator", "/f"]);
        let e = Emperor { wrapper: Some("/w".into()), ..e };
        assert_eq!(programs(&e, OsStr::new("/bin/imperator")), ["/o", "/w", "/f"]);
    }

    #[test]
    fn the_environment_is_the_emperors_with_the_vassals_options() {
        let own = [
            ("PATH", "/bin"),
            ("UWSGI_VASSAL_PROCESSES", "3"),
            ("UWSGI_PROCESSES", "9"),
            ("UWSGI_EMPEROR", "/v"),
            ("UWSGI_EMPEROR_FD", "4"),
            ("UWSGI_RELOADS", "1"),
            ("NOTIFY_SOCKET", "/n"),
            ("UWSGI_PROTOCOL", "http"),
        ];
        let env = environment(own.into_iter().map(|(k, v)| (k.into(), v.into())), (7, 8), 1);
        let expected = [
            ("PATH", "/bin"),
            ("UWSGI_PROTOCOL", "http"),
            ("UWSGI_PROCESSES", "3"),
            ("UWSGI_EMPEROR_FD", "7"),
            ("IMPERATOR_EMPEROR_ASK_FD", "8"),
            ("UWSGI_BROODLORD_NUM", "1"),
        ];
        assert_eq!(env, expected.map(|(k, v)| (OsString::from(k), OsString::from(v))));
    }
}

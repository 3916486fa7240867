//! What holds for any input.

use proptest::prelude::*;

use super::testing::{Place, SomeOptions, context};
use super::{arithmetic, ini, json, xml, yaml};

/// Text of the kind that configurations are made of.
fn plausible() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[uwsgi]\n"),
        Just("[other]\n"),
        Just("a = "),
        Just("b = "),
        Just("%(a)"),
        Just("%(b + 1)"),
        Just("%("),
        Just(")"),
        Just("$(HOME)"),
        Just("$(NOPE)"),
        Just("%n"),
        Just("%%"),
        Just("%"),
        Just("for = 1 2\n"),
        Just("endfor\n"),
        Just("if-env = HOME\n"),
        Just("endif =\n"),
        Just("set = c=%(a)\n"),
        Just("set-ph = d"),
        Just("declare-option = e=a=$1;b=$2\n"),
        Just("e = 1 2\n"),
        Just("ini = :other\n"),
        Just("include = x.ini\n"),
        Just("strict\n"),
        Just("exit = 3\n"),
        Just("blacklist = a\n"),
        Just("@(x.ini)"),
        Just("\n"),
        Just("\r\n"),
        Just("; "),
        Just("é"),
        Just("\0"),
        Just("="),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The subset of ini on which rust-ini and uWSGI mean the same: no quotes, escapes, comments behind values or lines without `=`.
fn common_ini() -> impl Strategy<Value = String> {
    let key = "[a-z][a-z0-9-]{0,12}";
    let value = "[a-zA-Z0-9/.:@ ,+*-]{0,16}";
    let line = prop_oneof![
        6 => (key, "[ \t]{0,2}", value).prop_map(|(key, blank, value)| format!("{key}{blank}={blank}{value}\n")),
        1 => "[a-z ]{0,10}".prop_map(|text| format!("; {text}\n")),
        1 => "[a-z ]{0,10}".prop_map(|text| format!("# {text}\n")),
        1 => Just("\n".to_owned()),
        1 => prop_oneof![Just("[uwsgi]\n".to_owned()), Just("[other]\n".to_owned())],
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| format!("[uwsgi]\n{}", lines.concat()))
}

fn of_rust_ini(text: &str) -> Vec<(String, String)> {
    let read = ::ini::Ini::load_from_str(text).expect("rust-ini reads it");
    read.section_all(Some("uwsgi"))
        .flat_map(|section| section.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ini_is_what_rust_ini_says_where_both_mean_the_same(text in common_ini()) {
        let ours = ini::parse(&text, "uwsgi");
        let mut pairs: Vec<_> = ours.pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect();
        let mut theirs = of_rust_ini(&text);
        // rust-ini keeps the order of a key's values, but not that of all keys
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        theirs.sort_by(|one, other| one.0.cmp(&other.0));
        prop_assert_eq!(pairs, theirs);
    }

    #[test]
    fn no_bytes_upset_a_parser(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = ini::parse(&text, "uwsgi");
        let _ = yaml::parse(&text, "uwsgi");
        let _ = xml::parse(&text, None);
        let _ = json::parse(&text, "uwsgi");
        let _ = arithmetic::evaluate(&text, |name| Some(name.to_owned()));
    }

    #[test]
    fn no_text_upsets_a_parser(text in "(uwsgi:\n|  |a: |- |\\[|\\]|\\{|\\}|&x |\\*x|\n|\"|'|<uwsgi>|</uwsgi>|<a/>|&lt;|\\{\"uwsgi\":|1|,|\\||#|!!str |\\? ){0,40}") {
        let _ = yaml::parse(&text, "uwsgi");
        let _ = xml::parse(&text, None);
        let _ = json::parse(&text, "uwsgi");
    }

    #[test]
    fn no_file_upsets_the_reader_and_errors_say_where(text in plausible()) {
        let place = Place::new(&[("x.ini", &text)]).with_env(&[("HOME", "/root")]);
        if let Err(error) = place.read(&["x.ini"]) {
            let said = error.to_string();
            prop_assert!(said.starts_with("x.ini") || said.starts_with("command line"), "{}", said);
        }
    }

    #[test]
    fn no_bytes_in_a_file_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let place = Place::new(&[]);
        place.write("x.ini", &[b"[uwsgi]\n", bytes.as_slice()].concat());
        let _ = place.read(&["x.ini"]);
    }

    #[test]
    fn no_command_line_upsets_the_reader(args in prop::collection::vec("(-|--)?(s|p|M|C|Z|proc|master|set|endif|if-env|x|=|a=1| |é){0,3}", 0..8)) {
        let context = context();
        let _ = super::read(&args, &[], &context);
    }

    #[test]
    fn a_value_without_placeholders_is_read_as_it_was_written(pairs in prop::collection::vec(("[A-Za-z_]{3,8}", "[a-zA-Z0-9/+$@;#=\"'\\\\]{0,12}"), 0..12)) {
        let own = |key: &str| super::Options::argument(&SomeOptions, key).is_some() || super::list::own_argument(key).is_some();
        prop_assume!(!pairs.iter().any(|(key, _)| own(key)));
        let body: String = pairs.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let place = Place::new(&[("x.ini", &format!("[uwsgi]\n{body}"))]);
        let reading = place.read(&["x.ini"]).expect("reads");
        let read: Vec<_> = reading.entries.into_iter().map(|entry| (entry.key, entry.value.unwrap_or_default())).collect();
        prop_assert_eq!(read, pairs);
    }
}

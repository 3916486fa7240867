//! uWSGI's ini dialect.

use super::{Pair, Parsed};

/// Reads the lines of `section`; other sections are passed over without a look. There is no error: every line means something.
pub fn parse(text: &str, section: &str) -> Parsed {
    let mut ini = Parsed::default();
    let mut inside = false;
    for (line, number) in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').zip(1_u32..) {
        let line = strip(line);
        match line.chars().next() {
            None | Some(';' | '#') => {}
            Some('[') => {
                inside = header(line) == section;
                ini.found |= inside;
            }
            Some(_) if inside => take_line(line, number, &mut ini),
            Some(_) => {}
        }
    }
    ini
}

fn take_line(line: &str, number: u32, ini: &mut Parsed) {
    // uWSGI reads C strings
    let line = line.split_once('\0').map_or(line, |(before, _)| {
        ini.notes.push((number, "everything from the NUL byte on is ignored".into()));
        before
    });
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    ini.pairs.push(Pair::new(strip(key), strip(value), number));
}

/// The name in `[name]`. The last character is dropped whatever it is, as in uWSGI, but a comment behind the bracket is none of the name.
fn header(line: &str) -> &str {
    let name = &line[1..];
    if let Some((name, rest)) = name.split_once(']') {
        if strip(rest).starts_with([';', '#']) {
            return name;
        }
    }
    let mut characters = name.chars();
    characters.next_back();
    characters.as_str()
}

/// Without the blanks that count as such: no vertical tabs, no Unicode.
fn strip(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, section: &str) -> Vec<(String, String, u32)> {
        parse(text, section).pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default(), pair.line)).collect()
    }

    fn uwsgi(text: &str) -> Vec<(String, String)> {
        pairs(&format!("[uwsgi]\n{text}"), "uwsgi").into_iter().map(|(key, value, _)| (key, value)).collect()
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn a_line_is_split_at_its_first_equals_sign_and_stripped() {
        for (line, key, value) in [
            ("a = 1", "a", "1"),
            ("a=1", "a", "1"),
            ("\t a\t=\t1 \t\r", "a", "1"),
            (" = empty", "", "empty"),
            ("=", "", ""),
            (" b = = ", "b", "="),
            ("c =1=2", "c", "1=2"),
            ("master", "master", ""),
            ("\"d\" = \"3\"", "\"d\"", "\"3\""),
            ("a;b = 3 ; note", "a;b", "3 ; note"),
            ("é = ü", "é", "ü"),
            ("\x0c v = 1\x0c", "\x0c v", "1\x0c"),
            ("z = 1\\", "z", "1\\"),
        ] {
            assert_eq!(uwsgi(line), [(key.to_owned(), value.to_owned())], "{line:?}");
        }
    }

    #[test]
    fn comments_and_empty_lines_are_nothing() {
        assert!(uwsgi("; a = 1\n# a = 1\n\n   \t\n  ; x\n\t# y\n\r\n;").is_empty());
    }

    #[test]
    fn crlf_a_byte_order_mark_and_a_missing_last_newline_are_fine() {
        assert_eq!(
            pairs("\u{feff}[uwsgi]\r\nmaster\r\na = 1", "uwsgi"),
            [("master".into(), String::new(), 2), ("a".into(), "1".into(), 3)]
        );
    }

    #[test]
    fn only_the_section_asked_for_is_read_and_its_parts_add_up() {
        let text = "lost = 0\n[other]\na = no\nnonsense here\n[uwsgi]\na = 1\n[x]\nb = no\n[uwsgi]\nc = 2\n";
        assert_eq!(pairs(text, "uwsgi"), [("a".into(), "1".into(), 6), ("c".into(), "2".into(), 10)]);
        assert_eq!(pairs(text, "x"), [("b".into(), "no".into(), 8)]);
        assert!(parse(text, "uwsgi").found);
        assert!(!parse(text, "Uwsgi").found && !parse("", "uwsgi").found);
    }

    #[test]
    fn headers() {
        for (line, name) in [
            ("[uwsgi]", "uwsgi"),
            ("[uwsgi] ; note", "uwsgi"),
            ("[uwsgi]# note]", "uwsgi"),
            ("[ uwsgi ]", " uwsgi "),
            ("[uwsgi]x", "uwsgi]"),
            ("[uwsgi", "uwsg"),
            ("[]", ""),
            ("[", ""),
            ("[é", ""),
        ] {
            assert_eq!(header(line), name, "{line}");
        }
    }

    #[test]
    fn a_nul_byte_ends_the_line_and_is_told() {
        let ini = parse("[uwsgi]\na = 1\0b\nc = 2\n", "uwsgi");
        assert_eq!(ini.pairs.iter().map(|pair| pair.value.as_deref().unwrap_or("-")).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(ini.notes.len(), 1);
        assert_eq!(ini.notes[0].0, 2);
    }
}

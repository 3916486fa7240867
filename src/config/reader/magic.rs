//! Magic letters: `%p`, `%n`, `%k` ... in the text of a configuration file.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Context;

/// What the letters that tell of a file say. [`Default`] is a source that is no file: all of them vanish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileFacts {
    /// Absolute, as given: neither `..` nor symlinks are resolved.
    path: Option<PathBuf>,
    /// As the user wrote it, without the section.
    argument: String,
    section: String,
    inode: Option<u64>,
}

impl FileFacts {
    /// The facts of the file `argument` (relative to `cwd`), of which `section` was asked for.
    pub fn of_file(argument: &str, section: &str, cwd: &Path) -> Self {
        let path = cwd.join(argument);
        let inode = std::fs::metadata(&path).ok().map(|metadata| metadata.ino());
        Self { path: Some(path), argument: argument.to_owned(), section: section.to_owned(), inode }
    }

    /// What one of the letters p, d, s, n, e, c, x, o, i, j or a digit stands for.
    fn letter(&self, letter: char) -> Cow<'_, str> {
        match letter {
            'x' => return Cow::Borrowed(&self.section),
            'o' => return Cow::Borrowed(&self.argument),
            'i' => return self.inode.map(|inode| inode.to_string()).unwrap_or_default().into(),
            _ => {}
        }
        let Some(path) = &self.path else { return Cow::Borrowed("") };
        let text = path.to_string_lossy();
        let (directory, name) = text.rsplit_once('/').unwrap_or(("", &text));
        match letter {
            'p' => text,
            'd' => format!("{directory}/").into(),
            's' => name.to_owned().into(),
            'n' => name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned().into(),
            'e' => name.rsplit_once('.').map_or("", |(_, extension)| extension).to_owned().into(),
            'c' => directory.rsplit_once('/').map_or(directory, |(_, last)| last).to_owned().into(),
            'j' => djb33x(path.as_os_str().as_bytes()).to_le_bytes().map(|byte| format!("{byte:02X}")).concat().into(),
            digit => component(directory, digit).to_owned().into(),
        }
    }
}

/// `%0` is the first component of an absolute directory.
fn component(directory: &str, digit: char) -> &str {
    let index = digit.to_digit(10).unwrap_or(0) as usize;
    directory.trim_start_matches('/').split('/').nth(index).unwrap_or("")
}

/// Bernstein's hash with exclusive or, of 32 bits; uWSGI prints its bytes as they lie in memory.
fn djb33x(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(*byte))
}

/// Replaces the letters in the text of `file`; `first` is the first file that was loaded. `%(` stays, a letter without a meaning vanishes with its `%`.
///
/// A `%` at the end of a line vanishes alone; uWSGI takes the line break with it, which joins the next line to this one.
pub fn replace(text: &str, file: &FileFacts, first: &FileFacts, context: &Context) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let mut following = rest[at + 1..].chars();
        match following.next() {
            Some('(') => out.push_str("%("),
            Some(letter) if letter != '%' && is_for_vassals(&out) => out.extend(['%', letter]),
            Some('\n' | '\r') => {
                rest = &rest[at + 1..];
                continue;
            }
            Some(letter) => out.push_str(&meaning(letter, file, first, context)),
            None => {}
        }
        rest = following.as_str();
    }
    out.push_str(rest);
    out
}

/// `vassal-log = DIR/%n.log`: the letters are each vassal's, and its emperor fills them in.
fn is_for_vassals(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or_default().trim_start();
    ["vassal-log", "vassals-log"].iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
}

fn meaning<'a>(letter: char, file: &'a FileFacts, first: &'a FileFacts, context: &'a Context) -> Cow<'a, str> {
    match letter {
        '%' => "%".into(),
        '[' => "\x1b".into(),
        'v' => context.cwd.to_string_lossy(),
        'h' => Cow::Borrowed(&context.hostname),
        'k' => context.cpus.to_string().into(),
        'u' => context.user.id.to_string().into(),
        'U' => Cow::Borrowed(&context.user.name),
        'g' => context.group.id.to_string().into(),
        'G' => Cow::Borrowed(&context.group.name),
        't' => context.now.as_secs().to_string().into(),
        'T' => context.now.as_micros().to_string().into(),
        'V' => Cow::Borrowed(&context.version),
        'b' => context.binary.to_string_lossy(),
        'p' | 'd' | 's' | 'n' | 'e' | 'c' | 'x' | 'o' | 'i' | 'j' | '0'..='9' => file.letter(letter),
        'P' | 'D' | 'S' | 'N' | 'E' | 'C' | 'X' | 'O' | 'I' | 'J' => first.letter(letter.to_ascii_lowercase()),
        _ => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::context;
    use super::*;

    fn replaced(text: &str, argument: &str) -> String {
        let context = context();
        let file = FileFacts::of_file(argument, "sec", Path::new("/tmp/rd/t"));
        let first = FileFacts::of_file("first.ini", "", Path::new("/tmp"));
        replace(text, &file, &first, &context)
    }

    /// Run on uWSGI 2.0.31, except the ones that depend on the machine.
    #[test]
    fn every_letter_means_what_it_does_in_uwsgi() {
        for (text, expected) in [
            ("%p", "/tmp/rd/t/sub/my.app.ini"),
            ("%d", "/tmp/rd/t/sub/"),
            ("%s", "my.app.ini"),
            ("%n", "my.app"),
            ("%e", "ini"),
            ("%c", "sub"),
            ("%x", "sec"),
            ("%o", "sub/my.app.ini"),
            ("%0-%1-%2-%3-%4-%9", "tmp-rd-t-sub--"),
            ("%P %N %S %D %E %C %X %O", "/tmp/first.ini first first.ini /tmp/ ini tmp  first.ini"),
            ("%v", "/work"),
            ("%h", "box"),
            ("%k", "8"),
            ("%u %U %g %G", "1000 user 1001 group"),
            ("%t %T", "1700000000 1700000000123456"),
            ("%V %b", "9.8.7 /usr/bin/imperator"),
            ("%[31m", "\x1b31m"),
            ("100%% sure", "100% sure"),
            ("100% sure", "100sure"),
            ("%z%y%(a)", "%(a)"),
            ("%%(a) %%%(a)", "%(a) %%(a)"),
            ("%i", ""),
            ("a%\nb%\r\nc%", "a\nb\r\nc"),
            ("%é.", "."),
        ] {
            assert_eq!(replaced(text, "sub/my.app.ini"), expected, "{text}");
        }
    }

    #[test]
    fn the_hash_is_uwsgis() {
        assert_eq!(replaced("%j", "x.ini"), "D6E4EF75");
        assert_eq!(replaced("%j", "noext"), "260A8D74");
    }

    #[test]
    fn a_path_is_not_normalised_and_may_have_no_extension() {
        assert_eq!(replaced("%p-%c", "./sub/../sub/link.ini"), "/tmp/rd/t/./sub/../sub/link.ini-sub");
        assert_eq!(replaced("%n-%e", "noext"), "noext-");
        assert_eq!(replaced("%p %d %n", "/app.ini"), "/app.ini / app");
    }

    #[test]
    fn what_is_no_file_has_no_letters_of_a_file() {
        let context = context();
        assert_eq!(replace("%p-%d-%n-%i-%j-%o-%x-%0-%N|%k", &FileFacts::default(), &FileFacts::default(), &context), "--------|8");
    }
}

//! A machine and a table for the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Argument, Context, Identity, Options, ReadError, Reading, read};

/// A small option table.
pub struct SomeOptions;

const NAMES: [(&str, Option<char>, Argument); 26] = [
    ("socket", Some('s'), Argument::Required),
    ("processes", Some('p'), Argument::Required),
    ("workers", None, Argument::Required),
    ("threads", None, Argument::Required),
    ("master", Some('M'), Argument::None),
    ("master-fifo", None, Argument::Required),
    ("enable-threads", Some('T'), Argument::None),
    ("chmod-socket", Some('C'), Argument::Optional),
    ("env", None, Argument::Required),
    ("print", None, Argument::Required),
    ("show-config", None, Argument::None),
    ("ini", None, Argument::Required),
    ("xml", Some('x'), Argument::Required),
    ("yaml", Some('y'), Argument::Required),
    ("json", Some('j'), Argument::Required),
    ("include", None, Argument::Required),
    ("inherit", None, Argument::Required),
    ("set", Some('S'), Argument::Required),
    ("set-placeholder", None, Argument::Required),
    ("set-ph", None, Argument::Required),
    ("declare-option", None, Argument::Required),
    ("declare-option2", None, Argument::Required),
    ("for", None, Argument::Required),
    ("if-env", None, Argument::Required),
    ("endif", None, Argument::Optional),
    ("strict", None, Argument::None),
];

impl Options for SomeOptions {
    fn argument(&self, name: &str) -> Option<Argument> {
        NAMES.iter().find(|(known, ..)| *known == name).map(|(.., argument)| *argument)
    }

    fn by_short(&self, letter: char) -> Option<String> {
        NAMES.iter().find(|(_, short, _)| *short == Some(letter)).map(|(name, ..)| (*name).to_owned())
    }

    fn beginning_with(&self, prefix: &str) -> Vec<String> {
        NAMES.iter().map(|(name, ..)| (*name).to_owned()).filter(|name| name.starts_with(prefix)).collect()
    }

    fn same(&self, one: &str, other: &str) -> bool {
        let main = |name| if name == "set-ph" { "set-placeholder" } else { name };
        main(one) == main(other)
    }
}

pub fn context() -> Context {
    Context {
        cwd: PathBuf::from("/work"),
        binary: PathBuf::from("/usr/bin/imperator"),
        hostname: "box".into(),
        cpus: 8,
        user: Identity { id: 1000, name: "user".into() },
        group: Identity { id: 1001, name: "group".into() },
        now: Duration::from_micros(1_700_000_000_123_456),
        reloading: false,
        version: "9.8.7".into(),
        options: Box::new(SomeOptions),
    }
}

/// Files in a directory of their own, which is the working directory.
pub struct Place {
    directory: tempfile::TempDir,
    pub env: Vec<(String, String)>,
}

impl Place {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let place = Self { directory: tempfile::tempdir().expect("directory"), env: Vec::new() };
        for (name, text) in files {
            place.write(name, text.as_bytes());
        }
        place
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, bytes).expect("written");
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn with_env(mut self, env: &[(&str, &str)]) -> Self {
        self.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    pub fn read(&self, args: &[&str]) -> Result<Reading, ReadError> {
        let mut context = context();
        context.cwd = self.path().to_owned();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        read(&args, &self.env, &context)
    }

    /// `key = value` lines, as show-config prints them.
    pub fn shown(&self, args: &[&str]) -> Vec<String> {
        let reading = self.read(args).unwrap_or_else(|error| panic!("{error}"));
        reading.entries.into_iter().map(|entry| format!("{} = {}", entry.key, entry.value.as_deref().unwrap_or("true"))).collect()
    }

    /// The error's text.
    pub fn refused(&self, args: &[&str]) -> String {
        match self.read(args) {
            Ok(reading) => panic!("read: {reading:?}"),
            Err(error) => error.to_string(),
        }
    }

    pub fn warnings(&self, args: &[&str]) -> Vec<String> {
        self.read(args).unwrap_or_else(|error| panic!("{error}")).diagnostics.iter().map(ToString::to_string).collect()
    }
}

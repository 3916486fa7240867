//! Whom a command is about: an instance by its file, or an emperor.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use imperator_worker::settings::Settings;

use super::words::{Ask, Verb};
use crate::cli::check::arguments;
use crate::config::{self, table};

/// Where the units under packaging/ put the emperor's command socket.
pub(super) const EMPEROR: &str = "/run/imperator/emperor.sock";
/// The option that names it.
const COMMAND_SOCKET: &str = "emperor-command-socket";

/// Who answers.
#[derive(Debug)]
pub(super) enum Target {
    Instance(Box<Instance>),
    Emperor(Emperor),
}

/// An emperor's command socket, and the vassal that it is asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Emperor {
    pub address: String,
    /// `None`: all of them.
    pub vassal: Option<String>,
    /// For messages: where the address comes from.
    pub said_by: String,
}

/// What a configuration says of an instance that runs it.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    /// As the user wrote it.
    pub name: String,
    pub settings: Settings,
    command_socket: Option<String>,
    /// Where relative paths of the file may be meant from.
    bases: Vec<PathBuf>,
}

impl Target {
    /// # Errors
    /// A file that cannot be read, or is none of an emperor.
    pub fn choose(ask: &Ask, env: &[(String, String)]) -> Result<Self> {
        let Some(who) = &ask.who else { return Ok(Self::Emperor(Emperor::of(ask, env)?)) };
        if ask.at.is_some() || !is_file(who) {
            ensure!(ask.at.is_some() || !who.contains('/'), "there is no file {who}");
            return Ok(Self::Emperor(Emperor::of(ask, env)?));
        }
        let instance = Instance::read(who, env)?;
        let governs = !instance.settings.emperor.sources.is_empty();
        if governs
            && instance.settings.sockets.is_empty()
            && matches!(ask.verb, Verb::Ps | Verb::Top | Verb::Stats | Verb::Why | Verb::Upgrade)
        {
            return Ok(Self::Emperor(Emperor { vassal: None, ..Emperor::of_file(&instance)? }));
        }
        Ok(Self::Instance(Box::new(instance)))
    }
}

/// Whether this names a file: also `FILE:SECTION`.
fn is_file(word: &str) -> bool {
    Path::new(word).is_file() || word.rsplit_once(':').is_some_and(|(file, _)| Path::new(file).is_file())
}

impl Emperor {
    fn of(ask: &Ask, env: &[(String, String)]) -> Result<Self> {
        let vassal = ask.who.clone();
        match &ask.at {
            Some(file) if is_file(file) => Ok(Self { vassal, ..Self::of_file(&Instance::read(file, env)?)? }),
            Some(address) => Ok(Self { address: address.clone(), vassal, said_by: "--at".into() }),
            None => Ok(Self { address: EMPEROR.into(), vassal, said_by: "the default; --at names another".into() }),
        }
    }

    fn of_file(instance: &Instance) -> Result<Self> {
        let Some(address) = &instance.command_socket else {
            bail!("{} has no `{COMMAND_SOCKET} =` line: add one ({EMPEROR}, say) and start the emperor again", instance.name)
        };
        Ok(Self { address: instance.address(address), vassal: None, said_by: instance.name.clone() })
    }
}

impl Instance {
    /// Reads the file as a start would; that something in it is wrong does not matter to what runs already.
    ///
    /// # Errors
    /// It cannot be read at all.
    pub fn read(name: &str, env: &[(String, String)]) -> Result<Self> {
        let env: Vec<(String, String)> = env.iter().filter(|(key, _)| !key.starts_with("UWSGI_")).cloned().collect();
        let (reading, applied) = config::inspect(&arguments(name), &env).map_err(|e| anyhow!("{e}"))?;
        let is_command_socket = |key: &str| key == COMMAND_SOCKET || table::lookup(key).is_some_and(|spec| spec.name == COMMAND_SOCKET);
        let command_socket = reading.entries.iter().rev().find(|e| is_command_socket(&e.key)).and_then(|e| e.value.clone());
        let bases = bases(name, &applied.settings);
        Ok(Self { name: name.to_owned(), settings: applied.settings, command_socket, bases })
    }

    /// A path of the file as it is from here: beneath `chdir`, here, or beside the file, where it exists.
    pub fn path(&self, path: &str) -> PathBuf {
        let places = self.bases.iter().map(|base| base.join(path));
        places.clone().find(|place| place.exists()).or_else(|| places.clone().next()).unwrap_or_else(|| path.into())
    }

    /// An address of the file for a connection: a path as [`Self::path`], anything else as it stands.
    pub fn address(&self, address: &str) -> String {
        match address.trim() {
            address if address.starts_with('@') || address.contains(':') => address.to_owned(),
            path => self.path(path).to_string_lossy().into_owned(),
        }
    }
}

/// Relative paths are relative to `chdir`, and that to the directory of the start, which nobody knows: this one, or the file's.
fn bases(name: &str, settings: &Settings) -> Vec<PathBuf> {
    let file = if Path::new(name).is_file() { name } else { name.rsplit_once(':').map_or(name, |(file, _)| file) };
    let beside = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    let starts = [PathBuf::new(), beside];
    let jumps = settings.process.chdir.iter().flat_map(|to| starts.iter().map(move |start| start.join(to)));
    jumps.chain(starts.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(verb: Verb, words: &[&str]) -> Ask {
        Ask::parse(verb, &words.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("good words")
    }

    fn emperor(words: &[&str]) -> Emperor {
        match Target::choose(&ask(Verb::Ps, words), &[]).expect("a target") {
            Target::Emperor(emperor) => emperor,
            Target::Instance(instance) => panic!("{instance:?}"),
        }
    }

    #[test]
    fn a_name_or_nothing_is_the_emperors_and_a_file_is_an_instance() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("app.ini"), "[uwsgi]\nsocket = x.sock\nstats = s.sock\nchdir = here\n").expect("write");
        std::fs::create_dir(at("here")).expect("mkdir");
        std::fs::write(at("here/s.sock"), "").expect("write");
        assert_eq!(emperor(&[]).address, EMPEROR);
        assert_eq!(emperor(&["shop.ini"]).vassal.as_deref(), Some("shop.ini"));
        assert_eq!(emperor(&[&at("app.ini"), "--at", "@e"]).address, "@e");
        let Target::Instance(instance) = Target::choose(&ask(Verb::Ps, &[&at("app.ini")]), &[]).expect("a target") else {
            panic!("no instance")
        };
        assert_eq!(instance.address("s.sock"), at("here/s.sock"));
        assert_eq!(instance.address("127.0.0.1:1717"), "127.0.0.1:1717");
        let error = Target::choose(&ask(Verb::Ps, &[&at("none.ini")]), &[]).expect_err("no file");
        assert!(error.to_string().starts_with("there is no file"), "{error}");
    }

    #[test]
    fn an_emperors_file_names_its_socket_or_the_error_says_what_to_add() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("e.ini"), format!("[uwsgi]\nemperor = {}\n", at("vassals"))).expect("write");
        let error = Target::choose(&ask(Verb::Ps, &[&at("e.ini")]), &[]).expect_err("no socket").to_string();
        assert!(error.contains("add one"), "{error}");
        std::fs::write(at("e.ini"), format!("[uwsgi]\nemperor = {}\nemperor-command-socket = /run/e.sock\n", at("vassals")))
            .expect("write");
        assert_eq!(emperor(&[&at("e.ini")]).address, "/run/e.sock");
        assert_eq!(emperor(&["shop.ini", "--at", &at("e.ini")]).address, "/run/e.sock");
    }
}

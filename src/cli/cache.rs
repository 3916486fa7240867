//! `imperator cache ls|get|set|del|stats INSTANCE`: the caches of a running instance, over its uwsgi socket.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use imperator_protocol::cache::{Call, Verb, read_entry};
use imperator_worker::host::cache::{CacheRow, Remote, RemoteError, Reply, now};
use imperator_worker::settings::Protocol;

use super::{check, complain, print};
use crate::config;

const USAGE: &str = "\
Usage: imperator cache ls    [-n CACHE] [--json] INSTANCE
       imperator cache get   [-n CACHE] INSTANCE KEY
       imperator cache set   [-n CACHE] [-e SECONDS] INSTANCE KEY VALUE     creates or replaces
       imperator cache del   [-n CACHE] INSTANCE KEY
       imperator cache stats [--json] INSTANCE

INSTANCE is a configuration file (its first uwsgi socket is asked) or the address of a uwsgi socket: HOST:PORT, a path, @NAME.
Without -n it is the first cache. `get` writes the value as it is. Exit code: 0, or 1 if it is not there or was refused.
";

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    cache: String,
    expires: i64,
    json: bool,
    /// Verb, instance, key, value.
    words: Vec<String>,
}

pub fn run(arguments: &[String], env: &[(String, String)]) -> i32 {
    if matches!(arguments.first().map(String::as_str), None | Some("--help" | "-h")) {
        print(USAGE);
        return i32::from(arguments.is_empty());
    }
    match read(arguments).and_then(|asked| answer(&asked, env)) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("cache: {error:#}"));
            1
        }
    }
}

fn read(arguments: &[String]) -> Result<Asked> {
    let (mut asked, mut rest) = (Asked::default(), arguments.iter());
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-n" => asked.cache = rest.next().context("-n needs the name of a cache")?.clone(),
            "-e" => asked.expires = rest.next().and_then(|s| s.parse().ok()).context("-e needs a number of seconds")?,
            "--json" => asked.json = true,
            "--" => asked.words.extend(rest.by_ref().cloned()),
            option if option.starts_with('-') && option.len() > 1 => bail!("there is no option {option}\n{USAGE}"),
            _ => asked.words.push(word.clone()),
        }
    }
    Ok(asked)
}

fn answer(asked: &Asked, env: &[(String, String)]) -> Result<()> {
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    let (verb, instance, key, value) = match words[..] {
        ["ls", instance] => (Verb::Keys, instance, "", ""),
        ["stats", instance] => (Verb::Stats, instance, "", ""),
        ["get", instance, key] => (Verb::Get, instance, key, ""),
        ["del", instance, key] => (Verb::Delete, instance, key, ""),
        ["set", instance, key, value] => (Verb::Update, instance, key, value),
        _ => bail!("what is to be done?\n{USAGE}"),
    };
    let address = address(instance, env)?;
    let remote = Remote { cache: asked.cache.as_bytes(), address: &address, timeout: TIMEOUT };
    let call = Call { verb, key: key.as_bytes(), cache: b"", size: 0, expires: asked.expires, number: 0 };
    let reply = match remote.call(&call, value.as_bytes()) {
        Err(RemoteError::Refused) => bail!("{}", refusal(verb)),
        reply => reply?,
    };
    match verb {
        Verb::Keys => print(&listing(&reply, asked.json)?),
        Verb::Stats => print(&figures(&reply, asked.json)?),
        Verb::Get => return write(&reply.value),
        _ => {}
    }
    Ok(())
}

fn refusal(verb: Verb) -> &'static str {
    match verb {
        Verb::Get | Verb::Delete => "no such key, or no such cache",
        Verb::Update => "refused: no such cache, no room, or too large",
        _ => "refused: no such cache, or this host may not (cache-dump-from)",
    }
}

/// The value is bytes and not text.
fn write(value: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(value).and_then(|()| out.flush())?)
}

/// The uwsgi socket of what the user named.
fn address(instance: &str, env: &[(String, String)]) -> Result<String> {
    let path = Path::new(instance);
    if !path.is_file() {
        return Ok(instance.to_owned());
    }
    let env: Vec<(String, String)> = env.iter().filter(|(key, _)| !key.starts_with("UWSGI_")).cloned().collect();
    let found = config::inspect(&check::arguments(instance), &env).map_err(|error| anyhow::anyhow!("{instance}: {error}"))?;
    let settings = found.1.settings;
    let socket = settings.sockets.iter().find(|s| s.protocol == Protocol::Uwsgi);
    let socket = socket.with_context(|| format!("{instance}: there is no uwsgi socket in it (socket = ...): name its address"))?;
    let address = socket.address.trim();
    // As the instance reads it: relative to its own directory.
    match settings.process.chdir {
        Some(directory) if !address.contains(':') && !address.starts_with(['/', '@']) => Ok(format!("{directory}/{address}")),
        _ => Ok(address.to_owned()),
    }
}

fn listing(reply: &Reply, json: bool) -> Result<String> {
    let (mut rest, mut rows, now) = (&reply.value[..], vec![], now());
    while let Some(Some((entry, length))) = read_entry(rest) {
        rows.push((
            String::from_utf8_lossy(entry.key).into_owned(),
            entry.size,
            (entry.expires > 0).then(|| entry.expires.saturating_sub(now)),
        ));
        rest = rest.get(length..).unwrap_or_default();
    }
    ensure!(read_entry(rest) == Some(None), "the list broke off");
    rows.sort();
    if json {
        let rows: Vec<_> =
            rows.iter().map(|(key, size, left)| serde_json::json!({ "key": key, "size": size, "expires_in": left })).collect();
        return Ok(format!("{}\n", serde_json::Value::from(rows)));
    }
    let mut out = format!("{:>10} {:>10}  KEY\n", "SIZE", "EXPIRES");
    for (key, size, left) in rows {
        let left = left.map_or_else(|| "never".to_owned(), |left| format!("{left}s"));
        // A key is an app's, and a terminal's escapes are not.
        let _ = writeln!(out, "{size:>10} {left:>10}  {}", key.escape_debug());
    }
    Ok(out)
}

fn figures(reply: &Reply, json: bool) -> Result<String> {
    let rows: Vec<CacheRow> = serde_json::from_slice(&reply.value).context("the answer makes no sense")?;
    if json {
        return Ok(format!("{}\n", serde_json::to_string(&rows)?));
    }
    let mut out = format!("{:<20} {:>10} {:>10} {:>12} {:>12} {:>8}\n", "CACHE", "ITEMS", "OF", "HITS", "MISSES", "FULL");
    for row in rows {
        let _ = writeln!(out, "{:<20} {:>10} {:>10} {:>12} {:>12} {:>8}", row.name, row.items, row.max_items, row.hits, row.miss, row.full);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use imperator_protocol::cache::{Entry, push_entry, push_last_entry};

    use super::*;

    fn words(text: &str) -> Result<Asked> {
        read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_words() {
        let asked = words("set -n pages -e 60 app.ini k -- -v").expect("read");
        assert_eq!((asked.cache.as_str(), asked.expires, asked.words.join(" ")), ("pages", 60, "set app.ini k -v".into()));
        assert!(words("ls -x a").is_err() && words("set -e soon a k v").is_err() && words("ls -n").is_err());
    }

    #[test]
    fn a_list_is_sorted_and_shows_no_escapes() {
        let mut value = vec![];
        push_entry(&mut value, &Entry { key: b"b\x1b[31m", size: 5, expires: 0 });
        push_entry(&mut value, &Entry { key: b"a", size: 70_000, expires: now() + 50 });
        push_last_entry(&mut value);
        let text = listing(&Reply { value: value.clone(), ..Reply::default() }, false).expect("a list");
        assert!(
            text.lines().nth(1).is_some_and(|line| line.ends_with("  a")) && text.contains("b\\u{1b}[31m") && text.contains("never"),
            "{text}"
        );
        value.pop();
        assert!(listing(&Reply { value, ..Reply::default() }, true).is_err());
    }

    #[test]
    fn what_is_no_file_is_an_address() {
        assert_eq!(address("127.0.0.1:3031", &[]).expect("an address"), "127.0.0.1:3031");
    }
}

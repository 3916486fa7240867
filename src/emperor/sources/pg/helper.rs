//! The process that asks the database: connects, listens, asks again when something was announced, and says what has changed. It may wait as long as
//! it likes. It ends with its emperor.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls, SimpleQueryMessage};

use super::rows::{News, Row, Task};

/// The word behind the executable's name that makes it one.
pub const VERB: &str = "emperor-ask-postgres";
/// `NOTIFY imperator_vassals` announces a change.
const CHANNEL: &str = "imperator_vassals";
/// Between two looks when changes are announced.
const CALM: Duration = Duration::from_secs(60);
/// Several changes of one transaction, or of a script, are one.
const TOGETHER: Duration = Duration::from_millis(20);
/// The longest pause before another connection is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Does it until the emperor ends; the exit code.
pub fn run() -> i32 {
    let task = match prepare() {
        Ok(task) => task,
        Err(error) => {
            tell(&News::Trouble(format!("{error:#}")));
            return 1;
        }
    };
    let mut pause = Duration::from_secs(1);
    let mut last = None;
    loop {
        let Err(error) = session(&task, &mut last, &mut pause);
        if !tell(&News::Trouble(format!("{error:#}; what runs goes on, next try in {} s", pause.as_secs()))) {
            return 0;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn prepare() -> Result<Task> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(1 << 20).read_to_end(&mut text)?;
    let task: Task = serde_json::from_slice(&text).context("this is a part of the emperor and not for people")?;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let _ = nix::sys::prctl::set_name(c"emperor-pg");
    ensure!(nix::unistd::getppid().as_raw() as u32 == task.parent, "the emperor is gone");
    Ok(task)
}

/// One connection, until it is lost.
fn session(task: &Task, last: &mut Option<Vec<Row>>, pause: &mut Duration) -> Result<std::convert::Infallible> {
    let mut client = Client::connect(&task.connection, NoTls).context("cannot connect")?;
    client.batch_execute(&format!("LISTEN {CHANNEL}")).context("LISTEN")?;
    let mut announced = false;
    *last = None; // whatever was said of trouble is over
    loop {
        let rows = ask(&mut client, &task.query)?;
        if last.as_ref() != Some(&rows) {
            ensure!(tell(&News::Rows(rows.clone())), "nobody listens");
            *last = Some(rows);
        }
        *pause = Duration::from_secs(1);
        let wait = if announced { CALM } else { Duration::from_secs(task.every_s.into()) };
        announced |= wait_for_notice(&mut client, wait)?;
    }
}

fn ask(client: &mut Client, query: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for message in client.simple_query(query).context("the query fails")? {
        if let SimpleQueryMessage::Row(row) = message {
            let columns: Vec<Option<&str>> = (0..row.len()).map(|n| row.get(n)).collect();
            rows.push(Row::parse(&columns).map_err(anyhow::Error::msg)?);
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows.dedup_by(|a, b| a.name == b.name);
    Ok(rows)
}

/// Whether something was announced.
fn wait_for_notice(client: &mut Client, wait: Duration) -> Result<bool> {
    let mut notices = client.notifications();
    let came = notices.timeout_iter(wait).next().context("the connection is lost")?.is_some();
    while came && notices.timeout_iter(TOGETHER).next().context("the connection is lost")?.is_some() {}
    drop(notices);
    ensure!(!client.is_closed(), "the connection is lost");
    Ok(came)
}

/// One line to the emperor; false: it is gone.
fn tell(news: &News) -> bool {
    let Ok(mut line) = serde_json::to_vec(news) else { return false };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).is_ok()
}

//! `imperator ps FILE`: who runs, and what each does now.

use anyhow::Result;
use serde_json::json;

use super::super::ask::{Figures, Worker, figures};
use super::super::shown::{bytes, micros, now, plain, span};
use super::super::table::{Side, table};
use super::super::target::Instance;
use super::super::words::Ask;
use super::master::resident;
use crate::cli::print;

pub(super) fn run(ask: &Ask, instance: &Instance) -> Result<()> {
    let figures = measured(figures(instance)?);
    print(&if ask.json { as_json(&figures, now()) } else { text(&instance.name, &figures, now()) });
    Ok(())
}

/// Resident sizes that the instance does not measure itself (`memory-report`) are the kernel's, where the workers are on this machine.
pub(in super::super) fn measured(mut figures: Figures) -> Figures {
    let master = figures.pid;
    for worker in figures.workers.iter_mut().filter(|w| w.rss == 0 && w.pid > 0) {
        worker.rss = resident(worker.pid, master).unwrap_or(0);
    }
    figures
}

fn text(name: &str, figures: &Figures, now: u64) -> String {
    let columns = [
        ("WORKER", Side::Right),
        ("PID", Side::Right),
        ("STATE", Side::Left),
        ("REQUESTS", Side::Right),
        ("AVG", Side::Right),
        ("RSS", Side::Right),
        ("UP", Side::Right),
        ("NOW", Side::Left),
    ];
    let rows: Vec<Vec<String>> = figures.workers.iter().flat_map(|worker| rows(worker, now)).collect();
    head(name, figures, now) + &table(&columns, &rows)
}

fn head(name: &str, figures: &Figures, now: u64) -> String {
    let mut parts = vec![format!("master {}", figures.pid)];
    let extra = &figures.imperator;
    if extra.generation > 0 {
        parts.push(format!("generation {}", extra.generation));
        parts.push(format!("up {}", span(now.saturating_sub(extra.started_at))));
    }
    let busy = figures.workers.iter().filter(|w| w.status == "busy").count();
    parts.push(format!("{busy} of {} workers busy", figures.workers.len()));
    parts.push(format!("queue {}", figures.listen_queue));
    if extra.failed_reloads > 0 {
        parts.push(format!("{} failed reloads (imperator why)", extra.failed_reloads));
    }
    format!("{}: {}\n", plain(name), parts.join(", "))
}

/// One for the worker; one more for each request beside the first that it runs.
fn rows(worker: &Worker, now: u64) -> Vec<Vec<String>> {
    let mut doing = worker.doing(now).into_iter().map(|(what, since)| format!("{} for {}", plain(&what), span(since)));
    let first = vec![
        worker.id.to_string(),
        worker.pid.to_string(),
        plain(&worker.status),
        worker.requests.to_string(),
        micros(worker.avg_rt),
        bytes(worker.rss),
        if worker.last_spawn == 0 || worker.pid == 0 { String::new() } else { span(now.saturating_sub(worker.last_spawn)) },
        doing.next().unwrap_or_default(),
    ];
    let others = doing.map(|what| vec![String::new(); 7].into_iter().chain([what]).collect());
    std::iter::once(first).chain(others).collect()
}

fn as_json(figures: &Figures, now: u64) -> String {
    let worker = |w: &Worker| {
        let doing: Vec<_> = w.doing(now).into_iter().map(|(request, since)| json!({ "request": request, "seconds": since })).collect();
        json!({ "id": w.id, "pid": w.pid, "state": w.status, "requests": w.requests, "exceptions": w.exceptions, "avg_rt_us": w.avg_rt,
            "rss": w.rss, "tx": w.tx, "since": w.last_spawn, "respawns": w.respawn_count, "now": doing })
    };
    let extra = &figures.imperator;
    let all = json!({ "version": figures.version, "pid": figures.pid, "generation": extra.generation, "since": extra.started_at,
        "reloads": extra.reloads, "failed_reloads": extra.failed_reloads, "queue": figures.listen_queue,
        "workers": figures.workers.iter().map(worker).collect::<Vec<_>>() });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        serde_json::from_value(json!({
            "pid": 10, "listen_queue": 2, "imperator": { "generation": 3, "started_at": 1000, "failed_reloads": 1 },
            "workers": [
                { "id": 1, "pid": 11, "status": "busy", "requests": 7, "avg_rt": 1500, "rss": 1048576, "last_spawn": 1090,
                  "cores": [
                    { "in_request": 1, "vars": ["REQUEST_METHOD=GET", "REQUEST_URI=/a\u{1b}[2J"], "req_info": { "request_start": 1097 } },
                    { "in_request": 1, "vars": ["REQUEST_METHOD=PUT", "PATH_INFO=/b"], "req_info": { "request_start": 1099 } } ] },
                { "id": 2, "pid": 0, "status": "cheap" }
            ]
        }))
        .expect("figures")
    }

    #[test]
    fn a_row_for_each_worker_and_each_request() {
        assert_eq!(
            text("a.ini", &figures(), 1100),
            "a.ini: master 10, generation 3, up 1 min, 1 of 2 workers busy, queue 2, 1 failed reloads (imperator why)\n\
             WORKER  PID  STATE  REQUESTS     AVG      RSS    UP  NOW\n     \
                  1   11  busy          7  1.5 ms  1.0 MiB  10 s  GET /a\\u{1b}[2J for 3 s\n                                                     \
                                                                  PUT /b for 1 s\n     \
                  2    0  cheap         0    0 us      0 B\n"
        );
    }

    #[test]
    fn for_scripts() {
        let json: serde_json::Value = serde_json::from_str(&as_json(&figures(), 1100)).expect("json");
        assert_eq!(json["workers"][0]["now"][1], json!({ "request": "PUT /b", "seconds": 1 }));
        assert_eq!((&json["generation"], &json["workers"][1]["state"]), (&json!(3), &json!("cheap")));
    }
}

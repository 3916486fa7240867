//! An emperor with a command socket, and an operator who asks it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use super::{HELLO, Server, uwsgi, wait_for};

/// The file of a vassal at `NAME.sock`.
pub fn vassal(name: &str, more: &str) -> String {
    format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nwsgi-file = {{dir}}/app.py\n{more}")
}

/// What it answers, if it does.
pub fn answer(server: &Server, name: &str) -> Option<String> {
    uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

/// An emperor over `v/NAME.ini`, all of which answer.
pub fn emperor(names: &[&str], more: &[&str]) -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    fs::create_dir_all(server.path("v")).expect("the directory");
    for name in names {
        server.write(&format!("v/{name}.ini"), &vassal(name, ""));
    }
    server.start(&[&["--emperor", "{dir}/v", "--emperor-command-socket", "{dir}/command"], more].concat());
    for name in names {
        wait_for("a vassal", || answer(&server, name));
    }
    server
}

/// An operator's command.
pub fn run(server: &Server, words: &[&str]) -> Output {
    let words = words.iter().map(|w| server.fill(w));
    Command::new(env!("CARGO_BIN_EXE_imperator")).args(words).args(["--at", &server.fill("{dir}/command")]).output().expect("it runs")
}

/// What a command that must work prints.
pub fn said(server: &Server, words: &[&str]) -> String {
    let output = run(server, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Of `ps`.
pub fn row(server: &Server, name: &str) -> Value {
    look(server, name).unwrap_or_else(|| panic!("{name} is not in the list"))
}

pub fn look(server: &Server, name: &str) -> Option<Value> {
    let ps: Value = serde_json::from_str(&said(server, &["ps", "--json"])).expect("JSON");
    let rows = ps["vassals"].as_array().expect("rows");
    rows.iter().find(|r| r["name"] == format!("{name}.ini")).cloned()
}

pub fn wait_state(server: &Server, name: &str, state: &str) -> Value {
    wait_for(state, || look(server, name).filter(|r| r["state"] == state))
}

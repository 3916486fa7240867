//! What an emperor says of its vassals (`{"command":"ps"}`), as far as it is shown. Whatever is missing is empty.

use serde::Deserialize;

use crate::stats::Figures;

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Estate {
    pub version: String,
    pub pid: i32,
    /// Epoch seconds.
    pub since: u64,
    pub vassals: Vec<Vassal>,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Vassal {
    pub name: String,
    /// `running`, `starting`, `reloading`, `sleeping`, `throttled`, `stopping`, `stopped`.
    pub state: String,
    pub since: u64,
    pub pid: i32,
    pub restarts: u64,
    pub last_exit: Option<String>,
    pub last_line: Option<String>,
    pub next_try: Option<u64>,
    /// `None`: it is no Imperator, or did not answer in time.
    pub figures: Option<Figures>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_emperor() {
        let text = r#"{"version":"0.1.0","pid":7,"since":1,"sources":["/v"],"vassals":[
            {"name":"a.ini","state":"running","since":5,"pid":8,"uid":0,"gid":0,"config":"/v/a.ini","restarts":2,"last_exit":"signal 9","last_line":null,
             "next_try":null,"figures":{"workers":2,"busy":1,"requests":9}},
            {"name":"b.ini","state":"throttled","figures":null}]}"#;
        let estate: Estate = serde_json::from_str(text).expect("an estate");
        assert_eq!(estate.vassals[0].figures.as_ref().map(|f| (f.workers, f.busy, f.requests)), Some((2, 1, 9)));
        assert_eq!((estate.vassals[0].last_exit.as_deref(), estate.vassals[1].figures.is_none()), (Some("signal 9"), true));
    }
}

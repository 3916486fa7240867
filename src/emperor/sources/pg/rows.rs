//! What an emperor and the process that asks the database for it tell each other.

use serde::{Deserialize, Serialize};

/// What the process has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// As libpq takes it: `host=... dbname=...`, or a URL.
    pub connection: String,
    pub query: String,
    /// Seconds between two looks, as long as no notification has ever come.
    pub every_s: u32,
    /// The emperor, with which it ends.
    pub parent: u32,
}

/// One line from the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    /// All rows as they are now.
    Rows(Vec<Row>),
    /// Why there are none to be had.
    Trouble(String),
}

/// One vassal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub config: String,
    /// Seconds since 1970.
    pub time: i64,
    pub uid: u32,
    pub gid: u32,
    /// On demand.
    pub socket: Option<String>,
}

impl Row {
    /// Three to six columns as text: name, config, time[, uid, gid[, socket]].
    ///
    /// # Errors
    /// Which column is not what it should be.
    pub fn parse(columns: &[Option<&str>]) -> Result<Self, String> {
        let column = |n: usize| columns.get(n).copied().flatten();
        let name = column(0).unwrap_or_default();
        if columns.len() < 3 {
            return Err(format!("the query gives {} columns; it should give name, config, unix time[, uid, gid[, socket]]", columns.len()));
        }
        if name.is_empty() || name.len() >= 255 || name.chars().any(char::is_control) {
            return Err(format!("{name:?} is no name of a vassal"));
        }
        let id = |n: usize, what: &str| match column(n) {
            None => Ok(0),
            Some(text) => text.trim().parse::<u32>().map_err(|_| format!("vassal {name}: {what} {text:?} is no number")),
        };
        let time = column(2).unwrap_or("0").trim();
        let time = time.parse::<f64>().map_err(|_| format!("vassal {name}: {time:?} is no time in seconds since 1970"))?;
        Ok(Self {
            name: name.into(),
            config: column(1).unwrap_or_default().into(),
            time: time as i64,
            uid: id(3, "uid")?,
            gid: id(4, "gid")?,
            socket: column(5).map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_a_row() {
        let row = Row::parse(&[Some("a.ini"), Some("[uwsgi]"), Some("1700000000.5"), Some("33"), Some("34"), Some("/s")]).expect("a row");
        assert_eq!((row.time, row.uid, row.gid, row.socket.as_deref()), (1_700_000_000, 33, 34, Some("/s")));
        let row = Row::parse(&[Some("a.ini"), None, Some("7")]).expect("a row");
        assert_eq!((row.config.as_str(), row.uid, row.socket), ("", 0, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (columns, word) in [
            (vec![Some("a")], "1 columns"),
            (vec![None, Some(""), Some("1")], "no name"),
            (vec![Some("a"), Some(""), Some("soon")], "soon"),
            (vec![Some("a"), Some(""), Some("1"), Some("root")], "root"),
        ] {
            assert!(Row::parse(&columns).expect_err(word).contains(word));
        }
    }
}

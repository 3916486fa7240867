//! Statistics as JSON for whoever connects: uwsgitop, Datadog's check, the Prometheus exporters (spec: process, part 10).
//!
//! [`StatsServer`] is the server (the emperor's too); [`Snapshot`] is what an instance says; [`prometheus`] says the same in Prometheus' words.

mod client;
mod extra;
mod figures;
mod histogram;
mod listener;
mod memory;
mod page;
mod prometheus;
pub mod push;
mod server;
mod snapshot;

pub use extra::Extra;
pub use figures::Figures;
pub use histogram::Histogram;
pub use listener::ListenError;
pub(crate) use listener::listen;
pub use memory::{WorkerMemory, measure};
pub use page::{Page, Style};
pub use prometheus::{Totals, merge, prometheus};
pub use server::StatsServer;
pub use snapshot::{AppRow, CoreRow, CronRow, DaemonRow, MetricRows, RequestInfo, Snapshot, SocketRow, WorkerRow, WorkerState};

use serde::Serialize;

/// One JSON text: on one line, or with tabs and line ends as uWSGI's is. Ends with a line end unless minified.
pub fn json<T: Serialize>(value: &T, minified: bool) -> String {
    let mut out = vec![];
    let done = if minified {
        value.serialize(&mut serde_json::Serializer::new(&mut out))
    } else {
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let done = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, tabs));
        out.push(b'\n');
        done
    };
    // Our rows hold nothing that JSON cannot say; a caller's own might, and readers need valid JSON still.
    match done {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(error) => serde_json::json!({ "error": error.to_string() }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minified_or_with_tabs() {
        let value = serde_json::json!({"a": [1, {"b": []}]});
        assert_eq!(json(&value, true), r#"{"a":[1,{"b":[]}]}"#);
        assert_eq!(json(&value, false), "{\n\t\"a\": [\n\t\t1,\n\t\t{\n\t\t\t\"b\": []\n\t\t}\n\t]\n}\n");
    }
}

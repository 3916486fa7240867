//! What a client asks for, and what it gets.

use std::rc::Rc;

/// How a server talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The text at once, nothing is read: uWSGI's stats server.
    Bare,
    /// A request is read first.
    Http,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// An HTTP status.
    pub status: u16,
    /// Its Content-Type.
    pub kind: &'static str,
    pub body: Rc<str>,
}

impl Page {
    /// Statistics, as `stats-http` gives them at any path.
    pub fn json(text: impl Into<Rc<str>>) -> Self {
        Self { status: 200, kind: "application/json", body: text.into() }
    }

    /// A line of plain text.
    pub fn text(status: u16, text: impl Into<Rc<str>>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: text.into() }
    }

    /// The head of the HTTP answer. Any web page may read it: there is nothing in it that asks for a login.
    pub(super) fn head(&self) -> String {
        let reason = imperator_protocol::response::reason(self.status);
        format!(
            "HTTP/1.0 {} {reason}\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        )
    }
}

/// The path of a request's first line, without its query, and whether only the head of the answer is wanted. Whatever the method, it is read as GET.
pub(super) fn target(head: &[u8]) -> (String, bool) {
    let line = head.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let only_head = words.next() == Some(b"HEAD");
    let target = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    (path.to_owned(), only_head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_request() {
        let of = |head: &str| target(head.as_bytes());
        assert_eq!(of("GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"), ("/metrics".into(), false));
        assert_eq!(of("HEAD /live HTTP/1.0\n\n"), ("/live".into(), true));
        assert_eq!(of("POST / HTTP/1.0\r\n\r\n"), ("/".into(), false));
        assert_eq!((of("GET"), of("")), ((String::new(), false), (String::new(), false)));
    }

    #[test]
    fn the_head_tells_status_and_length() {
        let head = Page::text(503, "not ready\n").head();
        assert!(head.starts_with("HTTP/1.0 503 Service Unavailable\r\n") && head.contains("Content-Length: 10\r\n"), "{head}");
    }
}

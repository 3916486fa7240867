//! Heads of answers: what a browser may do with what it gets is as little as can be.

use imperator_protocol::response::reason;

use super::page::NO_POLICY;

pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";

/// The head of an answer, but for its length and end. `policy`: of the page.
pub fn head(status: u16, kind: &str, policy: Option<&str>) -> String {
    let more = match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET, HEAD, POST\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {status} {}\r\nConnection: close\r\nContent-Type: {kind}\r\n{more}\
         Cache-Control: no-store\r\nContent-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
         Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n",
        reason(status),
        policy.unwrap_or(NO_POLICY)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_closed_to_others_and_kept_by_nobody() {
        for status in [200, 401, 404, 421] {
            let head = head(status, JSON, None);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.ends_with("same-origin\r\n"), "{head}");
            for field in
                ["Cache-Control: no-store", "default-src 'none'; frame-ancestors 'none'", "nosniff", "Resource-Policy: same-origin"]
            {
                assert!(head.contains(field), "{field}");
            }
            assert!(!head.contains("Access-Control"), "no other site may read it");
        }
        assert!(head(200, HTML, Some("script-src 'x'")).contains("Policy: script-src 'x'\r\n"));
    }
}

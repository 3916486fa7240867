//! The page: one document without a single address of its own, put together from the files beside this one, and the policy that lets a browser run
//! nothing but exactly that.

use std::rc::Rc;

use sha2::{Digest, Sha256};

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// One function, so that nothing of it is in reach of the page's markup.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/text.js"),
    include_str!("page/history.js"),
    include_str!("page/spark.js"),
    include_str!("page/table.js"),
    include_str!("page/totals.js"),
    include_str!("page/detail.js"),
    include_str!("page/acts.js"),
    include_str!("page/main.js"),
    "})();\n"
);

/// What a browser may do with answers that are no page: nothing.
pub const NO_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

#[derive(Debug, Clone)]
pub struct Page {
    pub text: Rc<str>,
    /// Its Content-Security-Policy.
    pub policy: Rc<str>,
}

impl Page {
    pub fn new() -> Self {
        let text = DOCUMENT.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(SCRIPT),
            source(STYLE)
        );
        Self { text: text.into(), policy: policy.into() }
    }
}

/// A hash as a source of a Content-Security-Policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text.as_bytes())))
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_its_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}?>", "w78/Pg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_policy_allows_what_is_in_the_page_and_nothing_else() {
        let page = Page::new();
        let between = |from: &str, to: &str| {
            let begin = page.text.find(from).expect("it begins") + from.len();
            &page.text[begin..begin + page.text[begin..].find(to).expect("it ends")]
        };
        assert_eq!(page.text.matches("<script").count(), 1);
        assert_eq!(page.text.matches("<style").count(), 1);
        assert!(page.policy.contains(&format!("script-src {};", source(between("<script>", "</script>")))), "{}", page.policy);
        assert!(page.policy.contains(&format!("style-src {};", source(between("<style>", "</style>")))), "{}", page.policy);
        assert!(!page.policy.contains("unsafe"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_no_text_becomes_markup() {
        let page = Page::new().text.to_lowercase();
        // Names of XML that look like addresses.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "innerhtml",
            "outerhtml",
            "insertadjacent",
            "document.write",
            "eval(",
            " onclick",
            "style=",
        ] {
            assert!(!page.contains(word), "{word}");
        }
    }
}

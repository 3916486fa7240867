//! Regular expressions of a configuration: unanchored, as uWSGI's PCRE, with look-around and back-references.
//!
//! Plain ones run in linear time; one that looks around or back gives up after a bounded number of steps and then does not match.

use fancy_regex::Regex;

/// A compiled expression.
#[derive(Debug)]
pub struct Pattern(Regex);

/// Why an expression was refused.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no regular expression: {reason}")]
pub struct PatternError {
    text: String,
    reason: String,
}

impl Pattern {
    /// # Errors
    /// It does not parse, or needs too much memory.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Regex::new(text).map(Self).map_err(|error| PatternError { text: text.into(), reason: error.to_string() })
    }

    /// Whether it matches anywhere in `subject`; bytes that are no UTF-8 are U+FFFD to it.
    pub fn matches(&self, subject: &[u8]) -> bool {
        self.0.is_match(&*String::from_utf8_lossy(subject)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_pcre_are_understood() {
        for (text, subject, expected) in [
            (r"\.css$", "/srv/a.css", true),
            (r"\.css$", "/srv/a.css.map", false),
            (r"^/s/(?!private)", "/s/public", true),
            (r"^/s/(?!private)", "/s/private", false),
            (r"(?<=min)\.js", "a.min.js", true),
            (r"(.)\1", "aab", true),
            (r"(?i)\.PNG$", "a.png", true),
            (r"a++b", "aab", true),
        ] {
            assert_eq!(Pattern::new(text).expect(text).matches(subject.as_bytes()), expected, "{text} {subject}");
        }
        assert!(Pattern::new("/b/").expect("sound").matches(b"/\xff/b/"));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let error = Pattern::new("(").expect_err("no parenthesis").to_string();
        assert!(error.starts_with("`(` is no regular expression: "), "{error}");
    }

    #[test]
    fn an_expensive_expression_ends() {
        let pattern = Pattern::new(r"^(?:a*)*\1?(?=b)(x+x+)+y").or_else(|_| Pattern::new(r"(?=a)(a+)+\1$")).expect("sound");
        assert!(!pattern.matches("x".repeat(5000).as_bytes()));
    }
}

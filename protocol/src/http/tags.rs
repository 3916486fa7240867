//! Lists of entity tags: If-Match and If-None-Match (RFC 9110, 8.8.3 and 13.1).

use crate::bytes::trim;

/// How tags are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Both are strong: for If-Match and If-Range.
    Strong,
    /// `W/` does not count: for If-None-Match.
    Weak,
}

/// Whether the list has `tag`, a strong one with its quotes, or is `*`. What is no tag is passed over.
pub fn lists(header: &[u8], tag: &[u8], comparison: Comparison) -> bool {
    if trim(header) == b"*" {
        return true;
    }
    let mut rest = header;
    while let Some(quote) = rest.iter().position(|&byte| byte == b'"') {
        let Some(length) = rest[quote + 1..].iter().position(|&byte| byte == b'"').map(|end| end + 2) else { return false };
        let weak = rest[..quote].ends_with(b"W/");
        if &rest[quote..quote + length] == tag && (comparison == Comparison::Weak || !weak) {
            return true;
        }
        rest = &rest[quote + length..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_lists() {
        for (header, weak, strong) in [
            ("\"a\"", true, true),
            ("W/\"a\"", true, false),
            ("\"b\", W/\"a\"", true, false),
            ("\"b\" ,\"a\"", true, true),
            ("W/\"b\", \"a\", W/\"c\"", true, true),
            (" * ", true, true),
            ("\"b\"", false, false),
            ("\"A\"", false, false),
            ("a", false, false),
            ("\"a", false, false),
            ("\"x,y\", \"a\"", true, true),
            ("", false, false),
        ] {
            assert_eq!(lists(header.as_bytes(), b"\"a\"", Comparison::Weak), weak, "{header}");
            assert_eq!(lists(header.as_bytes(), b"\"a\"", Comparison::Strong), strong, "{header}");
        }
    }
}

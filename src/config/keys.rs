//! uWSGI's way to give one option several values: `key=value,key=value`.

/// The pairs of `text`. A backslash before a comma makes it part of the value; a key without `=` has the value `1`.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(',')) => {
                letters.next();
                parts.iter_mut().last().into_iter().for_each(|part| part.push(','));
            }
            (',', _) => parts.push(String::new()),
            _ => parts.iter_mut().last().into_iter().for_each(|part| part.push(letter)),
        }
    }
    let pair = |part: String| match part.split_once('=') {
        Some((key, value)) => (key.trim().to_owned(), value.to_owned()),
        None => (part.trim().to_owned(), "1".to_owned()),
    };
    parts.into_iter().filter(|part| !part.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_separate_unless_a_backslash_stands_before() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(pairs(r"cmd=echo a\,b=c,control,freq=3"), [pair("cmd", "echo a,b=c"), pair("control", "1"), pair("freq", "3")]);
        assert_eq!(pairs(""), []);
        assert_eq!(pairs(r"a=b\c"), [pair("a", r"b\c")]);
    }
}

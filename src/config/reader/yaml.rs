//! YAML configurations: a mapping `uwsgi` of plain values and lists of them.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};

use super::{Pair, Parsed, SyntaxError};

/// Nodes within nodes; a configuration needs four.
const DEPTH: usize = 32;
/// Values that aliases may multiply to.
const VALUES: usize = 100_000;

/// Reads the mapping at the top-level key `section`.
///
/// Scalars are taken as they are written, whatever type YAML gives them. `uwsgi:` with nothing below it, followed by keys that should have been indented,
/// is accepted.
pub fn parse(text: &str, section: &str) -> Result<Parsed, SyntaxError> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new() };
    let Some(top) = reader.document()? else { return Ok(Parsed::default()) };
    let Content::Mapping(top) = top.content else {
        return Err(SyntaxError::new(top.line, format!("expected a mapping with the key `{section}`")));
    };
    let mut parsed = Parsed::default();
    let mut top = top.into_iter();
    for (key, value) in top.by_ref() {
        if key.scalar() != Some(section) {
            continue;
        }
        parsed.found = true;
        if value.scalar() == Some("") {
            break;
        }
        take_section(value, &reader.anchors, &mut parsed.pairs)?;
        return Ok(parsed);
    }
    if parsed.found {
        top.try_for_each(|(key, value)| take(&key, value, &reader.anchors, &mut parsed.pairs))?;
    }
    Ok(parsed)
}

/// A mapping, or a list of mappings.
fn take_section(node: Node, anchors: &HashMap<usize, Node>, pairs: &mut Vec<Pair>) -> Result<(), SyntaxError> {
    match node.content {
        Content::Mapping(entries) => entries.into_iter().try_for_each(|(key, value)| take(&key, value, anchors, pairs)),
        Content::List(items) => items.into_iter().try_for_each(|item| take_section(item, anchors, pairs)),
        Content::Scalar(_) | Content::Alias(_) => Err(SyntaxError::new(node.line, "expected a mapping of options".into())),
    }
}

/// The pairs of one key.
fn take(key: &Node, value: Node, anchors: &HashMap<usize, Node>, pairs: &mut Vec<Pair>) -> Result<(), SyntaxError> {
    let Some(name) = key.scalar() else {
        return Err(SyntaxError::new(key.line, "the name of an option has to be a plain word".into()));
    };
    if pairs.len() >= VALUES {
        return Err(SyntaxError::new(key.line, format!("more than {VALUES} values")));
    }
    match value.content {
        Content::Scalar(text) => pairs.push(Pair::new(name, &text, key.line)),
        Content::List(items) => {
            for item in items {
                if matches!(item.content, Content::List(_)) {
                    return Err(SyntaxError::new(item.line, format!("`{name}` holds a list within a list")));
                }
                let line = item.line;
                take(key, item, anchors, pairs)?;
                if let Some(pair) = pairs.last_mut() {
                    pair.line = line;
                }
            }
        }
        Content::Alias(id) => match anchors.get(&id) {
            Some(anchored) => take(key, anchored.clone(), anchors, pairs)?,
            None => return Err(SyntaxError::new(value.line, format!("`{name}` uses an anchor that is no plain value or list of them"))),
        },
        Content::Mapping(_) => {
            return Err(SyntaxError::new(value.line, format!("`{name}` holds a mapping; options have plain values or lists of them")));
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Node {
    content: Content,
    line: u32,
}

#[derive(Clone)]
enum Content {
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    Alias(usize),
}

impl Node {
    fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Whether an alias may stand for it: nothing in it can be multiplied further.
    fn may_be_aliased(&self) -> bool {
        match &self.content {
            Content::Scalar(_) => true,
            Content::List(items) => items.iter().all(|item| item.scalar().is_some()),
            Content::Mapping(_) | Content::Alias(_) => false,
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
}

impl<'t> Reader<'t> {
    /// The first document; `None` if there is none.
    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (event, line) => return self.node(event, line, 0).map(Some),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, u32), SyntaxError> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, line_of(span))),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'t>, line: u32, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH {
            return Err(SyntaxError::new(line, "nested too deeply".into()));
        }
        let (content, anchor) = match event {
            Event::Scalar(text, _, anchor, _) => (Content::Scalar(text.into_owned()), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(id) => (Content::Alias(id), 0),
            _ => return Err(SyntaxError::new(line, "ends in the middle".into())),
        };
        let node = Node { content, line };
        if anchor != 0 && node.may_be_aliased() {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Content, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Content, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Content::Mapping(entries)),
                (event, line) => self.node(event, line, depth + 1)?,
            };
            let (event, line) = self.next()?;
            // nothing at all, `~` being a text like any other
            let value = match event {
                Event::Scalar(ref text, _, 0, None) if is_null(text) => Node { content: Content::Scalar(String::new()), line },
                event => self.node(event, line, depth + 1)?,
            };
            entries.push((key, value));
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~")
}

fn line_of(span: Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn scan_error(error: &ScanError) -> SyntaxError {
    SyntaxError::new(u32::try_from(error.marker().line()).unwrap_or(u32::MAX), error.info().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        named(text, "uwsgi")
    }

    fn named(text: &str, section: &str) -> Vec<(String, String)> {
        let parsed = parse(text, section).expect("parses");
        assert!(parsed.found);
        parsed.pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_keep_their_order_and_their_spelling() {
        let text = "# c\nother:\n  a: no\nuwsgi:\n  b: 0660\n  a: 'q ''x'\n  \"env\": \"A=1\\t\"\n  yes: true\n  n: 1.50\n  m: a: b\n"
            .replace("  m: a: b\n", "  m: a:b # c\n");
        assert_eq!(pairs(&text), owned(&[("b", "0660"), ("a", "q 'x"), ("env", "A=1\t"), ("yes", "true"), ("n", "1.50"), ("m", "a:b")]));
    }

    #[test]
    fn lists_repeat_the_key_and_nothing_is_the_flag() {
        let text = "uwsgi:\n  env:\n    - A=1\n    - B=2\n  plugin: [x, y]\n  master:\n  vacuum: ~\n  text: |\n    abc\n    def\n";
        assert_eq!(
            pairs(text),
            owned(&[
                ("env", "A=1"),
                ("env", "B=2"),
                ("plugin", "x"),
                ("plugin", "y"),
                ("master", ""),
                ("vacuum", ""),
                ("text", "abc\ndef\n")
            ])
        );
    }

    #[test]
    fn keys_that_should_have_been_indented_are_taken() {
        assert_eq!(pairs("uwsgi:\na: 1\nb: [2, 3]\n"), owned(&[("a", "1"), ("b", "2"), ("b", "3")]));
    }

    #[test]
    fn a_list_of_mappings_is_a_section_too() {
        assert_eq!(pairs("uwsgi:\n- a: 1\n- b: 2\n"), owned(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn another_section_may_be_asked_for() {
        assert_eq!(named("uwsgi:\n  a: 1\nsec:\n  a: 2\n", "sec"), owned(&[("a", "2")]));
        assert!(!parse("uwsgi:\n  a: 1\n", "sec").expect("parses").found);
        assert!(!parse("", "uwsgi").expect("parses").found);
    }

    #[test]
    fn aliases_stand_for_values_and_lists() {
        assert_eq!(pairs("x: &n 4\ny: &l [1, 2]\nuwsgi:\n  a: *n\n  b: *l\n"), owned(&[("a", "4"), ("b", "1"), ("b", "2")]));
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let parsed = parse("# c\nuwsgi:\n  a: 1\n  b:\n    - 2\n    - 3\n", "uwsgi").expect("parses");
        assert_eq!(parsed.pairs.iter().map(|pair| pair.line).collect::<Vec<_>>(), [3, 5, 6]);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line, part) in [
            ("uwsgi:\n  a: {b: 1}\n", 2, "`a` holds a mapping"),
            ("uwsgi:\n  a: [[1]]\n", 2, "list within"),
            ("uwsgi:\n  - a\n", 2, "mapping of options"),
            ("- a\n", 1, "`uwsgi`"),
            ("uwsgi:\n  a: \"b\n", 2, ""),
            ("uwsgi:\n  ? [a]\n  : 1\n", 2, "plain word"),
        ] {
            let error = parse(text, "uwsgi").expect_err(text);
            assert!(error.line >= line && error.text.contains(part), "{text}: {} {}", error.line, error.text);
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"]) {
            text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(", ")));
        }
        assert!(parse(&format!("{text}uwsgi:\n  env: *i\n"), "uwsgi").is_err());
        assert!(parse(&format!("uwsgi: {}", "[".repeat(100_000)), "uwsgi").is_err());
        assert!(parse(&format!("uwsgi: {}", "{a: ".repeat(100_000)), "uwsgi").is_err());
    }
}

//! XML configurations: the elements below `<uwsgi>`.

use roxmltree::{Document, Node, ParsingOptions};

use super::{Pair, Parsed, SyntaxError};

/// Elements and texts of one file.
const NODES: u32 = 500_000;

/// Reads the first `<uwsgi>`; with an `id`, the first whose id it is or that has none. It may be the root or anywhere below it.
///
/// An empty element is the value 1. Document type declarations are refused, and with them entities that multiply.
pub fn parse(text: &str, id: Option<&str>) -> Result<Parsed, SyntaxError> {
    let options = ParsingOptions { nodes_limit: NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| SyntaxError::new(error.pos().row, error.to_string()))?;
    let wanted = |node: &Node<'_, '_>| node.has_tag_name("uwsgi") && id.is_none_or(|id| node.attribute("id").is_none_or(|own| own == id));
    let Some(uwsgi) = document.descendants().find(wanted) else { return Ok(Parsed::default()) };
    let pairs = uwsgi.children().filter(Node::is_element).map(|element| pair(&document, element)).collect();
    Ok(Parsed { pairs, found: true, notes: Vec::new() })
}

fn pair(document: &Document<'_>, element: Node<'_, '_>) -> Pair {
    let line = document.text_pos_at(element.range().start).row;
    Pair::new(element.tag_name().name(), element.text().unwrap_or("1"), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, id: Option<&str>) -> Vec<(String, String)> {
        let parsed = parse(text, id).expect("parses");
        assert!(parsed.found);
        parsed.pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn elements_are_options() {
        let text = "<?xml version=\"1.0\"?><!-- c --><uwsgi id=\"one\"><a>1 x </a><b/>\n<c>x<d>2</d></c><e></e><f>&lt;&#65;</f><g><![CDATA[a<b]]></g></uwsgi>";
        assert_eq!(pairs(text, None), owned(&[("a", "1 x "), ("b", "1"), ("c", "x"), ("e", "1"), ("f", "<A"), ("g", "a<b")]));
    }

    #[test]
    fn the_id_chooses() {
        let text = "<root><uwsgi id=\"one\"><a>1</a></uwsgi><uwsgi id=\"two\"><a>2</a></uwsgi><uwsgi><a>3</a></uwsgi></root>";
        assert_eq!(pairs(text, None), owned(&[("a", "1")]));
        assert_eq!(pairs(text, Some("two")), owned(&[("a", "2")]));
        assert_eq!(pairs(text, Some("nope")), owned(&[("a", "3")]));
        assert!(!parse("<uwsgi id='x'/>", Some("y")).expect("parses").found);
        assert!(!parse("<other/>", None).expect("parses").found);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let parsed = parse("<uwsgi>\n<a>1</a>\n\n<b/></uwsgi>", None).expect("parses");
        assert_eq!(parsed.pairs.iter().map(|pair| pair.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn broken_files_and_entity_bombs_are_errors() {
        assert_eq!(parse("<uwsgi>\n<a></uwsgi>", None).expect_err("broken").line, 2);
        assert!(parse("", None).is_err());
        let bomb = "<!DOCTYPE u [<!ENTITY a \"xxxxxxxxxx\"><!ENTITY b \"&a;&a;&a;&a;&a;\">]><uwsgi><a>&b;</a></uwsgi>";
        assert!(parse(bomb, None).is_err());
    }
}

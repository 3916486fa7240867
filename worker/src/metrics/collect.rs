//! The value of a metric that is defined by others.

use super::{Collector, Definition};

/// Where values come from.
pub trait Source {
    /// The definition of that name, if it is one of the user's.
    fn definition(&self, name: &str) -> Option<&Definition>;
    /// The value in the segment, or of a built-in metric.
    fn stored(&self, name: &str) -> Option<i64>;
    /// The text of a file.
    fn file(&self, path: &str) -> Option<String>;
}

/// How deep metrics may be defined by metrics: an end to those that are defined by themselves.
const DEPTH: u32 = 16;

/// The value of `name` now; `None`: there is no such metric.
pub fn value(source: &dyn Source, name: &str) -> Option<i64> {
    at_depth(source, name, DEPTH)
}

fn at_depth(source: &dyn Source, name: &str, depth: u32) -> Option<i64> {
    let Some(definition) = source.definition(name).filter(|d| d.is_collected()) else { return source.stored(name) };
    let depth = depth.checked_sub(1)?;
    if let Some(alias) = &definition.alias {
        return at_depth(source, alias, depth);
    }
    let children = || definition.children.iter().map(|child| at_depth(source, child, depth).unwrap_or(0));
    let sum = || children().fold(0i64, i64::wrapping_add);
    Some(match definition.collector? {
        Collector::Sum => sum(),
        Collector::Avg => sum() / i64::try_from(definition.children.len().max(1)).unwrap_or(1),
        Collector::Adder => sum().wrapping_add(definition.arg1n),
        Collector::Multiplier => sum().wrapping_mul(definition.arg1n),
        Collector::File => source.file(&definition.arg1).map_or(0, |text| word(&text, definition.arg1n)),
        Collector::Accumulator => source.stored(name).unwrap_or(0),
    })
}

/// The number in the word of that index, 0 if it is none: `12%` and `0.5` count as their first digits, as C reads them.
fn word(text: &str, index: i64) -> i64 {
    let word = usize::try_from(index).ok().and_then(|index| text.split_ascii_whitespace().nth(index)).unwrap_or_default();
    let digits = word.strip_prefix('-').unwrap_or(word);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end].parse::<i64>().unwrap_or(0);
    if word.starts_with('-') { -number } else { number }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Fixed(Vec<Definition>);

    impl Source for Fixed {
        fn definition(&self, name: &str) -> Option<&Definition> {
            self.0.iter().find(|d| d.name == name)
        }
        fn stored(&self, name: &str) -> Option<i64> {
            [("a", 5), ("b", 7), ("acc", 30)].into_iter().find(|(n, _)| *n == name).map(|(_, v)| v)
        }
        fn file(&self, path: &str) -> Option<String> {
            (path == "/load").then(|| "0.25 12% -4\n".to_owned())
        }
    }

    #[test]
    fn collectors() {
        let lines = [
            "a",
            "name=sum,collector=sum,children=a;b;none",
            "name=avg,collector=avg,children=a;b",
            "name=plus,collector=adder,arg1n=3,children=sum",
            "name=times,collector=multiplier,arg1n=3,children=b",
            "name=file,collector=file,arg1=/load,arg1n=2",
            "name=percent,collector=file,arg1=/load,arg1n=1",
            "name=gone,collector=file,arg1=/nowhere",
            "name=acc,collector=accumulator,children=a",
            "name=also,alias=b",
            "name=self,collector=sum,children=self",
        ];
        let source = Fixed(lines.iter().map(|l| Definition::parse(l).unwrap()).collect());
        for (name, expected) in [
            ("a", 5),
            ("sum", 12),
            ("avg", 6),
            ("plus", 15),
            ("times", 21),
            ("file", -4),
            ("percent", 12),
            ("gone", 0),
            ("acc", 30),
            ("also", 7),
            ("self", 0),
        ] {
            assert_eq!(value(&source, name), Some(expected), "{name}");
        }
        assert_eq!(value(&source, "unknown"), None);
    }
}

//! A table of text for people: columns as wide as what stands in them.

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Two blanks between columns, and no blanks at the end of a line.
pub(super) fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let heads = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    all.iter().map(|row| line(columns, &widths, row)).collect()
}

fn line(columns: &[(&str, Side)], widths: &[usize], row: &[String]) -> String {
    let cells = row.iter().zip(columns).zip(widths).map(|((cell, (_, side)), width)| match side {
        Side::Left => format!("{cell:<width$}"),
        Side::Right => format!("{cell:>width$}"),
    });
    format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["é".into(), "7".into()], vec!["long".into(), "1234".into()]];
        assert_eq!(table(&[("A", Side::Left), ("NUM", Side::Right)], &rows), "A      NUM\né        7\nlong  1234\n");
    }
}

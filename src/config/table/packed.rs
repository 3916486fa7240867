//! The rows as the program has them: numbers and one text.
//!
//! As they are written rows are full of addresses, five and more each, and the dynamic linker would write them (100 KiB) into the memory of every
//! process that is started. So the compiler packs them: nothing of this is written to, and all processes share it.

use super::{Apply, CHAPTERS, Kind, Row, Section, Spec, Status};

const ROWS: usize = count(false);
const NAMES: usize = count(true);
/// More than all texts together.
const MOST: usize = 256 * 1024;

/// A part of [`TEXT`].
#[derive(Clone, Copy)]
struct Part {
    at: u32,
    len: u16,
}

/// A [`Row`] without addresses.
#[derive(Clone, Copy)]
struct Packed {
    /// The name, then the aliases, with blanks between them.
    names: Part,
    name: u16,
    help: Part,
    short: Option<char>,
    section: Section,
    kind: Kind,
    list: bool,
    needs_master: bool,
    status: Tag,
}

#[derive(Clone, Copy)]
enum Tag {
    /// Where it is in [`APPLY`].
    Done(u16),
    Immediate,
    NoEffect(Part),
    NotYet {
        stops: bool,
        instead: Part,
    },
}

/// A name or alias and its row.
#[derive(Clone, Copy)]
struct Name {
    name: Part,
    row: u16,
}

/// What the compiler fills.
struct Work {
    text: [u8; MOST],
    used: usize,
    rows: [Packed; ROWS],
    apply: [Apply; ROWS],
    applied: usize,
    names: [Name; NAMES],
    named: usize,
}

#[allow(long_running_const_eval)] // it ends, in a second
const WORK: Work = pack();

static PACKED: [Packed; ROWS] = WORK.rows;
static APPLY: [Apply; WORK.applied] = *WORK.apply.first_chunk().unwrap();
static BYTES: [u8; WORK.used] = *WORK.text.first_chunk().unwrap();
static TEXT: &str = match std::str::from_utf8(&BYTES) {
    Ok(text) => text,
    Err(_) => panic!("rows are texts"),
};
/// In the order of their bytes.
static BY_NAME: [Name; NAMES] = sorted(WORK.names);

/// Every option, chapter by chapter.
pub fn all() -> impl Iterator<Item = Spec> {
    PACKED.iter().map(Packed::spec)
}

/// The chapters in the manual's order, each with its options.
pub fn chapters() -> impl Iterator<Item = (Section, impl Iterator<Item = Spec>)> {
    PACKED.chunk_by(|one, other| one.section == other.section).map(|rows| (rows[0].section, rows.iter().map(Packed::spec)))
}

/// Every name and alias.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().flat_map(|spec| spec.names())
}

/// The option of that name or alias.
pub fn lookup(name: &str) -> Option<Spec> {
    find(name).map(Packed::spec)
}

/// The chapter of the option of that name or alias.
pub fn section(name: &str) -> Option<Section> {
    find(name).map(|row| row.section)
}

/// The option of that one-letter name.
pub fn by_short(letter: char) -> Option<Spec> {
    PACKED.iter().find(|row| row.short == Some(letter)).map(Packed::spec)
}

fn find(name: &str) -> Option<&'static Packed> {
    let found = BY_NAME.binary_search_by(|one| one.name.text().cmp(name)).ok()?;
    Some(&PACKED[usize::from(BY_NAME[found].row)])
}

impl Part {
    fn text(self) -> &'static str {
        &TEXT[self.at as usize..self.at as usize + usize::from(self.len)]
    }
}

impl Packed {
    fn spec(&self) -> Spec {
        let names = self.names.text();
        Spec {
            name: &names[..usize::from(self.name)],
            names,
            short: self.short,
            kind: self.kind,
            list: self.list,
            needs_master: self.needs_master,
            help: self.help.text(),
            status: match self.status {
                Tag::Done(apply) => Status::Done(APPLY[usize::from(apply)]),
                Tag::Immediate => Status::Immediate,
                Tag::NoEffect(why) => Status::NoEffect(why.text()),
                Tag::NotYet { stops, instead } => Status::NotYet { stops, instead: instead.text() },
            },
        }
    }
}

// -- what the compiler does

/// How many rows there are, or names in them.
const fn count(names: bool) -> usize {
    let (mut found, mut chapter) = (0, 0);
    while chapter < CHAPTERS.len() {
        let mut list = 0;
        while list < CHAPTERS[chapter].1.len() {
            let mut row = 0;
            while row < CHAPTERS[chapter].1[list].len() {
                found += if names { 1 + CHAPTERS[chapter].1[list][row].aliases.len() } else { 1 };
                row += 1;
            }
            list += 1;
        }
        chapter += 1;
    }
    found
}

const fn pack() -> Work {
    let nothing = Part { at: 0, len: 0 };
    let blank = Packed {
        names: nothing,
        name: 0,
        help: nothing,
        short: None,
        section: Section::Config,
        kind: Kind::Flag,
        list: false,
        needs_master: false,
        status: Tag::Immediate,
    };
    let mut work = Work {
        text: [0; MOST],
        used: 0,
        rows: [blank; ROWS],
        apply: [|_, _| Ok(()); ROWS],
        applied: 0,
        names: [Name { name: nothing, row: 0 }; NAMES],
        named: 0,
    };
    let (mut number, mut chapter) = (0, 0);
    while chapter < CHAPTERS.len() {
        let (section, lists) = CHAPTERS[chapter];
        let mut list = 0;
        while list < lists.len() {
            let mut row = 0;
            while row < lists[list].len() {
                work.row(number, section, &lists[list][row]);
                number += 1;
                row += 1;
            }
            list += 1;
        }
        chapter += 1;
    }
    work
}

impl Work {
    const fn row(&mut self, number: usize, section: Section, row: &Row) {
        let mut names = self.name(row.name, number);
        let mut alias = 0;
        while alias < row.aliases.len() {
            self.put(" ");
            names.len += 1 + self.name(row.aliases[alias], number).len;
            alias += 1;
        }
        self.rows[number] = Packed {
            names,
            name: row.name.len() as u16,
            help: self.put(row.help),
            short: row.short,
            section,
            kind: row.kind,
            list: row.list,
            needs_master: row.needs_master,
            status: self.status(row.status, number),
        };
    }

    const fn name(&mut self, name: &str, number: usize) -> Part {
        let name = self.put(name);
        self.names[self.named] = Name { name, row: number as u16 };
        self.named += 1;
        name
    }

    const fn status(&mut self, status: Status, number: usize) -> Tag {
        match status {
            Status::Done(apply) => {
                self.apply[self.applied] = apply;
                self.applied += 1;
                Tag::Done(self.applied as u16 - 1)
            }
            Status::Immediate => Tag::Immediate,
            Status::NoEffect(why) => Tag::NoEffect(self.reason(why, number)),
            Status::NotYet { stops, instead } => Tag::NotYet { stops, instead: self.reason(instead, number) },
        }
    }

    /// Neighbours often have the same reason.
    const fn reason(&mut self, text: &str, number: usize) -> Part {
        if number > 0
            && let Tag::NoEffect(last) | Tag::NotYet { instead: last, .. } = self.rows[number - 1].status
            && matches!(order(&self.text, last, text.as_bytes(), Part { at: 0, len: text.len() as u16 }), 0)
        {
            return last;
        }
        self.put(text)
    }

    const fn put(&mut self, text: &str) -> Part {
        let part = Part { at: self.used as u32, len: text.len() as u16 };
        let mut at = 0;
        while at < text.len() {
            self.text[self.used] = text.as_bytes()[at];
            self.used += 1;
            at += 1;
        }
        part
    }
}

/// Below zero, zero or above, as `a` in `text` comes before `b` in `other`, is the same, or comes behind it.
const fn order(text: &[u8], a: Part, other: &[u8], b: Part) -> i32 {
    let mut at = 0;
    while at < a.len as usize && at < b.len as usize {
        let (one, two) = (text[a.at as usize + at], other[b.at as usize + at]);
        if one != two {
            return one as i32 - two as i32;
        }
        at += 1;
    }
    a.len as i32 - b.len as i32
}

/// By heapsort: `sort` is not for the compiler yet.
const fn sorted(mut names: [Name; NAMES]) -> [Name; NAMES] {
    let mut start = NAMES / 2;
    while start > 0 {
        start -= 1;
        sift(&mut names, start, NAMES);
    }
    let mut end = NAMES;
    while end > 1 {
        end -= 1;
        names.swap(0, end);
        sift(&mut names, 0, end);
    }
    names
}

/// Lets the name at `root` sink to its place in the heap of the first `end`.
const fn sift(names: &mut [Name; NAMES], mut root: usize, end: usize) {
    while 2 * root + 1 < end {
        let mut child = 2 * root + 1;
        if child + 1 < end && before(names[child], names[child + 1]) {
            child += 1;
        }
        if !before(names[root], names[child]) {
            return;
        }
        names.swap(root, child);
        root = child;
    }
}

const fn before(one: Name, other: Name) -> bool {
    order(&BYTES, one.name, &BYTES, other.name) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_the_row_that_was_written() {
        assert!(BY_NAME.is_sorted_by_key(|one| one.name.text()));
        let rows =
            CHAPTERS.iter().flat_map(|(section, lists)| lists.iter().flat_map(move |list| list.iter().map(move |row| (*section, row))));
        let mut found = 0;
        for (section, row) in rows {
            for name in std::iter::once(row.name).chain(row.aliases.iter().copied()) {
                let spec = lookup(name).expect(name);
                assert_eq!((spec.name, spec.help, spec.short, spec.kind), (row.name, row.help, row.short, row.kind));
                assert_eq!((spec.list, spec.needs_master), (row.list, row.needs_master), "{name}");
                assert!(spec.names().eq(std::iter::once(row.name).chain(row.aliases.iter().copied())), "{name}");
                assert_eq!(super::super::section(name), Some(section));
                match (spec.status, row.status) {
                    (Status::Done(one), Status::Done(other)) => assert!(std::ptr::fn_addr_eq(one, other), "{name}"),
                    (Status::Immediate, Status::Immediate) => {}
                    (Status::NoEffect(one), Status::NoEffect(other)) => assert_eq!(one, other, "{name}"),
                    (Status::NotYet { stops: a, instead: one }, Status::NotYet { stops: b, instead: other }) => {
                        assert_eq!((a, one), (b, other))
                    }
                    _ => panic!("{name}: {:?}", spec.status),
                }
                found += 1;
            }
        }
        assert_eq!((found, all().count()), (NAMES, ROWS));
        assert!(["", "a", "zzz", "master ", " master"].iter().all(|name| lookup(name).is_none()));
    }
}

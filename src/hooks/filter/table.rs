//! A whole rule set as a value: sets, chains and the policy, read from text and written to it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use super::name::Name;
use super::rule::Rule;
use super::set::{Element, SetKind};
use super::text::{ParseRuleError, Word, code_of, parse_line, ports_of, words};
use super::{Filter, Policy};
use crate::packet::Interface;

/// Sets, chains of rules and a policy: what [`Filter::table`] gives and [`Filter::diff`] takes.
///
/// Its text form, with sets before chains and the main chain first:
///
/// ```text
/// set blocked {
///     type ipv4_addr
///     size 1000
///     elements = { 198.51.100.0/24, 203.0.113.9 }
/// }
/// chain main {
///     policy drop
///     ip saddr @blocked drop
///     tcp dport 80 jump web
/// }
/// chain web {
///     ct state established,new accept
/// }
/// ```
///
/// Types are `ipv4_addr`, `ipv6_addr` and `inet_service`; a size that is not given is 1,024, or as many as there are
/// elements; a policy that is not given is to accept. What follows a `#` is skipped, and so are blank lines and the numbers
/// behind `counter`.
///
/// ```
/// use gufc::hooks::filter::Table;
///
/// let text = "chain main {\n\tpolicy drop\n\ttcp dport 22 accept\n}\n";
/// let table: Table = text.parse()?;
/// assert_eq!(table.to_string(), text);
///
/// let error = "chain main {\n  tcp dport 22 acept\n}".parse::<Table>().unwrap_err();
/// assert_eq!((error.line, error.column, error.found.as_str()), (2, 16, "acept"));
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What happens to packets that no rule decides.
    pub policy: Policy,
    /// Sets by name.
    pub sets: BTreeMap<Name, SetTable>,
    /// Rules by chain. The main chain may be left out where it has none.
    pub chains: BTreeMap<Name, Vec<Rule>>,
}

/// One set of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTable {
    /// What it holds.
    pub kind: SetKind,
    /// The most elements that it may hold.
    pub capacity: usize,
    /// Its elements.
    pub elements: BTreeSet<Element>,
}

/// The size of a set whose text gives none.
const SIZE_UNSAID: usize = 1024;

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

impl Filter {
    /// All that the filter holds, but for counters and ids. Cost: O(rules + elements).
    pub fn table(&self) -> Table {
        let rules = |slot| self.rules.iter(slot).map(|held| held.rule.clone());
        let chains = self.rules.chains();
        let sets = self.rules.sets().map(|set| {
            let table = SetTable {
                kind: set.kind,
                capacity: set.capacity,
                elements: set.elements(),
            };
            (set.name, table)
        });
        Table {
            policy: self.policy,
            sets: sets.collect(),
            chains: chains
                .map(|(name, slot)| (name, rules(slot).collect()))
                .collect(),
        }
    }

    /// The table as text with counters and ids, for people; it reads as a [`Table`] too.
    ///
    /// ```
    /// use gufc::hooks::filter::{Filter, Place, Policy};
    ///
    /// let mut filter = Filter::new("filter", 100, 1, Policy::Drop);
    /// let _ = filter.insert(Place::Last, "tcp dport 22 accept".parse()?)?;
    /// let listing = "chain main {\n\tpolicy drop\n\tcounter packets 0 bytes 0 tcp dport 22 accept # handle 0\n}\n";
    /// assert_eq!(filter.listing().to_string(), listing);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn listing(&self) -> impl fmt::Display {
        Listing(self)
    }
}

struct Listing<'a>(&'a Filter);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.0.rules;
        for set in rules.sets() {
            write_set(f, set.name, set.kind, set.capacity, &set.elements())?;
        }
        let others = rules.chains().filter(|(name, _)| *name != Name::MAIN);
        for (name, slot) in [(Name::MAIN, super::ruleset::MAIN)]
            .into_iter()
            .chain(others)
        {
            begin_chain(f, name, self.0.policy)?;
            for held in rules.iter(slot) {
                let counter = rules.counter(held.id).unwrap_or_default();
                let (packets, bytes) = (counter.packets, counter.bytes);
                write!(f, "\tcounter packets {packets} bytes {bytes} ")?;
                writeln!(f, "{} # handle {}", held.rule, held.id)?;
            }
            f.write_str("}\n")?;
        }
        Ok(())
    }
}

/// Writes the table so that it can be read again.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, set) in &self.sets {
            write_set(f, *name, set.kind, set.capacity, &set.elements)?;
        }
        let empty = Vec::new();
        let main = self.chains.get(&Name::MAIN).unwrap_or(&empty);
        let others = self.chains.iter().filter(|(name, _)| **name != Name::MAIN);
        for (name, rules) in [(&Name::MAIN, main)].into_iter().chain(others) {
            begin_chain(f, *name, self.policy)?;
            for rule in rules {
                writeln!(f, "\t{rule}")?;
            }
            f.write_str("}\n")?;
        }
        Ok(())
    }
}

fn begin_chain(f: &mut fmt::Formatter<'_>, name: Name, policy: Policy) -> fmt::Result {
    writeln!(f, "chain {name} {{")?;
    if name == Name::MAIN {
        writeln!(f, "\tpolicy {policy}")?;
    }
    Ok(())
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    name: Name,
    kind: SetKind,
    capacity: usize,
    elements: &BTreeSet<Element>,
) -> fmt::Result {
    writeln!(f, "set {name} {{\n\ttype {kind}\n\tsize {capacity}")?;
    let mut joint = "\telements = { ";
    for element in elements {
        write!(f, "{joint}{element}")?;
        joint = ", ";
    }
    f.write_str(if elements.is_empty() {
        "}\n"
    } else {
        " }\n}\n"
    })
}

/// Reads a table. Interfaces are numbers; use [`parse_table`] for names.
impl FromStr for Table {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        parse_table(text, |_| None)
    }
}

/// Reads a [`Table`] whose interfaces may be named: `interface` gives the interface of a name.
///
/// # Errors
///
/// The first place where the text cannot go on.
pub fn parse_table(
    text: &str,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<Table, ParseRuleError> {
    let mut table = Table::default();
    let mut block = Block::Outside;
    let mut last = 0;
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        last = number;
        if code.trim().is_empty() {
            continue;
        }
        let mut cursor = Cursor::new(code, number + 1);
        block = match block {
            Block::Outside => cursor.begin(&mut table)?,
            Block::Chain(_) if cursor.peek() == "}" => {
                cursor.take();
                cursor.nothing_more()?;
                Block::Outside
            }
            Block::Chain(name) => {
                if name == Name::MAIN && cursor.peek() == "policy" {
                    cursor.take();
                    table.policy = cursor.value("accept or drop", |word| match word {
                        "accept" => Some(Policy::Accept),
                        "drop" => Some(Policy::Drop),
                        _ => None,
                    })?;
                    cursor.nothing_more()?;
                } else {
                    let rule = parse_line(code, number + 1, &interface)?;
                    table.chains.entry(name).or_default().push(rule);
                }
                Block::Chain(name)
            }
            Block::Set(set) => cursor.set(set, &mut table)?,
        };
    }
    match block {
        Block::Outside => {
            // A filter has a main chain, named or not.
            table.chains.entry(Name::MAIN).or_default();
            Ok(table)
        }
        _ => Err(ParseRuleError {
            line: last + 1,
            column: text
                .lines()
                .nth(last)
                .map_or(0, |line| line.chars().count())
                + 1,
            expected: "} at the end of the block",
            found: String::new(),
        }),
    }
}

/// Where in a text the reader is.
enum Block {
    Outside,
    Chain(Name),
    Set(SetDraft),
}

/// A set of which not all has been read.
struct SetDraft {
    name: Name,
    kind: Option<SetKind>,
    size: Option<usize>,
    elements: BTreeSet<Element>,
    /// Within the braces of the elements; whether an element may come next.
    within: Option<bool>,
}

/// The words of a line, punctuation apart.
struct Cursor<'a> {
    words: Vec<Word<'a>>,
    next: usize,
    line: usize,
    end: usize,
}

type Parsed<T> = Result<T, ParseRuleError>;

impl<'a> Cursor<'a> {
    fn new(code: &'a str, line: usize) -> Self {
        let mut split = Vec::new();
        for word in words(code) {
            let (mut text, mut column) = (word.text, word.column);
            while let Some(at) = text.find(['{', '}', ',', '=']) {
                for (part, offset) in [(text.get(..at), 0), (text.get(at..=at), at)] {
                    if let Some(part) = part.filter(|part| !part.is_empty()) {
                        let column = column + text.get(..offset).map_or(0, |t| t.chars().count());
                        split.push(Word { text: part, column });
                    }
                }
                column += text.get(..=at).map_or(0, |t| t.chars().count());
                text = text.get(at + 1..).unwrap_or("");
            }
            if !text.is_empty() {
                split.push(Word { text, column });
            }
        }
        Self {
            words: split,
            next: 0,
            line,
            end: code.trim_end().chars().count() + 1,
        }
    }

    fn peek(&self) -> &'a str {
        self.words.get(self.next).map_or("", |word| word.text)
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.next += 1;
        word
    }

    fn expected(&self, expected: &'static str) -> ParseRuleError {
        let word = self.words.get(self.next);
        ParseRuleError {
            line: self.line,
            column: word.map_or(self.end, |word| word.column),
            expected,
            found: word.map_or(String::new(), |word| word.text.to_string()),
        }
    }

    fn value<T>(&mut self, expected: &'static str, read: impl Fn(&str) -> Option<T>) -> Parsed<T> {
        let value = read(self.peek()).ok_or_else(|| self.expected(expected))?;
        self.next += 1;
        Ok(value)
    }

    fn exactly(&mut self, wanted: &str, expected: &'static str) -> Parsed<()> {
        self.value(expected, |word| (word == wanted).then_some(()))
    }

    fn nothing_more(&self) -> Parsed<()> {
        if self.next < self.words.len() {
            return Err(self.expected("the end of the line"));
        }
        Ok(())
    }

    /// `set NAME {` or `chain NAME {`.
    fn begin(&mut self, table: &mut Table) -> Parsed<Block> {
        let is_set = self.value("set or chain", |word| match word {
            "set" => Some(true),
            "chain" => Some(false),
            _ => None,
        })?;
        let name = self.value("a name that is not taken", |word| {
            let name = Name::new(word)?;
            let taken = if is_set {
                table.sets.contains_key(&name)
            } else {
                table.chains.contains_key(&name)
            };
            (!taken).then_some(name)
        })?;
        self.exactly("{", "{ and a new line")?;
        self.nothing_more()?;
        if is_set {
            return Ok(Block::Set(SetDraft {
                name,
                kind: None,
                size: None,
                elements: BTreeSet::new(),
                within: None,
            }));
        }
        table.chains.insert(name, Vec::new());
        Ok(Block::Chain(name))
    }

    /// A line of a set.
    fn set(&mut self, mut set: SetDraft, table: &mut Table) -> Parsed<Block> {
        while self.next < self.words.len() {
            if set.within.is_some() {
                self.elements(&mut set)?;
                continue;
            }
            match self.peek() {
                "type" => {
                    self.take();
                    set.kind =
                        Some(self.value("ipv4_addr, ipv6_addr or inet_service", |word| {
                            let kind = SetKind::NAMES.iter().find(|(_, name)| *name == word);
                            kind.map(|(kind, _)| *kind)
                        })?);
                }
                "size" => {
                    self.take();
                    let held = set.elements.len();
                    let size = self.value(
                        "a number of elements, not below those that there are",
                        |word| word.parse().ok().filter(|size| *size >= held),
                    )?;
                    set.size = Some(size);
                }
                "elements" if set.kind.is_some() => {
                    self.take();
                    self.exactly("=", "=")?;
                    self.exactly("{", "{")?;
                    set.within = Some(true);
                }
                "}" if set.kind.is_some() => {
                    self.take();
                    self.nothing_more()?;
                    let capacity = set.size.unwrap_or(SIZE_UNSAID.max(set.elements.len()));
                    let kind = set.kind.unwrap_or(SetKind::Ports);
                    let done = SetTable {
                        kind,
                        capacity,
                        elements: set.elements,
                    };
                    table.sets.insert(set.name, done);
                    return Ok(Block::Outside);
                }
                _ if set.kind.is_some() => {
                    return Err(self.expected("type, size, elements or }"));
                }
                _ => return Err(self.expected("the type or the size")),
            }
        }
        Ok(Block::Set(set))
    }

    /// Within the braces: one element, comma or the closing brace.
    fn elements(&mut self, set: &mut SetDraft) -> Parsed<()> {
        let element_may_come = set.within == Some(true);
        match self.peek() {
            "}" => {
                self.take();
                set.within = None;
            }
            "," if !element_may_come => {
                self.take();
                set.within = Some(true);
            }
            _ if !element_may_come => return Err(self.expected(", or }")),
            _ => {
                let room = set.size.is_none_or(|size| set.elements.len() < size);
                if !room {
                    return Err(self.expected("no more elements than the size"));
                }
                let kind = set.kind.unwrap_or(SetKind::Ports);
                let expected = match kind {
                    SetKind::V4 => {
                        "an IPv4 address or prefix that the set does not have yet, without host bits"
                    }
                    SetKind::V6 => {
                        "an IPv6 address or prefix that the set does not have yet, without host bits"
                    }
                    SetKind::Ports => {
                        "a port or a range of ports apart from those that the set has"
                    }
                };
                let elements = &set.elements;
                let element = self.value(expected, |word| {
                    let element = match kind {
                        SetKind::Ports => Element::Ports(ports_of(word)?),
                        _ => Element::Prefix(word.parse().ok()?),
                    };
                    let fits = kind.admits(&element) && !clashes(elements, &element);
                    fits.then_some(element)
                })?;
                set.elements.insert(element);
                set.within = Some(false);
            }
        }
        Ok(())
    }
}

/// Whether a set that has these may not have this one too.
fn clashes(elements: &BTreeSet<Element>, element: &Element) -> bool {
    match element {
        Element::Prefix(_) => elements.contains(element),
        Element::Ports(ports) => {
            let last = Element::Ports(crate::key::Ports {
                first: ports.last,
                last: u16::MAX,
            });
            let below = elements.range(..=last).next_back();
            below.is_some_and(|below| matches!(below, Element::Ports(p) if p.last >= ports.first))
        }
    }
}

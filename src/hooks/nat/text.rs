//! Translation rules as text: a filter's matches, then an action of translation.
//!
//! Apart because only the action is new: what comes before it is read by the filter's own parser, so that errors say the
//! same things at the same columns.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use super::action::{Action, End, Range};
use super::mapping::PoolId;
use super::rules::Rule;
use crate::hooks::filter::{self, ParseRuleError};
use crate::key::{Cidr, Ports};
use crate::packet::Interface;

/// Reads one rule. Interfaces are numbers; use [`parse_rule`] for names.
impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        parse_rule(text, |_| None)
    }
}

/// Reads one rule whose interfaces may be named: `interface` gives the interface of a name.
///
/// # Errors
///
/// The first place where the text cannot go on, as line 1.
///
/// ```
/// use gufc::hooks::nat::parse_rule;
/// use gufc::packet::Interface;
///
/// let wan = |name: &str| (name == "wan").then_some(Interface(7));
/// let rule = parse_rule("ip saddr 10.0.0.0/8 oif wan snat to 192.0.2.1-192.0.2.4 persistent", wan)?;
/// assert_eq!(rule.to_string(), "ip saddr 10.0.0.0/8 oif 7 snat to 192.0.2.1-192.0.2.4 persistent");
/// let error = parse_rule("tcp dport 80 dnat 10.0.0.1", wan).unwrap_err();
/// assert_eq!(error.to_string(), "line 1, column 19: expected to or prefix to, found '10.0.0.1'");
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
pub fn parse_rule(
    text: &str,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<Rule, ParseRuleError> {
    parse_line(text, 1, &interface)
}

/// Reads rules: one a line; empty lines and what follows a `#` are skipped.
///
/// # Errors
///
/// The first line that is not a rule.
pub fn parse_rules(
    text: &str,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<Vec<Rule>, ParseRuleError> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let end = quoted(line).find(|(_, character, quoted)| *character == '#' && !quoted);
        let code = end.map_or(line, |(at, ..)| line.get(..at).unwrap_or(line));
        if !code.trim().is_empty() {
            rules.push(parse_line(code, number + 1, &interface)?);
        }
    }
    Ok(rules)
}

/// Characters with their places, and whether each stands between quotes.
fn quoted(line: &str) -> impl Iterator<Item = (usize, char, bool)> {
    let mut within = false;
    line.char_indices().map(move |(at, character)| {
        let before = within;
        within ^= character == '"';
        (at, character, before || within)
    })
}

/// A word: where it begins in bytes, its column in characters from 1, and its text.
#[derive(Clone, Copy)]
struct Word<'a> {
    at: usize,
    column: usize,
    text: &'a str,
}

fn words(line: &str) -> Vec<Word<'_>> {
    let mut found: Vec<Word<'_>> = Vec::new();
    let mut start = None;
    for (number, (at, character, within)) in quoted(line).enumerate() {
        let blank = character.is_whitespace() && !within;
        match (blank, start) {
            (false, None) => start = Some((at, number + 1)),
            (true, Some((from, column))) => {
                let text = line.get(from..at).unwrap_or("");
                found.push(Word {
                    at: from,
                    column,
                    text,
                });
                start = None;
            }
            _ => {}
        }
    }
    if let Some((at, column)) = start {
        let text = line.get(at..).unwrap_or("");
        found.push(Word { at, column, text });
    }
    found
}

const ACTIONS: &str = "snat, dnat, masquerade, redirect, nat64 or no";

fn parse_line<F: Fn(&str) -> Option<Interface>>(
    text: &str,
    line: usize,
    interface: &F,
) -> Result<Rule, ParseRuleError> {
    let words = words(text);
    let is_action = |word: &Word<'_>| {
        matches!(
            word.text,
            "snat" | "dnat" | "masquerade" | "redirect" | "nat64" | "no"
        )
    };
    let first = words.iter().position(is_action);
    let head = first.and_then(|first| words.get(first));
    let before = head.map_or(text, |word| text.get(..word.at).unwrap_or(text));
    let matches = if before.trim().is_empty() {
        filter::Rule::default()
    } else {
        filter::parse_rule(before, interface).map_err(|error| ParseRuleError { line, ..error })?
    };
    let mut parser = Parser {
        words: &words,
        next: first.unwrap_or(words.len()),
        line,
        end: text.trim_end().chars().count() + 1,
    };
    let plain = filter::Rule {
        pattern: matches.pattern,
        except: matches.except.clone(),
        conditions: matches.conditions,
        ..filter::Rule::default()
    };
    if plain != matches {
        return Err(parser.expected("matches only, and no statement, before the action"));
    }
    let mut rule = Rule {
        matches,
        action: parser.action()?,
    };
    if parser.accept("comment") {
        let comment = parser.value("a comment in quotes, at most 255 bytes", |word| {
            let text = word.strip_prefix('"')?.strip_suffix('"')?;
            (text.len() <= 255 && !text.contains('"')).then(|| text.to_string())
        })?;
        rule.matches.comment = Some(comment);
    }
    if parser.next < words.len() {
        return Err(parser.expected("nothing more but a comment after the action"));
    }
    Ok(rule)
}

struct Parser<'a> {
    words: &'a [Word<'a>],
    next: usize,
    line: usize,
    end: usize,
}

impl Parser<'_> {
    fn expected(&self, expected: &'static str) -> ParseRuleError {
        let (column, found) = match self.words.get(self.next) {
            Some(word) => (word.column, word.text.to_string()),
            None => (self.end, String::new()),
        };
        ParseRuleError {
            line: self.line,
            column,
            expected,
            found,
        }
    }

    fn accept(&mut self, text: &str) -> bool {
        let found = self.words.get(self.next).is_some_and(|w| w.text == text);
        self.next += usize::from(found);
        found
    }

    fn value<T>(
        &mut self,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ParseRuleError> {
        let word = self.words.get(self.next).map_or("", |word| word.text);
        let value = read(word).ok_or_else(|| self.expected(expected))?;
        self.next += 1;
        Ok(value)
    }

    fn action(&mut self) -> Result<Action, ParseRuleError> {
        if self.accept("no") {
            let end = self.value("snat or dnat", |word| match word {
                "snat" => Some(End::Source),
                "dnat" => Some(End::Destination),
                _ => None,
            })?;
            return Ok(Action::Leave(end));
        }
        if self.accept("masquerade") {
            let ports = self.ports()?;
            let random = self.accept("random");
            return Ok(Action::Masquerade { ports, random });
        }
        if self.accept("redirect") {
            let ports = self.ports()?;
            return Ok(Action::Redirect { ports });
        }
        if self.accept("nat64") {
            self.value("to", |word| (word == "to").then_some(()))?;
            self.value("pool", |word| (word == "pool").then_some(()))?;
            let number = self.value("the number of a pool", |word| word.parse().ok())?;
            return Ok(Action::Nat64(PoolId(number)));
        }
        let end = self.value(ACTIONS, |word| match word {
            "snat" => Some(End::Source),
            "dnat" => Some(End::Destination),
            _ => None,
        })?;
        if self.accept("prefix") {
            self.value("to", |word| (word == "to").then_some(()))?;
            let prefix = self.value("a prefix without host bits", |w| w.parse::<Cidr>().ok())?;
            return Ok(Action::Netmap(end, prefix));
        }
        self.value("to or prefix to", |word| (word == "to").then_some(()))?;
        if end == End::Source && self.accept("pool") {
            let number = self.value("the number of a pool", |word| word.parse().ok())?;
            return Ok(Action::Pool(PoolId(number)));
        }
        let (addresses, ports) = self.value(
            "addresses, ports, or both, such as 192.0.2.1-192.0.2.4:1024-2047, [2001:db8::1]:80 or :8080",
            target,
        )?;
        let mut range = Range {
            addresses,
            ports,
            ..Range::default()
        };
        loop {
            if self.accept("random") {
                range.random = true;
            } else if self.accept("persistent") {
                range.persistent = true;
            } else if self.accept("shift") {
                if ports.is_none() {
                    self.next -= 1;
                    return Err(self.expected("ports in the target before a shift"));
                }
                range.base = Some(self.value("a port", |word| word.parse().ok())?);
            } else {
                return Ok(Action::Change(end, range));
            }
        }
    }

    /// `to :first-last`, if it is there.
    fn ports(&mut self) -> Result<Option<Ports>, ParseRuleError> {
        if !self.accept("to") {
            return Ok(None);
        }
        self.value("a port or ports such as :1024-2047", |word| {
            ports_of(word.strip_prefix(':')?)
        })
        .map(Some)
    }
}

type Target = (Option<(IpAddr, IpAddr)>, Option<Ports>);

/// `A`, `A-B`, `A:P`, `A-B:P-Q`, `[A]:P`, `[A]-[B]:P-Q`, `:P`, `:P-Q`.
fn target(word: &str) -> Option<Target> {
    let colons = word.matches(':').count();
    let (addresses, ports) = match word.rfind(']') {
        Some(at) => {
            let (addresses, rest) = word.split_at_checked(at + 1)?;
            let ports = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (addresses, ports)
        }
        None if colons > 1 => (word, None),
        None => match word.split_once(':') {
            Some((addresses, ports)) => (addresses, Some(ports)),
            None => (word, None),
        },
    };
    let ports = match ports {
        Some(ports) => Some(ports_of(ports)?),
        None => None,
    };
    if addresses.is_empty() {
        return ports.map(|ports| (None, Some(ports)));
    }
    let address = |text: &str| {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        bare.unwrap_or(text).parse::<IpAddr>().ok()
    };
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    let (first, last) = (address(first)?, address(last)?);
    let ordered = first.is_ipv4() == last.is_ipv4() && first <= last;
    ordered.then_some((Some((first, last)), ports))
}

fn ports_of(word: &str) -> Option<Ports> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Ports::new(first.parse().ok()?, last.parse().ok()?)
}

/// Writes the rule so that it can be read again.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = filter::Rule {
            comment: None,
            ..self.matches.clone()
        };
        let text = format!("{plain}");
        let matches = text.strip_suffix("continue").unwrap_or(&text);
        write!(f, "{matches}{}", self.action)?;
        match &self.matches.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.end() {
            End::Source => "snat",
            End::Destination => "dnat",
        };
        match self {
            Self::Leave(_) => write!(f, "no {name}"),
            Self::Netmap(_, prefix) => write!(f, "{name} prefix to {prefix}"),
            Self::Masquerade { ports, random } => {
                f.write_str("masquerade")?;
                if let Some(ports) = ports {
                    write!(f, " to :{ports}")?;
                }
                f.write_str(if *random { " random" } else { "" })
            }
            Self::Redirect { ports: Some(ports) } => write!(f, "redirect to :{ports}"),
            Self::Pool(PoolId(number)) => write!(f, "snat to pool {number}"),
            Self::Nat64(PoolId(number)) => write!(f, "nat64 to pool {number}"),
            Self::Redirect { ports: None } => f.write_str("redirect"),
            Self::Change(_, range) => {
                write!(f, "{name} to ")?;
                write_target(f, range)?;
                if range.random {
                    f.write_str(" random")?;
                }
                if range.persistent {
                    f.write_str(" persistent")?;
                }
                match range.base {
                    Some(base) => write!(f, " shift {base}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn write_target(f: &mut fmt::Formatter<'_>, range: &Range) -> fmt::Result {
    if let Some((first, last)) = range.addresses {
        let (open, close) = if first.is_ipv6() && range.ports.is_some() {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "{open}{first}{close}")?;
        if first != last {
            write!(f, "-{open}{last}{close}")?;
        }
    }
    match range.ports {
        Some(ports) => write!(f, ":{ports}"),
        None => Ok(()),
    }
}

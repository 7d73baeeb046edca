//! Rules as text: a small language that reads like nftables', with errors that say where and what was expected.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use super::name::Name;
use super::rule::{Action, Classes, FlagTest, Masked, Rule, StatusTest};
use super::set::{SetField, SetMatch};
use crate::hook::Direction;
use crate::key::{Cidr, Family, Pattern, Ports, Protocol, Zone};
use crate::packet::{Interface, TcpFlags};
use crate::verdict::Answer;

/// Why a text is not a rule: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRuleError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected.
    pub expected: &'static str,
    /// What stands there; empty at the end of the line.
    pub found: String,
}

impl fmt::Display for ParseRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: expected {}, found ",
            self.line, self.column, self.expected
        )?;
        if self.found.is_empty() {
            f.write_str("end of rule")
        } else {
            write!(f, "'{}'", self.found)
        }
    }
}

impl core::error::Error for ParseRuleError {}

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
pub fn parse_rule(
    text: &str,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<Rule, ParseRuleError> {
    parse_line(text, 1, &interface)
}

/// Reads a rule set: one rule a line; empty lines and what follows a `#` are skipped.
///
/// # Errors
///
/// The first line that is not a rule.
///
/// ```
/// use gufc::hooks::filter::parse_rules;
///
/// let rules = parse_rules("# web\ntcp dport 80 accept\n\ndrop\n", |_| None)?;
/// assert_eq!(rules.len(), 2);
/// let error = parse_rules("tcp dport 80 accept\ntcp dprot 81 drop", |_| None).unwrap_err();
/// assert_eq!(error.to_string(), "line 2, column 5: expected sport, dport or flags, found 'dprot'");
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
pub fn parse_rules(
    text: &str,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<Vec<Rule>, ParseRuleError> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        if !code.trim().is_empty() {
            rules.push(parse_line(code, number + 1, &interface)?);
        }
    }
    Ok(rules)
}

/// A line without its comment; a `#` between quotes is not one.
pub(super) fn code_of(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return line.get(..at).unwrap_or(line),
            _ => {}
        }
    }
    line
}

/// A word of a rule and the column where it begins.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) column: usize,
}

/// Splits at white space; a comma, a slash between blanks and quotes stay with their words.
pub(super) fn words(line: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let (mut start, mut quoted) = (None, false);
    let mut column = 0;
    for (at, character) in line.char_indices() {
        column += 1;
        if character == '"' {
            quoted = !quoted;
        }
        match (character.is_whitespace() && !quoted, start) {
            (false, None) => start = Some((at, column)),
            (true, Some((from, column))) => {
                found.push(Word {
                    text: line.get(from..at).unwrap_or(""),
                    column,
                });
                start = None;
            }
            _ => {}
        }
    }
    if let Some((from, column)) = start {
        found.push(Word {
            text: line.get(from..).unwrap_or(""),
            column,
        });
    }
    found
}

struct Parser<'a, F> {
    words: Vec<Word<'a>>,
    next: usize,
    line: usize,
    end: usize,
    interface: &'a F,
    rule: Rule,
    /// Whether a verdict has been read, after which only a comment may follow.
    done: bool,
}

type Parsed<T> = Result<T, ParseRuleError>;

pub(super) fn parse_line<F: Fn(&str) -> Option<Interface>>(
    text: &str,
    line: usize,
    interface: &F,
) -> Parsed<Rule> {
    let end = text.trim_end().chars().count() + 1;
    let mut parser = Parser {
        words: words(text),
        next: 0,
        line,
        end,
        interface,
        rule: Rule::default(),
        done: false,
    };
    if parser.words.is_empty() {
        return Err(parser.expected("a rule"));
    }
    while parser.next < parser.words.len() {
        parser.statement()?;
    }
    // In which order they were written makes no difference.
    let mut rule = parser.rule;
    rule.except.sort_unstable();
    rule.except.dedup();
    rule.sets.sort_unstable();
    rule.sets.dedup();
    Ok(rule)
}

impl<F: Fn(&str) -> Option<Interface>> Parser<'_, F> {
    /// The error of the word that would be next.
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

    fn peek(&self) -> &str {
        self.words.get(self.next).map_or("", |word| word.text)
    }

    /// Takes the next word if it is this one.
    fn accept(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        self.next += usize::from(found);
        found
    }

    /// Takes the next word and makes a value of it.
    fn value<T>(&mut self, expected: &'static str, read: impl Fn(&str) -> Option<T>) -> Parsed<T> {
        let word = self.words.get(self.next).map_or("", |word| word.text);
        let value = read(word).ok_or_else(|| self.expected(expected))?;
        self.next += 1;
        Ok(value)
    }

    fn statement(&mut self) -> Parsed<()> {
        if self.done && self.peek() != "comment" {
            return Err(self.expected("nothing more but a comment after the verdict"));
        }
        let word = self.peek().to_string();
        let at = self.next;
        self.next += 1;
        match word.as_str() {
            "ip" => self.address(Family::V4),
            "ip6" => self.address(Family::V6),
            "tcp" => self.ports(Protocol::TCP),
            "udp" => self.ports(Protocol::UDP),
            "udplite" => self.ports(Protocol::UDP_LITE),
            "sctp" => self.ports(Protocol::SCTP),
            "icmp" => self.icmp(Protocol::ICMP),
            "icmpv6" => self.icmp(Protocol::ICMPV6),
            "meta" => self.meta(),
            "fib" => self.locality(),
            "ct" => self.track(),
            "iif" => self
                .interface()
                .map(|interface| self.rule.conditions.ingress = Some(interface)),
            "oif" => self
                .interface()
                .map(|interface| self.rule.conditions.egress = Some(interface)),
            "zone" => {
                let zone =
                    self.value("a zone from 0 to 4194303", |w| Zone::new(w.parse().ok()?))?;
                self.rule.pattern.zone = Some(zone);
                Ok(())
            }
            // Every rule counts; the words are read for those who are used to writing them, and the numbers for listings.
            "counter" => {
                for word in ["packets", "bytes"] {
                    if self.accept(word) {
                        self.value("a number", |w| w.parse::<u64>().ok())?;
                    }
                }
                Ok(())
            }
            "log" => {
                self.rule.log = true;
                Ok(())
            }
            "accept" => self.verdict(Action::Accept),
            "drop" => self.verdict(Action::Drop),
            "continue" => self.verdict(Action::Continue),
            "return" => self.verdict(Action::Return),
            "jump" | "goto" => {
                let chain = self.value("the name of a chain", Name::new)?;
                self.verdict(if word == "jump" {
                    Action::Jump(chain)
                } else {
                    Action::Goto(chain)
                })
            }
            "reject" => {
                let answer = if self.accept("with") {
                    self.answer()?
                } else {
                    Answer::PortUnreachable
                };
                self.verdict(Action::Reject(answer))
            }
            "comment" => {
                let text = self.value("a comment in quotes, at most 255 bytes", |word| {
                    let text = word.strip_prefix('"')?.strip_suffix('"')?;
                    (text.len() <= 255 && !text.contains('"')).then(|| text.to_string())
                })?;
                self.rule.comment = Some(text);
                Ok(())
            }
            _ => {
                self.next = at;
                Err(self.expected(
                    "ip, ip6, tcp, udp, udplite, sctp, icmp, icmpv6, meta, fib, ct, iif, oif, zone, counter, log, \
                     accept, drop, reject, continue, jump, goto, return or comment",
                ))
            }
        }
    }

    fn verdict(&mut self, action: Action) -> Parsed<()> {
        self.rule.action = action;
        self.done = true;
        Ok(())
    }

    fn answer(&mut self) -> Parsed<Answer> {
        if self.accept("tcp") {
            return self.value("reset", |word| {
                (word == "reset").then_some(Answer::TcpReset)
            });
        }
        // nftables writes `icmp type port-unreachable`; the short form is enough.
        let _ = self.accept("icmp") || self.accept("icmpv6") || self.accept("icmpx");
        let _ = self.accept("type");
        self.value(
            "tcp reset, port-unreachable, host-unreachable, no-route or admin-prohibited",
            |word| {
                Answer::NAMES
                    .iter()
                    .find(|(_, name)| *name == word)
                    .map(|(answer, _)| *answer)
            },
        )
    }

    /// Confines the rule to a family and, once, to a protocol.
    fn confine(&mut self, family: Option<Family>, protocol: Option<Protocol>) -> Parsed<()> {
        let pattern = &mut self.rule.pattern;
        if family.is_some() {
            if pattern.implied_family().is_some() && pattern.implied_family() != family {
                self.next = self.next.saturating_sub(1);
                return Err(self.expected("no second family in one rule"));
            }
            pattern.family = family;
        }
        if protocol.is_some() {
            if pattern.protocol.is_some() && pattern.protocol != protocol {
                self.next = self.next.saturating_sub(1);
                return Err(self.expected("no second protocol in one rule"));
            }
            pattern.protocol = protocol;
        }
        Ok(())
    }

    fn address(&mut self, family: Family) -> Parsed<()> {
        self.confine(Some(family), None)?;
        let source = match self.peek() {
            "saddr" => true,
            "daddr" => false,
            "protocol" | "nexthdr" => {
                self.next += 1;
                return self.protocol();
            }
            _ => return Err(self.expected("saddr, daddr or protocol")),
        };
        self.next += 1;
        let negated = self.accept("!=");
        let field = if source {
            SetField::Source
        } else {
            SetField::Destination
        };
        if self.set(field, negated)? {
            return Ok(());
        }
        let prefix = self.value(
            "an address or prefix of the rule's family, without host bits",
            |word| {
                word.parse::<Cidr>()
                    .ok()
                    .filter(|prefix| prefix.family() == family)
            },
        )?;
        let mut hole = Pattern::ANY;
        let pattern = if negated {
            &mut hole
        } else {
            &mut self.rule.pattern
        };
        *(if source {
            &mut pattern.source
        } else {
            &mut pattern.destination
        }) = Some(prefix);
        self.exclude(negated, hole);
        Ok(())
    }

    /// Takes the next word if it begins as the name of a set does.
    fn set(&mut self, field: SetField, negated: bool) -> Parsed<bool> {
        if !self.peek().starts_with('@') {
            return Ok(false);
        }
        let set = self.value("@ and the name of a set", |word| {
            Name::new(word.strip_prefix('@')?)
        })?;
        self.rule.sets.push(SetMatch {
            field,
            negated,
            set,
        });
        Ok(true)
    }

    fn exclude(&mut self, negated: bool, hole: Pattern) {
        if negated {
            self.rule.except.push(hole);
        }
    }

    fn protocol(&mut self) -> Parsed<()> {
        let negated = self.accept("!=");
        let protocol = self.value(
            "a protocol: a name such as tcp, or a number from 0 to 255",
            |w| w.parse().ok(),
        )?;
        if negated {
            self.exclude(
                true,
                Pattern {
                    protocol: Some(protocol),
                    ..Pattern::ANY
                },
            );
            return Ok(());
        }
        self.confine(None, Some(protocol))
    }

    fn ports(&mut self, protocol: Protocol) -> Parsed<()> {
        self.confine(None, Some(protocol))?;
        let source = match self.peek() {
            "sport" => true,
            "dport" => false,
            "flags" if protocol == Protocol::TCP => {
                self.next += 1;
                return self.flags();
            }
            _ if protocol == Protocol::TCP => return Err(self.expected("sport, dport or flags")),
            _ => return Err(self.expected("sport or dport")),
        };
        self.next += 1;
        let negated = self.accept("!=");
        let field = if source {
            SetField::SourcePort
        } else {
            SetField::DestinationPort
        };
        if self.set(field, negated)? {
            return Ok(());
        }
        let ports = self.value("a port or a range of ports such as 1024-65535", ports_of)?;
        let mut hole = Pattern::ANY;
        let pattern = if negated {
            &mut hole
        } else {
            &mut self.rule.pattern
        };
        *(if source {
            &mut pattern.source_ports
        } else {
            &mut pattern.destination_ports
        }) = ports;
        self.exclude(negated, hole);
        Ok(())
    }

    /// `syn`, `syn|ack`, `syn / syn,ack,fin`, `== syn`.
    fn flags(&mut self) -> Parsed<()> {
        const FLAGS: &str = "TCP flags: fin, syn, rst, psh, ack, urg, ecn, cwr, joined by , or |";
        let exactly = self.accept("==");
        let value = self.value(FLAGS, flags_of)?;
        let test = if self.accept("/") {
            let mask = self.value(FLAGS, flags_of)?;
            if !mask.contains(value) {
                self.next -= 1;
                return Err(self.expected("a mask that has every flag of the value"));
            }
            FlagTest::Exactly { mask, value }
        } else if exactly {
            FlagTest::Exactly {
                mask: TcpFlags(0xff),
                value,
            }
        } else if value == TcpFlags::NONE {
            self.next -= 1;
            return Err(self.expected("a flag, for no packet has any of none"));
        } else {
            FlagTest::Any(value)
        };
        self.rule.conditions.flags = Some(test);
        Ok(())
    }

    fn icmp(&mut self, protocol: Protocol) -> Parsed<()> {
        self.confine(None, Some(protocol))?;
        let old = self.rule.pattern.destination_ports;
        if self.accept("type") {
            let kind = self.value("an ICMP type: a number from 0 to 255 or a name", |w| {
                icmp_type(protocol, w)
            })?;
            let first = u16::from(kind) << 8;
            self.rule.pattern.destination_ports = Ports {
                first,
                last: first | 0xff,
            };
        } else if self.accept("code") {
            if old.first >> 8 != old.last >> 8 {
                self.next -= 1;
                return Err(self.expected("the type before the code"));
            }
            let code = self.value("an ICMP code from 0 to 255", |w| w.parse::<u8>().ok())?;
            self.rule.pattern.destination_ports = Ports::one(old.first & 0xff00 | u16::from(code));
        } else if self.accept("id") {
            self.rule.pattern.source_ports =
                self.value("an identifier or a range of them", ports_of)?;
        } else {
            return Err(self.expected("type, code or id"));
        }
        Ok(())
    }

    fn meta(&mut self) -> Parsed<()> {
        if self.accept("nfproto") {
            let family = self.value("ipv4 or ipv6", |word| match word {
                "ipv4" => Some(Family::V4),
                "ipv6" => Some(Family::V6),
                _ => None,
            })?;
            self.confine(Some(family), None)
        } else if self.accept("l4proto") {
            self.protocol()
        } else if self.accept("length") {
            let range = self.value("a length or a range of lengths such as 0-128", |word| {
                let (least, most) = word.split_once('-').unwrap_or((word, word));
                let (least, most) = (least.parse().ok()?, most.parse().ok()?);
                (least <= most).then_some((least, most))
            })?;
            self.rule.conditions.length = Some(range);
            Ok(())
        } else if self.accept("mark") {
            if self.accept("set") {
                self.rule.set_mark = Some(self.value("a mark", number)?);
            } else {
                self.rule.conditions.mark = Some(self.value("a mark, or a mark/mask", masked)?);
            }
            Ok(())
        } else {
            Err(self.expected("nfproto, l4proto, length or mark"))
        }
    }

    /// `fib saddr type local`, `fib daddr type != local`.
    fn locality(&mut self) -> Parsed<()> {
        let source = self.value("saddr or daddr", |word| match word {
            "saddr" => Some(true),
            "daddr" => Some(false),
            _ => None,
        })?;
        self.value("type", |word| (word == "type").then_some(()))?;
        let local = !self.accept("!=");
        self.value("local", |word| (word == "local").then_some(()))?;
        let pattern = &mut self.rule.pattern;
        *(if source {
            &mut pattern.source_local
        } else {
            &mut pattern.destination_local
        }) = Some(local);
        Ok(())
    }

    fn track(&mut self) -> Parsed<()> {
        if self.accept("state") {
            let classes = self.value(
                "states: new, established, related, invalid, untracked, joined by ,",
                |word| {
                    word.split(',').try_fold(Classes::default(), |set, word| {
                        Classes::NAMES
                            .iter()
                            .find(|(_, name)| *name == word)
                            .map(|(class, _)| set.and(*class))
                    })
                },
            )?;
            self.rule.conditions.classes = Some(classes);
        } else if self.accept("direction") {
            let direction = self.value("original or reply", |word| match word {
                "original" => Some(Direction::Original),
                "reply" => Some(Direction::Reply),
                _ => None,
            })?;
            self.rule.conditions.direction = Some(direction);
        } else if self.accept("mark") {
            self.rule.conditions.track_mark = Some(self.value("a mark, or a mark/mask", masked)?);
        } else if self.accept("status") {
            self.rule.conditions.status = Some(self.status()?);
        } else if self.accept("zone") {
            let zone = self.value("a zone from 0 to 4194303", |w| Zone::new(w.parse().ok()?))?;
            self.rule.conditions.track_zone = Some(zone);
        } else {
            return Err(self.expected("state, status, direction, mark or zone"));
        }
        Ok(())
    }

    /// `assured`, `snat,dnat`, `assured / assured,dnat`, `none / dnat`.
    fn status(&mut self) -> Parsed<StatusTest> {
        const STATUS: &str = "statuses: expected, seen-reply, assured, confirmed, snat, dnat, dying, joined by , \
                              or none / and those";
        let bits = self.value(STATUS, status_of)?;
        if self.accept("/") {
            let mask = self.value(STATUS, status_of)?;
            if bits & !mask != 0 {
                self.next -= 1;
                return Err(self.expected("a mask that has every status of the value"));
            }
            return Ok(StatusTest {
                mask,
                value: Some(bits),
            });
        }
        if bits == 0 {
            return Err(self.expected("/ and the statuses of which there is to be none"));
        }
        Ok(StatusTest {
            mask: bits,
            value: None,
        })
    }

    fn interface(&mut self) -> Parsed<Interface> {
        let names = self.interface;
        self.value("an interface: a number, or a name that is known", |word| {
            word.parse()
                .ok()
                .map(Interface)
                .or_else(|| names(word.trim_matches('"')))
        })
    }
}

pub(super) fn ports_of(word: &str) -> Option<Ports> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Ports::new(first.parse().ok()?, last.parse().ok()?)
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn masked(word: &str) -> Option<Masked> {
    let (value, mask) = match word.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(word)?, u32::MAX),
    };
    (value & !mask == 0).then_some(Masked { mask, value })
}

fn status_of(word: &str) -> Option<u16> {
    if word == "none" {
        return Some(0);
    }
    word.split(',').try_fold(0, |set, word| {
        let found = StatusTest::NAMES.iter().find(|(_, name)| *name == word);
        found.map(|(bit, _)| set | bit)
    })
}

fn flags_of(word: &str) -> Option<TcpFlags> {
    if word == "none" {
        return Some(TcpFlags::NONE);
    }
    word.split([',', '|'])
        .try_fold(TcpFlags::NONE, |set, word| {
            TcpFlags::NAMES
                .iter()
                .find(|(_, name)| *name == word)
                .map(|(flag, _)| set.union(*flag))
        })
}

const ICMP_TYPES: [(u8, &str); 8] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
];

const ICMPV6_TYPES: [(u8, &str); 11] = [
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
];

pub(super) fn icmp_types(protocol: Protocol) -> &'static [(u8, &'static str)] {
    if protocol == Protocol::ICMP {
        &ICMP_TYPES
    } else {
        &ICMPV6_TYPES
    }
}

fn icmp_type(protocol: Protocol, word: &str) -> Option<u8> {
    let named = icmp_types(protocol).iter().find(|(_, name)| *name == word);
    named.map(|(kind, _)| *kind).or_else(|| word.parse().ok())
}

//! A client of IPv6 and a server of IPv4, each told what it understands (RFC 6384).
//!
//! Apart from reading announcements because here words change, not only ends, and because what a reply means depends on what was
//! asked: both directions of a control connection share one [`Dialogue`].
//!
//! ```text
//!  client                           server
//!  EPSV, EPSV 2               ─►    PASV
//!  229 text (|||port|)        ◄─    227 text (its own address and the port)
//!  425 text                   ◄─    227 text (anything else)
//!  EPRT |2|own address|port|  ─►    PORT outside address and port, which are lent
//!  EPSV ALL, EPSV 1, ALGS x   ─►    NOOP
//!  504,      522,    216      ◄─    whatever it says to that
//!  AUTH x                     ─►    AUTH x
//!  234, 334                   ◄─    234, 334: from now on nothing is read
//!  anything else              ◄─►   the same
//! ```

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;

use super::ftp;

/// Replies to be changed that may be outstanding at once.
const AWAITED: usize = 8;

/// Commands that are looked at; their length.
const WORDS: [&[u8; WORD]; 5] = [b"EPSV", b"EPRT", b"PASV", b"AUTH", b"ALGS"];
const WORD: usize = 4;

/// What is said to the server in place of a command that is not for it (RFC 6384 section 12).
const NOTHING: &str = "NOOP";

/// A reply that the server does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Translates,
    TranslatesNothing,
    CannotOpen,
    Parameter,
    Network,
}

impl Own {
    /// Its code and its text, short enough for any segment.
    const fn say(self) -> (&'static str, &'static str) {
        match self {
            Self::Translates => ("216", "EPSVEPRT"),
            Self::TranslatesNothing => ("216", "NONE"),
            Self::CannotOpen => ("425", "Can't open data connection"),
            Self::Parameter => ("504", "Not for that parameter"),
            Self::Network => ("522", "Network protocol: use (2)"),
        }
    }

    /// The last line of it.
    pub(super) fn line(self) -> Cow<'static, str> {
        let (code, text) = self.say();
        Cow::Owned(format!("{code} {text}"))
    }
}

/// How a reply is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// Where the server waits, for a client that asked EPSV.
    Passive,
    /// The same for one that asked PASV: it stays.
    Native,
    /// Whether the rest will be secret.
    Security,
    /// Not at all: this one is in its place.
    Instead(Own),
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It stays.
    Same,
    /// It ends too early to tell.
    Partial,
    /// There are too many replies to be changed already.
    Full,
    /// These words come in the place of those bytes.
    Words(Range<usize>, Cow<'static, str>),
    /// The client waits at this port of its own: the bytes become what is lent for it.
    Lend(Range<usize>, u16),
    /// The server waits at this port of its own; the words, if any, come in the place of those bytes.
    Expect(Range<usize>, u16, Option<Cow<'static, str>>),
}

/// How one control connection stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialogue {
    /// Commands, and final replies to them.
    asked: u32,
    answered: u32,
    /// Commands whose replies are looked at, oldest first, by their number.
    awaited: Vec<(u32, Awaited)>,
    /// Whether the server has said that it is ready.
    greeted: bool,
    /// The code of the reply that is in the middle of its lines.
    open: Option<[u8; 3]>,
    /// Whether the client does not want its data commands translated.
    declined: bool,
    /// Whether nothing is to be read any more.
    aside: bool,
}

impl Dialogue {
    /// Whether the rest is none of the translator's business.
    pub(super) fn is_aside(&self) -> bool {
        self.aside
    }

    /// Reads data of the client, whose address is `own`, that begin at a line.
    pub(super) fn command(&mut self, line: &[u8], own: IpAddr) -> Turn {
        if matches!(line, [b'\r' | b'\n', ..]) {
            return Turn::Same;
        }
        let (turn, awaited) = match Word::read(line) {
            None => return Turn::Partial,
            Some(Word::Other) => (Turn::Same, None),
            Some(Word::Known(b"PASV", ..)) => (Turn::Same, Some(Awaited::Native)),
            Some(Word::Known(b"AUTH", ..)) => (Turn::Same, Some(Awaited::Security)),
            Some(Word::Known(b"ALGS", argument, at)) => {
                let own = self.gateway(argument);
                (Turn::Words(at, NOTHING.into()), Some(Awaited::Instead(own)))
            }
            Some(Word::Known(..)) if self.declined => (Turn::Same, None),
            Some(Word::Known(b"EPSV", argument, at)) => {
                let (words, awaited) = match argument {
                    b"" | b"2" => ("PASV", Awaited::Passive),
                    all if all.eq_ignore_ascii_case(b"ALL") => {
                        (NOTHING, Awaited::Instead(Own::Parameter))
                    }
                    _ => (NOTHING, Awaited::Instead(Own::Network)),
                };
                (Turn::Words(at, words.into()), Some(awaited))
            }
            Some(Word::Known(_, argument, at)) => match ftp::extended(argument) {
                Some(said) if said.address == Some(own) => (Turn::Lend(at, said.port), None),
                _ => (Turn::Same, None),
            },
        };
        // What is lent may turn out not to be.
        let may_await = awaited.is_some() || matches!(turn, Turn::Lend(..));
        if may_await && self.awaited.len() >= AWAITED {
            return Turn::Full;
        }
        self.awaited.extend(awaited.map(|one| (self.asked, one)));
        self.asked = self.asked.wrapping_add(1);
        turn
    }

    /// The last command cannot be obeyed: what is said to the server, while the client will be told so.
    pub(super) fn refuse(&mut self) -> Cow<'static, str> {
        let last = self.asked.wrapping_sub(1);
        self.awaited.push((last, Awaited::Instead(Own::CannotOpen)));
        NOTHING.into()
    }

    /// The client speaks to the translator (RFC 6384 section 11).
    fn gateway(&mut self, argument: &[u8]) -> Own {
        let is = |word: &[u8]| argument.eq_ignore_ascii_case(word);
        if is(b"ENABLE64") || is(b"DISABLE64") {
            self.declined = is(b"DISABLE64");
        } else if !is(b"STATUS64") {
            return Own::Parameter;
        }
        if self.declined {
            Own::TranslatesNothing
        } else {
            Own::Translates
        }
    }

    /// Reads data of the server, whose address is `own`, that begin at a line.
    pub(super) fn reply(&mut self, line: &[u8], own: IpAddr) -> Turn {
        let (code, mark) = match line {
            [a, b, c, mark, ..] => ([*a, *b, *c], *mark),
            short if short.iter().all(u8::is_ascii_digit) => return Turn::Partial,
            _ => return Turn::Same,
        };
        let is_last = mark != b'-';
        let is_code = code.iter().all(u8::is_ascii_digit) && matches!(mark, b' ' | b'-' | b'\r');
        // In the middle of a reply only its own code ends it (RFC 959 section 4.2).
        let is_inside = self.open.is_some_and(|open| open != code || !is_last);
        if !is_code || is_inside {
            return Turn::Same;
        }
        let greets = !self.greeted && code == *b"220";
        let awaited = match code {
            [b'1', ..] => None,
            _ if greets => None,
            _ => self.awaited_by(code),
        };
        let Some(end) = ftp::line_length(line) else {
            // What is not changed need not be there in full.
            if matches!(awaited, Some(Awaited::Passive | Awaited::Instead(_))) || &code == b"229" {
                return Turn::Partial;
            }
            self.replied(code, is_last, greets);
            return Turn::Same;
        };
        self.replied(code, is_last, greets);
        let words = line.get(..end).unwrap_or(line);
        match awaited {
            Some(Awaited::Instead(own)) if is_last => Turn::Words(0..end, own.line()),
            // The lines before the last keep their text.
            Some(Awaited::Instead(own)) => Turn::Words(0..3, own.say().0.into()),
            Some(Awaited::Passive) if code == *b"227" && is_last => {
                passive(words, own).unwrap_or_else(|| Turn::Words(0..end, Own::CannotOpen.line()))
            }
            Some(Awaited::Passive) if code == *b"227" => Turn::Words(0..3, "229".into()),
            Some(Awaited::Security) if is_last && matches!(code[0], b'2' | b'3') => {
                self.aside = true;
                Turn::Same
            }
            // To a client that does not want translation, or of a server's own accord.
            _ if code == *b"229" && is_last => match ftp::bracketed(words, ftp::extended) {
                Some(said) => Turn::Expect(0..end, said.port, None),
                None => Turn::Same,
            },
            _ => Turn::Same,
        }
    }

    /// What a reply is awaited for.
    fn awaited_by(&self, code: [u8; 3]) -> Option<Awaited> {
        let (_, awaited) = self.awaited.get(self.place_of(code)?)?;
        Some(*awaited)
    }

    /// The place of the command that a reply is to. Where a server answers more or less than it is asked, 227 is to the oldest
    /// that asks for it.
    fn place_of(&self, code: [u8; 3]) -> Option<usize> {
        self.awaited
            .iter()
            .position(|(number, awaited)| match code {
                [b'2', b'2', b'7'] => matches!(awaited, Awaited::Passive | Awaited::Native),
                _ => *number == self.answered,
            })
    }

    /// Takes note of a reply.
    fn replied(&mut self, code: [u8; 3], is_last: bool, greets: bool) {
        self.open = if is_last { None } else { Some(code) };
        if !is_last || code[0] == b'1' {
            return;
        }
        if greets {
            self.greeted = true;
            return;
        }
        match self.place_of(code) {
            // What was asked before it will not be answered any more.
            Some(at) => {
                let last = self.awaited.drain(..=at).next_back();
                self.answered = last.map_or(self.asked, |(number, _)| number.wrapping_add(1));
            }
            // To a command that is not looked at, if to any.
            None if self.answered != self.asked => self.answered = self.answered.wrapping_add(1),
            None => {}
        }
    }
}

/// The reply to EPSV that says what a server said to PASV; `None` where it does not wait at its `own` address.
fn passive(words: &[u8], own: IpAddr) -> Option<Turn> {
    let said = ftp::bracketed(words, ftp::six)?;
    if said.address != Some(own) {
        return None;
    }
    let text = format!("229 Entering Extended Passive Mode (|||{}|)", said.port);
    Some(Turn::Expect(0..words.len(), said.port, Some(text.into())))
}

/// The command that says that a client waits at an end.
pub(super) fn port(address: Ipv4Addr, port: u16) -> Cow<'static, str> {
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    format!("PORT {a},{b},{c},{d},{high},{low}").into()
}

/// The command that a line is.
enum Word<'a> {
    Other,
    /// The word, what follows it, and where both are.
    Known(&'static [u8; WORD], &'a [u8], Range<usize>),
}

impl<'a> Word<'a> {
    /// `None` where the line ends too early to tell.
    fn read(line: &'a [u8]) -> Option<Self> {
        let begin = line.get(..line.len().min(WORD)).unwrap_or(line);
        let fits = |word: &&&[u8; WORD]| {
            let word = word.get(..begin.len()).unwrap_or(&[]);
            word.eq_ignore_ascii_case(begin)
        };
        let Some(word) = WORDS.iter().find(fits) else {
            return Some(Self::Other);
        };
        let argument = line.get(WORD..)?;
        match argument.first()? {
            b' ' | b'\r' | b'\n' => {}
            _ => return Some(Self::Other),
        }
        let end = ftp::line_length(line)?;
        let argument = line.get(WORD..end).unwrap_or(&[]).trim_ascii();
        Some(Self::Known(word, argument, 0..end))
    }
}

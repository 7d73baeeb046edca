//! Routes as text: `10.0.0.0/8 via 3`, `2001:db8::/32 group 1 zone 7`, `192.0.2.0/24 prohibit`.

use core::fmt;
use core::str::FromStr;

use super::{GroupId, NextHopId, Target};
use crate::key::{Cidr, Zone};
use crate::verdict::Answer;

/// A route: where the flows of a prefix go.
///
/// ```
/// use gufc::hooks::route::{NextHopId, Route, Target};
///
/// let route: Route = "10.0.0.0/8 via 3".parse()?;
/// assert_eq!(route.target, Target::Via(NextHopId(3)));
/// assert_eq!("192.0.2.0/24 prohibit zone 7".parse::<Route>()?.to_string(), "192.0.2.0/24 prohibit zone 7");
/// assert!("10.0.0.0/8 by 3".parse::<Route>().is_err());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destinations.
    pub prefix: Cidr,
    /// What becomes of packets to them.
    pub target: Target,
    /// The zone whose table it is in; `None` for the main table.
    pub zone: Option<Zone>,
}

/// The words for answers; `unreachable` and `prohibit` as in Linux.
const WORDS: [(&str, Answer); 5] = [
    ("no-route", Answer::NoRoute),
    ("unreachable", Answer::HostUnreachable),
    ("prohibit", Answer::AdminProhibited),
    ("port-unreachable", Answer::PortUnreachable),
    ("tcp-reset", Answer::TcpReset),
];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via(id) => write!(f, "via {}", id.0),
            Self::Group(id) => write!(f, "group {}", id.0),
            Self::Blackhole => f.write_str("blackhole"),
            Self::Unreachable(answer) => match WORDS.iter().find(|(_, word)| word == answer) {
                Some((word, _)) => f.write_str(word),
                None => f.write_str("unknown"),
            },
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.prefix, self.target)?;
        match self.zone {
            Some(zone) => write!(f, " zone {}", zone.id()),
            None => Ok(()),
        }
    }
}

/// Why a text is not a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseRouteError {
    /// It does not begin with a prefix whose bits behind its length are zero.
    Prefix,
    /// Behind the prefix stands none of `via N`, `group N`, `blackhole`, `unreachable`, `prohibit`, `no-route`.
    Target,
    /// Behind `zone` stands no number of 0 to 4,194,303.
    Zone,
    /// Something follows.
    Rest,
}

impl fmt::Display for ParseRouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "not a prefix such as 10.0.0.0/8",
            Self::Target => {
                "not a target: via N, group N, blackhole, unreachable, prohibit or no-route"
            }
            Self::Zone => "not a zone: 0 to 4194303",
            Self::Rest => "unexpected words behind the route",
        })
    }
}

impl core::error::Error for ParseRouteError {}

impl FromStr for Route {
    type Err = ParseRouteError;

    fn from_str(text: &str) -> Result<Self, ParseRouteError> {
        let mut words = text.split_ascii_whitespace();
        let prefix = words.next().and_then(|word| word.parse().ok());
        let prefix = prefix.ok_or(ParseRouteError::Prefix)?;
        let word = words.next();
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let target = match word {
            Some("via") => number().map(|number| Target::Via(NextHopId(number))),
            Some("group") => number().map(|number| Target::Group(GroupId(number))),
            Some("blackhole") => Some(Target::Blackhole),
            other => {
                let answer = WORDS.iter().find(|(word, _)| Some(*word) == other);
                answer.map(|(_, answer)| Target::Unreachable(*answer))
            }
        };
        let target = target.ok_or(ParseRouteError::Target)?;
        let zone = match words.next() {
            None => None,
            Some("zone") => {
                let zone = words.next().and_then(|word| Zone::new(word.parse().ok()?));
                Some(zone.ok_or(ParseRouteError::Zone)?)
            }
            Some(_) => return Err(ParseRouteError::Rest),
        };
        if words.next().is_some() {
            return Err(ParseRouteError::Rest);
        }
        Ok(Self {
            prefix,
            target,
            zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_round_trips() {
        for text in [
            "10.0.0.0/8 via 3",
            "::/0 group 4294967295",
            "192.0.2.1 blackhole",
            "2001:db8::/32 prohibit zone 4194303",
            "0.0.0.0/0 no-route",
            "10.0.0.0/8 unreachable zone 0",
        ] {
            let parsed: Result<Route, _> = text.parse();
            assert_eq!(parsed.map(|route| route.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn text_refused() {
        for (text, error) in [
            ("", ParseRouteError::Prefix),
            ("10.0.0.1/8 via 1", ParseRouteError::Prefix),
            ("10.0.0.0/8", ParseRouteError::Target),
            ("10.0.0.0/8 via", ParseRouteError::Target),
            ("10.0.0.0/8 via x", ParseRouteError::Target),
            ("10.0.0.0/8 via 1 zone", ParseRouteError::Zone),
            ("10.0.0.0/8 via 1 zone 4194304", ParseRouteError::Zone),
            ("10.0.0.0/8 via 1 dev 2", ParseRouteError::Rest),
            ("10.0.0.0/8 via 1 zone 1 x", ParseRouteError::Rest),
        ] {
            assert_eq!(text.parse::<Route>(), Err(error), "{text}");
        }
    }
}

//! A choice of connections in the words of the `conntrack` tool.
//!
//! Apart because it is for people; programs fill in a [`Filter`].

use core::fmt;
use core::str::FromStr;

use super::{Filter, Status, TcpPhase};
use crate::key::{Family, Zone};

/// Why words name no choice of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseFilterError {
    /// The option with this number, from 0, is not known.
    Option(usize),
    /// The option with this number is not followed by a value that it takes.
    Value(usize),
    /// Choosing by either translation and by one of them at once.
    Contradiction,
}

impl fmt::Display for ParseFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(n) => write!(f, "option {}: unknown", n + 1),
            Self::Value(n) => write!(f, "option {}: not a value of it", n + 1),
            Self::Contradiction => f.write_str("--any-nat stands without --src-nat and --dst-nat"),
        }
    }
}

impl core::error::Error for ParseFilterError {}

/// Reads options of the `conntrack` tool: `-p`, `-f`, `-s`, `-d`, `-r`, `-q`, `--sport`, `--dport`, `--state`, `-u`, `-m`, `-l`, `-w`,
/// `-n`, `-g`, `-j`, and their long names. A status is one of `ASSURED`, `UNASSURED`, `SEEN_REPLY`, `UNREPLIED`, and the other names of
/// [`Status::NAMES`], several joined by commas; a mark and a label are numbers and may be followed by `/` and a mask. No words choose every connection.
///
/// ```
/// use gufc::hooks::conntrack::Filter;
///
/// let filter: Filter = "-p tcp --state ESTABLISHED -s 10.0.0.0/8 --mark 0x10/0xf0".parse()?;
/// assert_eq!(filter.mark, Some((0x10, 0xf0)));
/// assert!("--colour green".parse::<Filter>().is_err());
/// # Ok::<(), gufc::hooks::conntrack::ParseFilterError>(())
/// ```
impl FromStr for Filter {
    type Err = ParseFilterError;

    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        let mut filter = Self::default();
        let mut words = text.split_whitespace();
        let mut count = 0;
        while let Some(option) = words.next() {
            let bits = match option {
                "-n" | "--src-nat" => Some((&mut filter.with, Status::SRC_NAT)),
                "-g" | "--dst-nat" => Some((&mut filter.with, Status::DST_NAT)),
                "-j" | "--any-nat" => {
                    Some((&mut filter.any, Status::SRC_NAT.union(Status::DST_NAT)))
                }
                _ => None,
            };
            if let Some((set, bits)) = bits {
                set.set(bits);
            } else {
                let value = words.next();
                let known = filter.take(option, value.unwrap_or(""));
                let known = known.map_err(|()| ParseFilterError::Value(count))?;
                if !known {
                    return Err(ParseFilterError::Option(count));
                }
            }
            count += 1;
        }
        if filter.any != Status::NONE && filter.with.intersects(filter.any) {
            return Err(ParseFilterError::Contradiction);
        }
        Ok(filter)
    }
}

impl Filter {
    /// Takes an option and its value over; false where the option is not known.
    fn take(&mut self, option: &str, value: &str) -> Result<bool, ()> {
        match option {
            "-p" | "--proto" | "--protonum" => self.protocol = Some(read(value)?),
            "-s" | "--src" | "--orig-src" => self.source = Some(read(value)?),
            "-d" | "--dst" | "--orig-dst" => self.destination = Some(read(value)?),
            "-r" | "--reply-src" => self.reply_source = Some(read(value)?),
            "-q" | "--reply-dst" => self.reply_destination = Some(read(value)?),
            "--sport" | "--orig-port-src" => self.source_port = Some(read(value)?),
            "--dport" | "--orig-port-dst" => self.destination_port = Some(read(value)?),
            "-w" | "--zone" => self.zone = Some(Zone::new(read(value)?).ok_or(())?),
            "-f" | "--family" => {
                self.family = Some(match value {
                    "ipv4" => Family::V4,
                    "ipv6" => Family::V6,
                    _ => return Err(()),
                });
            }
            "--state" => {
                let named = |phase: &&TcpPhase| phase.as_str().eq_ignore_ascii_case(value);
                self.tcp_phase = Some(*TcpPhase::ALL.iter().find(named).ok_or(())?);
            }
            "-m" | "--mark" => {
                let narrow = |wide: u128| u32::try_from(wide).map_err(|_| ());
                let (mark, mask) = masked(value, u128::from(u32::MAX))?;
                self.mark = Some((narrow(mark)?, narrow(mask)?));
            }
            "-l" | "--label" => self.label = Some(masked(value, u128::MAX)?),
            "-u" | "--status" => {
                for word in value.split(',') {
                    match word {
                        "UNASSURED" => self.without.set(Status::ASSURED),
                        "UNREPLIED" => self.without.set(Status::SEEN_REPLY),
                        _ => {
                            let named = |(_, name): &&(Status, &str)| *name == word;
                            let (bit, _) = Status::NAMES.iter().find(named).ok_or(())?;
                            self.with.set(*bit);
                        }
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn read<T: FromStr>(value: &str) -> Result<T, ()> {
    value.parse().map_err(|_| ())
}

/// A value, alone or with `/` and a mask.
fn masked(text: &str, all: u128) -> Result<(u128, u128), ()> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((number(value)?, number(mask)?)),
        None => Ok((number(text)?, all)),
    }
}

/// A number, decimal or hexadecimal.
fn number(value: &str) -> Result<u128, ()> {
    match value.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).map_err(|_| ()),
        None => read(value),
    }
}

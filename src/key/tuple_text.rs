//! The text form of a tuple, written and read.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::{
    Address, Endpoint, Family, Fields, FlowKey, Locality, Protocol, SevenTuple, Tuple, Zone,
};

/// As [`Display`](fmt::Display): a tuple says more than its words.
impl<A: Address> fmt::Debug for SevenTuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

impl<A: Address> fmt::Display for SevenTuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

/// `PROTO SRC[:PORT] > DST[:PORT] [id N type N code N] [local WHICH] [zone N]`; protocols without ports print none.
fn write_tuple(f: &mut fmt::Formatter<'_>, fields: &Fields) -> fmt::Result {
    let (source, destination) = (
        fields.family.address(fields.source),
        fields.family.address(fields.destination),
    );
    let ports = fields.protocol.has_ports()
        || (!fields.protocol.is_icmp() && fields.source_port | fields.destination_port != 0);
    write!(f, "{} ", fields.protocol)?;
    if !ports {
        write!(f, "{source} > {destination}")?;
    } else if fields.family == Family::V4 {
        write!(
            f,
            "{source}:{} > {destination}:{}",
            fields.source_port, fields.destination_port
        )?;
    } else {
        write!(
            f,
            "[{source}]:{} > [{destination}]:{}",
            fields.source_port, fields.destination_port
        )?;
    }
    if fields.protocol.is_icmp() {
        let [kind, code] = fields.destination_port.to_be_bytes();
        write!(f, " id {} type {kind} code {code}", fields.source_port)?;
    }
    match (fields.locality.source, fields.locality.destination) {
        (false, false) => {}
        (true, false) => f.write_str(" local source")?,
        (false, true) => f.write_str(" local destination")?,
        (true, true) => f.write_str(" local both")?,
    }
    if fields.zone.id() != 0 {
        write!(f, " zone {}", fields.zone.id())?;
    }
    Ok(())
}

/// Why a text is not a tuple: the part that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseTupleError {
    /// The protocol is neither a known name nor a number from 0 to 255.
    Protocol,
    /// The source end is not `address` or `address:port`.
    Source,
    /// No `>` between the ends.
    Arrow,
    /// The destination end is not `address` or `address:port`.
    Destination,
    /// The two ends are of different families, or not of the family asked for.
    Family,
    /// A word after the ends is unknown, or its value is missing or out of range.
    Option,
}

impl fmt::Display for ParseTupleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "expected a protocol: a name such as tcp, or a number from 0 to 255",
            Self::Source => {
                "expected the source: address or address:port, IPv6 with a port in brackets"
            }
            Self::Arrow => "expected > between source and destination",
            Self::Destination => {
                "expected the destination: address or address:port, IPv6 with a port in brackets"
            }
            Self::Family => "source and destination are not of the family expected",
            Self::Option => {
                "expected id, type, code, zone with a number, or local source, destination or both"
            }
        })
    }
}

impl core::error::Error for ParseTupleError {}

fn parse_endpoint(text: &str) -> Option<Endpoint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Endpoint::new(address, 0));
    }
    let end: core::net::SocketAddr = text.parse().ok()?;
    Some(Endpoint::new(end.ip(), end.port()))
}

impl FromStr for Tuple {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        let mut words = text.split_whitespace();
        let protocol: Protocol = words.next().ok_or(ParseTupleError::Protocol)?.parse()?;
        let mut source = words
            .next()
            .and_then(parse_endpoint)
            .ok_or(ParseTupleError::Source)?;
        if words.next() != Some(">") {
            return Err(ParseTupleError::Arrow);
        }
        let mut destination = words
            .next()
            .and_then(parse_endpoint)
            .ok_or(ParseTupleError::Destination)?;
        let (mut locality, mut zone) = (Locality::default(), Zone::default());
        while let Some(word) = words.next() {
            let value = words.next().ok_or(ParseTupleError::Option)?;
            let number = || value.parse::<u32>().map_err(|_| ParseTupleError::Option);
            let byte =
                || number().and_then(|n| u8::try_from(n).map_err(|_| ParseTupleError::Option));
            match word {
                "id" if protocol.is_icmp() => {
                    source.port = u16::try_from(number()?).map_err(|_| ParseTupleError::Option)?;
                }
                "type" if protocol.is_icmp() => {
                    destination.port = u16::from_be_bytes([byte()?, destination.port as u8]);
                }
                "code" if protocol.is_icmp() => {
                    destination.port = u16::from_be_bytes([(destination.port >> 8) as u8, byte()?]);
                }
                "zone" => zone = Zone::new(number()?).ok_or(ParseTupleError::Option)?,
                "local" => {
                    locality = match value {
                        "source" => Locality {
                            source: true,
                            destination: false,
                        },
                        "destination" => Locality {
                            source: false,
                            destination: true,
                        },
                        "both" => Locality {
                            source: true,
                            destination: true,
                        },
                        _ => return Err(ParseTupleError::Option),
                    }
                }
                _ => return Err(ParseTupleError::Option),
            }
        }
        let tuple = Self::new(source, destination, protocol).ok_or(ParseTupleError::Family)?;
        Ok(tuple.at(locality).in_zone(zone))
    }
}

impl FromStr for SevenTuple<Ipv4Addr> {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        match text.parse()? {
            Tuple::V4(tuple) => Ok(tuple),
            Tuple::V6(_) => Err(ParseTupleError::Family),
        }
    }
}

impl FromStr for SevenTuple<Ipv6Addr> {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        match text.parse()? {
            Tuple::V6(tuple) => Ok(tuple),
            Tuple::V4(_) => Err(ParseTupleError::Family),
        }
    }
}

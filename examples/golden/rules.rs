//! The rule lists of a golden trace, judged literally: the reading of the format, not a fast filter.

use std::net::IpAddr;

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Status, Tracked};
use gufc::key::{Family, FlowKey, Protocol, Tuple};
use serde_json::Value;

/// What rules are asked about.
pub(crate) struct Subject<'a> {
    pub(crate) key: Tuple,
    pub(crate) ingress: &'a str,
    pub(crate) egress: &'a str,
    pub(crate) flags: u8,
    pub(crate) tracked: Tracked,
    pub(crate) original: Option<Tuple>,
}

/// The first rule of the list that matches.
pub(crate) fn first<'a>(
    list: Option<&'a Value>,
    subject: &Subject<'_>,
) -> Option<(usize, &'a Value)> {
    list?
        .as_array()?
        .iter()
        .enumerate()
        .find(|(_, rule)| matches(&rule["match"], subject))
}

/// All keys given must match.
pub(crate) fn matches(wanted: &Value, subject: &Subject<'_>) -> bool {
    let Some(wanted) = wanted.as_object() else {
        return false;
    };
    let negated = |key: &str| {
        wanted
            .get("not")
            .and_then(Value::as_array)
            .is_some_and(|keys| keys.iter().any(|k| k == key))
    };
    wanted
        .iter()
        .filter(|(key, _)| *key != "not")
        .all(|(key, value)| match holds(key, value, subject) {
            // A field that the packet does not have matches neither way.
            None => false,
            Some(holds) => holds != negated(key),
        })
}

fn holds(key: &str, value: &Value, subject: &Subject<'_>) -> Option<bool> {
    let fields = subject.key.fields();
    let protocol = fields.protocol;
    let tracked = &subject.tracked;
    Some(match key {
        "family" => *value == if fields.family == Family::V4 { 4 } else { 6 },
        "in" => value == subject.ingress,
        "out" => value == subject.egress,
        "proto" => match value {
            Value::String(name) => name.parse() == Ok(protocol),
            number => number.as_u64() == Some(u64::from(protocol.0)),
        },
        "src" => address(value, subject.key.source().address)?,
        "dst" => address(value, subject.key.destination().address)?,
        "orig_dst" => address(value, subject.original?.destination().address)?,
        "sport" => protocol
            .has_ports()
            .then(|| number(value, fields.source_port))?,
        "dport" => protocol
            .has_ports()
            .then(|| number(value, fields.destination_port))?,
        "orig_dport" => number(value, subject.original?.destination().port),
        "icmp_type" => protocol
            .is_icmp()
            .then(|| number(value, fields.destination_port >> 8))?,
        "icmp_code" => protocol
            .is_icmp()
            .then(|| number(value, fields.destination_port & 0xff))?,
        "tcp_flags" => {
            let bits = |text: &Value| {
                text.as_str().unwrap_or("").chars().fold(0, |bits, letter| {
                    bits | "FSRPAUEC".find(letter).map_or(0, |bit| 1u8 << bit)
                })
            };
            (protocol == Protocol::TCP)
                .then(|| subject.flags & bits(&value["mask"]) == bits(&value["value"]))?
        }
        "ct" => any(value, |state| state == class(tracked.class)),
        "ct_dir" => value == direction(tracked.direction?),
        "ct_status" => {
            tracked.connection?;
            any(value, |name| {
                tracked.status.contains(match name {
                    "expected" => Status::EXPECTED,
                    "seen-reply" => Status::SEEN_REPLY,
                    "assured" => Status::ASSURED,
                    "confirmed" => Status::CONFIRMED,
                    "snat" => Status::SRC_NAT,
                    "dnat" => Status::DST_NAT,
                    _ => return false,
                })
            })
        }
        _ => panic!("unknown key {key}"),
    })
}

pub(crate) fn class(class: Class) -> &'static str {
    match class {
        Class::New => "new",
        Class::Established => "established",
        Class::Related => "related",
        Class::Invalid => "invalid",
        Class::Untracked => "untracked",
    }
}

pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Original => "original",
        Direction::Reply => "reply",
    }
}

fn any(value: &Value, holds: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|one| one.as_str().is_some_and(&holds)),
        one => one.as_str().is_some_and(holds),
    }
}

fn number(value: &Value, number: u16) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|one| self::number(one, number)),
        Value::String(range) => {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let parse = |text: &str| text.parse::<u16>().expect("a number");
            (parse(low)..=parse(high)).contains(&number)
        }
        one => one.as_u64() == Some(u64::from(number)),
    }
}

/// Whether an address is one of these; `None` where they are of the other family.
fn address(value: &Value, address: IpAddr) -> Option<bool> {
    match value {
        Value::Array(list) => list
            .iter()
            .map(|one| self::address(one, address))
            .reduce(|a, b| Some(a? | b?))?,
        one => {
            let text = one.as_str().expect("an address");
            let (low, high) = range(text);
            let (family, bits) = Family::align(address);
            (Family::align(low).0 == family)
                .then(|| (Family::align(low).1..=Family::align(high).1).contains(&bits))
        }
    }
}

/// The ends of an address, prefix or range.
pub(crate) fn range(text: &str) -> (IpAddr, IpAddr) {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    if let Some((low, high)) = text.split_once('-') {
        return (parse(low), parse(high));
    }
    let Some((base, length)) = text.split_once('/') else {
        return (parse(text), parse(text));
    };
    let (family, bits) = Family::align(parse(base));
    let length: u32 = length.parse().expect("a prefix length");
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let top = if family == Family::V4 {
        u128::MAX << 96
    } else {
        u128::MAX
    };
    (
        family.address(bits & mask),
        family.address((bits | !mask) & top),
    )
}

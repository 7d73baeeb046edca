//! Connections as people know them: a line each, in the form of `conntrack -L`, and the choice of which.
//!
//! Apart because no packet ever needs it.

use core::fmt;
use core::net::IpAddr;

use super::connection::Clock;
use super::{Connection, Item, News, Status, TcpPhase, Trackable, Traffic};
use crate::hook::Direction;
use crate::key::{Cidr, Family, FlowKey, Protocol, Zone};
use crate::time::Instant;

impl<K: Trackable> Connection<'_, K> {
    /// Its line at this moment.
    ///
    /// ```text
    /// tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=192.0.2.2 sport=1000 dport=80 src=192.0.2.2 dst=10.0.0.2 sport=80 dport=1000 [ASSURED] mark=0
    /// ```
    pub fn line(&self, now: Instant) -> impl fmt::Display {
        Line { one: self, now }
    }
}

struct Line<'a, K: Trackable> {
    one: &'a Connection<'a, K>,
    now: Instant,
}

impl<K: Trackable> fmt::Display for Line<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.one;
        let protocol = one.protocol();
        write!(f, "{:<8} {}", name(protocol), protocol.0)?;
        if one.status().contains(Status::CONFIRMED) {
            let left = one.end() - self.now + Clock::ROUNDING;
            write!(f, " {}", left.as_secs())?;
        }
        let tuples = Direction::BOTH.map(|direction| one.tuple(direction));
        let traffic = Direction::BOTH.map(|direction| one.traffic(direction));
        write_rest(
            f,
            one.state_name(),
            tuples,
            traffic,
            one.status(),
            one.mark(),
        )?;
        if one.status().contains(Status::HELPER) {
            f.write_str(" helper=ftp")?;
        }
        match one.label() {
            0 => Ok(()),
            label => write!(f, " labels={label:#x}"),
        }
    }
}

/// The line of `conntrack -E`: what happened, and to whom.
///
/// ```text
///     [NEW] tcp      6 SYN_SENT src=10.0.0.2 dst=192.0.2.2 sport=1000 dport=80 [UNREPLIED] src=192.0.2.2 ... mark=0
///  [UPDATE] tcp      6 SYN_RECV src=10.0.0.2 ...
/// [DESTROY] tcp      6 CLOSE src=10.0.0.2 ...
/// ```
impl<K: Trackable> fmt::Display for Item<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.news.contains(News::DESTROY) {
            "[DESTROY]"
        } else if self.news.contains(News::NEW) || self.news.contains(News::RELATED) {
            "[NEW]"
        } else {
            "[UPDATE]"
        };
        let [original, reply] = &self.tuples;
        let protocol = original.protocol();
        write!(f, "{what:>9} {:<8} {}", name(protocol), protocol.0)?;
        let tuples = [original, reply];
        write_rest(f, self.state, tuples, self.traffic, self.status, self.mark)
    }
}

/// State, both directions, status, mark, zone.
fn write_rest<K: FlowKey>(
    f: &mut fmt::Formatter<'_>,
    state: Option<&str>,
    tuples: [&K; 2],
    traffic: [Traffic; 2],
    status: Status,
    mark: u32,
) -> fmt::Result {
    if let Some(state) = state {
        write!(f, " {state}")?;
    }
    let zones = tuples.map(|tuple| tuple.fields().zone.id());
    let [original, reply] = zones;
    for (at, (tuple, Traffic { packets, bytes })) in tuples.into_iter().zip(traffic).enumerate() {
        write_tuple(f, tuple)?;
        match (at, original == reply) {
            (0, false) if original != 0 => write!(f, " zone-orig={original}")?,
            (1, false) if reply != 0 => write!(f, " zone-reply={reply}")?,
            _ => {}
        }
        if packets > 0 {
            write!(f, " packets={packets} bytes={bytes}")?;
        }
        if at == 0 && !status.contains(Status::SEEN_REPLY) {
            f.write_str(" [UNREPLIED]")?;
        }
    }
    if status.contains(Status::ASSURED) {
        f.write_str(" [ASSURED]")?;
    }
    write!(f, " mark={mark}")?;
    if original == reply && original != 0 {
        write!(f, " zone={original}")?;
    }
    Ok(())
}

/// A protocol's name in listings.
const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "tcp",
        Protocol::UDP => "udp",
        Protocol::UDP_LITE => "udplite",
        Protocol::SCTP => "sctp",
        Protocol::ICMP => "icmp",
        Protocol::ICMPV6 => "icmpv6",
        Protocol::GRE => "gre",
        _ => "unknown",
    }
}

fn write_tuple<K: FlowKey>(f: &mut fmt::Formatter<'_>, tuple: &K) -> fmt::Result {
    let (source, destination) = (tuple.source(), tuple.destination());
    write!(f, " src={} dst={}", source.address, destination.address)?;
    match tuple.protocol() {
        protocol if protocol.has_ports() => {
            write!(f, " sport={} dport={}", source.port, destination.port)
        }
        protocol if protocol.is_icmp() => {
            let [kind, code] = destination.port.to_be_bytes();
            write!(f, " type={kind} code={code} id={}", source.port)
        }
        Protocol::GRE => write!(
            f,
            " srckey={:#x} dstkey={:#x}",
            source.port, destination.port
        ),
        _ => Ok(()),
    }
}

/// A choice of connections: those that are all that is given. The default is every connection.
///
/// ```
/// use gufc::hooks::conntrack::{Filter, Status};
/// use gufc::key::Protocol;
///
/// let filter = Filter {
///     protocol: Some(Protocol::TCP),
///     source: Some("10.0.0.0/8".parse()?),
///     without: Status::ASSURED,
///     ..Filter::default()
/// };
/// // The same, in the words of the `conntrack` tool.
/// assert_eq!("-p tcp --src 10.0.0.0/8 --status UNASSURED".parse(), Ok(filter));
/// # Ok::<(), gufc::key::ParseCidrError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The family of its addresses.
    pub family: Option<Family>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The original source.
    pub source: Option<Cidr>,
    /// The original destination.
    pub destination: Option<Cidr>,
    /// The original source port.
    pub source_port: Option<u16>,
    /// The original destination port.
    pub destination_port: Option<u16>,
    /// The source of replies: where a translated connection really goes.
    pub reply_source: Option<Cidr>,
    /// The destination of replies: as what a translated connection is seen.
    pub reply_destination: Option<Cidr>,
    /// The zone of either direction.
    pub zone: Option<Zone>,
    /// The mark under a mask.
    pub mark: Option<(u32, u32)>,
    /// The label under a mask.
    pub label: Option<(u128, u128)>,
    /// The state of a TCP connection; chooses no others.
    pub tcp_phase: Option<TcpPhase>,
    /// Status bits that are all set.
    pub with: Status,
    /// Status bits of which at least one is set; none asks for none.
    pub any: Status,
    /// Status bits of which none is set.
    pub without: Status,
}

impl Filter {
    /// Whether it chooses this connection.
    pub fn matches<K: Trackable>(&self, one: &Connection<'_, K>) -> bool {
        let [original, reply] = Direction::BOTH.map(|direction| one.tuple(direction).fields());
        let of = |bits: u128| original.family.address(bits);
        let of_reply = |bits: u128| reply.family.address(bits);
        given(self.family, |family| family == original.family)
            && given(self.protocol, |protocol| protocol == original.protocol)
            && within(self.source, of(original.source))
            && within(self.destination, of(original.destination))
            && within(self.reply_source, of_reply(reply.source))
            && within(self.reply_destination, of_reply(reply.destination))
            && given(self.source_port, |port| port == original.source_port)
            && given(self.destination_port, |port| {
                port == original.destination_port
            })
            && given(self.zone, |zone| {
                zone == original.zone || zone == reply.zone
            })
            && given(self.mark, |(mark, mask)| one.mark() & mask == mark & mask)
            && given(self.label, |(label, mask)| {
                one.label() & mask == label & mask
            })
            && given(self.tcp_phase, |phase| one.tcp_phase() == Some(phase))
            && one.status().contains(self.with)
            && (self.any == Status::NONE || one.status().intersects(self.any))
            && !one.status().intersects(self.without)
    }
}

fn given<T>(wanted: Option<T>, holds: impl FnOnce(T) -> bool) -> bool {
    wanted.is_none_or(holds)
}

fn within(cidr: Option<Cidr>, address: IpAddr) -> bool {
    given(cidr, |cidr| cidr.contains(address))
}

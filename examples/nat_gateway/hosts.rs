//! The hosts and the world that they talk to: who sends what, and when.
//!
//! Three in ten of what hosts begin are queries of names, four web connections of some packets, one a stream of datagrams, one
//! a ping, and one a call to another host's outside end. A few hosts begin fifty times as much as the others. The world
//! answers, calls the one published service, and probes ports.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use gufc::key::{Endpoint, FlowKey, Protocol, Tuple};
use gufc::packet::{Seq, TcpFlags};
use gufc::time::{Duration, Instant};
use gufc::wire::build::{Datagram, Tcp, Transport};

/// A packet on its way to the gateway.
pub(crate) struct Event {
    /// From a host, or from the world.
    pub(crate) from_inside: bool,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// For an answer: the inside end that must get it.
    pub(crate) expected: Option<Endpoint>,
}

/// A conversation of a host, as the host sees it.
struct Talk {
    key: Tuple,
    /// Packets that the host has yet to send.
    left: u32,
    /// Numbers of both ends of a TCP connection.
    seq: [Seq; 2],
    opened: bool,
    gap: Duration,
}

pub(crate) struct Hosts {
    count: u32,
    own: IpAddr,
    state: u64,
    /// By when: the host's next packet of a talk.
    due: BTreeMap<(Instant, u64), Talk>,
    number: u64,
    /// Talks that wait for an answer, by the key that the host sent.
    waiting: BTreeMap<Tuple, Talk>,
    /// What the world sends: when, bytes, and to whom it must go.
    world: VecDeque<(Instant, Vec<u8>, Option<Endpoint>)>,
    /// Outside ends seen lately, for hosts to call one another.
    ends: VecDeque<Endpoint>,
}

impl Hosts {
    pub(crate) fn new(count: u32, own: IpAddr, seed: u64) -> Self {
        Self {
            count,
            own,
            state: seed,
            due: BTreeMap::new(),
            number: 0,
            waiting: BTreeMap::new(),
            world: VecDeque::new(),
            ends: VecDeque::new(),
        }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        (0..self.count).map(address)
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// What is sent in this moment.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Event> {
        // A host begins something every 20 seconds or so; one in 200 is busier by far.
        for _ in 0..self.count.div_ceil(1000) {
            self.begin(now);
        }
        if self.below(50) == 0 {
            self.probe(now);
        }
        let mut events = Vec::new();
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let talk = entry.remove();
            events.extend(self.send(talk));
        }
        while self.world.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, bytes, expected)) = self.world.pop_front() {
                events.push(Event {
                    from_inside: false,
                    bytes,
                    expected,
                });
            }
        }
        events
    }

    fn begin(&mut self, now: Instant) {
        let busy = self.below(5) == 0;
        let host = if busy {
            self.below(u64::from(self.count.div_ceil(200)))
        } else {
            self.below(u64::from(self.count))
        };
        let near = Endpoint::new(address(host as u32), 1024 + self.below(64_000) as u16);
        let peer = IpAddr::from([198, 51, 100, 1 + self.below(250) as u8]);
        let far = |port| Endpoint::new(peer, port);
        let (protocol, to, left, gap) = match self.below(10) {
            0..=2 => (Protocol::UDP, far(53), 1, 0),
            3..=6 => (Protocol::TCP, far(443), 6 + self.below(40) as u32, 40),
            7 => (Protocol::UDP, far(3478), 20 + self.below(200) as u32, 100),
            8 => (Protocol::ICMP, Endpoint::new(peer, 8 << 8), 4, 1000),
            _ => match self.ends.pop_front() {
                Some(end) => (Protocol::UDP, end, 3, 500),
                None => return,
            },
        };
        let Some(key) = Tuple::new(near, to, protocol) else {
            return;
        };
        let seq = [
            Seq(self.below(1 << 32) as u32),
            Seq(self.below(1 << 32) as u32),
        ];
        let talk = Talk {
            key,
            left,
            seq,
            opened: false,
            gap: Duration::from_millis(gap),
        };
        self.later(now, talk);
    }

    fn later(&mut self, at: Instant, talk: Talk) {
        self.number += 1;
        self.due.insert((at, self.number), talk);
    }

    /// Somebody tries a port that he was not asked to, or the published service.
    fn probe(&mut self, now: Instant) {
        let port = if self.below(2) == 0 {
            80
        } else {
            1024 + self.below(60_000) as u16
        };
        let from = Endpoint::new(
            IpAddr::from([192, 0, 2, self.below(250) as u8]),
            1024 + self.below(60_000) as u16,
        );
        let expected = (port == 80).then(|| Endpoint::new(address(0), 80));
        if let Some(key) = Tuple::new(from, Endpoint::new(self.own, port), Protocol::TCP) {
            let bytes = packet(
                &key,
                TcpFlags::SYN,
                [Seq(self.below(1 << 32) as u32), Seq(0)],
                0,
            );
            self.world.push_back((now, bytes, expected));
        }
    }

    fn send(&mut self, mut talk: Talk) -> Option<Event> {
        let flags = match (talk.opened, talk.left) {
            (false, _) => TcpFlags::SYN,
            (true, 1) => TcpFlags::FIN.union(TcpFlags::ACK),
            _ => TcpFlags::ACK,
        };
        let payload = if talk.opened || talk.key.protocol() != Protocol::TCP {
            100
        } else {
            0
        };
        let bytes = packet(&talk.key, flags, talk.seq, payload);
        if talk.key.protocol() == Protocol::TCP {
            let more = payload as u32 + u32::from(flags != TcpFlags::ACK);
            talk.seq[0] = talk.seq[0] + more;
        }
        talk.left = talk.left.saturating_sub(1);
        self.waiting.insert(talk.key, talk);
        Some(Event {
            from_inside: true,
            bytes,
            expected: None,
        })
    }

    /// The gateway did not let it pass: its host gives up.
    pub(crate) fn lost(&mut self, sent: &Tuple) {
        self.waiting.remove(&sent.at(Default::default()));
    }

    /// It has left: the world answers.
    pub(crate) fn left(&mut self, sent: &Tuple, wire: &Tuple, now: Instant) {
        let sent = sent.at(Default::default());
        let Some(talk) = self.waiting.get_mut(&sent) else {
            return;
        };
        let Some(back) = wire.inverse().map(|back| back.at(Default::default())) else {
            return;
        };
        let is_tcp = sent.protocol() == Protocol::TCP;
        let flags = if talk.opened {
            TcpFlags::ACK
        } else {
            TcpFlags::SYN.union(TcpFlags::ACK)
        };
        let payload = if talk.opened || !is_tcp { 400 } else { 0 };
        let bytes = packet(&back, flags, [talk.seq[1], talk.seq[0]], payload);
        if is_tcp {
            talk.seq[1] = talk.seq[1] + payload as u32 + u32::from(!talk.opened);
        }
        self.world
            .push_back((now + Duration::from_millis(20), bytes, Some(sent.source())));
        if sent.protocol() == Protocol::UDP && self.ends.len() < 100 {
            self.ends.push_back(wire.source());
        }
    }

    /// An answer has reached its host: he goes on.
    pub(crate) fn arrived(&mut self, key: &Tuple, now: Instant) {
        let asked = key.inverse().map(|key| key.at(Default::default()));
        let Some(mut talk) = asked.and_then(|asked| self.waiting.remove(&asked)) else {
            return;
        };
        talk.opened = true;
        if talk.left > 0 {
            let at = now + talk.gap;
            self.later(at, talk);
        }
    }
}

fn address(host: u32) -> IpAddr {
    IpAddr::from((0x0a00_0001 + host).to_be_bytes())
}

fn packet(key: &Tuple, flags: TcpFlags, [seq, ack]: [Seq; 2], payload: usize) -> Vec<u8> {
    let (source, destination) = (key.source(), key.destination());
    let transport = match key.protocol() {
        Protocol::TCP => Tcp {
            flags,
            seq,
            ack,
            ..Tcp::new(source.port, destination.port)
        }
        .into(),
        Protocol::ICMP => {
            let [kind, _] = destination.port.to_be_bytes();
            Transport::query(kind, source.port, 1)
        }
        _ => Transport::udp(source.port, destination.port),
    };
    let datagram = Datagram::new(source.address, destination.address, transport);
    datagram
        .with_payload(&[7; 400][..payload])
        .emit()
        .unwrap_or_default()
}

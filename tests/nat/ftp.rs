//! FTP through a translator: what is announced is what the peer can reach, and both ends see one stream, whatever is lost,
//! repeated or cut anew on the way. Every packet goes through a cached and an uncached dataplane, and comes out the same.

use std::collections::VecDeque;

use gufc::cache::{self, FlowCache};
use gufc::epoch::Change;
use gufc::hook::Direction;
use gufc::hooks::conntrack::{Config, Conntrack, Helper, Reason, Status, Timeouts};
use gufc::hooks::filter::{self, Filter, Policy, Table};
use gufc::hooks::nat::{Nat, Place};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Packet, SegmentOptions, Seq, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::testing::uncached::Uncached;
use gufc::time::Instant;
use gufc::verdict::{Path, Verdict};
use gufc::wire::build::{Datagram, Tcp};
use gufc::wire::{Arrival, Frame, HEADROOM};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::stack_wire::{Network, Wire};

pub(super) type Hooks = (Nat<Tuple>, Filter);

const FILTER: &str = "
    chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        tcp dport 21 ct state new accept
    }
";

/// A translator that reads what control connections say.
pub(super) fn translator() -> Nat<Tuple> {
    let mut config = Config::new(64, [1, 2]);
    config.timeouts = vec![Timeouts::RFC];
    let mut tracker: Conntrack<Tuple> = Conntrack::try_new(config).expect("room");
    let control: filter::Rule = "tcp dport 21".parse().expect("a rule");
    tracker.assign_to(control.pattern, Some(Helper::Ftp));
    Nat::try_new(tracker, 16, [3, 4]).expect("room")
}

/// With a filter behind it that lets control connections in, and what they announce.
pub(super) fn filtered(nat: Nat<Tuple>) -> Hooks {
    let mut filter = Filter::new("filter", 100, 7, Policy::Drop);
    let table: Table = FILTER.parse().expect("rules");
    let _ = filter.commit(filter.diff(&table)).expect("room");
    (nat, filter)
}

fn hooks(rules: &[&str]) -> Hooks {
    let mut nat = translator();
    for rule in rules {
        let _ = nat
            .insert(Place::Last, rule.parse().expect("a rule"))
            .expect("room");
    }
    filtered(nat)
}

/// A cached dataplane and its uncached twin.
pub(super) struct Pair {
    pub(super) cached: FlowCache<Tuple, Hooks>,
    plain: Uncached<Hooks>,
    pub(super) hits: usize,
}

impl Pair {
    fn new(rules: &[&str]) -> Self {
        Self::over(|| hooks(rules))
    }

    pub(super) fn over(hooks: impl Fn() -> Hooks) -> Self {
        Self {
            cached: FlowCache::new(cache::Config::new([3, 4]), hooks()).expect("room"),
            plain: Uncached { hooks: hooks() },
            hits: 0,
        }
    }

    /// Does something to both.
    pub(super) fn both(&mut self, mut work: impl FnMut(&mut Nat<Tuple>)) {
        work(&mut self.plain.hooks.0);
        let _ = self.cached.edit(|hooks| {
            work(&mut hooks.0);
            Ok::<_, ()>(((), Change::nothing()))
        });
    }

    /// The packet as it leaves, if it does.
    pub(super) fn process(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let roomy = || {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend(packet);
            buffer
        };
        let (mut one, mut other) = (roomy(), roomy());
        let arrival = Arrival::default();
        let mut one =
            Frame::<Tuple>::with_headroom(&mut one, HEADROOM, &arrival).expect("a packet");
        let mut other =
            Frame::<Tuple>::with_headroom(&mut other, HEADROOM, &arrival).expect("a packet");
        let got = self.cached.process(&mut one, now);
        let wanted = self.plain.process(&mut other, now);
        self.hits += usize::from(got.path == Path::Hit);
        assert!(got.agrees(&wanted), "{got:?} is not {wanted:?}");
        assert_eq!(one.packet(), other.packet());
        assert!(one.is_intact());
        let dump = |nat: &Nat<Tuple>| format!("{:?}", nat.tracker().iter().collect::<Vec<_>>());
        assert_eq!(dump(&self.cached.hooks().0), dump(&self.plain.hooks.0));
        (got.verdict == Verdict::Accept).then(|| one.packet().to_vec())
    }

    pub(super) fn check(&mut self) {
        self.plain.hooks.0.check().expect("sound");
    }

    pub(super) fn nat(&self) -> &Nat<Tuple> {
        &self.cached.hooks().0
    }
}

/// One hand-made control connection.
pub(super) struct Talk {
    pub(super) pair: Pair,
    /// From client to server as the client sees it, and from server to client as the server does.
    pub(super) keys: [Tuple; 2],
    /// What each end sends next, and has heard, in its own view.
    pub(super) seq: [u32; 2],
    pub(super) heard: [u32; 2],
    pub(super) now: Instant,
}

pub(super) const NOW: Instant = Instant::from_millis(1_000);

pub(super) fn segment(key: &Tuple, seq: u32, ack: u32, flags: TcpFlags, text: &[u8]) -> Vec<u8> {
    let (source, destination) = (key.source(), key.destination());
    let mut header = Tcp::new(source.port, destination.port);
    (header.seq, header.ack, header.flags) = (Seq(seq), Seq(ack), flags);
    Datagram::new(source.address, destination.address, header)
        .with_payload(text)
        .emit()
        .expect("a packet")
}

/// Key, sequence number, acknowledgement and data of a packet.
pub(super) fn read(bytes: &[u8]) -> (Tuple, u32, u32, String) {
    let mut bytes = bytes.to_vec();
    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    let segment = frame.segment().expect("a segment");
    let data = &frame.transport()[20 + usize::from(segment.options.length)..];
    let text = String::from_utf8(data.to_vec()).expect("text");
    (frame.key(), segment.seq.0, segment.ack.0, text)
}

impl Talk {
    /// Opens a connection: `inside` is the client's view.
    fn open(rules: &[&str], inside: &str) -> Self {
        Self::over(Pair::new(rules), inside)
    }

    pub(super) fn over(pair: Pair, inside: &str) -> Self {
        let mut talk = Self {
            pair,
            keys: [inside.parse().expect("a tuple"); 2],
            seq: [1000, 5000],
            heard: [0, 0],
            now: NOW,
        };
        talk.handshake();
        talk
    }

    pub(super) fn handshake(&mut self) {
        let syn = segment(&self.keys[0], 1000, 0, TcpFlags::SYN, b"");
        let seen = self.pair.process(&syn, self.now).expect("a syn");
        self.keys[1] = read(&seen).0.inverse().expect("an answer");
        let answer = segment(
            &self.keys[1],
            5000,
            1001,
            TcpFlags::SYN | TcpFlags::ACK,
            b"",
        );
        self.pair.process(&answer, self.now).expect("a syn/ack");
        self.seq = [1001, 5001];
        self.heard = [5001, 1001];
        let ack = segment(&self.keys[0], 1001, 5001, TcpFlags::ACK, b"");
        self.pair.process(&ack, self.now).expect("an ack");
    }

    /// One end says something; what the other hears of it.
    pub(super) fn say(&mut self, from: usize, text: &str) -> Option<String> {
        let said = self.say_at(from, self.seq[from], text);
        self.seq[from] += text.len() as u32;
        said
    }

    pub(super) fn say_at(&mut self, from: usize, seq: u32, text: &str) -> Option<String> {
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let sent = segment(
            &self.keys[from],
            seq,
            self.heard[from],
            flags,
            text.as_bytes(),
        );
        let (_, seq, ack, text) = read(&self.pair.process(&sent, self.now)?);
        let end = seq + text.len() as u32;
        let heard = &mut self.heard[1 - from];
        assert!(seq <= *heard, "no gap: {seq} {heard}");
        *heard = end.max(*heard);
        assert!(
            ack <= self.seq[1 - from],
            "nothing is acknowledged that was not said"
        );
        Some(text)
    }

    /// A connection is opened; as it arrives, and what class it had.
    pub(super) fn connect(&mut self, key: &str) -> Option<String> {
        let key: Tuple = key.parse().expect("a tuple");
        let syn = segment(&key, 9, 0, TcpFlags::SYN, b"");
        let seen = self.pair.process(&syn, self.now);
        self.pair.check();
        let seen = seen?;
        Some(read(&seen).0.to_string())
    }
}

const MASQUERADED: [&str; 1] = ["ip saddr 10.0.0.0/8 snat to 203.0.113.1"];

#[test]
fn an_active_client_behind_a_translator() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    assert_eq!(
        talk.say(1, "220 hello\r\n").as_deref(),
        Some("220 hello\r\n")
    );
    assert_eq!(talk.say(0, "USER x\r\n").as_deref(), Some("USER x\r\n"));
    // Four bytes more; the address and the port, which is free outside.
    let heard = talk.say(0, "PORT 10,0,0,2,4,1\r\n");
    assert_eq!(heard.as_deref(), Some("PORT 203,0,113,1,4,1\r\n"));
    // The server acknowledges what it got; the client hears what it sent.
    assert_eq!(talk.heard[1], talk.seq[0] + 3);
    let (_, _, ack, _) = {
        let sent = segment(
            &talk.keys[1],
            talk.seq[1],
            talk.heard[1],
            TcpFlags::ACK,
            b"",
        );
        read(&talk.pair.process(&sent, NOW).expect("an ack"))
    };
    assert_eq!(ack, talk.seq[0]);
    assert_eq!(talk.say(1, "200 fine\r\n").as_deref(), Some("200 fine\r\n"));
    assert_eq!(talk.say(0, "LIST\r\n").as_deref(), Some("LIST\r\n"));
    let status = talk
        .pair
        .nat()
        .tracker()
        .iter()
        .next()
        .expect("one")
        .status();
    assert!(status.contains(Status::SEQ_ADJUST.union(Status::HELPER)));
    // Only the server may come, and only once.
    assert_eq!(talk.connect("tcp 192.0.2.9:20 > 203.0.113.1:1025"), None);
    assert_eq!(
        talk.connect("tcp 192.0.2.1:20 > 203.0.113.1:1025")
            .as_deref(),
        Some("tcp 192.0.2.1:20 > 10.0.0.2:1025")
    );
    assert_eq!(talk.connect("tcp 192.0.2.1:22 > 203.0.113.1:1025"), None);
    // And is answered from outside.
    let key = "tcp 10.0.0.2:1025 > 192.0.2.1:20".parse().expect("a tuple");
    let answer = segment(&key, 5, 10, TcpFlags::SYN | TcpFlags::ACK, b"");
    let seen = talk.pair.process(&answer, NOW).expect("an answer");
    assert_eq!(
        read(&seen).0.to_string(),
        "tcp 203.0.113.1:1025 > 192.0.2.1:20"
    );
}

#[test]
fn a_server_behind_a_translator() {
    let forward = ["ip daddr 203.0.113.1 tcp dport 21 dnat to 10.0.0.5"];
    let mut talk = Talk::open(&forward, "tcp 198.51.100.7:40000 > 203.0.113.1:21");
    assert_eq!(
        talk.keys[1].to_string(),
        "tcp 10.0.0.5:21 > 198.51.100.7:40000"
    );
    talk.say(0, "PASV\r\n");
    let heard = talk.say(1, "227 Entering Passive Mode (10,0,0,5,200,10).\r\n");
    assert_eq!(
        heard.as_deref(),
        Some("227 Entering Passive Mode (203,0,113,1,200,10).\r\n")
    );
    assert_eq!(
        talk.connect("tcp 198.51.100.7:40001 > 203.0.113.1:51210")
            .as_deref(),
        Some("tcp 198.51.100.7:40001 > 10.0.0.5:51210")
    );
    // The extended form has a port only, which stays.
    talk.say(0, "EPSV\r\n");
    let text = "229 Extended (|||51211|)\r\n";
    assert_eq!(talk.say(1, text).as_deref(), Some(text));
    assert_eq!(
        talk.connect("tcp 198.51.100.7:40002 > 203.0.113.1:51211")
            .as_deref(),
        Some("tcp 198.51.100.7:40002 > 10.0.0.5:51211")
    );
}

#[test]
fn extended_commands_over_ipv6() {
    let rules = ["ip6 saddr fd00::/48 snat to 2001:db8:ffff::1"];
    let mut talk = Talk::open(&rules, "tcp [fd00::2]:40000 > [2001:db8::21]:21");
    talk.say(1, "220 hello\r\n");
    let heard = talk.say(0, "EPRT |2|fd00::2|1025|\r\n");
    assert_eq!(heard.as_deref(), Some("EPRT |2|2001:db8:ffff::1|1025|\r\n"));
    assert_eq!(
        talk.connect("tcp [2001:db8::21]:20 > [2001:db8:ffff::1]:1025")
            .as_deref(),
        Some("tcp [2001:db8::21]:20 > [fd00::2]:1025")
    );
}

#[test]
fn a_port_that_another_announced_is_another_outside() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    talk.say(0, "PORT 10,0,0,2,4,1\r\n");
    // A second client, the same port.
    let first = talk.keys;
    talk.keys[0] = "tcp 10.0.0.3:40000 > 192.0.2.1:21"
        .parse()
        .expect("a tuple");
    talk.handshake();
    assert_ne!(talk.keys[1], first[1]);
    let heard = talk.say(0, "PORT 10,0,0,3,4,1\r\n").expect("passes");
    let numbers: Vec<u16> = heard[5..]
        .trim()
        .split(',')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let port = numbers[4] << 8 | numbers[5];
    assert!(port >= 1024 && port != 1025, "{heard}");
    // Said again, it is the same.
    let again = talk.say_at(0, 1001, "PORT 10,0,0,3,4,1\r\n");
    assert_eq!(again, Some(heard));
    assert_eq!(
        talk.connect(&format!("tcp 192.0.2.1:20 > 203.0.113.1:{port}"))
            .as_deref(),
        Some("tcp 192.0.2.1:20 > 10.0.0.3:1025")
    );
    assert_eq!(
        talk.connect("tcp 192.0.2.1:20 > 203.0.113.1:1025")
            .as_deref(),
        Some("tcp 192.0.2.1:20 > 10.0.0.2:1025")
    );
}

#[test]
fn what_is_said_again_is_said_in_the_same_words() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    let port = |n: u8| {
        (
            format!("PORT 10,0,0,2,4,{n}\r\n"),
            format!("PORT 203,0,113,1,4,{n}\r\n"),
        )
    };
    let start = talk.seq[0];
    talk.say(0, "TYPE I\r\n");
    talk.say(0, &port(1).0);
    talk.say(0, "STOR x\r\n");
    talk.say(0, &port(2).0);
    talk.say(0, "NOOP\r\n");
    let (all, wanted) = (
        format!("TYPE I\r\n{}STOR x\r\n{}NOOP\r\n", port(1).0, port(2).0),
        format!("TYPE I\r\n{}STOR x\r\n{}NOOP\r\n", port(1).1, port(2).1),
    );
    // All at once; and cut anew at every place.
    assert_eq!(talk.say_at(0, start, &all), Some(wanted.clone()));
    let mut cut_short = 0;
    for from in 0..all.len() {
        for to in from + 1..=all.len() {
            let sent = segment(
                &talk.keys[0],
                start + from as u32,
                talk.heard[0],
                TcpFlags::ACK,
                &all.as_bytes()[from..to],
            );
            // Dropped where an announcement would begin in its middle; where it would end there, what is before it passes.
            let Some(seen) = talk.pair.process(&sent, NOW) else {
                continue;
            };
            let (_, seq, _, text) = read(&seen);
            let at = (seq - start) as usize;
            assert_eq!(text, wanted[at..at + text.len()], "{from}..{to}");
            cut_short += usize::from(text.len() < to - from);
        }
    }
    assert!(cut_short > 0);
    // New data behind what is known.
    let more = format!("NOOP\r\n{}", port(3).0);
    let seq = talk.seq[0] - 6;
    talk.seq[0] = seq + more.len() as u32;
    let wanted = format!("NOOP\r\n{}", port(3).1);
    assert_eq!(talk.say_at(0, seq, &more), Some(wanted));
}

#[test]
fn commands_in_pieces_and_out_of_order_wait() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    let tracker = |talk: &Talk, reason| talk.pair.nat().tracker().count(reason);
    let seq = talk.seq[0];
    assert_eq!(talk.say_at(0, seq, "PORT 10,0"), None);
    assert_eq!(talk.say_at(0, seq, "P"), None);
    assert_eq!(tracker(&talk, Reason::HelperPartial), 2);
    // The end of a segment waits for the rest of its line.
    assert_eq!(
        talk.say_at(0, seq, "NOOP\r\nPORT 10,").as_deref(),
        Some("NOOP\r\n")
    );
    // A SYN that comes again begins nothing anew.
    let syn = segment(&talk.keys[0], 1000, 0, TcpFlags::SYN, b"");
    talk.pair.process(&syn, NOW);
    // What is behind a gap waits for what is before it.
    assert_eq!(talk.say_at(0, seq + 25, "LIST\r\n"), None);
    assert_eq!(tracker(&talk, Reason::HelperOrder), 1);
    let heard = talk.say_at(0, seq + 6, "PORT 10,0,0,2,4,1\r\n");
    assert_eq!(heard.as_deref(), Some("PORT 203,0,113,1,4,1\r\n"));
    assert_eq!(
        talk.say_at(0, seq + 25, "LIST\r\n").as_deref(),
        Some("LIST\r\n")
    );
    // Somebody else's address: as it is, and nobody is let in.
    let text = "PORT 10,0,0,9,4,2\r\n";
    assert_eq!(talk.say_at(0, seq + 31, text).as_deref(), Some(text));
    assert_eq!(talk.connect("tcp 192.0.2.1:20 > 203.0.113.1:1026"), None);
}

/// Types of packets that cannot change their length: nothing passes that would say an inside address.
#[test]
fn frames_without_room_are_refused_and_counted() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    let text = b"PORT 10,0,0,2,4,1\r\n";
    let mut bytes = segment(
        &talk.keys[0],
        talk.seq[0],
        talk.heard[0],
        TcpFlags::ACK,
        text,
    );
    let mut frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    let outcome = talk.pair.cached.process(&mut frame, NOW);
    assert_eq!((outcome.verdict, outcome.by.hook), (Verdict::Drop, "nat"));
    assert_eq!(talk.pair.nat().counters().unhelped, 1);
    assert_eq!(talk.pair.nat().tracker().count(Reason::HelperRewrite), 1);
}

/// Selective acknowledgements come back in the sender's numbers.
#[test]
fn selective_acknowledgements_are_put_back() {
    let mut talk = Talk::open(&MASQUERADED, "tcp 10.0.0.2:40000 > 192.0.2.1:21");
    talk.say(0, "PORT 10,0,0,2,4,1\r\n");
    talk.say(0, "LIST\r\n");
    let key = talk.keys[1];
    let mut header = Tcp::new(key.source().port, key.destination().port);
    (header.seq, header.ack) = (Seq(talk.seq[1]), Seq(1001));
    header.flags = TcpFlags::ACK;
    let mut options = SegmentOptions {
        sack_blocks: 1,
        ..SegmentOptions::default()
    };
    options.sack[0] = (Seq(talk.heard[1] - 6), Seq(talk.heard[1]));
    header.options = options;
    let sent = Datagram::new(key.source().address, key.destination().address, header);
    let seen = talk.pair.process(&sent.emit().expect("a packet"), NOW);
    let mut seen = seen.expect("an answer");
    let frame = Frame::<Tuple>::ip(&mut seen, &Arrival::default()).expect("a packet");
    let segment = frame.segment().expect("a segment");
    assert_eq!(segment.ack, Seq(1001));
    assert_eq!(
        segment.options.sack[0],
        (Seq(talk.seq[0] - 6), Seq(talk.seq[0]))
    );
}

// Real stacks.

struct Host {
    wire: Wire,
    stack: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    /// What its user still says, a piece at a time, and has heard.
    to_say: VecDeque<Vec<u8>>,
    heard: Vec<u8>,
}

impl Host {
    fn new(chance: &mut SplitMix64, address: IpAddress, gateway: IpAddress) -> Self {
        let mut wire = Wire::new(1_500);
        let mut config = iface::Config::new(HardwareAddress::Ip);
        config.random_seed = chance.next();
        let mut stack = Interface::new(config, &mut wire, Moment::ZERO);
        stack.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address, 24)).expect("room");
        });
        match gateway {
            IpAddress::Ipv4(gateway) => {
                stack
                    .routes_mut()
                    .add_default_ipv4_route(gateway)
                    .expect("room");
            }
            IpAddress::Ipv6(_) => unreachable!(),
        }
        let received = SocketBuffer::new(vec![0; [1_500, 4_096][chance.below(2) as usize]]);
        // Large enough never to wrap: this stack cuts a segment where its ring ends, every time at the same byte, and refuses one
        // that sticks out of its window at both ends.
        let sent = SocketBuffer::new(vec![0; 4_096]);
        let mut socket = Socket::new(received, sent);
        socket.set_nagle_enabled(chance.below(2) == 0);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            wire,
            stack,
            sockets,
            socket,
            to_say: VecDeque::new(),
            heard: Vec::new(),
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn turn(&mut self, now: u64) {
        let moment = Moment::from_millis(now as i64);
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if socket.state() == State::Established {
            if let Some(piece) = self.to_say.front_mut() {
                let sent = socket.send_slice(piece).expect("open");
                piece.drain(..sent);
                if piece.is_empty() {
                    self.to_say.pop_front();
                }
            }
            let heard = &mut self.heard;
            let _ = socket.recv(|data| {
                heard.extend_from_slice(data);
                (data.len(), ())
            });
        }
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
    }
}

/// Client and server talk over a network that loses, repeats and reorders on both sides of the translator; both say many
/// announcements without waiting for answers. What arrives is what was said, with the addresses that the peer can reach.
fn converse(seed: u64) -> usize {
    let mut chance = SplitMix64(seed);
    let mut pair = Pair::new(&[
        "ip saddr 10.0.0.0/8 snat to 203.0.113.1",
        "ip daddr 198.51.100.1 dnat to 172.16.0.5",
    ]);
    // The client is translated, and the server, too: both announce.
    let mut hosts = [
        Host::new(
            &mut chance,
            IpAddress::v4(10, 0, 0, 2),
            IpAddress::v4(10, 0, 0, 1),
        ),
        Host::new(
            &mut chance,
            IpAddress::v4(172, 16, 0, 5),
            IpAddress::v4(172, 16, 0, 1),
        ),
    ];
    let mut wanted = [String::new(), String::new()];
    for from in 0..2 {
        for number in 0..30 {
            let plain = [
                "NOOP\r\n",
                "TYPE I\r\n",
                "RETR a-file-with-a-longer-name\r\n",
                "226-all of it\r\n 2 more\r\n",
            ];
            let port = chance.below(200);
            let (said, heard) = match (chance.below(2), from) {
                (0, _) => {
                    let text = plain[chance.below(4) as usize];
                    (text.to_string(), text.to_string())
                }
                (_, 0) => (
                    format!("PORT 10,0,0,2,{},{port}\r\n", number + 10),
                    format!("PORT 203,0,113,1,{},{port}\r\n", number + 10),
                ),
                _ => (
                    format!("227 Passive (172,16,0,5,{},{port})\r\n", number + 100),
                    format!("227 Passive (198,51,100,1,{},{port})\r\n", number + 100),
                ),
            };
            wanted[1 - from] += &heard;
            // In one piece, or a few bytes at a time.
            let mut said = said.into_bytes();
            while !said.is_empty() {
                let length = (1 + chance.below(60) as usize).min(said.len());
                hosts[from].to_say.push_back(said.drain(..length).collect());
            }
        }
    }
    let [client, server] = &mut hosts;
    server.socket().listen(21).expect("a port");
    let socket = client.sockets.get_mut::<Socket<'_>>(client.socket);
    socket
        .connect(
            client.stack.context(),
            (IpAddress::v4(198, 51, 100, 1), 21),
            40_000,
        )
        .expect("a socket");
    let mut network = Network::<(bool, usize, Vec<u8>)>::new(&mut chance, [12, 12, 60]);
    let mut now = 0u64;
    for _ in 0..200_000 {
        let mut sent = Vec::new();
        while let Some((translated, to, packet)) = network.receive(now) {
            if translated {
                hosts[to].wire.incoming.push_back(packet);
            } else if let Some(packet) = pair.process(&packet, Instant::from_millis(1_000 + now)) {
                sent.push((true, to, packet));
            }
        }
        for (from, host) in hosts.iter_mut().enumerate() {
            host.turn(now);
            sent.extend(
                host.wire
                    .outgoing
                    .drain(..)
                    .map(|packet| (false, 1 - from, packet)),
            );
        }
        for packet in sent {
            network.send(&mut chance, now, &packet);
        }
        for (host, wanted) in hosts.iter().zip(&wanted) {
            let heard = String::from_utf8_lossy(&host.heard);
            assert!(
                wanted.starts_with(&*heard),
                "seed {seed}, {now} ms:\n{heard}\nis not the beginning of\n{wanted}"
            );
        }
        if hosts
            .iter()
            .zip(&wanted)
            .all(|(host, wanted)| host.heard.len() == wanted.len())
        {
            let tracker = pair.nat().tracker();
            let one = tracker.iter().next().expect("the connection");
            assert!(one.tcp_side(Direction::Original).is_some());
            for reason in [
                Reason::TcpAckUnsent,
                Reason::TcpState,
                Reason::Malformed,
                Reason::Checksum,
            ] {
                assert_eq!(tracker.count(reason), 0, "seed {seed}: {reason}");
            }
            return tracker.count(Reason::HelperOrder) as usize;
        }
        now += 5;
    }
    let states = hosts.map(|mut host| (host.socket().state(), host.heard.len()));
    panic!(
        "seed {seed}: they never end: {states:?} of {:?}",
        wanted.map(|text| text.len())
    );
}

#[test]
fn two_stacks_see_one_stream() {
    let seeds =
        std::env::var("GUFC_STACK_SEEDS").map_or(12, |text| text.parse().expect("a number"));
    let waited: usize = (0..seeds).map(converse).sum();
    assert!(waited > 0, "the network reordered");
}

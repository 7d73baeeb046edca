//! Fragments between IPv6 and IPv4 (RFC 6146 section 3.4, RFC 7915), as a dataplane takes them: put together, judged and translated
//! with and without a cache, cut again, and put together by who gets them.

use gufc::hooks::conntrack::Reason;
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Mtus, Packet, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::verdict::{Answer, Verdict};
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{Arrival, Cut, Frame, Limits, Reassembler, Reassembly};
use proptest::prelude::*;

use super::nat64::{OUTSIDE, Setting, World, key_of, packet};

const THERE: &str = "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53";
const BACK: &str = "udp 192.0.2.53:53 > 198.51.100.1:4000";

/// What a dataplane has around its hooks.
struct Dataplane {
    world: World,
    reassembler: Reassembler,
    mtus: Mtus,
    /// The last verdict.
    verdict: Verdict,
}

impl Dataplane {
    fn new() -> Self {
        Self::with(Setting::default().mtus)
    }

    fn with(mtus: Mtus) -> Self {
        let setting = Setting {
            mtus,
            ..Setting::default()
        };
        Self {
            world: World::new(&setting),
            reassembler: Reassembler::new(Limits::default()),
            mtus,
            verdict: Verdict::Accept,
        }
    }

    /// What leaves of one packet.
    fn send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = packet.to_vec();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let whole = Cut::of(&frame);
        let datagram = match self.reassembler.push(&frame, self.world.now) {
            Reassembly::Whole => None,
            Reassembly::Complete(datagram) => Some(datagram.to_vec()),
            Reassembly::Queued | Reassembly::Discarded(_) => return Vec::new(),
        };
        let (datagram, cut) = match datagram {
            Some(datagram) => (datagram, self.reassembler.cut()),
            None => (packet.to_vec(), whole),
        };
        let (outcome, after) = self.world.send_cut(&datagram, &cut);
        self.verdict = outcome.verdict;
        match outcome.verdict {
            Verdict::Accept => cut.fragments(&after, &self.mtus).expect("room"),
            _ => Vec::new(),
        }
    }

    fn send_all(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        packets.iter().flat_map(|one| self.send(one)).collect()
    }

    /// A short datagram from inside, by which those from outside come in.
    fn open(&mut self, there: &str) {
        let key = there.parse().expect("a key");
        assert_eq!(
            self.send(&packet(&key, TcpFlags::SYN, [1, 0], b"")).len(),
            1
        );
    }
}

/// What the receiver gets of these: key and payload, with right checksums.
fn received(pieces: &[Vec<u8>]) -> (String, Vec<u8>) {
    let mut reassembler = Reassembler::new(Limits::default());
    let mut got = None;
    for piece in pieces {
        let mut piece = piece.clone();
        let frame: Frame = Frame::ip(&mut piece, &Arrival::default()).expect("a packet");
        assert_eq!(frame.packet().len(), frame.length() as usize);
        match reassembler.push(&frame, gufc::time::Instant::START) {
            Reassembly::Whole => got = Some(frame.packet().to_vec()),
            Reassembly::Complete(datagram) => got = Some(datagram.to_vec()),
            Reassembly::Queued => {}
            Reassembly::Discarded(why) => panic!("{why}"),
        }
    }
    assert!(reassembler.is_empty(), "nothing is left over");
    let mut datagram = got.expect("a datagram");
    let frame: Frame = Frame::ip(&mut datagram, &Arrival::default()).expect("a packet");
    assert!(frame.is_intact());
    assert_eq!(frame.defect(), None);
    let header = match frame.protocol().0 {
        6 => usize::from(frame.transport()[12] >> 4) * 4,
        _ => 8,
    };
    (
        frame.key().to_string(),
        frame.transport()[header..].to_vec(),
    )
}

fn datagram(key: &str, payload: &[u8]) -> Datagram {
    let key: Tuple = key.parse().expect("a key");
    let (source, destination) = (key.source(), key.destination());
    let transport = match key.protocol().0 {
        6 => gufc::wire::build::Tcp {
            flags: TcpFlags::SYN,
            ..gufc::wire::build::Tcp::new(source.port, destination.port)
        }
        .into(),
        17 => Transport::udp(source.port, destination.port),
        _ => Transport::query(destination.port.to_be_bytes()[0], source.port, 1),
    };
    Datagram {
        identification: 0x1234_5678,
        ..Datagram::new(source.address, destination.address, transport).with_payload(payload)
    }
}

fn text(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Identification, offset and whether more follow, as the headers say.
fn place(piece: &[u8]) -> (u32, u32, bool) {
    let mut piece = piece.to_vec();
    let frame: Frame = Frame::ip(&mut piece, &Arrival::default()).expect("a packet");
    let piece = frame.piece().expect("a fragment");
    (piece.identification, piece.offset, piece.more)
}

#[test]
fn rfc7915_5_1_1_fragments_of_ipv6_leave_as_fragments_of_ipv4() {
    for (there, wanted) in [
        (THERE, "udp 198.51.100.1:4000 > 192.0.2.53:53"),
        (
            "tcp [2001:db8::7]:4000 > [64:ff9b::c000:235]:80",
            "tcp 198.51.100.1:4000 > 192.0.2.53:80",
        ),
        (
            "icmpv6 2001:db8::7 > 64:ff9b::c000:235 id 4000 type 128 code 0",
            "icmp 198.51.100.1 > 192.0.2.53 id 4000 type 8 code 0",
        ),
    ] {
        let mut plane = Dataplane::new();
        let came = datagram(there, &text(3000))
            .fragments(1280)
            .expect("pieces");
        for _ in 0..3 {
            let left = plane.send_all(&came);
            assert_eq!(received(&left), (wanted.to_string(), text(3000)));
            assert_eq!(left.len(), came.len());
            for (piece, came) in left.iter().zip(&came) {
                // Total length, identification, "more fragments" and offset as they came; nothing forbids to cut them further.
                let (identification, offset, more) = place(came);
                assert_eq!(place(piece), (identification & 0xffff, offset, more));
                assert_eq!(piece.len(), came.len() - 28);
                assert_eq!(piece[6] & 0x40, 0);
                assert_eq!((piece[8], piece[1]), (64, 0), "hop limit and class");
            }
        }
        // The flow is cached, whatever its datagrams came in.
        assert!(plane.world.pair.hits > 0 || there.starts_with("tcp"));
    }
}

#[test]
fn rfc7915_4_1_fragments_of_ipv4_leave_as_fragments_of_ipv6() {
    let mut plane = Dataplane::new();
    plane.open(THERE);
    for mtu in [1500, 1300, 576] {
        let came = datagram(BACK, &text(4000)).fragments(mtu).expect("pieces");
        let left = plane.send_all(&came);
        let (key, payload) = received(&left);
        assert_eq!(key, "udp [64:ff9b::c000:235]:53 > [2001:db8::7]:4000");
        assert_eq!(payload, text(4000));
        for piece in &left {
            let (identification, ..) = place(piece);
            assert_eq!(identification, 0x5678, "16 bits, and zeros before them");
            assert!(piece.len() <= (mtu + 28).min(1280), "{}", piece.len());
            assert_eq!(piece[6], 44);
            assert_eq!(piece[40..42], [17, 0], "next header, reserved");
        }
        // None larger than it came, nor than every path takes, and no more of them than that needs.
        let room = (mtu - 20).min(1280 - 48) & !7;
        assert_eq!(left.len(), (4008usize).div_ceil(room));
    }
}

/// ICMP answers and segments that come in fragments find their way in, too.
#[test]
fn rfc6146_3_4_every_protocol_comes_in() {
    let mut plane = Dataplane::new();
    let ping = "icmpv6 2001:db8::7 > 64:ff9b::c000:235 id 4000 type 128 code 0";
    plane.open(ping);
    let answer = datagram(
        "icmp 192.0.2.53 > 198.51.100.1 id 4000 type 0 code 0",
        &text(2000),
    );
    let left = plane.send_all(&answer.fragments(1500).expect("pieces"));
    let wanted = "icmpv6 64:ff9b::c000:235 > 2001:db8::7 id 4000 type 129 code 0";
    assert_eq!(received(&left), (wanted.to_string(), text(2000)));

    let there: Tuple = "tcp [2001:db8::7]:4000 > [64:ff9b::c000:235]:80"
        .parse()
        .expect("a key");
    let back: Tuple = "tcp 192.0.2.53:80 > 198.51.100.1:4000"
        .parse()
        .expect("a key");
    let both = TcpFlags::SYN | TcpFlags::ACK;
    for (key, flags, numbers) in [
        (&there, TcpFlags::SYN, [100, 0]),
        (&back, both, [500, 101]),
        (&there, TcpFlags::ACK, [101, 501]),
    ] {
        assert_eq!(plane.send(&packet(key, flags, numbers, b"")).len(), 1);
    }
    let mut segment = datagram(&back.to_string(), &text(2600));
    if let Transport::Tcp(tcp) = &mut segment.transport {
        tcp.flags = TcpFlags::ACK;
        (tcp.seq, tcp.ack) = (gufc::packet::Seq(501), gufc::packet::Seq(101));
    }
    let left = plane.send_all(&segment.fragments(1500).expect("pieces"));
    let wanted = "tcp [64:ff9b::c000:235]:80 > [2001:db8::7]:4000";
    assert_eq!(received(&left), (wanted.to_string(), text(2600)));
    // Its window counts the datagram, not a piece of it.
    let ack = packet(&there, TcpFlags::ACK, [101, 501 + 2600], b"");
    assert_eq!(plane.send(&ack).len(), 1);
}

#[test]
fn rfc6146_3_4_in_any_order_and_in_between_others() {
    let mut plane = Dataplane::new();
    let of = |host: u8| {
        let key = format!("udp [2001:db8::{host}]:4000 > [64:ff9b::c000:235]:53");
        datagram(&key, &text(2500 + usize::from(host)))
            .fragments(1280)
            .expect("pieces")
    };
    // Three hosts, the same identification; backwards, and by turns.
    let all: Vec<_> = (1..4).map(of).collect();
    let mut left = Vec::new();
    for number in (0..all[0].len()).rev() {
        for one in &all {
            let pieces = plane.send(&one[number]);
            if !pieces.is_empty() {
                left.push(pieces);
            }
        }
    }
    let sizes: Vec<usize> = left.iter().map(|one| received(one).1.len()).collect();
    assert_eq!(sizes, [2501, 2502, 2503]);
    let ends: std::collections::BTreeSet<String> = left.iter().map(|one| received(one).0).collect();
    assert_eq!(ends.len(), 3, "each from its own outside end");
}

/// Its ICMPv6 counterpart has to have one, and it covers all of the datagram (RFC 7915 section 4.5).
#[test]
fn rfc6146_3_4_a_missing_udp_checksum_is_computed() {
    let mut plane = Dataplane::new();
    plane.open(THERE);
    let mut without = datagram(BACK, &text(3000));
    without.transport = Transport::Udp {
        source: 53,
        destination: 4000,
        checksum: false,
    };
    let mut pieces = without.fragments(1500).expect("pieces");
    assert_eq!(pieces[0][26..28], [0, 0]);
    pieces.reverse();
    let left = plane.send_all(&pieces);
    assert_eq!(received(&left).1, text(3000));
    assert_ne!(left[0][54..56], [0, 0]);
    // And in one piece.
    let short = without.with_payload(&text(100));
    let left = plane.send(&short.emit().expect("a packet"));
    assert_eq!(received(&[left[0].clone()]).1, text(100));
    assert_ne!(left[0][46..48], [0, 0]);
}

#[test]
fn rfc6946_atomic_fragments_wait_for_nobody() {
    let mut plane = Dataplane::new();
    let came = datagram(THERE, &text(3000))
        .fragments(1280)
        .expect("pieces");
    assert!(plane.send(&came[0]).is_empty(), "it waits");
    // With the identification of those that wait.
    let mut atomic = datagram(THERE, &text(1232));
    atomic.extensions = vec![(44, vec![0, 0, 0x12, 0x34, 0x56, 0x78])];
    let left = plane.send(&atomic.emit().expect("a packet"));
    assert_eq!(left.len(), 1);
    assert_eq!(received(&left).1, text(1232));
    // It may be fragmented later on, by its identification (RFC 7915 section 5.1.1).
    assert_eq!(left[0][4..8], [0x56, 0x78, 0, 0]);
    let left = plane.send_all(&came[1..]);
    assert_eq!(received(&left).1, text(3000));
    // What was asked to fit a narrow link of IPv4 is cut to it (RFC 2460 section 5).
    let mut plane = Dataplane::with(Mtus {
        v4: 576,
        ..Mtus::both(1500)
    });
    let left = plane.send(&atomic.emit().expect("a packet"));
    assert!(left.len() == 3 && left.iter().all(|piece| piece.len() <= 576));
    assert!(left.iter().all(|piece| place(piece).0 == 0x5678));
    assert_eq!(received(&left).1, text(1232));
}

/// Who sent it counts on routers to cut it, and those of IPv6 do not.
#[test]
fn rfc7915_4_what_may_be_fragmented_is_cut_for_every_path() {
    let mut plane = Dataplane::new();
    plane.open(THERE);
    for (size, pieces) in [(1200, 1), (1232, 1), (1233, 2), (1440, 2), (1472, 2)] {
        let came = datagram(BACK, &text(size)).emit().expect("a packet");
        let left = plane.send(&came);
        assert_eq!(left.len(), pieces, "{size}");
        assert!(left.iter().all(|piece| piece.len() <= 1280));
        assert_eq!(received(&left).1, text(size));
        if pieces > 1 {
            assert_eq!(place(&left[0]), (0x5678, 0, true));
        } else {
            assert_eq!(left[0][6], 17, "no fragment header without need");
        }
    }
    // Where the network is known to do better, it does.
    let mut plane = Dataplane::with(Mtus {
        lowest_v6: 1400,
        ..Mtus::both(1500)
    });
    plane.open(THERE);
    let came = datagram(BACK, &text(1352)).emit().expect("a packet");
    assert_eq!(plane.send(&came).len(), 1);
}

#[test]
fn rfc7915_4_what_must_not_be_fragmented_is_told() {
    let mut plane = Dataplane::new();
    plane.open(THERE);
    let mut back = datagram(BACK, &text(1452));
    back.dont_fragment = true;
    assert_eq!(plane.send(&back.emit().expect("a packet")).len(), 1);
    let back = back.with_payload(&text(1453));
    assert!(plane.send(&back.emit().expect("a packet")).is_empty());
    assert_eq!(plane.verdict, Verdict::Reject(Answer::TooBig));
    // IPv6 in one piece never is.
    let mut plane = Dataplane::with(Mtus {
        v4: 1400,
        ..Mtus::both(1500)
    });
    let there = datagram(THERE, &text(1372)).emit().expect("a packet");
    assert_eq!(plane.send(&there).len(), 1);
    let there = datagram(THERE, &text(1373)).emit().expect("a packet");
    assert!(plane.send(&there).is_empty());
    assert_eq!(plane.verdict, Verdict::Reject(Answer::TooBig));
    // In fragments of the same size it passes, in smaller ones.
    let came = datagram(THERE, &text(2800))
        .fragments(1500)
        .expect("pieces");
    let left = plane.send_all(&came);
    assert!(left.iter().all(|piece| piece.len() <= 1400));
    assert_eq!(received(&left).1, text(2800));
}

#[test]
fn rfc7915_5_1_short_packets_are_cut_for_narrow_links() {
    let mut plane = Dataplane::with(Mtus {
        v4: 576,
        ..Mtus::both(1500)
    });
    let there = datagram(THERE, &text(1200)).emit().expect("a packet");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let left = plane.send(&there);
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|piece| piece.len() <= 576));
        assert_eq!(received(&left).1, text(1200));
        seen.insert(place(&left[0]).0);
    }
    assert_eq!(seen.len(), 3, "each has an identification of its own");
}

/// What both families can say passes, and nothing longer.
#[test]
fn the_largest_datagrams() {
    let mut plane = Dataplane::new();
    plane.open(THERE);
    // From IPv4, 65,535 bytes.
    let came = datagram(BACK, &text(65_507))
        .fragments(1500)
        .expect("pieces");
    assert_eq!(received(&plane.send_all(&came)).1, text(65_507));
    // From IPv6 20 more, which IPv4 cannot hold.
    let came = datagram(THERE, &text(65_507))
        .fragments(1280)
        .expect("pieces");
    assert_eq!(received(&plane.send_all(&came)).1, text(65_507));
    let came = datagram(THERE, &text(65_508))
        .fragments(1280)
        .expect("pieces");
    assert!(plane.send_all(&came).is_empty());
    assert_eq!(plane.verdict, Verdict::Drop);
    assert_eq!(plane.world.nat().counters().untranslated, 1);
}

/// Extension headers stay behind, wherever they stand (RFC 7915 section 5.1).
#[test]
fn rfc7915_5_1_1_extension_headers_are_left_out() {
    let mut plane = Dataplane::new();
    let mut long = datagram(THERE, &text(3000));
    long.extensions = vec![(0, vec![1, 4, 0, 0, 0, 0]), (60, vec![1, 12, 0, 0, 0, 0])];
    let came = long.fragments(1280).expect("pieces");
    let left = plane.send_all(&came);
    assert_eq!(received(&left).1, text(3000));
    assert_eq!(left.len(), came.len());
    for (piece, came) in left.iter().zip(&came) {
        assert_eq!(place(piece).1, place(came).1);
        assert_eq!((piece[0], piece[9]), (0x45, 17));
    }
    // And IPv4's options.
    let mut back = datagram(BACK, &text(3000));
    back.options = vec![0x94, 4, 0, 0];
    let left = plane.send_all(&back.fragments(1500).expect("pieces"));
    assert_eq!(received(&left).1, text(3000));
}

#[test]
fn rfc5722_overlaps_leave_nothing() {
    let mut plane = Dataplane::new();
    let came = datagram(THERE, &text(3000))
        .fragments(1280)
        .expect("pieces");
    let other = datagram(THERE, &text(3000))
        .fragments(1272)
        .expect("pieces");
    let mixed = [came[0].clone(), other[1].clone(), came[2].clone()];
    assert!(plane.send_all(&mixed).is_empty());
    assert_eq!(plane.world.nat().tracker().len(), 0);
    assert_eq!(plane.world.nat().mappings().count(), 0);
}

/// A dataplane that puts nothing together lets no fragment through, of either family: the tracker calls each invalid.
#[test]
fn fragments_by_themselves_open_nothing() {
    let mut world = World::new(&Setting::default());
    for key in [THERE, BACK] {
        for piece in datagram(key, &text(3000)).fragments(1280).expect("pieces") {
            let (outcome, after) = world.send_cut(&piece, &Cut::default());
            assert_eq!(outcome.verdict, Verdict::Drop);
            assert_eq!(key_of(&after), key_of(&piece), "as it came");
        }
    }
    assert_eq!(world.nat().tracker().count(Reason::Fragment), 6);
}

/// An error that came in fragments leaves in one piece: it is cut to what every path takes (RFC 4443 section 2.4 c).
#[test]
fn long_errors_leave_in_one_piece() {
    let mut plane = Dataplane::new();
    let there = datagram(THERE, &text(1000)).emit().expect("a packet");
    let outside = plane.send(&there).remove(0);
    let mut quoted = outside.clone();
    quoted.resize(2500, 0);
    let router = "203.0.113.77".parse().expect("an address");
    let own = OUTSIDE.parse().expect("an address");
    let error = Datagram::new(router, own, Transport::error(11, 0)).with_payload(&quoted);
    let left = plane.send_all(&error.fragments(1500).expect("pieces"));
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].len(), 1280);
    let mut bytes = left[0].clone();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).expect("a packet");
    assert!(frame.is_intact());
    assert_eq!(
        frame.quoted().map(|key| key.to_string()).as_deref(),
        Some(THERE)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the size, the cut, the order and the links: what is sent is received, in pieces that fit.
    #[test]
    fn whatever_is_sent_is_received(seed: u64) {
        let mut chance = SplitMix64(seed);
        let pick = |chance: &mut SplitMix64, all: &[u32]| all[chance.below(all.len() as u64) as usize];
        let mtus = Mtus {
            v4: pick(&mut chance, &[68, 576, 1260, 1400, 1500, 9000]),
            v6: pick(&mut chance, &[1280, 1400, 1500, 9000]),
            lowest_v6: pick(&mut chance, &[1280, 1400]),
        };
        let mut plane = Dataplane::with(mtus);
        for (key, id) in [(THERE, 4000), (BACK, 4000)].repeat(4) {
            let below = pick(&mut chance, &[30, 1600, 8000]);
            let size = 1 + chance.below(below.into()) as usize;
            let payload = chance.bytes(size);
            let mut sent = datagram(key, &payload);
            sent.identification = chance.next() as u32;
            if key == BACK {
                sent.identification &= 0xffff;
                if chance.below(4) == 0 {
                    sent.transport = Transport::Udp { source: 53, destination: id, checksum: false };
                }
            }
            let mut came = sent.fragments(pick(&mut chance, &[1280, 1400, 1500]) as usize).expect("pieces");
            for at in (1..came.len()).rev() {
                came.swap(at, chance.below(at as u64 + 1) as usize);
            }
            if chance.below(3) == 0 {
                // Once more, before the last one.
                came.insert(0, came[0].clone());
                if came.len() == 2 { came.pop(); }
            }
            let link = if key == THERE { mtus.v4 } else { mtus.v6.min(mtus.lowest_v6) };
            let single = came.len() == 1;
            let left = plane.send_all(&came);
            if plane.verdict == Verdict::Reject(Answer::TooBig) {
                prop_assert!(key == THERE && single && came[0].len() > link as usize + 20);
                break;
            }
            prop_assert_eq!(plane.verdict, Verdict::Accept);
            prop_assert!(left.iter().all(|piece| piece.len() <= link as usize));
            prop_assert_eq!(received(&left).1, payload);
            if left.len() > 1 && !single {
                prop_assert!(left.iter().all(|piece| place(piece).0 == sent.identification & 0xffff));
            }
        }
    }
}

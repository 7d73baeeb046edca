//! Stories of a tracker: segments and other packets, time, deletions, marks and shifted numbers, played to a tracker behind the
//! cache and to one that judges every packet, with all that both know compared after each.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::toy::Choices;
use super::uncached::Uncached;
use crate::cache::{self, FlowCache, Stats};
use crate::epoch::Change;
use crate::hook::Direction;
use crate::hooks::conntrack::{Config, ConnId, Conntrack, Filter as Choice, Mode, Reason};
use crate::hooks::filter::{Filter, Place, Policy, Rule, parse_rules};
use crate::key::{FlowKey, Tuple};
use crate::packet::{Fragment, Origin, Packet, Rewrite, Segment, SegmentOptions, Seq, TcpFlags};
use crate::time::{Duration, Instant};

/// The pipeline of the stories: the tracker, and a filter that reads what it says.
pub type Hooks = (Conntrack<Tuple>, Filter);

/// Rule sets that look at what the tracker says.
const RULES: [&str; 3] = [
    "ct state established,related accept\nct state invalid drop",
    "ct state invalid drop\nct direction reply drop\nct state new accept",
    "ct state new accept\nct mark 0x1 drop\nct state established accept",
];

/// The flows: two of TCP, two of UDP, one of each other kind.
const FLOWS: [&str; 7] = [
    "tcp 10.0.0.1:1000 > 192.0.2.2:80",
    "tcp 10.0.0.1:1001 > 192.0.2.2:80",
    "udp 10.0.0.1:5 > 192.0.2.2:53",
    "icmp 10.0.0.1 > 192.0.2.2 type 8 code 0 id 7",
    "47 10.0.0.1 > 192.0.2.2",
    "sctp 10.0.0.1:9 > 192.0.2.2:9",
    "253 10.0.0.1 > 192.0.2.2",
];

/// A packet that is nothing but what a tracker reads.
#[derive(Clone, Debug)]
struct Facts {
    key: Tuple,
    segment: Option<Segment>,
    transport: Vec<u8>,
    quoted: Option<Tuple>,
    fragment: Fragment,
    intact: bool,
}

impl Packet for Facts {
    type Key = Tuple;

    fn key(&self) -> Tuple {
        self.key
    }

    fn length(&self) -> u32 {
        40 + self.segment.map_or(0, |segment| segment.payload)
    }

    fn fragment(&self) -> Fragment {
        self.fragment
    }

    fn tcp_flags(&self) -> TcpFlags {
        self.segment.map_or(TcpFlags::NONE, |segment| segment.flags)
    }

    fn transport(&self) -> &[u8] {
        &self.transport
    }

    fn transport_length(&self) -> u32 {
        self.transport.len() as u32
    }

    fn segment(&self) -> Option<Segment> {
        self.segment
    }

    fn quoted(&self) -> Option<Tuple> {
        self.quoted
    }

    fn is_intact(&self) -> bool {
        self.intact
    }

    fn hop_limit(&self) -> u8 {
        64
    }

    fn rewrite(&mut self, _: &Rewrite<Tuple>) {}

    fn set_hop_limit(&mut self, _: u8) {}
}

/// Both dataplanes, and what the senders of the flows are at.
struct Story {
    cache: FlowCache<Tuple, Hooks>,
    twin: Uncached<Hooks>,
    now: Instant,
    flows: Vec<Tuple>,
    /// By flow and direction: the next number.
    ends: [[Seq; 2]; FLOWS.len()],
    /// Segments of a handshake that are still to come, by flow.
    opening: [u8; FLOWS.len()],
}

fn hooks(config: &Config, rules: &[Rule]) -> Result<Hooks, String> {
    let mut filter = Filter::new("filter", 8, 7, Policy::Drop);
    let _ = filter
        .replace(rules.to_vec(), Policy::Accept)
        .map_err(|why| why.to_string())?;
    let tracker = Conntrack::try_new(config.clone()).map_err(|why| why.to_string())?;
    Ok((tracker, filter))
}

impl Story {
    fn new(choices: &mut Choices<'_>) -> Result<Self, String> {
        let mut config = Config::new(choices.one(&[1, 2, 4, 16]), [1, 2]);
        let switches = choices.byte();
        let switch = |bit: u8| switches & bit != 0;
        config.mode = if switch(1) {
            Mode::Hardened
        } else {
            Mode::Linux
        };
        config.tcp.liberal = switch(2) && switch(4);
        config.tcp.loose = !switch(8);
        config.checksum = switch(16);
        config.slack = Duration::from_millis(if switch(32) { 900 } else { 0 });
        config.per_source_max = switch(64).then_some(3);
        config.accounting = true;
        config.news_capacity = 256;
        let rules = choices.one(&RULES);
        let rules = parse_rules(rules, |_| None).map_err(|why| why.to_string())?;
        let sessions = cache::Config {
            sessions: choices.one(&[1, 4, 32]),
            regions: 4,
            ..cache::Config::new([3, 4])
        };
        let start = Seq(u32::from(choices.byte()) << 24 | 0x00ff_ff00);
        let flows = FLOWS.iter().map(|flow| flow.parse());
        Ok(Self {
            cache: FlowCache::new(sessions, hooks(&config, &rules)?)
                .map_err(|why| why.to_string())?,
            twin: Uncached {
                hooks: hooks(&config, &rules)?,
            },
            now: Instant::from_secs(1),
            flows: flows
                .collect::<Result<_, _>>()
                .map_err(|why| format!("{why}"))?,
            ends: [[start, start + 1_000_000]; FLOWS.len()],
            opening: [0; FLOWS.len()],
        })
    }

    /// The next packet: mostly of the TCP flows, whose segments are near where their senders are.
    fn packet(&mut self, choices: &mut Choices<'_>) -> Facts {
        let flow = match choices.below(24) {
            0..=13 => 0,
            14..=18 => 1,
            n => usize::from(n) - 17,
        };
        let bits = choices.byte();
        let mut direction = Direction::BOTH[usize::from(bits & 1)];
        let key = |direction, flows: &[Tuple]| {
            let key = flows[flow];
            match direction {
                Direction::Original => key,
                Direction::Reply => key.inverse().unwrap_or(key),
            }
        };
        let mut packet = Facts {
            key: key(direction, &self.flows),
            segment: None,
            transport: Vec::new(),
            quoted: None,
            fragment: Fragment::Whole,
            intact: bits & 0xf0 != 0xf0,
        };
        match flow {
            0 | 1 => {
                let opening = self.opening[flow];
                if opening < 3 {
                    self.opening[flow] += 1;
                    if bits & 0x0e != 0x0e {
                        direction = Direction::BOTH[usize::from(opening == 1)];
                        packet.key = key(direction, &self.flows);
                        packet.segment = Some(self.handshake(flow, direction, opening, choices));
                        return packet;
                    }
                }
                if bits & 0x0e == 0x0c && bits & 0x30 == 0 {
                    // An error about the flow, from somewhere.
                    let outer: Result<Tuple, _> =
                        "icmp 198.51.100.9 > 10.0.0.1 type 3 code 1 id 0".parse();
                    packet.quoted = Some(packet.key);
                    packet.key = outer.unwrap_or(packet.key);
                    packet.transport = [3, 1, 0, 0, 0, 0, 0, 0].to_vec();
                } else {
                    packet.segment = Some(self.segment(flow, direction, choices));
                }
            }
            3 => {
                packet.transport =
                    [8 * u8::from(direction == Direction::Original), 0, 0, 0].to_vec()
            }
            4 => {
                packet.transport =
                    [0x30, bits >> 1 & 1, 0x88, 0x0b, 0, 0, 0, bits >> 2 & 1].to_vec()
            }
            5 => {
                let tag = u8::from(bits & 6 != 6);
                let kind = choices.one(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14]);
                let tag = if kind == 1 { 0 } else { tag };
                packet.transport = [0, 9, 0, 9, 0, 0, 0, tag, 0, 0, 0, 0, kind, 0, 0, 20].to_vec();
                packet
                    .transport
                    .extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            _ => {}
        }
        if bits & 0x78 == 0x78 {
            packet.fragment = Fragment::First;
        }
        packet
    }

    fn handshake(
        &mut self,
        flow: usize,
        direction: Direction,
        number: u8,
        choices: &mut Choices<'_>,
    ) -> Segment {
        let flags = [
            TcpFlags::SYN,
            TcpFlags::SYN.union(TcpFlags::ACK),
            TcpFlags::ACK,
        ];
        let offer = choices.byte();
        let mut options = SegmentOptions::default();
        if number < 2 && offer & 3 != 3 {
            options.length = 12;
            options.sack_permitted = offer & 4 == 0;
            options.window_scale = (offer & 8 == 0).then_some(offer >> 4);
        }
        let segment = Segment {
            seq: self.ends[flow][direction as usize],
            ack: self.ends[flow][direction.reverse() as usize],
            window: 4_000,
            flags: flags.get(usize::from(number)).copied().unwrap_or_default(),
            payload: 0,
            options,
        };
        self.ends[flow][direction as usize] = segment.end();
        segment
    }

    fn segment(&mut self, flow: usize, direction: Direction, choices: &mut Choices<'_>) -> Segment {
        const EDGES: [i32; 16] = [
            0, 0, 0, 0, 0, 0, 1, -1, 100, -100, 4_000, -4_000, 4_001, -3_999, 66_000, -70_000,
        ];
        let bits = choices.byte();
        let flags = match bits & 31 {
            0 => TcpFlags::SYN,
            1 => TcpFlags::SYN.union(TcpFlags::ACK),
            2 => TcpFlags::FIN.union(TcpFlags::ACK),
            3 => TcpFlags::RST,
            4 => TcpFlags::RST.union(TcpFlags::ACK),
            5 => TcpFlags(choices.byte()),
            6..=15 => TcpFlags::ACK.union(TcpFlags::PSH),
            _ => TcpFlags::ACK,
        };
        let peer = self.ends[flow][direction.reverse() as usize];
        let mut options = SegmentOptions::default();
        if flags.contains(TcpFlags::SYN) && bits & 32 != 0 {
            options.length = 12;
            options.sack_permitted = bits & 64 != 0;
            options.window_scale = (bits & 128 != 0).then(|| choices.byte() & 15);
        } else if bits & 0xe0 == 0xe0 {
            options.length = 12;
            options.sack_blocks = 1;
            options.sack[0] = (peer, peer + choices.one(&EDGES) as u32);
        }
        let edges = choices.byte();
        let edge = |nibble: u8| EDGES[usize::from(nibble & 15)] as u32;
        let more = choices.byte();
        let segment = Segment {
            seq: self.ends[flow][direction as usize] + edge(edges),
            ack: peer + edge(edges >> 4),
            window: [0, 1, 500, 4_000, 4_000, 4_000, 4_000, 65_535][usize::from(more & 7)],
            flags,
            payload: [0, 0, 1, 100, 1_400, 5_000, 0, 40][usize::from(more >> 3 & 7)],
            options,
        };
        if more & 0xc0 != 0xc0 {
            let end = &mut self.ends[flow][direction as usize];
            *end = end.max(segment.end());
        }
        segment
    }

    fn send(&mut self, packet: &Facts) -> Result<(), String> {
        let (mut one, mut other) = (packet.clone(), packet.clone());
        let got = self.cache.process(&mut one, self.now);
        let expected = self.twin.process(&mut other, self.now);
        if !got.agrees(&expected) {
            return Err(format!("{packet:?}: expected {expected:?}, got {got:?}"));
        }
        Ok(())
    }

    /// Changes both sides, and tells the cache what the change says.
    fn edit(&mut self, mut edit: impl FnMut(&mut Hooks) -> Change) {
        let _ = self.cache.edit(|hooks| Ok::<_, ()>(((), edit(hooks))));
        let _ = self.twin.edit(|hooks| Ok::<_, ()>(((), edit(hooks))));
    }

    /// The connection of a flow.
    fn connection(&self, flow: u8) -> Option<ConnId> {
        let key = self.flows.get(usize::from(flow) % FLOWS.len())?;
        let (tracker, _) = self.cache.hooks();
        tracker.find(key, self.now).map(|(id, _)| id)
    }

    fn play(&mut self, choices: &mut Choices<'_>) -> Result<(), String> {
        match choices.below(40) {
            0..=29 => {
                let packet = self.packet(choices);
                self.send(&packet)?;
            }
            30 | 31 => {
                self.now = self.now + Duration::from_millis(u64::from(choices.byte()) * 40);
            }
            32 => {
                self.now = self.now + Duration::from_secs(u64::from(choices.byte()) * 8);
            }
            33 => {
                let (now, budget) = (self.now, u32::from(choices.below(8)));
                self.edit(|(tracker, _)| {
                    let _ = tracker.maintain(now, budget);
                    Change::nothing()
                });
                self.cache.maintain(now, 4);
            }
            34 => {
                if let Some(id) = self.connection(choices.byte()) {
                    self.edit(|(tracker, _)| {
                        let _ = tracker.delete(id);
                        Change::nothing()
                    });
                }
            }
            35 => {
                if let Some(id) = self.connection(choices.byte()) {
                    let mark = u32::from(choices.byte());
                    self.edit(|(tracker, _)| {
                        let _ = tracker.set_mark(id, mark, 3);
                        Change::nothing()
                    });
                }
            }
            36 => {
                let (flow, by) = (choices.below(2), i32::from(choices.byte() as i8));
                if let Some(id) = self.connection(flow as u8) {
                    let seq = self.ends[usize::from(flow)][0];
                    self.edit(|(tracker, _)| {
                        let _ = tracker.adjust(id, Direction::Original, seq, by);
                        Change::nothing()
                    });
                }
            }
            37 => {
                let rule: Rule = choices
                    .one(&[
                        "ct state new drop",
                        "ct direction reply drop",
                        "tcp dport 80 accept",
                    ])
                    .parse()
                    .map_err(|why| format!("{why}"))?;
                self.edit(|(_, filter)| {
                    let inserted = filter.insert(Place::First, rule.clone());
                    inserted.map_or(Change::nothing(), |(_, change)| change)
                });
            }
            38 => {
                let flow = choices.byte();
                if let Some(key) = self.flows.get(usize::from(flow) % FLOWS.len()) {
                    self.cache.remove(Origin::Received, key);
                }
            }
            _ => {
                let id = self.connection(choices.byte());
                let (now, kind) = (self.now, choices.below(3));
                self.edit(|(tracker, _)| {
                    match (kind, id) {
                        (0, Some(id)) => tracker.forget_windows(id),
                        (1, Some(id)) => {
                            tracker.set_timeout(id, Duration::from_secs(20), true, now);
                        }
                        _ => {
                            let _ = tracker.delete_where(|one| Choice::default().matches(one));
                        }
                    }
                    Change::nothing()
                });
            }
        }
        self.compare()
    }

    /// Everything that can be seen of both trackers.
    fn compare(&mut self) -> Result<(), String> {
        self.cache.check().map_err(String::from)?;
        let (tracker, _) = self.cache.hooks();
        let (twin, _) = &self.twin.hooks;
        tracker.check()?;
        let dump = |tracker: &Conntrack<Tuple>| {
            tracker
                .iter()
                .map(|one| format!("{one:?}"))
                .collect::<Vec<_>>()
        };
        if dump(tracker) != dump(twin) {
            return Err(format!(
                "connections: expected {:#?}, got {:#?}",
                dump(twin),
                dump(tracker)
            ));
        }
        for reason in Reason::ALL {
            if tracker.count(reason) != twin.count(reason) {
                return Err(format!(
                    "{reason}: expected {}, got {}",
                    twin.count(reason),
                    tracker.count(reason)
                ));
            }
        }
        let mut told = [Vec::new(), Vec::new()];
        let [one, other] = &mut told;
        let _ = self.cache.edit(|(tracker, _)| {
            one.extend(core::iter::from_fn(|| tracker.next_news()));
            Ok::<_, ()>(((), Change::nothing()))
        });
        other.extend(core::iter::from_fn(|| self.twin.hooks.0.next_news()));
        if told[0] != told[1] {
            return Err(format!("news: expected {:?}, got {:?}", told[1], told[0]));
        }
        Ok(())
    }
}

/// Plays the story that the bytes tell; gives the cache's counters.
///
/// # Errors
///
/// The first difference, and after how many operations.
pub fn track(bytes: &[u8]) -> Result<Stats, String> {
    let mut choices = Choices::new(bytes);
    let mut story = Story::new(&mut choices)?;
    choices.play_all(|choices| story.play(choices))?;
    Ok(story.cache.stats().clone())
}

//! Packets without bytes, for stories that a reader can check by eye.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Confirmation, Conntrack, Tracked};
use gufc::key::{FlowKey, Protocol, Tuple};
use gufc::packet::{Fragment, Packet, Rewrite, Segment, SegmentOptions, Seq, TcpFlags};
use gufc::time::Instant;

/// A packet that says of itself what a parser would find out.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) key: Tuple,
    pub(super) segment: Option<Segment>,
    pub(super) transport: Vec<u8>,
    pub(super) quoted: Option<Tuple>,
    pub(super) hop_limit: u8,
    pub(super) fragment: Fragment,
    pub(super) intact: bool,
}

impl Told {
    pub(super) fn of(key: &str) -> Self {
        Self {
            key: key.parse().expect("a tuple"),
            segment: None,
            transport: Vec::new(),
            quoted: None,
            hop_limit: 64,
            fragment: Fragment::Whole,
            intact: true,
        }
    }

    pub(super) fn tcp(key: Tuple, segment: Segment) -> Self {
        Self {
            key,
            segment: Some(segment),
            transport: Vec::new(),
            quoted: None,
            hop_limit: 64,
            fragment: Fragment::Whole,
            intact: true,
        }
    }

    pub(super) fn with(mut self, transport: &[u8]) -> Self {
        self.transport = transport.to_vec();
        self
    }

    pub(super) fn quoting(mut self, key: &str) -> Self {
        self.quoted = Some(key.parse().expect("a tuple"));
        self
    }

    /// The same packet the other way.
    pub(super) fn answered(&self) -> Self {
        Self {
            key: self.key.inverse().expect("an answer"),
            ..self.clone()
        }
    }
}

impl Packet for Told {
    type Key = Tuple;

    fn key(&self) -> Tuple {
        self.key
    }

    fn length(&self) -> u32 {
        40 + self.segment.map_or(0, |segment| segment.payload)
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

    fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    fn fragment(&self) -> Fragment {
        self.fragment
    }

    fn is_intact(&self) -> bool {
        self.intact
    }

    fn tcp_flags(&self) -> TcpFlags {
        self.segment.map_or(TcpFlags::NONE, |segment| segment.flags)
    }

    fn rewrite(&mut self, rewrite: &Rewrite<Tuple>) {
        let _ = rewrite;
    }

    fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }
}

pub(super) fn tracker(config: Config) -> Conntrack<Tuple> {
    Conntrack::try_new(config).expect("room")
}

/// Tracks a packet that passes everything.
pub(super) fn pass(tracker: &mut Conntrack<Tuple>, packet: &Told, now: Instant) -> Tracked {
    let tracked = tracker.track(packet, now);
    if let Some(id) = tracked.connection {
        if tracked.class != Class::Invalid && tracked.direction == Some(Direction::Original) {
            let confirmation = tracker.confirm(id, now);
            assert!(
                matches!(
                    confirmation,
                    Confirmation::Confirmed | Confirmation::Already
                ),
                "{confirmation:?}"
            );
        }
    }
    tracker.check().expect("sound");
    tracked
}

/// A segment from its story: `FLAGS SEQ:ACK wWINDOW lLENGTH [wsN] [sk] [opt] [sack..EDGE]`.
pub(super) fn segment(words: &str) -> Segment {
    let mut words = words.split_whitespace();
    let flags = words
        .next()
        .expect("flags")
        .chars()
        .fold(0, |flags, letter| {
            flags | 1u8 << "FSRPAUEC".find(letter).expect("a flag")
        });
    let (seq, ack) = words
        .next()
        .and_then(|word| word.split_once(':'))
        .expect("seq:ack");
    let number = |text: &str| Seq(text.parse::<u32>().expect("a number"));
    let mut segment = Segment {
        seq: number(seq),
        ack: number(ack),
        window: 0,
        flags: TcpFlags(flags),
        payload: 0,
        options: SegmentOptions::default(),
    };
    for word in words {
        let options = &mut segment.options;
        if let Some(edge) = word.strip_prefix("sack..") {
            options.sack[0] = (number(edge) - 1, number(edge));
            options.sack_blocks = 1;
            options.length = 12;
        } else if let Some(shift) = word.strip_prefix("ws") {
            options.window_scale = Some(shift.parse().expect("a shift"));
            options.length = 12;
        } else if word == "sk" {
            options.sack_permitted = true;
            options.length = 12;
        } else if word == "opt" {
            options.length = 4;
        } else if let Some(window) = word.strip_prefix('w') {
            segment.window = window.parse().expect("a window");
        } else if let Some(length) = word.strip_prefix('l') {
            segment.payload = length.parse().expect("a length");
        } else {
            panic!("unknown word {word}");
        }
    }
    segment
}

/// The tuple of the stories, as packets of this direction arrive.
pub(super) fn tcp_key(direction: Direction) -> Tuple {
    let key: Tuple = "tcp 10.0.0.1:1000 > 192.0.2.2:80".parse().expect("a tuple");
    assert_eq!(key.protocol(), Protocol::TCP);
    match direction {
        Direction::Original => key,
        Direction::Reply => key.inverse().expect("an answer"),
    }
}

/// One line of a story: `> SEGMENT` or `< SEGMENT`.
pub(super) fn line(text: &str) -> Told {
    let (direction, rest) = text.split_at(1);
    let direction = match direction {
        ">" => Direction::Original,
        "<" => Direction::Reply,
        other => panic!("neither > nor <: {other}"),
    };
    Told::tcp(tcp_key(direction), segment(rest))
}

pub(super) fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

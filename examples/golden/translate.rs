//! Replays one golden trace with translation: tracker, translator, routes and filter as one pipeline, with and without a
//! cache, and compares the bytes that leave besides.

use std::rc::Rc;

use gufc::cache::{self, FlowCache};
use gufc::epoch::Change;
use gufc::hook::{Context, Hook, HookSet, Interests, Judge, Judgement, Stage, Stages, Track};
use gufc::hooks::conntrack::{Config, ConnId, Conntrack, Status, Tracked};
use gufc::hooks::nat::{Foretold, Nat, Place};
use gufc::interest::{Scratch, Trigger};
use gufc::key::{Endpoint, FlowKey, Locality, Tuple};
use gufc::packet::{Interface, Origin, Packet, Rewrite};
use gufc::pipeline::Walk;
use gufc::time::Instant;
use gufc::verdict::{Egress, Path, Verdict};
use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};
use serde_json::{Value, json};

use super::replay::{self, Entries, Outcome, Way, compare, side_of, text, unhex};
use super::rules::{self, Subject};

const IN: Interface = Interface(1);
const OUT: Interface = Interface(2);

fn side_name(interface: Interface) -> &'static str {
    match interface {
        IN => "in",
        OUT => "out",
        _ => "local",
    }
}

/// Routes by the topology, and notes what the tracker said.
struct Routes {
    header: Rc<Value>,
    track: Option<Track>,
}

impl Hook for Routes {
    type Step = ();

    fn name(&self) -> &'static str {
        "routes"
    }

    fn stages(&self) -> Stages {
        Stages::of(Stage::Route)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::All(Trigger::NONE)
    }
}

impl<P: Packet> Judge<P> for Routes {
    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        *step = Some(());
        self.run(stage, &(), packet, context);
        Judgement::Continue
    }

    fn run(&mut self, _: Stage, (): &(), packet: &mut P, context: &mut Context) -> Option<Verdict> {
        self.track = context.track;
        let interface = match side_of(&self.header, packet.key().destination().address) {
            "in" => IN,
            "out" => OUT,
            _ => return None,
        };
        context.egress = Some(Egress {
            interface,
            next_hop: 0,
        });
        None
    }
}

/// The filter of the trace, read literally.
struct Rules {
    header: Rc<Value>,
    fate: Option<replay::Fate>,
}

impl Hook for Rules {
    type Step = ();

    fn name(&self) -> &'static str {
        "rules"
    }

    fn interests(&self) -> Interests<'_> {
        Interests::All(Trigger::NONE)
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Rules {
    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        *step = Some(());
        match self.run(stage, &(), packet, context) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: false,
            },
        }
    }

    fn run(&mut self, _: Stage, (): &(), packet: &mut P, context: &mut Context) -> Option<Verdict> {
        let egress = context.egress?;
        if packet.origin() == Origin::Local {
            return None;
        }
        let subject = Subject {
            key: packet.key(),
            ingress: side_name(packet.ingress()),
            egress: side_name(egress.interface),
            flags: packet.tcp_flags().0,
            tracked: tracked(context.track),
            original: None,
        };
        let fate = replay::filter(&self.header["ruleset"]["filter"], &subject);
        let verdict = match fate.verdict {
            "forward" => None,
            "reject" => Some(Verdict::Reject(gufc::verdict::Answer::PortUnreachable)),
            _ => Some(Verdict::Drop),
        };
        self.fate = Some(fate);
        verdict
    }
}

fn tracked(track: Option<Track>) -> Tracked {
    track.map_or(Tracked::UNTRACKED, |track| Tracked {
        class: track.class,
        direction: track.direction,
        connection: track.direction.map(|_| ConnId::from_bits(track.connection)),
        status: Status(track.status),
        mark: track.mark,
        ..Tracked::UNTRACKED
    })
}

type Hooks = (Nat<Tuple>, Routes, Rules);

enum Plane {
    Cached(Box<FlowCache<Tuple, Hooks>>),
    Plain(Box<Hooks>),
}

impl Plane {
    /// Does something with the hooks that changes no rule.
    fn with<R>(&mut self, work: impl FnOnce(&mut Hooks) -> R) -> R {
        match self {
            Self::Cached(cache) => {
                let edited = cache.edit(|hooks| Ok::<_, ()>((work(hooks), Change::nothing())));
                edited.expect("an edit").0
            }
            Self::Plain(hooks) => work(hooks),
        }
    }

    fn process(&mut self, packet: &mut Frame<'_>, now: Instant) -> (Verdict, bool) {
        match self {
            Self::Cached(cache) => {
                let outcome = cache.process(packet, now);
                (outcome.verdict, outcome.path == Path::Hit)
            }
            Self::Plain(hooks) => {
                let mut context = Context::new(now, packet.origin());
                let mut destiny = Default::default();
                let scratch = &mut Scratch::new();
                let judged = hooks.judge(packet, &mut context, &mut destiny, HookSet::ALL, scratch);
                let verdict = match judged {
                    Judgement::Continue => Verdict::Accept,
                    Judgement::Finish { verdict, .. } => verdict,
                };
                let verdict = hooks.settle(packet, &mut context, verdict, &mut destiny);
                (verdict, false)
            }
        }
    }
}

struct Player {
    header: Rc<Value>,
    plane: Plane,
    reassembler: Reassembler,
    entries: Entries,
    hits: usize,
}

/// Replays the records of a trace.
pub(crate) fn replay(header: &Value, records: impl Iterator<Item = Value>, way: Way) -> Outcome {
    let mut player = Player::new(header, way);
    let mut packets = 0;
    for record in records {
        if let Err(text) = player.play(&record) {
            return replay::differs(&record, &text);
        }
        packets += 1;
    }
    Outcome::Equal {
        packets,
        stepped: player.hits,
    }
}

impl Player {
    fn new(header: &Value, way: Way) -> Self {
        let header = Rc::new(header.clone());
        let config: Config = replay::config(&header["sysctl"]);
        let tracker = Conntrack::try_new(config).expect("room");
        let mut nat = Nat::try_new(tracker, 1000, [5, 6]).expect("room");
        for (side, interface) in [("in", IN), ("out", OUT)] {
            let own = ["router4", "router6"].map(|router| {
                let network = text(&header["topology"][side], router);
                network.split('/').next().and_then(|a| a.parse().ok())
            });
            let own: Vec<_> = own.into_iter().flatten().collect();
            nat.set_addresses(interface, &own);
        }
        for list in ["dnat", "snat"] {
            for rule in header["ruleset"][list].as_array().into_iter().flatten() {
                for line in lines(list, rule) {
                    let parsed = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
                    let (id, _) = nat.insert(Place::Last, parsed).expect("room");
                    let (rule, _) = nat.rule(id).expect("a rule");
                    assert_eq!(rule.to_string().parse().as_ref(), Ok(rule));
                }
            }
        }
        let hooks = (
            nat,
            Routes {
                header: Rc::clone(&header),
                track: None,
            },
            Rules {
                header: Rc::clone(&header),
                fate: None,
            },
        );
        let plane = match way {
            Way::Whole => Plane::Plain(Box::new(hooks)),
            Way::Step => {
                let config = cache::Config::new([3, 4]);
                Plane::Cached(Box::new(FlowCache::new(config, hooks).expect("room")))
            }
        };
        Self {
            header,
            plane,
            reassembler: Reassembler::new(Limits::default()),
            entries: Entries::default(),
            hits: 0,
        }
    }

    fn arrival(&self, side: &str, bytes: &[u8]) -> Arrival {
        let base = match side {
            "local" => Arrival::local(),
            "in" => Arrival::on(IN),
            _ => Arrival::on(OUT),
        };
        let mut bytes = bytes.to_vec();
        let Ok(frame) = Frame::<Tuple>::ip(&mut bytes, &base) else {
            return base;
        };
        let key = frame.key();
        let local = |end: Endpoint| side_of(&self.header, end.address) == "local";
        base.at(Locality {
            source: local(key.source()),
            destination: local(key.destination()),
        })
    }

    fn play(&mut self, record: &Value) -> Result<(), String> {
        self.entries.update(record);
        let (stage, verdict) = (text(record, "stage"), text(record, "verdict"));
        if stage == "ip" {
            return Ok(());
        }
        let now = Instant::from_millis(record["t_ms"].as_u64().expect("a time"));
        let side = text(record, "side");
        let mut bytes = unhex(text(record, "hex"));
        let arrival = self.arrival(side, &bytes);
        let frame: Frame<'_> =
            Frame::ip(&mut bytes, &arrival).map_err(|defect| format!("no frame: {defect}"))?;
        let mut reassembled = false;
        let mut whole = match self.reassembler.push(&frame, now) {
            Reassembly::Whole => frame.packet().to_vec(),
            Reassembly::Complete(datagram) => {
                reassembled = true;
                datagram.to_vec()
            }
            Reassembly::Queued | Reassembly::Discarded(_) => {
                let queued = Some(json!("queued"));
                return compare(
                    "verdict",
                    Some(&json!(verdict)),
                    queued,
                    &Tracked::UNTRACKED,
                );
            }
        };
        let before = whole.clone();
        let mut frame: Frame<'_> =
            Frame::ip(&mut whole, &arrival).map_err(|defect| format!("no datagram: {defect}"))?;
        self.plane.with(|hooks| {
            hooks.0.foretell(foretold(record));
            (hooks.1.track, hooks.2.fate) = (None, None);
        });
        let (got, hit) = self.plane.process(&mut frame, now);
        self.hits += usize::from(hit);
        let delivered = side_of(&self.header, frame.key().destination().address) == "local";
        let (track, fate) = self
            .plane
            .with(|hooks| (hooks.1.track, hooks.2.fate.take()));
        let tracked = tracked(track);
        if track.is_some() {
            let class = Some(json!(rules::class(tracked.class)));
            compare("class", record.get("ct_state"), class, &tracked)?;
            let direction = tracked.direction.map(|d| json!(rules::direction(d)));
            compare("direction", record.get("ct_dir"), direction, &tracked)?;
        }
        let word = match (got, delivered) {
            (Verdict::Accept, true) => "local",
            (Verdict::Accept, false) => "forward",
            (Verdict::Drop, _) => "drop",
            _ => "reject",
        };
        compare(
            "verdict",
            Some(&json!(verdict)),
            Some(json!(word)),
            &tracked,
        )?;
        let rule = fate.map(|fate| fate.rule.unwrap_or(json!("policy")));
        compare("rule", record.get("rule"), rule, &tracked)?;
        if delivered {
            // What is delivered was recorded before its source was translated.
            let mut bytes = before.clone();
            let source = Frame::<Tuple>::ip(&mut bytes, &arrival).map(|f| f.key().source());
            let key = frame.key();
            let seen = source
                .ok()
                .and_then(|source| key.with(source, key.destination()));
            frame.rewrite(&Rewrite::between(&key, &seen.unwrap_or(key)));
        }
        let after = frame.packet().to_vec();
        if got.is_accept() && !reassembled {
            self.compare_bytes(record, &before, after, delivered)?;
        }
        if word == "reject" && tracked.connection.is_none() {
            // The answer to a packet of no connection is a packet of its own, which the router sends.
            for answer in record["out"].as_array().into_iter().flatten() {
                let mut bytes = unhex(text(answer, "hex"));
                if let Ok(frame) = Frame::<Tuple>::ip(&mut bytes, &Arrival::local()) {
                    self.plane.with(|hooks| {
                        let tracker = hooks.0.tracker_mut();
                        if let Some(id) = tracker.track(&frame, now).connection {
                            tracker.refuse(id);
                        }
                    });
                }
            }
        }
        let entries = &self.entries;
        self.plane.with(|hooks| {
            hooks.0.check()?;
            entries.compare(hooks.0.tracker(), now)
        })
    }

    /// What left, or was delivered, byte for byte.
    fn compare_bytes(
        &self,
        record: &Value,
        before: &[u8],
        mut after: Vec<u8>,
        delivered: bool,
    ) -> Result<(), String> {
        let wanted = if delivered {
            unhex(text(record, "local"))
        } else {
            let out = record["out"].as_array().ok_or("out")?;
            let [out] = &out[..] else {
                return Ok(());
            };
            let mut wanted = match out.get("hex") {
                Some(hex) => unhex(hex.as_str().unwrap_or("")),
                None => before.to_vec(),
            };
            // The time to live and IPv4's header checksum are routing's.
            for packet in [&mut wanted, &mut after] {
                if packet.first().is_some_and(|byte| byte >> 4 == 4) {
                    let _ = Frame::<Tuple>::ip(packet, &Arrival::default())
                        .map(|mut frame| frame.set_hop_limit(1));
                } else {
                    packet[7] = 1;
                }
            }
            wanted
        };
        if wanted == after {
            return Ok(());
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        Err(format!(
            "bytes: expected {}\n           got      {}",
            hex(&wanted),
            hex(&after)
        ))
    }
}

/// The choices that the kernel was free to make.
fn foretold(record: &Value) -> Foretold {
    let mut foretold = Foretold::default();
    for drawn in record["drawn"].as_array().into_iter().flatten() {
        let number = |key: &str| drawn[key].as_u64().map(|n| n as u16);
        let address = |key: &str| drawn[key].as_str().and_then(|a| a.parse().ok());
        foretold.port = number("src_port").or(number("id")).or(foretold.port);
        foretold.source = address("src_addr").or(foretold.source);
        foretold.destination = address("dst_addr").or(foretold.destination);
    }
    foretold
}

/// A rule of the trace in the translator's words: one for each combination of alternatives.
fn lines(list: &str, rule: &Value) -> Vec<String> {
    let matches = rule["match"].as_object().expect("an object");
    let negated: Vec<&str> = matches
        .get("not")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let protocol = matches.get("proto").and_then(Value::as_str).unwrap_or("");
    let mut lines = vec![String::new()];
    for (key, value) in matches {
        let values: Vec<&Value> = match value {
            Value::Array(values) => values.iter().collect(),
            one => vec![one],
        };
        let not = if negated.contains(&key.as_str()) {
            "!= "
        } else {
            ""
        };
        let interface = |value: &Value| if value == "in" { 1 } else { 2 };
        let plain = |value: &Value| value.to_string().trim_matches('"').to_string();
        let words: Vec<String> = values
            .iter()
            .flat_map(|value| match key.as_str() {
                "in" => vec![format!("iif {} ", interface(value))],
                "out" => vec![format!("oif {} ", interface(value))],
                "family" => vec![format!("meta nfproto ipv{value} ")],
                "proto" => vec![format!("meta l4proto {not}{} ", plain(value))],
                "sport" | "dport" => {
                    vec![format!("{protocol} {key} {not}{} ", plain(value))]
                }
                "src" | "dst" => {
                    let end = if key == "src" { "saddr" } else { "daddr" };
                    prefixes(&plain(value))
                        .into_iter()
                        .map(|prefix| {
                            let ip = if prefix.contains(':') { "ip6" } else { "ip" };
                            format!("{ip} {end} {not}{prefix} ")
                        })
                        .collect()
                }
                "not" => vec![String::new()],
                _ => panic!("unknown key {key}"),
            })
            .collect();
        let words = if not.is_empty() {
            words
        } else {
            vec![words.concat()]
        };
        lines = lines
            .iter()
            .flat_map(|line| words.iter().map(move |word| format!("{line}{word}")))
            .collect();
    }
    let action = action(list, &rule["nat"]);
    lines
        .into_iter()
        .map(|line| format!("{line}{action}"))
        .collect()
}

fn action(list: &str, nat: &Value) -> String {
    let address = text(nat, "addr");
    let ports = match &nat["port"] {
        Value::Null => String::new(),
        ports => format!(":{}", ports.to_string().trim_matches('"')),
    };
    let to = if ports.is_empty() {
        String::new()
    } else {
        format!(" to {ports}")
    };
    let bracketed = if address.contains(':') && !ports.is_empty() {
        format!("[{}]", address.replace('-', "]-["))
    } else {
        address.to_string()
    };
    let flags = |name: &str| {
        let flags = nat["flags"].as_array().into_iter().flatten();
        flags
            .filter_map(Value::as_str)
            .any(|flag| flag.contains(name))
    };
    let mut action = match text(nat, "type") {
        "accept" => format!("no {list}"),
        "masquerade" => format!("masquerade{to}"),
        "redirect" => format!("redirect{to}"),
        "netmap-src" | "netmap-dst" => format!("{list} prefix to {}", text(nat, "to")),
        kind => format!("{kind} to {bracketed}{ports}"),
    };
    if flags("random") {
        action += " random";
    }
    if flags("persistent") {
        action += " persistent";
    }
    action
}

/// The prefixes that make up an address, a prefix or a range of IPv4 addresses.
fn prefixes(text: &str) -> Vec<String> {
    if !text.contains('-') {
        return vec![text.to_string()];
    }
    let (std::net::IpAddr::V4(low), std::net::IpAddr::V4(high)) = rules::range(text) else {
        panic!("a range of IPv6 addresses");
    };
    (low.to_bits()..=high.to_bits())
        .map(|bits| std::net::Ipv4Addr::from_bits(bits).to_string())
        .collect()
}

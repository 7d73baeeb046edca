//! Replays one golden trace through the tracker and compares, packet by packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{
    Config, Connection, Conntrack, Status, TcpSide, TimeoutClass, Timeouts, Tracked,
};
use gufc::key::{Family, FlowKey, Tuple};
use gufc::packet::Packet;
use gufc::time::Instant;
use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};
use serde_json::{Value, json};

use super::rules::{self, Subject};
use super::translate;

/// What became of a trace.
pub(crate) enum Outcome {
    /// Every packet as recorded; so many of them by the window step.
    Equal { packets: usize, stepped: usize },
    /// The first packet that is not.
    Differs { packet: usize, text: String },
}

/// Who judges packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The whole procedure, each of them.
    Whole,
    /// The window step those that fit, as on a cached flow.
    Step,
}

/// Replays the lines of a trace.
pub(crate) fn replay(text: &str, way: Way) -> Outcome {
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let header = lines.next().expect("a header");
    let rules = &header["ruleset"];
    if rules.get("snat").is_some() || rules.get("dnat").is_some() {
        return translate::replay(&header, lines, way);
    }
    let mut player = Player::new(&header, way);
    let mut packets = 0;
    for record in lines {
        if let Err(text) = player.play(&record) {
            return differs(&record, &text);
        }
        packets += 1;
    }
    Outcome::Equal {
        packets,
        stepped: player.stepped,
    }
}

pub(crate) fn differs(record: &Value, text: &str) -> Outcome {
    let number = record["i"].as_u64().unwrap_or(0) as usize;
    let text = format!(
        "{} [{}]\n    {text}\n    reasons: {}",
        record["txt"].as_str().unwrap_or(""),
        record["note"].as_str().unwrap_or(""),
        record.get("reasons").unwrap_or(&Value::Null),
    );
    Outcome::Differs {
        packet: number,
        text,
    }
}

struct Player<'a> {
    header: &'a Value,
    tracker: Conntrack<Tuple>,
    reassembler: Reassembler,
    way: Way,
    /// Packets that the window step judged.
    stepped: usize,
    /// The kernel's table.
    entries: Entries,
}

/// What became of a packet, and by which rule.
#[derive(Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) verdict: &'static str,
    pub(crate) rule: Option<Value>,
}

impl<'a> Player<'a> {
    fn new(header: &'a Value, way: Way) -> Self {
        Self {
            header,
            tracker: Conntrack::try_new(config(&header["sysctl"])).expect("room"),
            reassembler: Reassembler::new(Limits::default()),
            way,
            stepped: 0,
            entries: Entries::default(),
        }
    }

    fn track(&mut self, frame: &Frame<'_>, now: Instant) -> Tracked {
        if self.way == Way::Step && frame.is_intact() {
            if let Some(tracked) = self.step(frame, now) {
                self.stepped += 1;
                return tracked;
            }
        }
        self.tracker.track(frame, now)
    }

    fn step(&mut self, frame: &Frame<'_>, now: Instant) -> Option<Tracked> {
        let (id, direction) = self.tracker.find(&frame.key(), now)?;
        let segment = frame.segment()?;
        if !self.tracker.fits(id, direction, &segment, now) {
            return None;
        }
        self.tracker
            .advance(id, direction, &segment, frame.length(), now);
        let connection = self.tracker.connection(id)?;
        Some(Tracked {
            class: Class::Established,
            direction: Some(direction),
            connection: Some(id),
            status: connection.status(),
            mark: connection.mark(),
            ..Tracked::UNTRACKED
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
        let arrival = match side {
            "local" => Arrival::local(),
            _ => Arrival::default(),
        };
        let mut bytes = unhex(text(record, "hex"));
        let frame: Frame<'_> =
            Frame::ip(&mut bytes, &arrival).map_err(|defect| format!("no frame: {defect}"))?;
        let mut whole = match self.reassembler.push(&frame, now) {
            Reassembly::Whole => frame.packet().to_vec(),
            Reassembly::Complete(datagram) => datagram.to_vec(),
            Reassembly::Queued | Reassembly::Discarded(_) => {
                return compare(
                    "verdict",
                    Some(&json!(verdict)),
                    Some(json!("queued")),
                    &Tracked::UNTRACKED,
                );
            }
        };
        let frame: Frame<'_> =
            Frame::ip(&mut whole, &arrival).map_err(|defect| format!("no datagram: {defect}"))?;
        let (key, flags) = (frame.key(), frame.tcp_flags().0);
        let egress = side_of(self.header, key.destination().address);
        let mut subject = Subject {
            key,
            ingress: side,
            egress,
            flags,
            tracked: Tracked::UNTRACKED,
            original: None,
        };
        let rules = &self.header["ruleset"];
        if rules::first(rules.get("notrack"), &subject).is_none() {
            subject.tracked = self.track(&frame, now);
        }
        let tracked = subject.tracked;
        subject.original = tracked
            .connection
            .and_then(|id| self.tracker.connection(id))
            .map(|connection| *connection.tuple(Direction::Original));
        compare(
            "class",
            record.get("ct_state"),
            Some(json!(rules::class(tracked.class))),
            &tracked,
        )?;
        let direction = tracked.direction.map(|d| json!(rules::direction(d)));
        compare("direction", record.get("ct_dir"), direction, &tracked)?;

        let mut fate = if tracked.drop || stage == "route" {
            Fate {
                verdict: "drop",
                rule: None,
            }
        } else if egress == "local" {
            Fate {
                verdict: "local",
                rule: None,
            }
        } else if side == "local" {
            Fate {
                verdict: "forward",
                rule: None,
            }
        } else {
            filter(&rules["filter"], &subject)
        };
        if let Some(id) = tracked.connection {
            if matches!(fate.verdict, "forward" | "local") {
                if !self.tracker.confirm(id, now).is_accept() {
                    fate.verdict = "drop";
                }
            } else {
                self.tracker.refuse(id);
            }
        }
        compare(
            "verdict",
            Some(&json!(verdict)),
            Some(json!(fate.verdict)),
            &tracked,
        )?;
        compare("rule", record.get("rule"), fate.rule, &tracked)?;
        if fate.verdict == "reject" && tracked.class == Class::Invalid {
            // The answer to a packet of no connection is a packet of its own, which the router sends.
            for answer in record["out"].as_array().into_iter().flatten() {
                let mut bytes = unhex(text(answer, "hex"));
                if let Ok(frame) = Frame::<Tuple>::ip(&mut bytes, &Arrival::local()) {
                    let tracked = self.tracker.track(&frame, now);
                    if let Some(id) = tracked.connection {
                        self.tracker.refuse(id);
                    }
                }
            }
        }
        self.tracker.check()?;
        self.entries.compare(&self.tracker, now)
    }
}

/// The kernel's table.
#[derive(Default)]
pub(crate) struct Entries(BTreeMap<u64, Value>);

impl Entries {
    /// Keeps the kernel's table.
    pub(crate) fn update(&mut self, record: &Value) {
        for entry in record["ct"].as_array().into_iter().flatten() {
            let mut entry = entry.clone();
            let number = entry["n"].as_u64().expect("a number");
            entry.as_object_mut().expect("an object").remove("n");
            for tuple in ["orig", "reply"] {
                for end in ["src", "dst"] {
                    let address: IpAddr = text(&entry[tuple], end).parse().expect("an address");
                    entry[tuple][end] = json!(address.to_string());
                }
            }
            self.0.insert(number, entry);
        }
        for number in record["ct_gone"].as_array().into_iter().flatten() {
            self.0.remove(&number.as_u64().expect("a number"));
        }
    }

    pub(crate) fn compare(&self, tracker: &Conntrack<Tuple>, now: Instant) -> Result<(), String> {
        let mut own: Vec<Value> = tracker
            .iter()
            .filter(|one| one.status().contains(Status::CONFIRMED) && one.end() > now)
            .map(|one| entry(&one))
            .collect();
        let mut missing = Vec::new();
        for wanted in self.0.values() {
            match own.iter().position(|one| one == wanted) {
                Some(at) => drop(own.swap_remove(at)),
                None => missing.push(wanted),
            }
        }
        if missing.is_empty() && own.is_empty() {
            return Ok(());
        }
        let list = |entries: Vec<String>| entries.join("\n              ");
        Err(format!(
            "entries: expected {}\n         got      {}",
            list(missing.into_iter().map(Value::to_string).collect()),
            list(own.iter().map(Value::to_string).collect()),
        ))
    }
}

/// Where an address lies.
pub(crate) fn side_of(header: &Value, address: IpAddr) -> &'static str {
    let topology = &header["topology"];
    let family = Family::align(address).0;
    let router = if family == Family::V4 {
        "router4"
    } else {
        "router6"
    };
    for side in ["in", "out"] {
        let own = text(&topology[side], router)
            .split('/')
            .next()
            .expect("an address");
        if own.parse() == Ok(address) || is_broadcast(address, text(&topology[side], router)) {
            return "local";
        }
    }
    let bits = Family::align(address).1;
    let longest = |side: &str| {
        let routes = topology[side]["routes"].as_array().into_iter().flatten();
        let connected = [&topology[side][router]];
        routes
            .chain(connected)
            .filter_map(Value::as_str)
            .filter(|route| {
                let (low, high) = rules::range(route);
                Family::align(low).0 == family
                    && (Family::align(low).1..=Family::align(high).1).contains(&bits)
            })
            .filter_map(|route| route.split_once('/')?.1.parse::<u32>().ok())
            .max()
    };
    if longest("in") > longest("out") {
        "in"
    } else {
        "out"
    }
}

fn is_broadcast(address: IpAddr, network: &str) -> bool {
    let IpAddr::V4(v4) = address else {
        return false;
    };
    v4.is_broadcast() || rules::range(network).1 == address
}

pub(crate) fn filter(filter: &Value, subject: &Subject<'_>) -> Fate {
    let (verdict, rule) = match rules::first(filter.get("rules"), subject) {
        Some((index, rule)) => (text(rule, "verdict"), json!(index)),
        None => (
            filter["policy"].as_str().unwrap_or("accept"),
            json!("policy"),
        ),
    };
    let verdict = match verdict {
        "accept" => "forward",
        "reject" => "reject",
        _ => "drop",
    };
    // Without a filter nothing is said of rules.
    let rule = (!filter.is_null()).then_some(rule);
    Fate { verdict, rule }
}

pub(crate) fn compare(
    what: &str,
    expected: Option<&Value>,
    got: Option<Value>,
    tracked: &Tracked,
) -> Result<(), String> {
    if expected == got.as_ref() {
        return Ok(());
    }
    let show = |value: Option<&Value>| value.map_or("none".into(), Value::to_string);
    let reason = tracked.reason.map_or("no reason", |reason| reason.as_str());
    Err(format!(
        "{what}: expected {}, got {} ({reason})",
        show(expected),
        show(got.as_ref())
    ))
}

/// A connection in the words of the format.
fn entry(one: &Connection<'_, Tuple>) -> Value {
    let status: Vec<_> = Status::NAMES
        .iter()
        .filter(|(bit, _)| one.status().contains(*bit))
        .map(|(_, name)| *name)
        .collect();
    let family = one.tuple(Direction::Original).fields().family;
    let mut entry = json!({
        "l3": if family == Family::V4 { 4 } else { 6 },
        "l4": match one.protocol().to_string() {
            name if name.starts_with(char::is_alphabetic) => json!(name),
            _ => json!(one.protocol().0),
        },
        "orig": tuple(one.tuple(Direction::Original)),
        "reply": tuple(one.tuple(Direction::Reply)),
        "status": status,
        "timeout": one.timeout().as_secs(),
    });
    if let Some(phase) = one.tcp_phase() {
        let side = |direction| one.tcp_side(direction).expect("TCP");
        let sides = Direction::BOTH.map(side);
        let flags = sides.map(|side| {
            let set = TcpSide::NAMES
                .iter()
                .filter(|(bit, _)| side.flags & bit != 0);
            set.map(|(_, name)| *name).collect::<Vec<_>>()
        });
        entry["tcp"] = json!({
            "state": phase.as_str(),
            "ws": sides.map(|side| side.scale),
            "flags": flags,
        });
    }
    entry
}

fn tuple(tuple: &Tuple) -> Value {
    let (source, destination) = (tuple.source(), tuple.destination());
    let mut value = json!({
        "src": source.address.to_string(),
        "dst": destination.address.to_string(),
    });
    if tuple.protocol().is_icmp() {
        let [kind, code] = destination.port.to_be_bytes();
        value["id"] = json!(source.port);
        value["type"] = json!(kind);
        value["code"] = json!(code);
    } else if tuple.protocol().has_ports() {
        value["sport"] = json!(source.port);
        value["dport"] = json!(destination.port);
    }
    value
}

pub(crate) fn config(sysctl: &Value) -> Config {
    let get = |name: &str| sysctl[format!("nf_conntrack_{name}")].as_u64();
    let flag = |name: &str, default: bool| get(name).map_or(default, |value| value != 0);
    let classes = [
        (TimeoutClass::TcpSynSent, "tcp_timeout_syn_sent"),
        (TimeoutClass::TcpSynRecv, "tcp_timeout_syn_recv"),
        (TimeoutClass::TcpEstablished, "tcp_timeout_established"),
        (TimeoutClass::TcpFinWait, "tcp_timeout_fin_wait"),
        (TimeoutClass::TcpCloseWait, "tcp_timeout_close_wait"),
        (TimeoutClass::TcpLastAck, "tcp_timeout_last_ack"),
        (TimeoutClass::TcpTimeWait, "tcp_timeout_time_wait"),
        (TimeoutClass::TcpClose, "tcp_timeout_close"),
        (TimeoutClass::TcpRetransmission, "tcp_timeout_max_retrans"),
        (
            TimeoutClass::TcpUnacknowledged,
            "tcp_timeout_unacknowledged",
        ),
        (TimeoutClass::Udp, "udp_timeout"),
        (TimeoutClass::UdpStream, "udp_timeout_stream"),
        (TimeoutClass::Icmp, "icmp_timeout"),
        (TimeoutClass::Icmpv6, "icmpv6_timeout"),
        (TimeoutClass::Generic, "generic_timeout"),
        (TimeoutClass::Gre, "gre_timeout"),
        (TimeoutClass::GreStream, "gre_timeout_stream"),
    ];
    let timeouts = classes
        .iter()
        .fold(Timeouts::LINUX, |timeouts, (class, name)| {
            get(name).map_or(timeouts, |seconds| timeouts.with(*class, seconds as u32))
        });
    let mut config = Config::new(1024, [1, 2]);
    config.timeouts.push(timeouts);
    config.checksum = flag("checksum", true);
    config.tcp.loose = flag("tcp_loose", true);
    config.tcp.liberal = flag("tcp_be_liberal", false);
    config.tcp.ignore_invalid_rst = flag("tcp_ignore_invalid_rst", false);
    if let Some(max) = get("tcp_max_retrans") {
        config.tcp.max_retransmissions = max as u8;
    }
    config
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

//! The gateway's own part: which hooks, and what becomes of a packet once its verdict is known.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant as Clock;

use gufc::cache::{Config, FlowCache};
use gufc::hooks::conntrack::{Config as Tracking, Conntrack};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::hooks::nat::{Nat, Place as NatPlace};
use gufc::hooks::route::{Options, Routes, Target};
use gufc::key::{Family, Tuple};
use gufc::packet::{Defect, Interface, Packet};
use gufc::time::Instant;
use gufc::verdict::Verdict;
use gufc::wire::{ANSWER_MAX, Arrival, Frame, Notice};

/// Where a packet comes from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Inside,
    Outside,
}

impl Side {
    const fn interface(self) -> Interface {
        match self {
            Self::Inside => Interface(1),
            Self::Outside => Interface(2),
        }
    }

    const fn of(interface: Interface) -> Option<Self> {
        match interface {
            Interface(1) => Some(Self::Inside),
            Interface(2) => Some(Self::Outside),
            _ => None,
        }
    }
}

/// What the gateway lets pass, one rule a line.
const RULES: &str = "\
ct state established,related accept
ct state invalid drop
iif inside tcp dport 23 reject with tcp reset
iif inside accept
ip daddr 10.9.1.0/24 tcp dport 8080 accept
ip6 daddr fd09:1::/64 tcp dport 8080 accept
";

/// What the gateway translates, one rule a line: who is inside leaves as the gateway, one service is published, and who is
/// inside reaches it by its published name, too.
const TRANSLATION: &str = "\
oif outside ip saddr 10.9.1.0/24 masquerade
oif outside ip6 saddr fd09:1::/64 masquerade
ip daddr 10.9.2.1 tcp dport 8080 dnat to 10.9.1.10:8080
ip6 daddr fd09:2::1 tcp dport 8080 dnat to [fd09:1::10]:8080
oif inside ip saddr 10.9.1.0/24 masquerade
oif inside ip6 saddr fd09:1::/64 masquerade
";

/// Prefixes of the protected side.
const INSIDE: [&str; 2] = ["10.9.1.0/24", "fd09:1::/64"];
/// The gateway's own addresses on both sides, from which it answers.
const OWN: [[&str; 2]; 2] = [["10.9.1.1", "fd09:1::1"], ["10.9.2.1", "fd09:2::1"]];

type Hooks = (Nat<Tuple>, Routes, Filter);

pub(crate) struct Dataplane {
    cache: FlowCache<Tuple, Hooks>,
    /// Addresses of the gateway itself, where it translates.
    own: Vec<IpAddr>,
    began: Clock,
    mtu: u16,
    answer: [u8; ANSWER_MAX],
    counts: BTreeMap<String, u64>,
    defects: BTreeMap<Defect, u64>,
}

impl Dataplane {
    pub(crate) fn new(mtu: u16, masquerade: bool) -> Result<Self, String> {
        let hooks = (translator(masquerade)?, routes()?, filter()?);
        let own = OWN.iter().flatten().filter_map(|own| own.parse().ok());
        let cache = FlowCache::new(Config::new([seed(), seed()]), hooks);
        Ok(Self {
            cache: cache.map_err(|why| why.to_string())?,
            own: own.filter(|_| masquerade).collect(),
            began: Clock::now(),
            mtu,
            answer: [0; ANSWER_MAX],
            counts: BTreeMap::new(),
            defects: BTreeMap::new(),
        })
    }

    /// A packet's whole way: what is to be sent, and where.
    pub(crate) fn process<'a>(
        &'a mut self,
        from: Side,
        bytes: &'a mut [u8],
    ) -> Option<(Side, &'a [u8])> {
        let now = Instant::from_nanos(self.began.elapsed().as_nanos() as u64);
        self.cache.maintain(now, 4);
        // What is answered is the packet as it came, not what translation has made of it.
        let mut came = bytes.to_vec();
        let mut packet = match Frame::ip(bytes, &Arrival::on(from.interface())) {
            Ok(packet) => packet,
            Err(defect) => {
                *self.defects.entry(defect).or_default() += 1;
                return None;
            }
        };
        packet = packet.locate(|address| self.own.contains(&address));
        let last_hop = packet.hop_limit() <= 1;
        let outcome = self.cache.process(&mut packet, now);
        *self
            .counts
            .entry(format!("{} by {}", outcome.verdict, outcome.by))
            .or_default() += 1;
        let notice = match outcome.verdict {
            Verdict::Accept => {
                let to = outcome
                    .egress
                    .and_then(|egress| Side::of(egress.interface))?;
                if to == Side::Outside && packet.length() > u32::from(self.mtu) {
                    Notice::TooBig {
                        mtu: self.mtu.into(),
                    }
                } else {
                    let length = packet.packet().len();
                    return Some((to, &bytes[..length]));
                }
            }
            Verdict::Reject(answer) => Notice::Rejected(answer),
            Verdict::Drop if last_hop && outcome.by.hook == "route" => Notice::HopLimitExceeded,
            _ => return None,
        };
        let [v4, v6] = match from {
            Side::Outside if !self.own.is_empty() => OWN[1],
            _ => OWN[0],
        };
        let came: Frame<'_> = Frame::ip(&mut came, &Arrival::on(from.interface())).ok()?;
        let own = match came.family() {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let own: IpAddr = own.parse().ok()?;
        let length = came.answer(notice, own, &mut self.answer).ok()?;
        *self.counts.entry("answered".into()).or_default() += 1;
        Some((from, &self.answer[..length]))
    }
}

/// A secret that differs from run to run.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn named(name: &str) -> Option<Interface> {
    match name {
        "inside" => Some(Side::Inside.interface()),
        "outside" => Some(Side::Outside.interface()),
        _ => None,
    }
}

/// The tracker, and over it the translator: without rules where nothing is to be translated.
fn translator(masquerade: bool) -> Result<Nat<Tuple>, String> {
    let say = |why: &dyn fmt::Display| why.to_string();
    let config = Tracking::new(16_384, [seed(), seed()]);
    let tracker = Conntrack::try_new(config).map_err(|why| say(&why))?;
    let mut nat = Nat::try_new(tracker, 16, [seed(), seed()]).map_err(|why| say(&why))?;
    if masquerade {
        for (side, own) in [Side::Inside, Side::Outside].into_iter().zip(OWN) {
            let own: Vec<IpAddr> = own.iter().filter_map(|own| own.parse().ok()).collect();
            nat.set_addresses(side.interface(), &own);
        }
        for rule in gufc::hooks::nat::parse_rules(TRANSLATION, named).map_err(|why| say(&why))? {
            // Nothing is cached yet, so nobody need be told.
            let (_, _change) = nat.insert(NatPlace::Last, rule).map_err(|why| say(&why))?;
        }
    }
    Ok(nat)
}

fn routes() -> Result<Routes, String> {
    let options = Options {
        decrement: true,
        ..Options::default()
    };
    let mut routes = Routes::with_options(8, 8, 2, options).map_err(|why| why.to_string())?;
    let say = |why: &dyn fmt::Display| why.to_string();
    let [inside, outside] =
        [Side::Inside, Side::Outside].map(|side| routes.add_next_hop(side.interface()));
    let (inside, outside) = (
        inside.map_err(|why| say(&why))?,
        outside.map_err(|why| say(&why))?,
    );
    let prefixes = INSIDE.map(|prefix| (prefix, inside));
    for (prefix, hop) in prefixes
        .into_iter()
        .chain([("0.0.0.0/0", outside), ("::/0", outside)])
    {
        let prefix = prefix.parse().map_err(|why| format!("{prefix}: {why}"))?;
        let (_, _change) = routes
            .insert(prefix, Target::Via(hop))
            .map_err(|why| say(&why))?;
    }
    Ok(routes)
}

fn filter() -> Result<Filter, String> {
    let mut filter = Filter::new("filter", 16, seed(), Policy::Drop);
    for line in RULES.lines() {
        let rule = gufc::hooks::filter::parse_rule(line, named).map_err(|why| why.to_string())?;
        // Nothing is cached yet, so nobody need be told.
        let (_, _change) = filter
            .insert(Place::Last, rule)
            .map_err(|why| why.to_string())?;
    }
    Ok(filter)
}

/// What was done, one line each.
impl fmt::Display for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.cache.stats();
        for (what, count) in &self.counts {
            writeln!(f, "{count:>9}  {what}")?;
        }
        for (defect, count) in &self.defects {
            writeln!(f, "{count:>9}  not judged: {defect}")?;
        }
        writeln!(f, "{:>9}  packets", stats.packets())?;
        writeln!(f, "{:>9}  answered by the cache alone", stats.cached())?;
        writeln!(f, "{:>9}  sessions begun", stats.begun)?;
        let nat = &self.cache.hooks().0;
        let counters = nat.counters();
        writeln!(f, "{:>9}  connections translated", counters.translated)?;
        write!(f, "{:>9}  connections now", nat.tracker().len())
    }
}

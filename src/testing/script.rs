//! Stories: packets, edits, ticks and evictions in any order, played to the cache and to the dataplane without one, and
//! compared after every operation.
//!
//! Proptest and the fuzzer both make a story of bytes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::hooks::{ToyMarker, ToyMeter, ToyNat, ToyTracker};
use super::linear_filter::{beginnings, transaction};
use super::toy::{Choices, ToyPacket, host, packet};
use super::uncached::Uncached;
use crate::cache::{
    Config, Cursor, Eviction, Filter as Sessions, FlowCache, OnEdit, Pace, Segment, Stats, Trust,
};
use crate::epoch::Change;
use crate::hooks::filter::{EditError, Filter, Limits, Place, Policy, Rule, RuleId};
use crate::hooks::route::{NextHopId, Routes, Target};
use crate::key::{Cidr, Family, FlowKey, Pattern, Protocol, Tuple};
use crate::packet::{Interface, Origin, TcpFlags};
use crate::time::{Duration, Instant};
use crate::verdict::Answer;

/// The pipeline of the stories.
pub type Hooks = (ToyTracker, ToyNat, Routes, Filter, ToyMarker, ToyMeter);

/// Fresh hooks. `listed` is how the marker makes its interests known, which must make no difference.
pub fn hooks(listed: bool) -> Hooks {
    let web = Pattern {
        protocol: Some(Protocol::TCP),
        ..Pattern::ANY
    };
    (
        ToyTracker::default(),
        ToyNat { map: None },
        routes(),
        filter(),
        ToyMarker::new(web, listed),
        ToyMeter::new(6, Duration::from_secs(8)),
    )
}

/// A filter without rules, but with chains and sets that rules can use.
fn filter() -> Filter {
    let limits = Limits {
        chains: 3,
        sets: 3,
        elements: 10,
        ..Limits::rules(12)
    };
    let mut filter = Filter::with_limits("filter", limits, 5, Policy::Accept);
    let edits = beginnings(&filter);
    let _ = filter.commit(edits).expect("room for what it begins with");
    filter
}

/// Everything goes to interface 1 at first.
pub(super) fn routes() -> Routes {
    let mut routes = Routes::try_new(6).expect("memory for a test");
    for interface in [1, 2] {
        let _ = routes.add_next_hop(Interface(interface));
    }
    for family in [Family::V4, Family::V6] {
        let _ = routes.insert(Cidr::all(family), Target::Via(NextHopId(0)));
    }
    routes
}

/// Prefixes that nest on the toy network.
fn prefix(number: u8) -> Cidr {
    let family = if number & 8 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let len = family.bits() - [0, 1, 2, 32][usize::from(number >> 4 & 3)];
    Cidr::new(host(family, number & 3), len).unwrap_or(Cidr::all(family))
}

/// Rules that overlap, shadow and contradict one another on the toy network.
pub const RULES: &[&str] = &[
    "accept",
    "drop",
    "tcp dport 1 drop",
    "tcp dport 1 accept",
    "udp sport 0-1 reject",
    "ip saddr 10.0.0.0/31 accept",
    "ip daddr 10.0.0.2 drop",
    "ip saddr != 10.0.0.1 ip daddr 10.0.0.0/30 meta mark set 0x7 continue",
    "ip6 daddr 2001:db8::/127 reject with admin-prohibited",
    "tcp flags syn / syn,ack log continue",
    "tcp flags rst drop",
    "tcp dport 0-1 tcp flags ack accept",
    "meta length 1000-9000 drop",
    "iif 2 tcp dport 2 drop",
    "oif 2 meta length 40 reject with host-unreachable",
    "icmp type echo-request accept",
    "icmp type echo-reply drop",
    "icmpv6 type echo-request drop",
    "ct state established accept",
    "ct state new tcp dport 2 drop",
    "ct state invalid drop",
    "ct mark 0x1 meta length 40 drop",
    "fib daddr type local drop",
    "fib saddr type local accept",
    "zone 1 drop",
    "meta mark 0x7/0xf reject with tcp reset",
    "meta nfproto ipv6 continue",
];

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// A packet; with the cookie of its flow, or a made-up one.
    Packet(ToyPacket, CookieKind),
    /// A burst.
    Burst(Vec<ToyPacket>),
    /// Insert a rule at a place: 0 first, 1 last, else before or after some rule.
    Insert(usize, u8),
    /// Remove the rule at this place of the list.
    Remove(u8),
    /// Replace the whole set.
    Replace(Vec<usize>, Policy),
    /// Edits of rules, chains, sets and policy as one, chosen by these bytes.
    Commit(Vec<u8>),
    /// Route a prefix to a target, or no more.
    Route(u8, u8),
    /// Move a next hop to an interface.
    NextHop(u8, u8),
    /// Move the translation: public and private host, if any.
    Translate(Option<(u8, u8)>),
    /// Switch the tracker's strictness.
    Strict(bool),
    /// Time passes.
    Tick(u8),
    /// Maintenance of so many slots.
    Maintain(u8),
    /// Forget the session of a packet.
    Evict(ToyPacket),
    /// Forget everything.
    Clear,
    /// Export, forget everything, import: counters and all, or the keys only. In blocks of so many slots.
    Migrate(Trust, u8),
    /// List, then delete, what is half-open, established or denied, so many slots at a time.
    Sweep(Segment, u8),
}

/// What cookie a packet brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// None.
    None,
    /// That of its flow, as it is now.
    True,
    /// One of these bits.
    Forged(u8),
    /// The subtree that it belongs to, moved by this much.
    Subtree(u8),
}

/// A packet of the cast, either way, or now and then a stranger.
pub(super) fn actor(choices: &mut Choices<'_>, cast: &[ToyPacket]) -> ToyPacket {
    let stranger = packet(choices);
    let who = usize::from(choices.below(8));
    let Some(known) = cast.get(who) else {
        return stranger;
    };
    let answer = known.key.inverse().filter(|_| choices.below(2) == 1);
    let key = answer.unwrap_or(known.key);
    let origin = if key.fields().locality.source {
        Origin::Local
    } else {
        Origin::Received
    };
    let flags = if key.protocol() == Protocol::TCP {
        stranger.flags
    } else {
        TcpFlags::NONE
    };
    ToyPacket {
        key,
        origin,
        flags,
        defect: None,
        ..stranger
    }
}

/// The next operation.
pub fn op(choices: &mut Choices<'_>, cast: &[ToyPacket]) -> Op {
    let packet = |choices: &mut Choices<'_>| actor(choices, cast);
    match choices.below(38) {
        0..=17 => {
            let cookie = match choices.below(8) {
                0..=4 => CookieKind::None,
                5 | 6 => CookieKind::True,
                _ => match choices.byte() {
                    bits if bits < 192 => CookieKind::Forged(bits),
                    bits => CookieKind::Subtree(bits & 3),
                },
            };
            Op::Packet(packet(choices), cookie)
        }
        18..=20 => Op::Burst((0..=choices.below(6)).map(|_| packet(choices)).collect()),
        21..=23 => Op::Insert(
            choices.below(RULES.len() as u16).into(),
            choices.below(8) as u8,
        ),
        24 | 25 => Op::Remove(choices.byte()),
        26 => {
            let rules = (0..choices.below(5))
                .map(|_| choices.below(RULES.len() as u16).into())
                .collect();
            Op::Replace(rules, choices.one(&[Policy::Accept, Policy::Drop]))
        }
        27 => Op::Translate(
            (choices.below(3) > 0).then(|| (choices.below(4) as u8, choices.below(4) as u8)),
        ),
        28 => Op::Strict(choices.below(2) == 1),
        29 => Op::Tick(choices.byte()),
        30 => Op::Maintain(choices.byte()),
        31 | 32 => Op::Route(choices.byte(), choices.below(6) as u8),
        33 => Op::NextHop(choices.below(2) as u8, choices.below(3) as u8),
        34..=36 => Op::Commit((0..12).map(|_| choices.byte()).collect()),
        _ => match choices.below(8) {
            0 => Op::Clear,
            1 => Op::Migrate(
                choices.one(&[Trust::Trust, Trust::Reevaluate]),
                choices.byte(),
            ),
            2 => Op::Sweep(choices.one(&Segment::ALL), choices.byte()),
            _ => Op::Evict(packet(choices)),
        },
    }
}

fn rule(number: usize) -> Rule {
    RULES[number % RULES.len()]
        .parse()
        .expect("the rules of the stories are rules")
}

/// Edits one set of hooks.
fn edit(op: &Op, hooks: &mut Hooks) -> Result<((), Change), EditError> {
    let (tracker, nat, routes, filter, ..) = hooks;
    edit_parts(op, tracker, nat, routes, filter)
}

/// Edits the hooks that can be edited.
pub(super) fn edit_parts(
    op: &Op,
    tracker: &mut ToyTracker,
    nat: &mut ToyNat,
    routes: &mut Routes,
    filter: &mut Filter,
) -> Result<((), Change), EditError> {
    let nth = |filter: &Filter, n: u8| -> RuleId {
        let all: Vec<RuleId> = filter.rules().map(|(id, ..)| id).collect();
        if all.is_empty() {
            RuleId(u32::MAX)
        } else {
            all[usize::from(n) % all.len()]
        }
    };
    match op {
        Op::Insert(number, place) => {
            let place = match place {
                0 => Place::First,
                1 => Place::Last,
                n if n % 2 == 0 => Place::Before(nth(filter, *n)),
                n => Place::After(nth(filter, *n)),
            };
            filter
                .insert(place, rule(*number))
                .map(|(_, change)| ((), change))
        }
        Op::Remove(n) => filter
            .remove(nth(filter, *n))
            .map(|(_, change)| ((), change)),
        Op::Replace(numbers, policy) => filter.replace(
            numbers.iter().map(|number| rule(*number)).collect(),
            *policy,
        ),
        Op::Commit(bytes) => {
            let edits = transaction(&mut Choices::new(bytes), filter, 3);
            filter.commit(edits).map_err(|error| error.why)
        }
        Op::Route(number, target) => {
            let target = match target {
                0 | 1 => Target::Via(NextHopId(u32::from(*target))),
                2 => Target::Blackhole,
                3 => Target::Unreachable(Answer::HostUnreachable),
                _ => {
                    return Ok((
                        (),
                        routes
                            .remove(prefix(*number))
                            .map_or(Change::nothing(), |(_, change)| change),
                    ));
                }
            };
            Ok((
                (),
                routes
                    .insert(prefix(*number), target)
                    .map_or(Change::nothing(), |(_, change)| change),
            ))
        }
        Op::NextHop(id, interface) => {
            let moved =
                routes.move_next_hop(NextHopId(u32::from(*id)), Interface(u32::from(*interface)));
            Ok(((), moved.map_or(Change::nothing(), |(_, change)| change)))
        }
        Op::Translate(map) => {
            let map =
                map.map(|(public, private)| (host(Family::V4, public), host(Family::V4, private)));
            let Ok(((), change)) = nat.set(map);
            Ok(((), change))
        }
        Op::Strict(strict) => {
            tracker.strict = *strict;
            Ok(((), Change::everything("tracker")))
        }
        _ => Ok(((), Change::nothing())),
    }
}

/// The cache and its twin, side by side.
pub struct Story {
    cache: FlowCache<Tuple, Hooks>,
    twin: Uncached<Hooks>,
    now: Instant,
}

impl Story {
    /// A story with a cache of so many sessions and regions, that may re-run and begin so many a second, and whose edits of one
    /// hook kill what they touch.
    pub fn new(
        sessions: usize,
        regions: usize,
        listed: bool,
        pace: Pace,
        kills: Option<&str>,
    ) -> Self {
        let orders = [Eviction::Clock, Eviction::Sieve, Eviction::S3Fifo];
        let config = Config {
            sessions,
            regions,
            eviction: orders[(sessions + regions) % 3],
            eviction_established: orders[regions % 3],
            stay_provisional: Duration::ZERO,
            evict_scan: 4,
            idle_provisional: Duration::from_secs(4),
            idle_established: Duration::from_secs(16),
            idle_denied: Duration::from_secs(2),
            reruns: pace,
            misses: pace,
            ..Config::new([1, 2])
        };
        Self::of(config, listed, kills)
    }

    /// The same, with every choice that an owner has.
    pub fn of(config: Config, listed: bool, kills: Option<&str>) -> Self {
        let mut cache = FlowCache::new(config, hooks(listed)).expect("a valid configuration");
        if let Some(hook) = kills {
            cache
                .on_edit(hook, OnEdit::Kill)
                .expect("a hook of the pipeline");
        }
        Self {
            cache,
            twin: Uncached {
                hooks: hooks(false),
            },
            now: Instant::from_secs(1),
        }
    }

    /// The cache.
    pub fn cache(&self) -> &FlowCache<Tuple, Hooks> {
        &self.cache
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The cache's counters.
    pub fn stats(&self) -> &Stats {
        self.cache.stats()
    }

    fn compare(
        &mut self,
        mut sent: ToyPacket,
        got: ToyPacket,
        outcome: crate::verdict::Outcome,
    ) -> Result<(), String> {
        let before = sent;
        sent.cookie = None;
        let expected = self.twin.process(&mut sent, self.now);
        if !outcome.agrees(&expected) {
            return Err(format!(
                "{before:?}: expected {expected:?}, got {outcome:?}"
            ));
        }
        if (sent.key, sent.hop_limit) != (got.key, got.hop_limit) {
            return Err(format!(
                "{before:?}: leaves as {} and not as {} ({outcome:?})",
                got.key, sent.key
            ));
        }
        Ok(())
    }

    /// Plays one operation to both and compares what can be seen.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn play(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Packet(packet, cookie) => {
                let mut got = *packet;
                got.cookie = match cookie {
                    CookieKind::None => None,
                    CookieKind::Subtree(off) => {
                        let there = self.cache.subtree_cookie(packet.origin, &packet.key);
                        let bits = there.subtree().unwrap_or(0);
                        Some(crate::cookie::FlowCookie::of_subtree(
                            bits ^ u32::from(*off),
                        ))
                    }
                    CookieKind::True => self.cache.cookie(packet.origin, &packet.key),
                    CookieKind::Forged(bits) => Some(crate::cookie::FlowCookie {
                        slot: u32::from(bits & 15),
                        generation: u32::from(bits >> 4),
                    }),
                };
                let outcome = self.cache.process(&mut got, self.now);
                self.compare(*packet, got, outcome)?;
            }
            Op::Burst(packets) => {
                let mut burst = packets.clone();
                // Every other packet brings its cookie, right or of the slot's next tenant.
                for (place, packet) in burst.iter_mut().enumerate() {
                    let cookie = self.cache.cookie(packet.origin, &packet.key);
                    packet.cookie = match (cookie, place % 4) {
                        (Some(cookie), 1) => Some(cookie),
                        (Some(cookie), 3) => Some(crate::cookie::FlowCookie {
                            generation: cookie.generation.wrapping_add(1),
                            ..cookie
                        }),
                        _ => None,
                    };
                }
                let mut results = Vec::new();
                self.cache
                    .process_batch(&mut burst, self.now, |packet, outcome| {
                        results.push((*packet, outcome))
                    });
                for (packet, (got, outcome)) in packets.iter().zip(results) {
                    self.compare(*packet, got, outcome)?;
                }
            }
            Op::Tick(n) => self.now = self.now + Duration::from_millis(u64::from(*n) * 100),
            Op::Maintain(budget) => {
                self.cache.maintain(self.now, usize::from(*budget));
            }
            Op::Evict(packet) => {
                self.cache.remove(packet.origin, &packet.key);
            }
            Op::Clear => self.cache.clear(),
            Op::Migrate(trust, budget) => self.migrate(*trust, usize::from(*budget) + 1)?,
            Op::Sweep(segment, budget) => self.sweep(*segment, usize::from(*budget) + 1)?,
            _ => {
                let got = self.cache.edit(|hooks| edit(op, hooks)).map(|_| ());
                let expected = self.twin.edit(|hooks| edit(op, hooks));
                if got != expected {
                    return Err(format!("edit: expected {expected:?}, got {got:?}"));
                }
            }
        }
        self.cache.check().map_err(String::from)?;
        self.compare_hooks()
    }

    fn migrate(&mut self, trust: Trust, budget: usize) -> Result<(), String> {
        let before = self.cache.len();
        let (mut blocks, mut next) = (Vec::new(), Some(Cursor::START));
        while let Some(cursor) = next {
            let mut block = Vec::new();
            next = self.cache.export(cursor, budget, self.now, &mut block);
            blocks.push(block);
        }
        self.cache.clear();
        let (mut begun, mut refused) = (0, 0);
        for block in blocks {
            let imported = self.cache.import(&block, trust, self.now);
            let imported = imported.map_err(|why| format!("import: {why}"))?;
            begun += imported.begun;
            refused += imported.refused;
        }
        // One may take the place of another where segments are full.
        if begun + refused != before || self.cache.len() > begun {
            return Err(format!(
                "of {before} sessions {begun} were imported, {refused} not"
            ));
        }
        Ok(())
    }

    fn sweep(&mut self, segment: Segment, budget: usize) -> Result<(), String> {
        let filter = Sessions {
            segment: Some(segment),
            ..Sessions::ALL
        };
        let (mut shown, mut next) = (0, Some(Cursor::START));
        while let Some(cursor) = next {
            let count = |_| shown += 1;
            next = self.cache.dump(cursor, budget, &filter, self.now, count);
        }
        let (mut ended, mut next) = (0, Some(Cursor::START));
        while let Some(cursor) = next {
            let step = self.cache.remove_where(cursor, budget, &filter, self.now);
            ended += step.0;
            next = step.1;
        }
        let left = self.cache.iter().any(|one| one.segment == segment);
        if ended != shown || left {
            return Err(format!(
                "{shown} sessions {segment}, {ended} ended, some left: {left}"
            ));
        }
        Ok(())
    }

    fn compare_hooks(&self) -> Result<(), String> {
        let (tracker, nat, _, filter, marker, meter) = self.cache.hooks();
        let (tracker2, nat2, _, filter2, marker2, meter2) = &self.twin.hooks;
        let rules = |filter: &Filter| {
            filter
                .rules()
                .map(|(id, _, counter)| (id, counter))
                .collect::<Vec<_>>()
        };
        if rules(filter) != rules(filter2) {
            return Err(format!(
                "rule counters: expected {:?}, got {:?}",
                rules(filter2),
                rules(filter)
            ));
        }
        if (tracker, nat, meter) != (tracker2, nat2, meter2) {
            return Err(format!(
                "hook state: expected {tracker2:?} {meter2:?}, got {tracker:?} {meter:?}"
            ));
        }
        if marker.shown != marker2.shown {
            return Err(format!(
                "SYNs shown: expected {}, got {}",
                marker2.shown, marker.shown
            ));
        }
        Ok(())
    }
}

/// A whole story: the cache's size, the marker's way, and what happens.
#[derive(Clone, Debug)]
pub struct Script {
    /// Most sessions.
    pub sessions: usize,
    /// Most regions.
    pub regions: usize,
    /// Whether the marker lists its interests.
    pub listed: bool,
    /// How many re-runs and misses are cached.
    pub pace: Pace,
    /// The hook whose edits kill.
    pub kills: Option<&'static str>,
    /// What happens.
    pub ops: Vec<Op>,
}

impl Script {
    /// The story that the bytes tell.
    pub fn read(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let sessions = choices.one(&[1, 2, 3, 8, 64]);
        let regions = choices.one(&[1, 2, 4, 64]);
        // One byte says three things.
        let manner = choices.byte();
        let mut script = Self {
            sessions,
            regions,
            listed: manner % 2 == 1,
            pace: match manner >> 1 & 3 {
                0 => Pace {
                    per_second: 2,
                    burst: 2,
                },
                _ => Pace::UNLIMITED,
            },
            kills: match manner >> 3 & 7 {
                0 => Some("filter"),
                1 => Some("nat"),
                2 => Some("tracker"),
                _ => None,
            },
            ops: Vec::new(),
        };
        let cast: Vec<ToyPacket> = (0..6).map(|_| packet(&mut choices)).collect();
        while !choices.is_empty() {
            script.ops.push(op(&mut choices, &cast));
        }
        script
    }

    /// Plays it; gives the cache's counters, or the first difference and where it was.
    ///
    /// # Errors
    ///
    /// What differed.
    pub fn play(&self) -> Result<Stats, String> {
        let mut story = Story::new(
            self.sessions,
            self.regions,
            self.listed,
            self.pace,
            self.kills,
        );
        for (number, op) in self.ops.iter().enumerate() {
            story
                .play(op)
                .map_err(|what| format!("operation {number}, {op:?}: {what}"))?;
        }
        story.cache.clear();
        story.cache.check()?;
        match story.cache.hooks().3.usage() {
            (0, 0) => Ok(story.stats().clone()),
            usage => Err(format!("programs leaked: {usage:?}")),
        }
    }

    /// The shortest story found that still goes wrong, by leaving out operations as long as it does.
    #[must_use]
    pub fn minimised(mut self) -> Self {
        let mut chunk = self.ops.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < self.ops.len() {
                let mut shorter = self.clone();
                shorter.ops.drain(at..(at + chunk).min(self.ops.len()));
                if shorter.play().is_err() {
                    self = shorter;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        self
    }
}

/// Plays the story that the bytes tell, and on failure says what the shortest such story is.
///
/// # Errors
///
/// What differed, operation by operation.
pub fn story(bytes: &[u8]) -> Result<Stats, String> {
    let script = Script::read(bytes);
    script.play().map_err(|_| {
        let script = script.minimised();
        let what = script.play().err().unwrap_or_default();
        let Script {
            sessions,
            regions,
            listed,
            pace,
            kills,
            ops,
        } = script;
        let ops: Vec<String> = ops.iter().map(|op| format!("\n  {op:?}")).collect();
        format!(
            "{what}\nsessions {sessions}, regions {regions}, listed {listed}, {pace:?}, kills {kills:?}:{}",
            ops.concat()
        )
    })
}

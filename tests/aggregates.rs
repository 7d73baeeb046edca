//! One entry for many flows: it answers as judging every packet does, edits end just those that they touch, and scans cost a handful.

use std::convert::Infallible;

use gufc::cache::{Config, FlowCache, Pace, Stats};
use gufc::epoch::Change;
use gufc::hook::{Context, Hook, Interests, Judge, Judgement, Reach, Stage};
use gufc::hooks::filter::{Edit, Element, Filter, Name, Place, Policy, SetKind};
use gufc::hooks::route::{NextHopId, Routes, Target};
use gufc::hooks::socket::{Absent, Bound, Listen, Sockets};
use gufc::interest::{InterestIndex, Trigger};
use gufc::key::{Cidr, Endpoint, Fields, FlowKey, Pattern, Ports, Protocol, Span, Tuple, Zone};
use gufc::packet::{Interface, Origin, Packet, TcpFlags};
use gufc::pipeline::{Pipeline, Shadowed};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::{Choices, ToyPacket, packet};
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Consumer, Path, Verdict};

/// Aggregates wherever there may be some.
fn config(aggregates: usize) -> Config {
    Config {
        sessions: 64,
        regions: 8,
        aggregates,
        reaches: Pace::UNLIMITED,
        ..Config::new([3, 4])
    }
}

fn flow(text: &str) -> ToyPacket {
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn filter(rules: &str, policy: Policy) -> Filter {
    let mut filter = Filter::new("filter", 8_192, 1, policy);
    for rule in rules.lines() {
        let rule = rule.parse().unwrap_or_else(|why| panic!("{rule}: {why}"));
        let (_, _change) = filter.insert(Place::Last, rule).expect("room");
    }
    filter
}

fn cache<H: Pipeline>(hooks: H, config: Config) -> FlowCache<Tuple, H> {
    FlowCache::new(config, hooks).expect("a valid configuration")
}

const NOW: Instant = Instant::from_secs(1);

/// Aggregates there are.
fn held<H: Pipeline>(cache: &FlowCache<Tuple, H>) -> usize {
    (cache.stats().aggregates_begun - cache.stats().aggregates_ended) as usize
}

/// A web server behind a thousand rules that concern others.
fn server() -> Filter {
    let mut rules = String::from("tcp dport 443 accept\nudp dport 53 accept\n");
    for n in 0..1_000 {
        rules += &format!("ip saddr 203.0.{}.{} udp dport 9 drop\n", n / 250, n % 250);
    }
    rules += "ip daddr 198.51.100.200 tcp dport 22 accept";
    filter(&rules, Policy::Drop)
}

/// A packet between two hosts, by the numbers.
fn between(protocol: Protocol, from: (u32, u16), to: (u32, u16)) -> ToyPacket {
    let end =
        |(host, port): (u32, u16)| Endpoint::new(std::net::Ipv4Addr::from_bits(host).into(), port);
    ToyPacket::new(Tuple::new(end(from), end(to), protocol).expect("one family"))
}

#[test]
fn scans_and_sweeps_cost_a_handful_of_entries() {
    const SERVER: u32 = 0xc633_6401;
    const SCANNER: (u32, u16) = (0xc000_0201, 40_000);
    let mut cache = cache((server(),), config(1_024));
    let mut judged = 0;
    let mut send = |cache: &mut FlowCache<Tuple, _>, mut packet: ToyPacket, accept: bool| {
        let outcome = cache.process(&mut packet, NOW);
        assert_eq!(outcome.verdict.is_accept(), accept, "{}", packet.key);
        judged += u32::from(outcome.path != Path::Aggregated);
    };
    // Every port, both protocols.
    for port in 0..=u16::MAX {
        let to = (SERVER, port);
        send(&mut cache, between(Protocol::TCP, SCANNER, to), port == 443);
        send(&mut cache, between(Protocol::UDP, SCANNER, to), port == 53);
    }
    let entries = cache.aggregates().count() + cache.len();
    println!("two port scans: {entries} entries");
    for one in cache.aggregates() {
        println!("  {one}");
    }
    assert!(entries <= 16, "{entries}");
    // Every host of a /16, among them the one that is special.
    for host in 0..=u32::from(u16::MAX) {
        let to = (SERVER & 0xffff_0000 | host, 22);
        send(
            &mut cache,
            between(Protocol::TCP, SCANNER, to),
            host == 0x64c8,
        );
    }
    // Strangers who all want the server.
    for n in 0..20_000 {
        let from = (0x0a00_0000 + n * 839, (n % 60_000) as u16);
        send(
            &mut cache,
            between(Protocol::TCP, from, (SERVER, 443)),
            true,
        );
    }
    let entries = cache.aggregates().count() + cache.len();
    println!("and an address sweep and strangers: {entries} entries, {judged} packets judged");
    assert!(entries <= 24, "{entries}");
    assert!(judged <= 48, "{judged}");
    assert_eq!(cache.check(), Ok(()));
}

/// So they do where rules read source ports, as those do that let answers in without a tracker.
#[test]
fn scans_and_sweeps_cost_a_handful_of_entries_where_rules_read_source_ports() {
    const SERVER: u32 = 0xc633_6401;
    const SCANNER: (u32, u16) = (0xc000_0201, 40_000);
    let rules =
        "tcp dport 443 accept\ntcp sport 443 accept\nudp dport 53 accept\nudp sport 53 accept";
    let mut cache = cache((filter(rules, Policy::Drop),), config(64));
    for n in 0..=u16::MAX {
        for to in [(SERVER, n), (SERVER ^ u32::from(n), 445)] {
            let outcome = cache.process(&mut between(Protocol::TCP, SCANNER, to), NOW);
            assert_eq!(outcome.verdict.is_accept(), to.1 == 443);
        }
    }
    let entries = cache.aggregates().count() + cache.len();
    assert!(entries <= 16, "{entries}");
    assert_eq!(cache.check(), Ok(()));
}

/// An edit ends the aggregates that its region touches and no others, and the others are right.
#[test]
fn an_edit_ends_the_aggregates_that_it_touches_and_no_others() {
    let mut cache = cache((server(),), config(64));
    let low = "tcp 192.0.2.1:40000 > 198.51.100.1:80";
    let high = "tcp 192.0.2.1:40000 > 198.51.100.1:8080";
    let path = |cache: &mut FlowCache<Tuple, _>, text| cache.process(&mut flow(text), NOW).path;
    for text in [low, high] {
        assert_eq!(path(&mut cache, text), Path::Miss);
        assert_eq!(path(&mut cache, text), Path::Aggregated);
    }
    assert_eq!(held(&cache), 2);
    let insert = |cache: &mut FlowCache<Tuple, (Filter,)>, rule: &str| {
        let rule = rule.parse().expect("a rule");
        let _ = cache
            .edit(|(filter,)| filter.insert(Place::First, rule))
            .expect("room");
    };
    // Beside both: another protocol, the port between them, another zone.
    for rule in [
        "udp dport 80 accept",
        "tcp dport 443 counter",
        "zone 5 tcp dport 80 accept",
    ] {
        insert(&mut cache, rule);
        for text in [low, high] {
            assert_eq!(path(&mut cache, text), Path::Aggregated, "{rule}");
        }
    }
    insert(&mut cache, "tcp dport 79 accept");
    assert_eq!(path(&mut cache, high), Path::Aggregated);
    assert_eq!(path(&mut cache, low), Path::Miss);
    assert_eq!(path(&mut cache, low), Path::Aggregated);
    let scan = "tcp 192.0.2.1:40000 > 198.51.100.1:79";
    assert!(cache.process(&mut flow(scan), NOW).verdict.is_accept());
    // One that slept through more edits than the log remembers is judged anew.
    for port in 1_000..1_009 {
        insert(&mut cache, &format!("udp dport {port} accept"));
    }
    assert_eq!(path(&mut cache, high), Path::Miss);
    assert_eq!(cache.check(), Ok(()));
    let explained = cache
        .explain(Origin::Received, &flow(high).key, NOW)
        .to_string();
    assert!(
        explained.contains("one of tcp any IPv4 > any IPv4 port 444-"),
        "{explained}"
    );
}

/// Full, they make room among themselves for those that are used, idle ones end within the budget of `maintain`, and there are never
/// more than the owner said.
#[test]
fn aggregates_are_bounded_and_go_when_idle() {
    let mut rules = String::new();
    for host in 1..200 {
        rules += &format!("ip daddr 10.0.0.{host} counter\n");
    }
    let mut cache = cache((filter(&rules, Policy::Drop),), config(8));
    let busy = flow("udp 192.0.2.1:1 > 10.0.0.250:9");
    for round in 0..10 {
        for host in 1..200 {
            let _ = cache.process(
                &mut flow(&format!("udp 192.0.2.1:{round} > 10.0.0.{host}:7")),
                NOW,
            );
            assert!(held(&cache) <= 8);
            let path = cache.process(&mut busy.clone(), NOW).path;
            assert!(
                path == Path::Aggregated || (round, host) == (0, 1),
                "{path}"
            );
        }
        assert_eq!(cache.check(), Ok(()));
    }
    let sessions = cache.len();
    let later = NOW + Duration::from_secs(301);
    let mut ended = 0;
    for _ in 0..200 {
        let before = held(&cache) + cache.len();
        let now = cache.maintain(later, 3);
        assert!(now <= 3 && before - now == held(&cache) + cache.len());
        ended += now;
    }
    assert_eq!(ended, sessions + 8);
    assert_eq!((cache.aggregates().count(), cache.check()), (0, Ok(())));
    let none = Config {
        aggregates: 1 << 17,
        ..Config::new([1, 2])
    };
    assert!(none.check().is_err());
}

/// The tuple-space attack: rules of every pair of prefix lengths, and packets that leave their common path at every pair of bits. However
/// many kinds of masks that would be, there are as many aggregates as the owner allows, and looking for one is one search.
#[test]
fn no_choice_of_packets_makes_more_than_the_owner_allows() {
    let mut filter = Filter::new("filter", 2_000, 7, Policy::Accept);
    for source in 1..=32 {
        for destination in 1..=32 {
            let side =
                |bits, len| Cidr::from_bits(gufc::key::Family::V4, u128::from(bits) << 96, len);
            let (source, destination) = (
                side(0x5555_5555_u32, source),
                side(0x3333_3333, destination),
            );
            let rule = format!("ip saddr {source} ip daddr {destination} udp dport 7 drop");
            let (_, _change) = filter
                .insert(Place::Last, rule.parse().expect("a rule"))
                .expect("room");
        }
    }
    let mut cache = cache((filter,), config(32));
    let mut plain = Uncached {
        hooks: (Filter::new("filter", 1, 7, Policy::Accept),),
    };
    let mut chance = SplitMix64(1);
    for n in 0..4_096_u32 {
        let leave = |bits: u32, at: u32| std::net::Ipv4Addr::from_bits(bits ^ 1 << (31 - at));
        let (source, destination) = (leave(0x5555_5555, n % 32), leave(0x3333_3333, n / 32 % 32));
        let one = flow(&format!(
            "udp {source}:{} > {destination}:7",
            chance.below(9)
        ));
        let outcome = cache.process(&mut one.clone(), NOW);
        // The least that both sides have in common is a rule, unless they leave at the first bit.
        assert_eq!(
            outcome.verdict.is_accept(),
            n % 32 == 0 || n / 32 % 32 == 0,
            "{}",
            one.key
        );
        assert!(held(&cache) <= 32 && cache.aggregates().count() <= 4 * 32);
        let _ = plain.process(&mut one.clone(), NOW);
    }
    assert_eq!(cache.check(), Ok(()));
}

type Hooks = (Routes, Filter, Listing, Sockets<Tuple>);

/// Marks the flows of its list, which change.
#[derive(Debug)]
struct Listing(InterestIndex<Trigger>);

impl Hook for Listing {
    type Step = ();

    fn name(&self) -> &'static str {
        "listing"
    }

    fn interests(&self) -> Interests<'_> {
        Interests::Listed(&self.0)
    }

    fn reach(&self, _: &Fields, _: Option<&()>, _: &mut Span) -> Reach {
        Reach::Passes
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Listing {
    fn judge(
        &mut self,
        _: Stage,
        _: &mut P,
        context: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        context.mark |= 0x100;
        *step = Some(());
        Judgement::Continue
    }

    fn run(&mut self, _: Stage, (): &(), _: &mut P, context: &mut Context) -> Option<Verdict> {
        context.mark |= 0x100;
        None
    }
}

fn hooks() -> Hooks {
    let mut routes = Routes::try_new(32).expect("memory");
    for interface in 1..=2 {
        let _ = routes.add_next_hop(Interface(interface)).expect("room");
    }
    let _ = routes.add_group(NextHopId(0)).expect("room");
    let _ = routes
        .set_member(gufc::hooks::route::GroupId(0), NextHopId(1), 1)
        .expect("room");
    let mut filter = Filter::new("filter", 32, 1, Policy::Accept);
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let mut all = filter.begin();
    for (set, kind) in [("v4", SetKind::V4), ("ports", SetKind::Ports)] {
        all.create_set(name(set), kind, 8);
    }
    all.create_chain(name("side"));
    let _ = filter.commit(all).expect("room");
    let sockets = Sockets::try_new(8, [1, 2], Absent::Refuse).expect("memory");
    (routes, filter, Listing(InterestIndex::new(8, 1)), sockets)
}

fn prefix(chance: &mut SplitMix64) -> Cidr {
    let prefixes = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/31",
        "10.0.0.2/32",
        "10.0.0.1/32",
        "2001:db8::/64",
        "2001:db8::2/127",
    ];
    prefixes[chance.below(7) as usize]
        .parse()
        .expect("a prefix")
}

fn rule(chance: &mut SplitMix64) -> String {
    let mut rule = String::new();
    let side = ["saddr", "daddr"][chance.below(2) as usize];
    match chance.below(6) {
        0 => rule += &format!("ip {side} @v4 "),
        1 => rule += &format!("ip {side} != @v4 "),
        2 | 3 => {
            let prefix = prefix(chance);
            let family = if prefix.family() == gufc::key::Family::V4 {
                "ip"
            } else {
                "ip6"
            };
            let not = ["", "!= "][chance.below(2) as usize];
            rule += &format!("{family} {side} {not}{prefix} ");
        }
        _ => {}
    }
    let protocol = ["tcp", "udp"][chance.below(2) as usize];
    let side = ["sport", "dport"][chance.below(2) as usize];
    match chance.below(6) {
        0 => rule += &format!("{protocol} {side} @ports "),
        1 => rule += &format!("{protocol} {side} != @ports "),
        2 => rule += &format!("{protocol} {side} {} ", chance.below(3)),
        3 => rule += &format!("{protocol} {side} != 1-2 "),
        4 => rule += &format!("meta l4proto {protocol} "),
        _ => {}
    }
    match chance.below(8) {
        0 if !rule.contains("udp") => rule += "tcp flags syn ",
        1 => rule += "meta length 0-99 ",
        2 => rule += "iif 2 ",
        3 => rule += "oif 1 ",
        4 => rule += "zone 1 ",
        _ => {}
    }
    rule += [
        "accept",
        "drop",
        "reject",
        "log",
        "meta mark set 2",
        "counter",
        "jump side",
        "goto side",
        "return",
    ][chance.below(9) as usize];
    rule
}

fn edit(chance: &mut SplitMix64, (routes, filter, listing, sockets): &mut Hooks) -> Change {
    let nothing = Change::nothing;
    match chance.below(12) {
        0 | 1 => {
            let target = [
                Target::Via(NextHopId(0)),
                Target::Via(NextHopId(1)),
                Target::Group(gufc::hooks::route::GroupId(0)),
                Target::Blackhole,
            ][chance.below(4) as usize];
            let prefix = prefix(chance);
            routes
                .insert(prefix, target)
                .map_or(nothing(), |(_, change)| change)
        }
        2 => routes
            .remove(prefix(chance))
            .map_or(nothing(), |(_, change)| change),
        3..=5 => {
            let text = rule(chance);
            let rule = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            let place = match chance.below(3) {
                0 if !text.contains("side") => Place::LastOf("side".parse().expect("a name")),
                1 => Place::First,
                _ => Place::Last,
            };
            filter
                .insert(place, rule)
                .map_or(nothing(), |(_, change)| change)
        }
        6 | 7 => {
            let ids: Vec<_> = filter.rules().map(|(id, ..)| id).collect();
            if ids.is_empty() {
                return nothing();
            }
            filter
                .remove(ids[chance.below(ids.len() as u64) as usize])
                .map_or(nothing(), |(_, change)| change)
        }
        8 | 9 => {
            let (set, element): (&str, Element) = match chance.below(2) {
                0 => (
                    "v4",
                    Cidr::from_bits(
                        gufc::key::Family::V4,
                        0x0a00_0000_u128 << 96 | u128::from(chance.below(4)) << 96,
                        30 + chance.below(3) as u8,
                    )
                    .into(),
                ),
                _ => ("ports", Ports::one(chance.below(3) as u16).into()),
            };
            let set = set.parse().expect("a name");
            let edited = match chance.below(2) {
                0 => filter.add_element(set, element),
                _ => filter.delete_element(set, element),
            };
            edited.map_or(nothing(), |(_, change)| change)
        }
        10 if chance.below(3) == 0 => {
            let mut policy = filter.begin();
            policy.push(Edit::SetPolicy(
                [Policy::Accept, Policy::Drop][chance.below(2) as usize],
            ));
            filter
                .commit(policy)
                .map_or(nothing(), |((), change)| change)
        }
        10 => {
            let pattern = Pattern {
                destination: Some(prefix(chance)),
                source_ports: Ports::one(chance.below(3) as u16),
                ..Pattern::ANY
            };
            if listing.0.insert(pattern, 0, Trigger::NONE).is_err() {
                listing.0.clear();
                return Change::everything("listing");
            }
            nothing().touches("listing", gufc::epoch::View::Routed, pattern)
        }
        _ => {
            let listen = Listen::new(Protocol::TCP, Bound::Any, 1 + chance.below(2) as u16);
            match sockets.listen(listen, Consumer(1)) {
                Ok((_, change)) => change,
                Err(_) => {
                    let id = sockets.iter().next().map(|socket| socket.id);
                    id.and_then(|id| sockets.close(id)).unwrap_or(nothing())
                }
            }
        }
    }
}

fn state((_, filter, _, sockets): &Hooks) -> impl PartialEq + std::fmt::Debug + use<> {
    let rules: Vec<_> = filter
        .rules()
        .map(|(id, _, counter)| (id, counter))
        .collect();
    let sockets_: Vec<_> = sockets.iter().collect();
    (rules, sockets_, sockets.unclaimed())
}

/// Under random edits and packets: verdicts, marks, egress, counters of every rule are those of a dataplane without a cache, a second look
/// at every hit agrees, and the aggregates are sound after every step. `GUFC_SEEDS` says how many stories.
#[test]
fn aggregates_answer_as_judging_every_packet_does() {
    let seeds =
        std::env::var("GUFC_SEEDS").map_or(24, |seeds| seeds.parse().expect("a number of seeds"));
    let mut all = Stats::default();
    for seed in 0..seeds {
        let mut chance = SplitMix64(seed);
        let aggregates = [1, 4, 64][chance.below(3) as usize];
        let mut cache = cache(Shadowed::new(hooks(), 1, 1), config(aggregates));
        let mut plain = Uncached { hooks: hooks() };
        let mut now = NOW;
        for step in 0..400 {
            now = now + Duration::from_millis(chance.below(2_000));
            match chance.below(10) {
                0 | 1 => {
                    let mut again = SplitMix64(chance.0);
                    let edited: Result<_, Infallible> =
                        cache.edit(|shadowed| Ok(((), edit(&mut chance, &mut shadowed.hooks))));
                    let Ok(_) = edited;
                    let edited: Result<_, Infallible> =
                        plain.edit(|hooks| Ok(((), edit(&mut again, hooks))));
                    let Ok(()) = edited;
                }
                2 => {
                    let _ = cache.maintain(now, 8);
                }
                3 => {
                    let mut burst: Vec<ToyPacket> = (0..8)
                        .map(|_| packet(&mut Choices::new(&chance.bytes(16))))
                        .collect();
                    let mut expected = burst.clone().into_iter();
                    cache.process_batch(&mut burst, now, |_, outcome| {
                        let uncached = plain.process(&mut expected.next().expect("as many"), now);
                        assert!(
                            outcome.agrees(&uncached),
                            "seed {seed}, step {step}: {outcome:?} {uncached:?}"
                        );
                    });
                }
                _ => {
                    let one = packet(&mut Choices::new(&chance.bytes(16)));
                    let (cached, uncached) = (
                        cache.process(&mut one.clone(), now),
                        plain.process(&mut one.clone(), now),
                    );
                    assert!(
                        cached.agrees(&uncached),
                        "seed {seed}, step {step}: {} {cached:?} {uncached:?}",
                        one.key
                    );
                }
            }
            assert_eq!(cache.stats().disagreed, 0, "seed {seed}, step {step}");
            assert_eq!(cache.check(), Ok(()), "seed {seed}, step {step}");
        }
        assert_eq!(
            state(&cache.hooks().hooks),
            state(&plain.hooks),
            "seed {seed}"
        );
        let programs = cache.hooks().hooks.1.usage().1;
        cache.clear();
        assert!(
            programs == 0 || cache.hooks().hooks.1.usage().1 == 0,
            "every step is given back"
        );
        all.aggregated += cache.stats().aggregated;
        all.aggregates_begun += cache.stats().aggregates_begun;
        all.hits += cache.stats().hits;
        all.misses += cache.stats().misses;
    }
    println!("{all:?}");
    assert!(
        all.aggregated > 20 * seeds && all.aggregates_begun > 10 * seeds,
        "{all:?}"
    );
}

/// Where a hook keeps state by flow, or wants to be shown packets, there are none.
#[test]
fn a_stateful_hook_allows_no_aggregate() {
    use gufc::hooks::conntrack::{Config as Tracking, Conntrack};
    let tracker: Conntrack<Tuple> = Conntrack::try_new(Tracking::new(64, [1, 2])).expect("memory");
    let mut cache = cache((tracker, server()), config(64));
    for port in 0..100 {
        let one =
            flow(&format!("tcp 192.0.2.1:40000 > 198.51.100.1:{port}")).with_flags(TcpFlags::SYN);
        let _ = cache.process(&mut one.clone(), NOW);
    }
    assert_eq!(cache.aggregates().count(), 0);
    let zone = Zone::new(7).expect("a zone");
    assert_eq!(
        flow("tcp 192.0.2.1:1 > 198.51.100.1:2")
            .key
            .in_zone(zone)
            .fields()
            .zone,
        zone
    );
}

//! Many edits as one: against a twin that copies everything, and what each touches.

use gufc::cache::{Config, FlowCache};
use gufc::hook::{Class, Context, Direction, Hook, Judge, Judgement, Stage, Track};
use gufc::hooks::filter::{
    Edit, EditError, Element, Filter, Limits, Name, Place, Policy, Rule, RuleId, SetKind, Table,
};
use gufc::key::{Cidr, Pattern, Ports, Tuple};
use gufc::packet::Packet;
use gufc::testing::linear_filter::{LinearFilter, beginnings, name, transaction};
use gufc::testing::toy::{Choices, ToyPacket, packet};
use gufc::time::Instant;
use gufc::verdict::{Path, Verdict};
use proptest::prelude::*;

use crate::transparency::cases;

const LIMITS: Limits = Limits {
    rules: 14,
    chains: 3,
    sets: 3,
    elements: 10,
    programs: 64,
};

fn context(choices: &mut Choices<'_>, packet: &ToyPacket) -> Context {
    let mut context = Context::new(Instant::START, packet.origin());
    context.track = Some(Track {
        class: choices.one(&[Class::New, Class::Established, Class::Invalid]),
        direction: choices.one(&[None, Some(Direction::Original), Some(Direction::Reply)]),
        status: choices.below(4),
        mark: u32::from(choices.below(2)),
        connection: 0,
    });
    context
}

/// Judges a packet by both.
fn compare(
    filter: &mut Filter,
    twin: &LinearFilter,
    choices: &mut Choices<'_>,
) -> Result<(), TestCaseError> {
    let mut packet = packet(choices);
    let mut context = context(choices, &packet);
    let mut expected = context;
    let (verdict, by) = twin.judge(&packet, &mut expected);
    let mut step = None;
    let judged = filter.judge(Stage::Filter, &mut packet, &mut context, &mut step);
    let got = match judged {
        Judgement::Continue => Verdict::Accept,
        Judgement::Finish { verdict, constant } => {
            prop_assert!(!constant || !verdict.is_accept());
            verdict
        }
    };
    prop_assert_eq!(got, verdict, "{:?}\n{}", packet, filter.listing());
    prop_assert_eq!(context.by.rule, by);
    prop_assert_eq!((context.mark, context.log), (expected.mark, expected.log));
    Ok(())
}

fn counters(filter: &Filter) -> Vec<(RuleId, u64)> {
    filter
        .rules()
        .map(|(id, _, counter)| (id, counter.packets))
        .collect()
}

proptest! {
    #![proptest_config(cases(600))]

    /// A transaction does what its edits do one by one on lists, or nothing at all: text, ids, counters and judgement.
    #[test]
    fn all_or_nothing(bytes in prop::collection::vec(any::<u8>(), 700)) {
        let mut choices = Choices::new(&bytes);
        let mut filter = Filter::with_limits("filter", LIMITS, 9, Policy::Accept);
        let mut twin = LinearFilter::new(LIMITS, Policy::Accept);
        let first = beginnings(&filter);
        prop_assert!(twin.commit(first.edits()));
        let _ = filter.commit(first).expect("it makes sense");
        while !choices.is_empty() {
            let edits = transaction(&mut choices, &filter, 6);
            let (before, counted, version) = (filter.table(), counters(&filter), filter.version());
            let done = twin.commit(edits.edits());
            let late = filter.begin();
            match filter.commit(edits.clone()) {
                Ok(_) => {
                    prop_assert!(done, "{}", edits);
                    let refused = filter.commit(late).map(|_| ()).map_err(|error| error.why);
                    let outdated = EditError::Outdated { began: version, now: version + 1 };
                    prop_assert_eq!(refused, Err(outdated));
                }
                Err(error) => {
                    prop_assert!(!done, "{}\n{}", edits, error);
                    prop_assert_eq!(filter.table(), before);
                    prop_assert_eq!(counters(&filter), counted);
                    prop_assert_eq!(filter.version(), version);
                }
            }
            prop_assert!(twin.agrees(&filter), "{}\n{:?}", filter.listing(), twin);
            for _ in 0..4 {
                compare(&mut filter, &twin, &mut choices)?;
            }
            let text = filter.table().to_string();
            prop_assert_eq!(text.parse::<Table>(), Ok(filter.table()), "{}", text);
            prop_assert_eq!(filter.listing().to_string().parse::<Table>(), Ok(filter.table()));
        }
    }
}

fn filter_of(text: &str) -> Filter {
    let mut filter = Filter::new("filter", 100, 1, Policy::Accept);
    let table: Table = text.parse().unwrap_or_else(|error| panic!("{error}"));
    let _ = filter
        .commit(filter.diff(&table))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.table(), table);
    filter
}

fn rule(text: &str) -> Rule {
    text.parse().expect("a rule")
}

fn cidr(text: &str) -> Cidr {
    text.parse().expect("a prefix")
}

/// The boxes that a commit touched, as text.
fn touched(filter: &mut Filter, edit: Edit) -> Vec<String> {
    let mut edits = filter.begin();
    edits.push(edit);
    let (_, change) = filter.commit(edits).expect("it makes sense");
    change
        .regions()
        .iter()
        .map(|(_, region)| region.pattern.to_string())
        .collect()
}

/// An element touches the boxes of the rules that read its set, where they hold it, and nothing that it does not change.
#[test]
fn elements_touch_their_part_of_their_readers() {
    let mut filter = filter_of(
        "set blocked {
            type ipv4_addr
            size 9
            elements = { 10.0.0.0/16 }
        }
        chain main {
            tcp dport 22 ip saddr @blocked drop
            ip saddr 10.1.0.0/16 ip daddr @blocked udp dport 53 drop
            ip saddr 192.0.2.0/24 ip saddr @blocked drop
        }
        chain nobody {
            ip saddr @blocked drop
        }",
    );
    let blocked = name("blocked");
    let add = |text| Edit::AddElement(blocked, cidr(text).into());
    assert_eq!(
        touched(&mut filter, add("10.1.2.3")),
        [
            "ip saddr 10.1.2.3 proto tcp dport 22",
            "ip saddr 10.1.0.0/16 ip daddr 10.1.2.3 proto udp dport 53"
        ]
    );
    assert_eq!(
        touched(&mut filter, add("192.0.0.0/8")),
        [
            "ip saddr 192.0.0.0/8 proto tcp dport 22",
            "ip saddr 10.1.0.0/16 ip daddr 192.0.0.0/8 proto udp dport 53",
            "ip saddr 192.0.2.0/24"
        ]
    );
    assert!(
        touched(&mut filter, add("10.0.7.0/24")).is_empty(),
        "it is in 10.0.0.0/16"
    );
    let delete = Edit::DeleteElement(blocked, Element::from(cidr("10.0.7.0/24")));
    assert!(touched(&mut filter, delete).is_empty());
}

/// A set that many rules read: one box for the element, whatever the readers.
#[test]
fn an_element_with_many_readers_is_one_box() {
    let mut filter = Filter::new("filter", 100, 1, Policy::Accept);
    let web = name("web");
    let mut edits = filter.begin();
    edits.create_set(web, SetKind::Ports, 4);
    for host in 0..50 {
        edits.insert(
            Place::Last,
            rule(&format!("ip saddr 10.0.0.{host} tcp dport @web accept")),
        );
    }
    let _ = filter.commit(edits).expect("it makes sense");
    let ports = Ports::new(80, 81).expect("in order");
    assert_eq!(
        touched(&mut filter, Edit::AddElement(web, ports.into())),
        ["dport 80-81"]
    );
}

/// Rules of a chain that no rule goes to touch nothing; the rule that goes there touches its own box.
#[test]
fn a_chain_that_nobody_walks_touches_nothing() {
    let mut filter = filter_of("chain main {\n}\nchain web {\n}");
    let web = name("web");
    let accept = rule("tcp dport 80 accept");
    assert!(touched(&mut filter, Edit::Insert(Place::LastOf(web), accept.into())).is_empty());
    let jump = rule("ip saddr 10.0.0.0/8 jump web");
    assert_eq!(
        touched(&mut filter, Edit::Insert(Place::Last, jump.into())),
        ["ip saddr 10.0.0.0/8"]
    );
    let drop = rule("tcp dport 81 drop");
    assert_eq!(
        touched(&mut filter, Edit::Insert(Place::LastOf(web), drop.into())),
        ["proto tcp dport 81"]
    );
}

#[test]
fn circles_and_depth_are_refused() {
    let mut filter = filter_of(
        "chain main {\n jump a\n}\nchain a {\n jump b\n}\nchain b {\n drop\n}\nchain c {\n}",
    );
    let before = filter.listing().to_string();
    let try_insert = |filter: &mut Filter, chain: &str, text: &str| {
        let place = Place::LastOf(name(chain));
        filter
            .insert(place, rule(text))
            .map(|_| ())
            .expect_err(text)
            .to_string()
    };
    let got = try_insert(&mut filter, "b", "goto a");
    assert!(got.ends_with("comes back to itself"), "{got}");
    assert_eq!(
        try_insert(&mut filter, "c", "jump c"),
        "chain c comes back to itself"
    );
    assert_eq!(
        try_insert(&mut filter, "b", "jump main"),
        "a rule may not go to the main chain"
    );
    assert_eq!(
        try_insert(&mut filter, "b", "jump d"),
        "there is no chain d"
    );
    assert_eq!(
        try_insert(&mut filter, "b", "ip saddr @x drop"),
        "there is no set x"
    );
    assert_eq!(filter.listing().to_string(), before);

    let mut deep = Filter::new("filter", 100, 1, Policy::Accept);
    let mut edits = deep.begin();
    let chain = |n: u32| {
        if n == 0 {
            Name::MAIN
        } else {
            name(&format!("c{n}"))
        }
    };
    for n in 1..=17 {
        edits.create_chain(chain(n));
    }
    for n in 0..16 {
        edits.insert(
            Place::LastOf(chain(n)),
            rule(&format!("jump {}", chain(n + 1))),
        );
    }
    let mut deeper = edits.clone();
    let (_, change) = deep.commit(edits.clone()).expect("sixteen");
    assert_eq!(change.regions().len(), 1, "the same box again and again");
    assert_eq!(change.regions()[0].1.pattern, Pattern::ANY);
    deeper.insert(Place::LastOf(chain(16)), rule("jump c17"));
    let mut other = Filter::new("filter", 100, 1, Policy::Accept);
    let error = other.commit(deeper).map(|_| ()).expect_err("seventeen");
    assert!(
        error
            .to_string()
            .starts_with("chains nest deeper than 16 below "),
        "{error}"
    );
    assert!(other.is_empty());

    // Twice each at every depth: 2^16 ways through, which nobody shall walk.
    let mut wide = Filter::new("filter", 100, 1, Policy::Accept);
    for _ in 0..2 {
        for n in 0..16 {
            edits.insert(
                Place::LastOf(chain(n)),
                rule(&format!("jump {}", chain(n + 1))),
            );
        }
    }
    let error = wide.commit(edits).map(|_| ()).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "a packet might pass more than 4096 chains"
    );
}

/// A block list of hosts: an element costs the flows under it a look, and all others a comparison.
#[test]
fn only_flows_under_an_edited_element_look_again() {
    let text = "set blocked {\n type ipv4_addr\n}\nchain main {\n ip saddr @blocked drop\n tcp dport 80 accept\n}";
    let filter = filter_of(text);
    let config = Config::new([1, 2]);
    let mut cache: FlowCache<Tuple, (Filter,)> = FlowCache::new(config, (filter,)).expect("room");
    let flow = |host: u32| {
        let text = format!("tcp 10.0.{}.{}:5000 > 192.0.2.1:80", host >> 8, host & 255);
        ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
    };
    for host in 0..1000 {
        assert!(
            cache
                .process(&mut flow(host), Instant::START)
                .verdict
                .is_accept()
        );
    }
    let blocked = name("blocked");
    let add = |filter: &mut Filter| filter.add_element(blocked, cidr("10.0.1.0/28"));
    cache.edit(|(filter,)| add(filter)).expect("room");
    let mut again = 0;
    for host in 0..1000 {
        let outcome = cache.process(&mut flow(host), Instant::START);
        let under = (256..272).contains(&host);
        assert_eq!(outcome.verdict.is_accept(), !under, "{host}");
        assert_eq!(
            outcome.path == Path::Restamped,
            !under,
            "{host}: {:?}",
            outcome.path
        );
        again += u32::from(outcome.path == Path::Rechecked);
    }
    assert_eq!(again, 16);
}

/// A branch that depends on the packet is taken by each packet of a cached flow for itself.
#[test]
fn cached_flows_branch_by_packet() {
    let mut filter = filter_of(
        "chain main {
            tcp flags syn jump opening
            meta length 1000-9000 goto long
            accept
        }
        chain opening {
            meta length 40 return
            drop
        }
        chain long {
            tcp dport 80 meta length 1500 drop
        }",
    );
    let _ = filter.replace(
        filter
            .chain(Name::MAIN)
            .map(|(_, rule, _)| rule.clone())
            .collect(),
        Policy::Accept,
    );
    let config = Config::new([1, 2]);
    let mut cache: FlowCache<Tuple, (Filter,)> = FlowCache::new(config, (filter,)).expect("room");
    let flow: Tuple = "tcp 10.0.0.1:5000 > 192.0.2.1:80".parse().expect("a tuple");
    let mut send = |syn: bool, length| {
        let mut packet = ToyPacket::new(flow);
        packet.length = length;
        if syn {
            packet.flags = gufc::packet::TcpFlags::SYN;
        }
        let outcome = cache.process(&mut packet, Instant::START);
        (
            outcome.verdict.is_accept(),
            outcome.by.rule,
            outcome.path == Path::Hit,
        )
    };
    // The main chain's rules are 0 to 2, those of `long` 3, those of `opening` 4 and 5.
    let (accepted, _, hit) = send(false, 100);
    assert!(accepted && !hit);
    assert_eq!(send(false, 100), (true, Some(2), true));
    assert_eq!(
        send(true, 40),
        (true, Some(2), true),
        "returned from opening"
    );
    assert_eq!(send(true, 100), (false, Some(5), true), "dropped there");
    assert_eq!(send(false, 1500), (false, Some(3), true), "dropped in long");
    assert_eq!(
        send(false, 1400),
        (true, None, true),
        "through long, to the policy"
    );
    assert_eq!(send(false, 100), (true, Some(2), true));
}

/// An owner may let a flow keep what it had: its program is that of its time, whatever has taken its rules' places since.
#[test]
fn a_program_stays_what_it_was() {
    let text = "chain main {\n policy accept\n tcp dport 80 ct state new meta length 100 drop\n}";
    let mut filter = filter_of(text);
    let flow: Tuple = "tcp 10.0.0.1:5000 > 192.0.2.1:80".parse().expect("a tuple");
    let mut packet = ToyPacket::new(flow);
    let mut context = Context::new(Instant::START, packet.origin());
    context.track = Some(Track {
        class: Class::New,
        direction: None,
        status: 0,
        mark: 0,
        connection: 0,
    });
    let mut step = None;
    let _ = filter.judge(Stage::Filter, &mut packet, &mut context, &mut step);
    let step = step.expect("it can be cached");
    let (old, _) = filter.remove(RuleId(0)).expect("there");
    let _ = filter
        .replace(vec![rule("accept"), rule("accept"), old], Policy::Drop)
        .expect("room");
    let verdict = filter.run(Stage::Filter, &step, &mut packet, &mut context);
    assert_eq!(verdict, Some(Verdict::Drop), "by the rule that is no more");
    packet.length = 40;
    let verdict = filter.run(Stage::Filter, &step, &mut packet, &mut context);
    assert_eq!(verdict, None, "by the policy of its time");
    let counted: Vec<u64> = filter
        .rules()
        .map(|(_, _, counter)| counter.packets)
        .collect();
    assert_eq!(counted, [0, 0, 0], "none of the new rules has met a packet");
    filter.release(step);
    assert_eq!(filter.usage(), (0, 0));
}

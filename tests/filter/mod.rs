//! The filter against a walk over its rules, and its rules as text.

mod tables;
mod transactions;

use gufc::hook::{Class, Context, Direction, Judge, Judgement, Stage, Track};
use gufc::hooks::filter::{Action, Conditions, Filter, Place, Policy, Rule, parse_rules};
use gufc::key::FlowKey;
use gufc::packet::{Fragment, Interface, Packet};
use gufc::testing::linear_filter::CHAIN_RULES;
use gufc::testing::script::RULES;
use gufc::testing::toy::{Choices, ToyPacket, packet};
use gufc::time::Instant;
use gufc::verdict::{Egress, Verdict};
use proptest::prelude::*;

use crate::transparency::cases;

/// The slow twin: every rule in order, every match anew.
fn walk(
    rules: &[&Rule],
    policy: Policy,
    packet: &ToyPacket,
    context: &mut Context,
) -> (Verdict, Option<usize>) {
    for (number, rule) in rules.iter().enumerate() {
        let readable = packet.fragment() != Fragment::Later && packet.defect().is_none();
        let flow =
            rule.matches_flow(&packet.key().fields()) && (readable || !rule.reads_transport());
        if !flow || !rule.conditions.hold(packet, context) {
            continue;
        }
        context.mark = rule.set_mark.unwrap_or(context.mark);
        context.log |= rule.log;
        let verdict = match rule.action {
            Action::Continue => continue,
            Action::Accept => Verdict::Accept,
            Action::Drop => Verdict::Drop,
            Action::Reject(answer) => Verdict::Reject(answer),
            _ => unreachable!("one chain"),
        };
        return (verdict, Some(number));
    }
    (
        if policy == Policy::Accept {
            Verdict::Accept
        } else {
            Verdict::Drop
        },
        None,
    )
}

proptest! {
    #![proptest_config(cases(600))]

    /// First match is first match, wherever rules were inserted and removed.
    #[test]
    fn first_match(edits in prop::collection::vec((0..RULES.len(), any::<u8>()), 0..24), bytes in prop::collection::vec(any::<u8>(), 600)) {
        let mut filter = Filter::new("filter", 16, 9, Policy::Drop);
        for (number, place) in edits {
            let ids: Vec<_> = filter.rules().map(|(id, ..)| id).collect();
            let some = ids.get(usize::from(place) % ids.len().max(1)).copied();
            match (place % 4, some) {
                (0, Some(id)) => drop(filter.remove(id).expect("there")),
                (1, Some(id)) => drop(filter.insert(Place::Before(id), RULES[number].parse().expect("a rule")).ok()),
                (2, Some(id)) => drop(filter.insert(Place::After(id), RULES[number].parse().expect("a rule")).ok()),
                (_, _) => drop(filter.insert(Place::First, RULES[number].parse().expect("a rule")).ok()),
            }
        }
        let rules: Vec<(u32, Rule)> = filter.rules().map(|(id, rule, _)| (id.0, rule.clone())).collect();
        let plain: Vec<&Rule> = rules.iter().map(|(_, rule)| rule).collect();
        let mut choices = Choices::new(&bytes);
        while !choices.is_empty() {
            let mut packet = packet(&mut choices);
            let mut context = Context::new(Instant::START, packet.origin);
            context.egress = Some(Egress { interface: Interface(2), next_hop: 0 });
            context.track = Some(Track {
                class: [Class::New, Class::Established, Class::Invalid][usize::from(choices.below(3))],
                direction: Some(Direction::Original),
                status: 0,
                mark: u32::from(choices.below(2)),
                connection: 0,
            });
            let mut expected_context = context;
            let (expected, by) = walk(&plain, Policy::Drop, &packet, &mut expected_context);
            let judgement = filter.judge(Stage::Filter, &mut packet, &mut context, &mut None);
            let got = match judgement {
                Judgement::Continue => Verdict::Accept,
                Judgement::Finish { verdict, .. } => verdict,
            };
            prop_assert_eq!(got, expected, "{:?}", packet);
            prop_assert_eq!(context.by.rule, by.map(|number| rules[number].0));
            prop_assert_eq!((context.mark, context.log), (expected_context.mark, expected_context.log));
        }
    }

    /// Arbitrary words never panic, and what is read is written so that it reads the same.
    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(WORDS), 0..12)) {
        if let Ok(rule) = words.join(" ").parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        let _ = text.parse::<Rule>();
    }
}

const WORDS: &[&str] = &[
    "ip",
    "ip6",
    "saddr",
    "daddr",
    "10.0.0.0/8",
    "2001:db8::/32",
    "!=",
    "tcp",
    "udp",
    "sport",
    "dport",
    "22",
    "1-1023",
    "flags",
    "syn",
    "syn,ack",
    "/",
    "==",
    "icmp",
    "icmpv6",
    "type",
    "echo-request",
    "code",
    "3",
    "id",
    "meta",
    "l4proto",
    "gre",
    "47",
    "nfproto",
    "ipv6",
    "length",
    "0-100",
    "mark",
    "0x1/0xff",
    "set",
    "7",
    "fib",
    "local",
    "zone",
    "iif",
    "oif",
    "ct",
    "state",
    "new,invalid",
    "direction",
    "reply",
    "status",
    "none",
    "assured,dnat",
    "@web",
    "jump",
    "goto",
    "return",
    "counter",
    "log",
    "accept",
    "drop",
    "reject",
    "with",
    "reset",
    "no-route",
    "continue",
    "comment",
    "\"why not\"",
];

#[test]
fn rules_round_trip() {
    let more = [
        "ip saddr != 10.0.0.0/8 tcp dport != 22 tcp sport 1024-65535 drop",
        "icmp type 42 icmp code 7 icmp id 9 accept",
        "icmpv6 type nd-neighbor-solicit accept",
        "tcp flags == syn accept",
        "tcp flags none / syn,ack accept",
        "meta l4proto != tcp meta nfproto ipv4 drop",
        "ct direction reply ct mark 0x1/0x3 iif 7 oif 9 meta length 5 accept comment \"a # in it\"",
        "fib saddr type != local fib daddr type local zone 3 reject with tcp reset",
        "reject with icmp port-unreachable",
        "ct status assured / assured,dnat ct zone 7 jump web",
        "ct status none / snat drop",
        "tcp dport != @web ip saddr @lan counter packets 7 bytes 700 goto web comment \"why\"",
        "tcp dport != 22 ip saddr != 10.0.0.0/8 drop",
    ];
    for text in RULES.iter().chain(CHAIN_RULES).chain(&more) {
        let rule: Rule = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            rule.to_string().parse(),
            Ok(rule.clone()),
            "{text}: written as {rule}"
        );
    }
}

#[test]
fn errors_say_where_and_what() {
    for (text, message) in [
        ("", "line 1, column 1: expected a rule, found end of rule"),
        (
            "ip saddr",
            "line 1, column 9: expected an address or prefix of the rule's family, without host bits, found end of rule",
        ),
        (
            "ip saddr 10.0.0.1/8 drop",
            "line 1, column 10: expected an address or prefix of the rule's family, without host bits, found '10.0.0.1/8'",
        ),
        (
            "ip saddr 10.0.0.0/8 ip6 daddr ::1",
            "line 1, column 21: expected no second family in one rule, found 'ip6'",
        ),
        (
            "tcp dport 80 udp sport 53",
            "line 1, column 14: expected no second protocol in one rule, found 'udp'",
        ),
        (
            "tcp dport 80-22",
            "line 1, column 11: expected a port or a range of ports such as 1024-65535, found '80-22'",
        ),
        (
            "tcp flags syn / ack",
            "line 1, column 17: expected a mask that has every flag of the value, found 'ack'",
        ),
        (
            "ip saddr @ drop",
            "line 1, column 10: expected @ and the name of a set, found '@'",
        ),
        (
            "tcp dport 80 jump 2nd",
            "line 1, column 19: expected the name of a chain, found '2nd'",
        ),
        (
            "ct status none drop",
            "line 1, column 16: expected / and the statuses of which there is to be none, found 'drop'",
        ),
        (
            "drop accept",
            "line 1, column 6: expected nothing more but a comment after the verdict, found 'accept'",
        ),
        (
            "icmp code 3",
            "line 1, column 6: expected the type before the code, found 'code'",
        ),
    ] {
        let error = text.parse::<Rule>().expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
    let error = parse_rules("accept\n\n  # nothing\n  iif lan accept # why\n", |_| None)
        .expect_err("no such name");
    assert_eq!((error.line, error.column), (4, 7));
    let named = parse_rules("iif lan accept", |name| {
        (name == "lan").then_some(Interface(3))
    })
    .expect("a known name");
    assert_eq!(
        named[0].conditions,
        Conditions {
            ingress: Some(Interface(3)),
            ..Conditions::default()
        }
    );
}

/// Insertions at one spot, more than the spaces between two rules hold, keep the order.
#[test]
fn a_crowded_spot() {
    let mut filter = Filter::new("filter", 200, 9, Policy::Drop);
    let rule = || "accept".parse::<Rule>().expect("a rule");
    let (first, _) = filter.insert(Place::Last, rule()).expect("room");
    let (last, _) = filter.insert(Place::Last, rule()).expect("room");
    let mut expected = vec![first];
    for _ in 0..150 {
        let (id, _) = filter.insert(Place::Before(last), rule()).expect("room");
        expected.push(id);
    }
    expected.push(last);
    let order: Vec<_> = filter.rules().map(|(id, ..)| id).collect();
    assert_eq!(order, expected);
}

//! Tables as text, and the smallest edits between them.

use gufc::hooks::filter::{Edit, Filter, Limits, Name, Policy, Rule, Table};
use gufc::testing::linear_filter::{CHAIN_RULES, beginnings, name, transaction};
use gufc::testing::script::RULES;
use gufc::testing::toy::Choices;
use proptest::prelude::*;

use crate::transparency::cases;

/// A filter that some transactions have made.
fn grown(bytes: &[u8]) -> Filter {
    let mut filter = Filter::with_limits("filter", Limits::rules(40), 3, Policy::Drop);
    let first = beginnings(&filter);
    let _ = filter.commit(first).expect("it makes sense");
    let mut choices = Choices::new(bytes);
    while !choices.is_empty() {
        let edits = transaction(&mut choices, &filter, 2);
        let _ = filter.commit(edits);
    }
    filter
}

/// The length of a longest common sequence, by the book.
fn common(a: &[&Rule], b: &[&Rule]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (at, y) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[at])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

proptest! {
    #![proptest_config(cases(400))]

    /// From any rule set to any other by one transaction, with as few rules edited as there can be.
    #[test]
    fn differences_lead_there(from in prop::collection::vec(any::<u8>(), 300), to in prop::collection::vec(any::<u8>(), 300)) {
        let (mut filter, target) = (grown(&from), grown(&to));
        let (old, new) = (filter.table(), target.table());
        let edits = filter.diff(&new);
        let of_rules = |edit: &&Edit| matches!(edit, Edit::Insert(..) | Edit::Remove(_));
        let got = edits.edits().iter().filter(of_rules).count();
        let names: Vec<Name> = old.chains.keys().chain(new.chains.keys()).copied().collect();
        let mut expected = 0;
        for (number, chain) in names.iter().enumerate() {
            if names[..number].contains(chain) {
                continue;
            }
            let rules = |table: &Table| table.chains.get(chain).cloned().unwrap_or_default();
            let (old, new) = (rules(&old), rules(&new));
            let (old, new): (Vec<&Rule>, Vec<&Rule>) = (old.iter().collect(), new.iter().collect());
            expected += old.len() + new.len() - 2 * common(&old, &new);
        }
        prop_assert_eq!(got, expected, "{}", edits);
        filter.commit(edits.clone()).map(|_| ()).map_err(|e| TestCaseError::fail(format!("{e}\n{edits}\n{old}\n{new}")))?;
        prop_assert_eq!(filter.table().to_string(), new.to_string(), "{}", edits);
        prop_assert!(filter.diff(&new).is_empty());
    }

    /// Replacing one chain's rules is a difference too.
    #[test]
    fn replacing_keeps_what_stays(numbers in prop::collection::vec(0..RULES.len(), 0..12), more in prop::collection::vec(0..RULES.len(), 0..12)) {
        let rules = |numbers: &[usize]| -> Vec<Rule> {
            numbers.iter().map(|n| RULES[*n].parse().expect("a rule")).collect()
        };
        let mut filter = Filter::new("filter", 12, 3, Policy::Drop);
        let _ = filter.replace(rules(&numbers), Policy::Drop).expect("room");
        let old: Vec<_> = filter.rules().map(|(id, rule, _)| (id, rule.clone())).collect();
        let _ = filter.replace(rules(&more), Policy::Drop).expect("room");
        let new: Vec<_> = filter.rules().map(|(id, rule, _)| (id, rule.clone())).collect();
        let texts: Vec<Rule> = new.iter().map(|(_, rule)| rule.clone()).collect();
        prop_assert_eq!(texts, rules(&more));
        let kept = old.iter().filter(|pair| new.contains(pair)).count();
        let [a, b] = [&old, &new].map(|list| list.iter().map(|(_, rule)| rule).collect::<Vec<_>>());
        prop_assert_eq!(kept, common(&a, &b));
    }

    /// Arbitrary text never panics, and what is read is written so that it reads the same.
    #[test]
    fn any_lines(lines in prop::collection::vec(prop::sample::select(LINES), 0..14)) {
        if let Ok(table) = lines.join("\n").parse::<Table>() {
            prop_assert_eq!(table.to_string().parse::<Table>(), Ok(table));
        }
    }

    #[test]
    fn any_text(text in "(set|chain|elements|\\{|\\}|=|,|\n|type| |main|é|1-2|@|\\PC){0,40}") {
        let _ = text.parse::<Table>();
    }
}

const LINES: &[&str] = &[
    "set hosts {",
    "set ports { # comment",
    "chain main {",
    "chain web {",
    "}",
    "}",
    "}",
    "type ipv4_addr",
    "type inet_service size 3",
    "size 2",
    "elements = { 10.0.0.1, 10.0.0.0/8 }",
    "elements = { 1-2",
    ", 80,",
    "443 }",
    "elements = {}",
    "policy drop",
    "tcp dport @ports accept",
    "jump web",
    "",
];

#[test]
fn errors_say_where_and_what() {
    for (text, message) in [
        (
            "rule",
            "line 1, column 1: expected set or chain, found 'rule'",
        ),
        (
            "chain {",
            "line 1, column 7: expected a name that is not taken, found '{'",
        ),
        (
            "chain main",
            "line 1, column 11: expected { and a new line, found end of rule",
        ),
        (
            "chain main { drop }",
            "line 1, column 14: expected the end of the line, found 'drop'",
        ),
        (
            "chain main {\n\n  policy dorp\n}",
            "line 3, column 10: expected accept or drop, found 'dorp'",
        ),
        (
            "chain web {\n policy drop\n}",
            "line 2, column 2: expected ip, ip6, tcp, udp, udplite, sctp, icmp, icmpv6, meta, fib, ct, iif, oif, zone, counter, log, accept, drop, reject, continue, jump, goto, return or comment, found 'policy'",
        ),
        (
            "chain main {\n drop",
            "line 2, column 6: expected } at the end of the block, found end of rule",
        ),
        (
            "chain a {\n}\nchain a {\n}",
            "line 3, column 7: expected a name that is not taken, found 'a'",
        ),
        (
            "set a {\n elements = { 1 }\n}",
            "line 2, column 2: expected the type or the size, found 'elements'",
        ),
        (
            "set a {\n type inet_service\n elements = { 1-5, 7, 5-6 }\n}",
            "line 3, column 23: expected a port or a range of ports apart from those that the set has, found '5-6'",
        ),
        (
            "set a {\n type ipv4_addr\n elements = { ::1 }\n}",
            "line 3, column 15: expected an IPv4 address or prefix that the set does not have yet, without host bits, found '::1'",
        ),
        (
            "set a {\n type ipv4_addr\n elements = { 10.0.0.1 10.0.0.2 }\n}",
            "line 3, column 24: expected , or }, found '10.0.0.2'",
        ),
        (
            "set a {\n type ipv4_addr\n size 1\n elements = { 10.0.0.1,10.0.0.2 }\n}",
            "line 4, column 24: expected no more elements than the size, found '10.0.0.2'",
        ),
    ] {
        let error = text.parse::<Table>().map(|_| ()).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

/// The edit is small: one rule in a thousand, one element in a thousand.
#[test]
fn one_change_is_one_edit() {
    let rules: Vec<String> = (0..1000)
        .map(|port| format!("\ttcp dport {port} accept\n"))
        .collect();
    let elements: Vec<String> = (0..1000)
        .map(|n| format!("10.0.{}.{}", n >> 8, n & 255))
        .collect();
    let text = |rules: &[String], elements: &[String]| {
        let elements = elements.join(", ");
        format!(
            "set hosts {{\n\ttype ipv4_addr\n\tsize 2000\n\telements = {{ {elements} }}\n}}\nchain main {{\n\tpolicy drop\n{}}}\n",
            rules.concat()
        )
    };
    let mut filter = Filter::new("filter", 2_000, 1, Policy::Accept);
    let old: Table = text(&rules, &elements).parse().expect("a table");
    let _ = filter.commit(filter.diff(&old)).expect("room");
    assert_eq!(filter.table().to_string(), text(&rules, &elements));

    let (mut rules, mut elements) = (rules, elements);
    rules[500] = "\ttcp dport 7000 drop\n".into();
    elements.remove(3);
    let new: Table = text(&rules, &elements).parse().expect("a table");
    let edits = filter.diff(&new);
    assert_eq!(
        edits.to_string(),
        "delete rule handle 500\ndelete element hosts { 10.0.0.3 }\ninsert rule handle 501 tcp dport 7000 drop\n"
    );
    let (_, change) = filter.commit(edits).expect("room");
    let boxes: Vec<String> = change
        .regions()
        .iter()
        .map(|(_, r)| r.pattern.to_string())
        .collect();
    assert_eq!(
        boxes,
        ["proto tcp dport 500", "proto tcp dport 7000"],
        "no rule reads the set"
    );
}

#[test]
fn every_rule_of_the_stories_stands_in_a_table() {
    let rules = RULES.iter().chain(CHAIN_RULES);
    let lines: Vec<String> = rules.map(|rule| format!("  {rule}\n")).collect();
    let text = format!("chain main {{\n{}}}\n", lines.concat());
    let table: Table = text.parse().expect("a table");
    assert_eq!(table.to_string().parse(), Ok(table.clone()));
    assert_eq!(table.chains[&name("main")].len(), lines.len());
}

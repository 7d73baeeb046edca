//! What the RFCs ask of a translator, a test for each requirement that is met; the manual's chapter on translation has the
//! rows, and is read here.

mod rfc4787;
mod rfc5382;
mod rfc5508;
mod rfc6888;
mod rfc7857;

use std::collections::BTreeSet;

use gufc::hooks::conntrack::{Config, TimeoutClass, Timeouts};
use gufc::hooks::filter::{Policy, parse_rules};
use gufc::hooks::nat::{Allocation, Filtering, PoolConfig, PoolError, PoolId};
use gufc::key::{FlowKey, Ports};
use gufc::packet::{Interface, Packet, TcpFlags};
use gufc::testing::nat::{Gateway, error, packet};
use gufc::verdict::{Answer, Verdict};
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{ANSWER_MAX, Arrival, Frame, Notice};

use super::world::{IN, OUT, POOL, Play, end, gateway, ip, key, plain, pool, secs, with};

fn wide() -> PoolConfig {
    pool(1024, 65_535)
}

fn mapped() -> Gateway {
    gateway(POOL, &[wide()])
}

/// Every packet of these leaves by the same end, whoever it goes to.
fn is_endpoint_independent(protocol: &str, type_and_id: &str) {
    let mut gateway = mapped();
    let mut seen = BTreeSet::new();
    for peer in 1..20 {
        let text = match protocol {
            "icmp" => format!("icmp 10.0.0.1 > 198.51.100.{peer} {type_and_id}"),
            _ => format!(
                "{protocol} 10.0.0.1:4000 > 198.51.100.{peer}:{}",
                50 + peer % 3
            ),
        };
        seen.insert(gateway.source(&text));
    }
    assert_eq!(seen.len(), 1);
}

/// The chapter has a row for each requirement, and each test that a row names is one.
#[test]
fn the_manual_names_tests_that_exist() {
    let page = include_str!("../../../src/manual/nat.md");
    let sources = [
        ("rfc", include_str!("mod.rs")),
        ("rfc::rfc4787", include_str!("rfc4787.rs")),
        ("rfc::rfc5382", include_str!("rfc5382.rs")),
        ("rfc::rfc5508", include_str!("rfc5508.rs")),
        ("rfc::rfc6888", include_str!("rfc6888.rs")),
        ("rfc::rfc7857", include_str!("rfc7857.rs")),
        ("kinds", include_str!("../kinds.rs")),
        ("pools", include_str!("../pools.rs")),
        ("mappings", include_str!("../mappings.rs")),
        ("story", include_str!("../story.rs")),
        ("ftp64", include_str!("../ftp64.rs")),
        ("ftp64_stacks", include_str!("../ftp64_stacks.rs")),
        ("nat64", include_str!("../nat64.rs")),
        ("nat64_fragments", include_str!("../nat64_fragments.rs")),
        (
            "wire::translating",
            include_str!("../../wire/translating.rs"),
        ),
        (
            "conntrack::fragments",
            include_str!("../../conntrack/fragments.rs"),
        ),
        (
            "conntrack::stacks",
            include_str!("../../conntrack/stacks.rs"),
        ),
    ];
    let (mut named, mut rows) = (BTreeSet::new(), 0);
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let is_row =
            line.contains("| met |") || line.contains("| not ours |") || line.contains("| no |");
        rows += usize::from(is_row);
        let is_test = |word: &&str| {
            sources
                .iter()
                .any(|(own, _)| word.starts_with(&format!("{own}::")))
        };
        let tests: Vec<&str> = line.split('`').filter(is_test).collect();
        assert!(
            !line.contains("| met |") || !tests.is_empty(),
            "no test: {line}"
        );
        for test in tests {
            let (module, name) = test.rsplit_once("::").expect("a path");
            let source = sources.iter().find(|(own, _)| *own == module);
            let (_, source) = source.unwrap_or_else(|| panic!("{test}: no such module"));
            assert!(
                source.contains(&format!("fn {name}(")),
                "{test} does not exist"
            );
            named.insert(test.to_string());
        }
    }
    assert!(rows >= 100, "{rows} rows");
    // And every requirement's test is named there.
    for (module, source) in sources.iter().filter(|(own, _)| own.starts_with("rfc::")) {
        let tests = source.lines().filter_map(|line| line.strip_prefix("fn "));
        let names = tests.filter_map(|line| line.split('(').next());
        for name in names.filter(|name| name.starts_with("req_") || name.starts_with("sec_")) {
            assert!(
                named.contains(&format!("{module}::{name}")),
                "{module}::{name} is in no row"
            );
        }
    }
}

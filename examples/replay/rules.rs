//! Rule sets: from a file, or the thousand that come with the example.

use std::fmt::Write;
use std::path::Path;

use gufc::hooks::filter::{Rule, parse_rules};

/// Reads a rule file.
pub(crate) fn read(path: &Path) -> Result<Vec<Rule>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|why| format!("{name}: {why}"))?;
    parse_rules(&text, |_| None).map_err(|why| format!("{name}: {why}"))
}

/// A policy for the network of the embedded capture, as such sets grow: a few rules that matter, and hundreds of old ones
/// before them that no packet matches any more. With a tracker it begins with what it says.
pub(crate) fn thousand(stateful: bool) -> Vec<Rule> {
    parse_rules(&text(stateful), |_| None).unwrap_or_default()
}

/// The thousand as text.
fn text(stateful: bool) -> String {
    let mut text = String::new();
    if stateful {
        text.push_str("ct state established,related accept\nct state invalid drop\n");
    }
    text.push_str(
        "tcp flags syn / syn,ack log continue comment \"openings\"\n\
         meta length 1401-65535 ip6 daddr fd00::/8 continue comment \"large, inwards\"\n\
         ip saddr != 10.0.0.0/8 ip daddr 10.0.0.0/8 tcp flags syn / syn,ack drop comment \"nobody opens inwards\"\n\
         icmp type redirect drop\n\
         icmpv6 type nd-redirect drop\n",
    );
    let last = [
        "ip daddr 198.51.100.16/28 udp dport 53 meta mark set 0x35 accept",
        "ip saddr 10.20.0.0/16 tcp dport 1-1023 tcp dport != 80 reject with tcp reset comment \"guests browse\"",
        "udp dport 53 accept",
        "udp sport 53 accept",
        "meta l4proto tcp accept",
        "meta l4proto udp accept",
        "meta l4proto icmp accept",
        "meta l4proto icmpv6 accept",
        "meta l4proto gre accept",
        "reject with admin-prohibited",
    ];
    let mut lines = text.lines().count() + last.len();
    let mut number = 0_u32;
    while lines < 1_000 {
        // Documentation and private ranges that the capture does not use: what a policy is left with after years.
        let [a, b] = [number % 250, number / 250];
        let port = 1_024 + number * 7;
        let _ = match number % 4 {
            0 => writeln!(text, "ip daddr 203.0.113.{a} tcp dport {port} accept"),
            1 => writeln!(
                text,
                "ip saddr 10.99.{a}.0/24 ip daddr 172.16.{b}.0/24 drop"
            ),
            2 => writeln!(text, "ip6 saddr fd99:{a:x}::/32 udp dport {port} drop"),
            _ => writeln!(
                text,
                "ip saddr 192.168.{a}.0/24 udp dport {port}-{} accept",
                port + 5
            ),
        };
        number += 1;
        lines += 1;
    }
    for line in last {
        text.push_str(line);
        text.push('\n');
    }
    text
}

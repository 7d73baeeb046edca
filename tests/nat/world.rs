//! A gateway for stories that a reader can check by eye: 10.0.0.0/24 and fd00::/64 behind interface 1, everything else behind 2.

use core::net::IpAddr;

use gufc::hooks::conntrack::{Config, Timeouts};
use gufc::hooks::nat::PoolConfig;
use gufc::key::{Endpoint, FlowKey, Ports, Tuple};
use gufc::packet::TcpFlags;
use gufc::testing::nat::{Gateway, Sent, error, packet, surroundings};
use gufc::time::Duration;

pub(super) const IN: u32 = 1;
pub(super) const OUT: u32 = 2;

pub(super) fn key(text: &str) -> Tuple {
    text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
}

pub(super) fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().expect("an end");
    Endpoint::new(end.ip(), end.port())
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Lifetimes as the RFCs want them.
pub(super) fn rfc() -> Config {
    let mut config = Config::new(4096, [1, 2]);
    config.timeouts = vec![Timeouts::RFC];
    config
}

pub(super) fn gateway(rules: &str, pools: &[PoolConfig]) -> Gateway {
    with(&rfc(), rules, pools)
}

pub(super) fn with(config: &Config, rules: &str, pools: &[PoolConfig]) -> Gateway {
    Gateway::new(config, surroundings(), 1024, pools, rules).expect("a gateway")
}

/// One address, these ports.
pub(super) fn pool(first: u16, last: u16) -> PoolConfig {
    PoolConfig {
        ports: Ports { first, last },
        inside: vec!["10.0.0.0/24".parse().expect("a prefix")],
        ..PoolConfig::new(vec![ip("203.0.113.8")])
    }
}

/// Rules for those pools.
pub(super) const POOL: &str = "ip saddr 10.0.0.0/24 oif 2 snat to pool 0";

pub(super) trait Play {
    /// What leaves, of a packet with this key.
    fn try_send(&mut self, ingress: u32, text: &str) -> Option<Sent>;
    fn try_tcp(&mut self, ingress: u32, key: &Tuple, flags: TcpFlags) -> Option<Sent>;
    /// What leaves of the answer to what has left.
    fn answer(&mut self, sent: &Sent) -> Option<Sent>;
    /// An error from `router` about what has left.
    fn complain(&mut self, router: &str, sent: &Sent) -> Option<Sent>;

    fn wire(&mut self, ingress: u32, text: &str) -> Sent {
        self.try_send(ingress, text)
            .unwrap_or_else(|| panic!("{text} was dropped"))
    }

    /// The source that a packet leaves with.
    fn source(&mut self, text: &str) -> Endpoint {
        self.wire(IN, text).key.source()
    }
}

impl Play for Gateway {
    fn try_send(&mut self, ingress: u32, text: &str) -> Option<Sent> {
        let sent = self.send(ingress, &packet(&key(text), TcpFlags::SYN, b"payload"));
        let sent = sent.unwrap_or_else(|what| panic!("{text}: {what}"));
        self.check().unwrap_or_else(|what| panic!("{text}: {what}"));
        sent
    }

    fn try_tcp(&mut self, ingress: u32, key: &Tuple, flags: TcpFlags) -> Option<Sent> {
        let sent = self.send(ingress, &packet(key, flags, b""));
        let sent = sent.unwrap_or_else(|what| panic!("{key}: {what}"));
        self.check().unwrap_or_else(|what| panic!("{key}: {what}"));
        sent
    }

    fn answer(&mut self, sent: &Sent) -> Option<Sent> {
        let back = sent
            .key
            .inverse()
            .expect("an answer")
            .at(Default::default());
        let flags = TcpFlags::SYN.union(TcpFlags::ACK);
        let got = self.send(sent.egress.unwrap_or(OUT), &packet(&back, flags, b"answer"));
        self.check().expect("sound");
        got.unwrap_or_else(|what| panic!("{back}: {what}"))
    }

    fn complain(&mut self, router: &str, sent: &Sent) -> Option<Sent> {
        let bytes = error(ip(router), sent.key.source().address, &sent.bytes);
        let got = self.send(sent.egress.unwrap_or(OUT), &bytes);
        self.check().expect("sound");
        got.unwrap_or_else(|what| panic!("{what}"))
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The key without what only this machine knows.
pub(super) fn plain(sent: &Sent) -> String {
    sent.key.at(Default::default()).to_string()
}

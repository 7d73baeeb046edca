//! Which packets stay on the fast path, by what they are to their connection.

use gufc::hooks::conntrack::{Conntrack, Status, TcpPhase};
use gufc::key::{FlowKey, Protocol, Tuple};
use gufc::packet::{Packet, TcpFlags};
use gufc::time::Instant;
use gufc::verdict::Path;

/// What a packet is to its connection, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    First,
    FirstReply,
    Decides,
    Handshake,
    Open,
    Closing,
    TwoWay,
    OneWay,
    Other,
}

impl Stage {
    const ALL: [(Self, &'static str); 9] = [
        (Self::First, "first packet of a flow"),
        (Self::FirstReply, "first reply"),
        (Self::Decides, "TCP with SYN, FIN or RST"),
        (Self::Handshake, "TCP, ends the handshake"),
        (Self::Open, "TCP, open"),
        (Self::Closing, "TCP, after the first FIN"),
        (Self::TwoWay, "other protocols, answered"),
        (Self::OneWay, "unanswered, later ones"),
        (Self::Other, "errors, fragments, untracked"),
    ];

    /// What the packet is to the tracker.
    pub(crate) fn of<P: Packet<Key = Tuple>>(
        packet: &P,
        tracker: Option<&Conntrack<Tuple>>,
        now: Instant,
    ) -> Self {
        const DECIDES: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0;
        let key = packet.key();
        if packet.fragment().is_part() || packet.quoted().is_some() {
            return Self::Other;
        }
        if key.protocol() == Protocol::TCP && packet.tcp_flags().0 & DECIDES != 0 {
            return Self::Decides;
        }
        let found = tracker.and_then(|tracker| {
            let (id, _) = tracker.find(&key, now)?;
            tracker.connection(id)
        });
        let Some(connection) = found else {
            return Self::Other;
        };
        match connection.tcp_phase() {
            _ if !connection.status().contains(Status::SEEN_REPLY) => Self::OneWay,
            None => Self::TwoWay,
            Some(TcpPhase::Established) => Self::Open,
            Some(phase) if phase.is_closing() => Self::Closing,
            Some(_) => Self::Handshake,
        }
    }
}

/// Packets, and those of them that stayed on the fast path, by stage.
#[derive(Clone, Default)]
pub(crate) struct Stages([(u64, u64); Stage::ALL.len()]);

impl Stages {
    pub(crate) fn count(&mut self, stage: Stage, path: Path) {
        let stage = match path {
            Path::Miss => Stage::First,
            Path::FirstReply => Stage::FirstReply,
            _ => stage,
        };
        let (packets, fast) = &mut self.0[stage as usize];
        *packets += 1;
        *fast += u64::from(path.is_cached());
    }

    /// Each stage that a packet was in: its name, packets, and those on the fast path.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let counted = |(stage, name): (Stage, _)| {
            let (packets, fast) = self.0[stage as usize];
            (name, packets, fast)
        };
        Stage::ALL
            .into_iter()
            .map(counted)
            .filter(|(_, packets, _)| *packets > 0)
    }

    /// Packets of connections that have been answered, besides those that begin or end something; and how many were fast.
    pub(crate) fn established(&self) -> (u64, u64) {
        [Stage::Handshake, Stage::Open, Stage::Closing, Stage::TwoWay]
            .iter()
            .map(|stage| self.0[*stage as usize])
            .fold((0, 0), |(a, b), (packets, fast)| (a + packets, b + fast))
    }
}

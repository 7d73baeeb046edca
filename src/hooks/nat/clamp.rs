//! The segment size that a path allows, written into the SYNs that pass: for links that are narrower than their ends know.
//!
//! Apart because it needs no connection: a hook of its own, whose step is the whole of it.

use alloc::collections::BTreeMap;
use core::fmt;

use crate::hook::{Context, Hook, Interests, Judge, Judgement, Recheck, Stage, Stages};
use crate::interest::Trigger;
use crate::key::{Family, FlowKey, Protocol};
use crate::packet::{Interface, Packet};
use crate::verdict::Verdict;

/// Lowers the maximum segment size option (RFC 9293 section 3.7.1) of SYN and SYN/ACK segments to what the interfaces that
/// they come and leave by let through: MTU less 40 bytes, or 60 for IPv6. It never raises one, and adds none.
///
/// ```
/// use gufc::hooks::nat::Clamp;
/// use gufc::packet::Interface;
///
/// let mut clamp = Clamp::new();
/// clamp.set_mtu(Interface(2), Some(1492));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clamp {
    mtus: BTreeMap<Interface, u16>,
}

impl Clamp {
    /// Without a limit on any interface.
    pub const fn new() -> Self {
        Self {
            mtus: BTreeMap::new(),
        }
    }

    /// Says what an interface lets through; `None`: anything. Segments from now on are held to it, cached flows' too.
    pub fn set_mtu(&mut self, interface: Interface, mtu: Option<u16>) {
        match mtu {
            Some(mtu) => self.mtus.insert(interface, mtu),
            None => self.mtus.remove(&interface),
        };
    }

    fn limit(&self, interfaces: [Option<Interface>; 2], family: Family) -> Option<u16> {
        let mtus = interfaces.into_iter().flatten();
        let mtu = mtus.filter_map(|one| self.mtus.get(&one)).min()?;
        Some(mtu.saturating_sub(match family {
            Family::V4 => 40,
            Family::V6 => 60,
        }))
    }
}

impl Hook for Clamp {
    type Step = ();

    fn name(&self) -> &'static str {
        "clamp"
    }

    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Source)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::Ask
    }

    fn describe(&self, (): &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lower the segment size of SYNs")
    }
}

impl<P: Packet> Judge<P> for Clamp {
    fn have_interest(&self, flow: &P::Key) -> Option<Trigger> {
        (flow.protocol() == Protocol::TCP).then_some(Trigger::NONE)
    }

    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        *step = Some(());
        self.run(stage, &(), packet, context);
        Judgement::Continue
    }

    #[inline]
    fn run(&mut self, _: Stage, (): &(), packet: &mut P, context: &mut Context) -> Option<Verdict> {
        if packet.tcp_flags().intersects(crate::packet::TcpFlags::SYN) {
            let egress = context.egress.map(|egress| egress.interface);
            let family = packet.key().fields().family;
            if let Some(mss) = self.limit([Some(packet.ingress()), egress], family) {
                packet.clamp_mss(mss);
            }
        }
        None
    }

    fn recheck(&mut self, _: Option<&()>, _: &P::Key) -> Recheck<()> {
        Recheck::Keep
    }
}

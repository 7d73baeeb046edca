//! Small hooks that between them use every part of the contract: state, triggers, rewriting, refusal, time.

use alloc::collections::BTreeMap;
use core::convert::Infallible;

use crate::epoch::{Change, View};
use crate::hook::{
    Caching, Class, Context, Direction, Hook, Interests, Judge, Judgement, Recheck, Stage, Stages,
    Tally, Track,
};
use crate::interest::{InterestIndex, Trigger};
use crate::key::{Cidr, Endpoint, FlowKey, Pattern, Protocol, Tuple};
use crate::packet::{Packet, Rewrite, TcpFlags};
use crate::time::{Duration, Instant};
use crate::verdict::{By, Verdict};

/// A tracker of sorts: remembers connections by itself, whatever is cached; wants SYN, FIN and RST; a RST forgets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToyTracker {
    connections: BTreeMap<Tuple, (bool, u64)>,
    /// Drop packets of unknown connections that are not openings.
    pub strict: bool,
}

impl ToyTracker {
    /// Adds what another tracker remembers; false if both remember the same connection.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.connections.len();
        self.connections.extend(other.connections.clone());
        self.connections.len() == before + other.connections.len()
    }

    fn find(&self, key: &Tuple) -> Option<(Tuple, Direction)> {
        if self.connections.contains_key(key) {
            return Some((*key, Direction::Original));
        }
        let inverse = key.inverse()?;
        self.connections
            .contains_key(&inverse)
            .then_some((inverse, Direction::Reply))
    }

    /// What it says of packets of a connection that has had replies, but for the mark.
    const fn replied(direction: Direction) -> Track {
        Track {
            class: Class::Established,
            direction: Some(direction),
            status: 1 << 1,
            mark: 0,
            connection: 0,
        }
    }

    fn pass(&mut self, original: &Tuple, direction: Direction, context: &mut Context) {
        let (replied, packets) = self.connections.entry(*original).or_default();
        *packets += 1;
        *replied |= direction == Direction::Reply;
        context.track = Some(Track {
            class: if *replied {
                Class::Established
            } else {
                Class::New
            },
            direction: Some(direction),
            // Bit 1: there have been replies.
            status: u16::from(*replied) << 1,
            mark: (*packets % 2) as u32,
            connection: 0,
        });
    }
}

impl Hook for ToyTracker {
    type Step = (Tuple, Direction);

    fn name(&self) -> &'static str {
        "tracker"
    }
    fn stages(&self) -> Stages {
        Stages::of(Stage::Track)
    }

    /// What it remembers of a packet is that it came; what it says of packets differs by the mark alone, and who reads that
    /// may not be offloaded.
    fn may_offload(&self, step: &Self::Step, context: &mut Context) -> bool {
        context.track = Some(Self::replied(step.1));
        let (original, _) = step;
        self.connections
            .get(original)
            .is_some_and(|(replied, _)| *replied)
    }

    fn credit(&mut self, step: &Self::Step, tally: &Tally, context: &mut Context) {
        context.track = Some(Self::replied(step.1));
        let (original, _) = step;
        if let Some((_, count)) = self.connections.get_mut(original) {
            *count += tally.packets;
        }
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for ToyTracker {
    fn have_interest(&self, flow: &Tuple) -> Option<Trigger> {
        match flow.protocol() {
            Protocol::TCP => Some(Trigger::tcp(Trigger::SYN | Trigger::FIN | Trigger::RST)),
            Protocol::UDP => Some(Trigger::NONE),
            _ => None,
        }
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Self::Step>,
    ) -> Judgement {
        let found = self.find(&packet.key());
        if packet.tcp_flags().intersects(TcpFlags::RST) {
            if let Some((original, _)) = found {
                self.connections.remove(&original);
            }
        }
        let invalid = packet.tcp_flags().intersects(TcpFlags::RST)
            || found.is_none()
                && self.strict
                && packet.key().protocol() == Protocol::TCP
                && !packet.tcp_flags().intersects(TcpFlags::SYN);
        if invalid {
            *step = None;
            context.track = Some(Track {
                class: Class::Invalid,
                direction: None,
                status: 0,
                mark: 0,
                connection: 0,
            });
            context.caching.forbid(Caching::SlowPath);
            return Judgement::Continue;
        }
        let (original, direction) = found.unwrap_or((packet.key(), Direction::Original));
        self.pass(&original, direction, context);
        *step = Some((original, direction));
        Judgement::Continue
    }

    fn fits(&self, (original, _): &Self::Step, _: &P, _: &Context) -> bool {
        self.connections.contains_key(original)
    }

    fn run(
        &mut self,
        _: Stage,
        (original, direction): &Self::Step,
        _: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        self.pass(original, *direction, context);
        None
    }
}

/// One address for another, both ways and without state: what arrives for `public` goes to `private`, what `private` sends
/// leaves as `public`. Can be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToyNat {
    /// The address outside, and the one inside.
    pub map: Option<(core::net::IpAddr, core::net::IpAddr)>,
}

impl ToyNat {
    /// Maps other addresses, or none.
    pub fn set(
        &mut self,
        map: Option<(core::net::IpAddr, core::net::IpAddr)>,
    ) -> Result<((), Change), Infallible> {
        let mut change = Change::nothing();
        for (public, private) in [self.map, map].into_iter().flatten() {
            let arrives = Pattern {
                destination: Some(Cidr::host(public)),
                ..Pattern::ANY
            };
            let leaves = Pattern {
                source: Some(Cidr::host(private)),
                ..Pattern::ANY
            };
            change =
                change
                    .touches("nat", View::Arrived, arrives)
                    .touches("nat", View::Arrived, leaves);
        }
        self.map = map;
        Ok(((), change))
    }
}

/// The two halves of a translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    destination: Option<Rewrite<Tuple>>,
    source: Option<Rewrite<Tuple>>,
}

impl Hook for ToyNat {
    type Step = Translation;

    fn name(&self) -> &'static str {
        "nat"
    }
    fn stages(&self) -> Stages {
        Stages::of(Stage::Destination).and(Stage::Source)
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for ToyNat {
    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        _: &mut Context,
        step: &mut Option<Translation>,
    ) -> Judgement {
        let from = packet.key();
        let [source, destination] = [from.source(), from.destination()];
        let to = match (stage, self.map) {
            (Stage::Destination, Some((public, private))) if destination.address == public => from
                .with(
                    source,
                    Endpoint {
                        address: private,
                        ..destination
                    },
                ),
            (Stage::Source, Some((public, private))) if source.address == private => from.with(
                Endpoint {
                    address: public,
                    ..source
                },
                destination,
            ),
            _ => None,
        };
        let rewrite = to.map(|to| Rewrite::between(&from, &to));
        if let Some(rewrite) = &rewrite {
            packet.rewrite(rewrite);
        }
        match stage {
            Stage::Destination => {
                *step = Some(Translation {
                    destination: rewrite,
                    source: None,
                })
            }
            _ => step.get_or_insert_default().source = rewrite,
        }
        Judgement::Continue
    }

    fn run(
        &mut self,
        stage: Stage,
        step: &Translation,
        packet: &mut P,
        _: &mut Context,
    ) -> Option<Verdict> {
        let rewrite = if stage == Stage::Destination {
            step.destination
        } else {
            step.source
        };
        if let Some(rewrite) = &rewrite {
            packet.rewrite(rewrite);
        }
        None
    }

    fn recheck(&mut self, _: Option<&Translation>, _: &Tuple) -> Recheck<Translation> {
        Recheck::JudgeAll
    }
}

/// Marks flows that its list of interests has, whichever way it makes them known; shown SYNs. Both ways must come to the
/// same.
#[derive(Debug)]
pub struct ToyMarker {
    interests: InterestIndex<Trigger>,
    listed: bool,
    /// SYNs shown.
    pub shown: u64,
}

impl ToyMarker {
    /// Interested in one pattern, made known by a list or by answering.
    pub fn new(pattern: Pattern, listed: bool) -> Self {
        let mut interests = InterestIndex::new(8, 0);
        let _ = interests.insert(pattern, 0, Trigger::tcp(Trigger::SYN));
        Self {
            interests,
            listed,
            shown: 0,
        }
    }
}

impl Hook for ToyMarker {
    type Step = ();

    fn name(&self) -> &'static str {
        "marker"
    }
    fn may_offload(&self, (): &(), _: &mut Context) -> bool {
        true
    }
    fn interests(&self) -> Interests<'_> {
        if self.listed {
            Interests::Listed(&self.interests)
        } else {
            Interests::Ask
        }
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for ToyMarker {
    fn have_interest(&self, flow: &Tuple) -> Option<Trigger> {
        self.interests
            .first(&flow.fields())
            .and_then(|found| self.interests.get(found.id))
            .copied()
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        self.shown += u64::from(packet.tcp_flags().intersects(TcpFlags::SYN));
        context.mark |= 0x100;
        *step = Some(());
        Judgement::Continue
    }

    fn run(&mut self, _: Stage, (): &(), _: &mut P, context: &mut Context) -> Option<Verdict> {
        context.mark |= 0x100;
        None
    }
}

/// Drops what is over a number of packets in each flow and period. Its state is by flow and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToyMeter {
    /// Packets a flow may send in a period.
    pub most: u64,
    /// The period.
    pub period: Duration,
    flows: BTreeMap<Tuple, (Instant, u64)>,
}

impl ToyMeter {
    /// `most` packets a flow in each `period`.
    pub fn new(most: u64, period: Duration) -> Self {
        Self {
            most,
            period,
            flows: BTreeMap::new(),
        }
    }

    fn admit(&mut self, flow: Tuple, context: &mut Context) -> Option<Verdict> {
        let (start, packets) = self.flows.entry(flow).or_insert((context.now, 0));
        if context.now - *start >= self.period {
            (*start, *packets) = (context.now, 0);
        }
        *packets += 1;
        if *packets <= self.most {
            return None;
        }
        context.by = By {
            hook: "meter",
            rule: None,
        };
        Some(Verdict::Drop)
    }
}

impl Hook for ToyMeter {
    type Step = Tuple;

    fn name(&self) -> &'static str {
        "meter"
    }
    fn stages(&self) -> Stages {
        Stages::of(Stage::Source)
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for ToyMeter {
    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Tuple>,
    ) -> Judgement {
        let flow = packet.key();
        *step = Some(flow);
        match self.admit(flow, context) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: false,
            },
        }
    }

    fn run(&mut self, _: Stage, flow: &Tuple, _: &mut P, context: &mut Context) -> Option<Verdict> {
        self.admit(*flow, context)
    }
}

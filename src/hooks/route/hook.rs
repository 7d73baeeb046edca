//! What routing does with packets: finds the next hop, leads there, and says how far an answer reaches.

use core::fmt;

use super::{NAME, NextHopId, Routes, Step, Target, group};
use crate::hook::{
    Context, Hook, Interests, Judge, Judgement, Reach, Recheck, Rejudged, Stage, Stages,
};
use crate::interest::Trigger;
use crate::key::{Fields, FlowKey, Pattern, Span};
use crate::packet::{Interface, Origin, Packet};
use crate::verdict::{By, Egress, Verdict};

impl Routes {
    /// What becomes of packets to the destination of `flow`; `None` for those to this machine.
    fn step<K: FlowKey>(&self, flow: &K) -> Option<Step> {
        let fields = flow.fields();
        if fields.locality.destination {
            return None;
        }
        let address = fields.family.address(fields.destination);
        let found = self.table_of(fields.zone).longest(address);
        Some(match found {
            Some((_, Target::Via(id))) => Step::Via(id),
            Some((_, Target::Group(id))) => {
                let bucket = group::bucket(&fields, self.options.seed, self.options.spread_ports);
                Step::Bucket(id, bucket)
            }
            Some((_, Target::Blackhole)) => Step::Blackhole,
            Some((_, Target::Unreachable(answer))) => Step::Unreachable(answer),
            None => match self.options.no_route {
                Some(answer) => Step::Unreachable(answer),
                None => Step::Blackhole,
            },
        })
    }

    /// The next hop that a step leads to now.
    fn leads_to(&self, step: Step) -> Option<NextHopId> {
        match step {
            Step::Via(id) => Some(id),
            Step::Bucket(id, bucket) => Some(self.groups.get(id.0 as usize)?.at(bucket)),
            _ => None,
        }
    }

    /// Does a step's work on a packet that [`fits`](Judge::fits).
    #[inline]
    fn apply<P: Packet>(
        &self,
        step: Step,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        if let Some(id) = self.leads_to(step) {
            let interface = self.next_hop(id).map_or(Interface(0), |hop| hop.interface);
            context.egress = Some(Egress {
                interface,
                next_hop: id.0,
            });
            if self.decrements(packet) {
                packet.set_hop_limit(packet.hop_limit().saturating_sub(1));
            }
            return None;
        }
        context.by = By {
            hook: NAME,
            rule: None,
        };
        Some(match step {
            Step::Unreachable(answer) => Verdict::Reject(answer),
            _ => Verdict::Drop,
        })
    }

    /// Whether a packet that is sent on loses a hop.
    fn decrements<P: Packet>(&self, packet: &P) -> bool {
        self.options.decrement && packet.origin() == Origin::Received
    }

    /// Whether a packet has come as far as it may.
    fn is_spent<P: Packet>(&self, step: Step, packet: &P) -> bool {
        self.decrements(packet) && packet.hop_limit() <= 1 && self.leads_to(step).is_some()
    }
}

impl Hook for Routes {
    type Step = Step;

    fn name(&self) -> &'static str {
        NAME
    }

    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Route)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::All(Trigger::NONE)
    }

    fn may_rekey(&self) -> bool {
        false
    }

    /// What leads to a next hop, unless hops are counted. Whoever forwards in our place sends to the next hop of the outcome by its number and reads its
    /// cell as it is then, for moving a next hop touches no flow.
    fn may_offload(&self, step: &Step, _: &mut Context) -> bool {
        !self.options.decrement && self.leads_to(*step).is_some()
    }

    /// As far as no other route begins; but flows that a group spreads go apart.
    fn reach(&self, flow: &Fields, step: Option<&Step>, span: &mut Span) -> Reach {
        let Some(step) = step else {
            return Reach::Passes;
        };
        if matches!(step, Step::Bucket(..)) {
            return Reach::Never;
        }
        let alike = self
            .table_of(flow.zone)
            .alike(flow.family, flow.destination);
        span.confine(&Pattern {
            destination: Some(alike),
            ..Pattern::ANY
        });
        match self.leads_to(*step) {
            Some(_) => Reach::Passes,
            None => Reach::Ends,
        }
    }

    fn describe(&self, step: &Step, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Step::Bucket(id, bucket) = step {
            write!(f, "group {} bucket {bucket}, ", id.0)?;
        }
        match (step, self.leads_to(*step)) {
            (_, Some(id)) => {
                let hop = self.next_hop(id).copied().unwrap_or_default();
                write!(f, "next hop {} on interface {}", id.0, hop.interface.0)
            }
            (Step::Unreachable(answer), None) => write!(f, "unreachable, {answer}"),
            _ => f.write_str("blackhole"),
        }
    }
}

impl<P: Packet> Judge<P> for Routes {
    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Step>,
    ) -> Judgement {
        *step = self.step(&packet.key());
        let Some(taken) = *step else {
            return Judgement::Continue;
        };
        if self.is_spent(taken, packet) {
            // This packet's fault, not its flow's.
            context.by = By {
                hook: NAME,
                rule: None,
            };
            return Judgement::Finish {
                verdict: Verdict::Drop,
                constant: false,
            };
        }
        match self.apply(taken, packet, context) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: true,
            },
        }
    }

    #[inline]
    fn fits(&self, step: &Step, packet: &P, _: &Context) -> bool {
        !self.is_spent(*step, packet)
    }

    #[inline]
    fn run(
        &mut self,
        _: Stage,
        step: &Step,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        self.apply(*step, packet, context)
    }

    fn rejudge(&self, _: Stage, packet: &P, _: &Context, step: Option<&Step>) -> Option<Rejudged> {
        let now = self.step(&packet.key());
        let verdict = now.and_then(|now| match now {
            now if self.leads_to(now).is_some() => {
                self.is_spent(now, packet).then_some(Verdict::Drop)
            }
            Step::Unreachable(answer) => Some(Verdict::Reject(answer)),
            _ => Some(Verdict::Drop),
        });
        Some(Rejudged {
            keeps: now == step.copied(),
            verdict,
        })
    }

    fn recheck(&mut self, step: Option<&Step>, flow: &P::Key) -> Recheck<Step> {
        let new = self.step(flow);
        match (step, new) {
            (old, new) if old.copied() == new => Recheck::Keep,
            // Packets that ended here may pass now, and the hooks behind have not been asked.
            (Some(Step::Via(_) | Step::Bucket(..)) | None, _) => Recheck::Replace(new),
            _ => Recheck::Judge,
        }
    }
}

//! The translator as a hook: the tracker's step and, behind it, two constant rewrites.
//!
//! Apart because it is the only file here that knows of caches and pipelines.
//!
//! | packet | what happens |
//! |---|---|
//! | first of a connection | each end is decided on, then as all others |
//! | others of a connection | the ends are rewritten as its two tuples say: a constant |
//! | ICMP errors | the packet that they quote is rewritten the other way, then their own addresses |
//! | invalid, untracked | not translated |

use core::fmt;

use super::action::{Action, End, Range};
use super::{NAME, Nat, Opening, Refusal, Refused, is_decided, moved};
use crate::hook::{
    Caching, Class, Context, Direction, Hook, Judge, Judgement, Recheck, Rejudged, Stage, Stages,
    Tally,
};
use crate::hooks::conntrack::{ConnId, Conntrack, Help, Status, TrackStep, Trackable};
use crate::interest::Trigger;
use crate::key::{Family, Locality, Ports};
use crate::packet::{Interface, Packet, Rewrite};
use crate::time::Instant;
use crate::verdict::{By, Verdict};

/// What the translator leaves in a flow's destiny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatStep<K> {
    /// The tracker's part.
    pub track: TrackStep,
    /// The change of the destination; of both ends where packets change their family.
    pub destination: Option<Rewrite<K>>,
    /// The change of the source.
    pub source: Option<Rewrite<K>>,
    /// What packets have to leave by, or the connection ends.
    pub masqueraded: Option<Interface>,
    /// Whether packets change their family.
    pub crosses: bool,
}

impl<K: Trackable> Hook for Nat<K> {
    type Step = NatStep<K>;

    fn name(&self) -> &'static str {
        NAME
    }

    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Track)
            .and(Stage::Destination)
            .and(Stage::Source)
    }

    fn warm(&self, step: &NatStep<K>) -> u64 {
        self.tracker.warm(&step.track)
    }

    /// Two constant rewrites, behind what the tracker thinks; but where packets must leave by one interface each is looked at, and
    /// whoever forwards in our place does not change families.
    fn may_offload(&self, step: &NatStep<K>, context: &mut Context) -> bool {
        self.tracker.may_offload(&step.track, context)
            && step.masqueraded.is_none()
            && !step.crosses
    }

    fn lend(&mut self, step: &NatStep<K>) {
        Hook::lend(&mut self.tracker, &step.track);
    }

    fn take_back(&mut self, step: &NatStep<K>) {
        Hook::take_back(&mut self.tracker, &step.track);
    }

    fn credit(&mut self, step: &NatStep<K>, tally: &Tally, context: &mut Context) {
        Hook::credit(&mut self.tracker, &step.track, tally, context);
    }

    fn describe(&self, step: &NatStep<K>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tracker.describe(&step.track, f)?;
        if let (Some(rewrite), true) = (&step.destination, step.crosses) {
            let (source, destination) = (rewrite.to.source(), rewrite.to.destination());
            return write!(
                f,
                ", becomes [{}]:{} > [{}]:{}",
                source.address, source.port, destination.address, destination.port
            );
        }
        if let Some(rewrite) = &step.destination {
            let end = rewrite.to.destination();
            write!(f, ", destination becomes {}:{}", end.address, end.port)?;
        }
        if let Some(rewrite) = &step.source {
            let end = rewrite.to.source();
            write!(f, ", source becomes {}:{}", end.address, end.port)?;
        }
        Ok(())
    }
}

impl<K: Trackable, P: Packet<Key = K>> Judge<P> for Nat<K> {
    fn have_interest(&self, flow: &K) -> Option<Trigger> {
        <Conntrack<K> as Judge<P>>::have_interest(&self.tracker, flow)
    }

    fn warm_new(&self, flows: &[K]) -> u64 {
        Judge::<P>::warm_new(&self.tracker, flows)
    }

    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<NatStep<K>>,
    ) -> Judgement {
        self.now = context.now;
        let end = match stage {
            Stage::Destination => End::Destination,
            Stage::Source => End::Source,
            _ => {
                let mut track = step.as_ref().map(|step| step.track);
                let judgement = self.tracker.judge(stage, packet, context, &mut track);
                *step = track.map(|track| NatStep {
                    track,
                    destination: None,
                    source: None,
                    masqueraded: None,
                    crosses: false,
                });
                self.bury();
                return judgement;
            }
        };
        let Some(step) = step else {
            return Judgement::Continue;
        };
        let Some((id, direction, class)) = connection(context) else {
            return Judgement::Continue;
        };
        let crosses = self.crosses(id);
        if class == Class::Related && crosses && packet.key().protocol().is_icmp() {
            if end == End::Source {
                return Judgement::Continue;
            }
            if packet.quoted().is_some() {
                return match self.cross_error(packet, id, direction) {
                    None => Judgement::Continue,
                    Some(verdict) => finish(verdict, context),
                };
            }
        }
        if class == Class::Related && packet.key().protocol().is_icmp() && packet.quoted().is_some()
        {
            return if self.translate_error(end, packet, id, direction) {
                Judgement::Continue
            } else {
                self.counters.errors_dropped += 1;
                drop(context)
            };
        }
        if direction == Direction::Original {
            if let Err(refused) = self.open(end, packet, context, id) {
                return finish(self.refuse(refused), context);
            }
            // What the filter reads of it is as later packets will show it.
            if let (Some(track), Some(one)) = (&mut context.track, self.tracker.connection(id)) {
                track.status = one.status().0;
            }
        }
        let crosses = self.crosses(id);
        if crosses && end == End::Destination {
            let rewrite = self.crossing(&packet.key(), id, direction);
            (step.destination, step.crosses) = (rewrite, true);
            let refused = rewrite.and_then(|rewrite| self.cross(packet, &rewrite, None));
            return match refused {
                None => Judgement::Continue,
                Some(verdict) => finish(verdict, context),
            };
        }
        let masqueraded = self.sides.side(id).and_then(|side| side.masqueraded);
        if end == End::Source && direction == Direction::Original && !crosses {
            step.masqueraded = masqueraded;
            if self.has_moved(id, masqueraded, context) {
                return drop(context);
            }
        }
        if end == End::Source && !self.assist(packet, id, direction, context.now) {
            self.counters.unhelped += 1;
            return drop(context);
        }
        if crosses {
            return Judgement::Continue;
        }
        let rewrite = self.rewrite_of(&packet.key(), end, id, direction);
        if let Some(rewrite) = &rewrite {
            packet.rewrite(rewrite);
        }
        match end {
            End::Destination => step.destination = rewrite,
            End::Source => step.source = rewrite,
        }
        Judgement::Continue
    }

    #[inline]
    fn fits(&self, step: &NatStep<K>, packet: &P, context: &Context) -> bool {
        Judge::<P>::fits(&self.tracker, &step.track, packet, context)
    }

    #[inline]
    fn run(
        &mut self,
        stage: Stage,
        step: &NatStep<K>,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        match stage {
            Stage::Destination => {
                if let Some(rewrite) = &step.destination {
                    if step.crosses {
                        let verdict = self.cross(packet, rewrite, None)?;
                        context.by = By {
                            hook: NAME,
                            rule: None,
                        };
                        return Some(verdict);
                    }
                    packet.rewrite(rewrite);
                }
                None
            }
            Stage::Source => {
                if step.masqueraded.is_some() {
                    if let TrackStep::Connection(id, _) = step.track {
                        if self.has_moved(id, step.masqueraded, context) {
                            context.by = By {
                                hook: NAME,
                                rule: None,
                            };
                            return Some(Verdict::Drop);
                        }
                    }
                }
                if let Some(rewrite) = &step.source {
                    packet.rewrite(rewrite);
                }
                None
            }
            _ => {
                self.now = context.now;
                let verdict = self.tracker.run(stage, &step.track, packet, context);
                self.bury();
                verdict
            }
        }
    }

    fn rejudge(
        &self,
        stage: Stage,
        packet: &P,
        context: &Context,
        step: Option<&NatStep<K>>,
    ) -> Option<Rejudged> {
        let step = step?;
        let (end, rewrite) = match stage {
            Stage::Destination => (End::Destination, step.destination),
            Stage::Source => (End::Source, step.source),
            _ => {
                return self
                    .tracker
                    .rejudge(stage, packet, context, Some(&step.track));
            }
        };
        let TrackStep::Connection(id, direction) = step.track else {
            return None;
        };
        if step.crosses {
            let keeps = match end {
                End::Destination => self.crossing(&packet.key(), id, direction) == rewrite,
                End::Source => rewrite.is_none(),
            };
            // Whether the packet can be translated only translating it tells.
            let verdict = None;
            return Some(Rejudged { keeps, verdict });
        }
        let egress = context.egress.map(|egress| egress.interface);
        let bound = step.masqueraded.filter(|_| end == End::Source);
        let moved = bound.is_some() && egress.is_some() && bound != egress;
        Some(Rejudged {
            keeps: self.rewrite_of(&packet.key(), end, id, direction) == rewrite,
            verdict: moved.then_some(Verdict::Drop),
        })
    }

    fn recheck(&mut self, _: Option<&NatStep<K>>, _: &K) -> Recheck<NatStep<K>> {
        // Nothing of a connection is decided anew; one that an edit has ended makes its steps unfit.
        Recheck::Keep
    }

    fn settle(
        &mut self,
        packet: &P,
        context: &mut Context,
        verdict: Verdict,
        step: Option<&mut NatStep<K>>,
    ) -> Verdict {
        let track = step.map(|step| &mut step.track);
        let verdict = self.tracker.settle(packet, context, verdict, track);
        self.bury();
        verdict
    }
}

/// The packet's connection, if it has one.
fn connection(context: &Context) -> Option<(ConnId, Direction, Class)> {
    let track = context.track?;
    Some((
        ConnId::from_bits(track.connection),
        track.direction?,
        track.class,
    ))
}

fn drop(context: &mut Context) -> Judgement {
    finish(Verdict::Drop, context)
}

fn finish(verdict: Verdict, context: &mut Context) -> Judgement {
    context.by = By {
        hook: NAME,
        rule: None,
    };
    context.caching.forbid(Caching::Forbidden);
    Judgement::Finish {
        verdict,
        constant: false,
    }
}

impl<K: Trackable> Nat<K> {
    /// Lets the connection's helper read, and write, what a packet announces, and numbers the segment as its receiver counts.
    /// False where it must not pass.
    ///
    /// Connections with a helper or with shifted numbers never fit the window step, so every packet of them comes here.
    fn assist<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
        now: Instant,
    ) -> bool {
        let Some(status) = self.tracker.connection(id).map(|one| one.status()) else {
            return true;
        };
        if !status.intersects(Status::HELPER.union(Status::SEQ_ADJUST)) {
            return true;
        }
        let Self {
            tracker,
            dice,
            announced,
            sides,
            mappings,
            ..
        } = self;
        let draw = || dice.draw() as u16;
        let lend = |tracker: &Conntrack<K>, inside| {
            let master = tracker.connection(id)?;
            let control = sides.side(id)?.mappings[0]?;
            announced.lend(mappings, &master, control, inside, now)
        };
        let help = tracker.help_between(packet, id, direction, now, draw, lend);
        if let Help::Drop(_) = help {
            return false;
        }
        let Some(segment) = packet.segment() else {
            return true;
        };
        match self.tracker.adjusted(id, direction, &segment) {
            Some(adjusted) => packet.renumber(&adjusted),
            None => true,
        }
    }

    /// Decides on one end of a connection, unless that has been done.
    fn open<P: Packet<Key = K>>(
        &mut self,
        end: End,
        packet: &P,
        context: &mut Context,
        id: ConnId,
    ) -> Result<(), Refused> {
        let Some(status) = self.tracker.connection(id).map(|one| one.status()) else {
            return Ok(());
        };
        if status.contains(Status::CONFIRMED) {
            return Ok(());
        }
        if !status.contains(end.done()) {
            self.open_end(end, packet, context, id, status)?;
        }
        if end == End::Source {
            if self.is_clashing(id, context.now) {
                return Err(Refusal::Exhausted.into());
            }
            let status = self.tracker.connection(id).map(|one| one.status());
            let changed = Status::SRC_NAT.union(Status::DST_NAT);
            let translated = status.is_some_and(|status| status.intersects(changed));
            self.counters.translated += u64::from(translated);
        }
        Ok(())
    }

    fn open_end<P: Packet<Key = K>>(
        &mut self,
        end: End,
        packet: &P,
        context: &mut Context,
        id: ConnId,
        status: Status,
    ) -> Result<(), Refused> {
        let now = context.now;
        if status.contains(Status::EXPECTED) {
            if let Some(opened) = self.follow_across(id, now) {
                return opened;
            }
            if let Some(plan) = self.follow_master(id) {
                for (end, range) in plan {
                    self.decide(id, end, &range, true, now)?;
                }
                return Ok(());
            }
        }
        let opening = self.opening.take().filter(|opening| opening.id == id);
        if end == End::Destination {
            if let Some((mapping, range)) = self.mapped(&packet.key())? {
                if self.cross_in(id, mapping, now)? {
                    return Ok(());
                }
                self.decide(id, end, &range, true, now)?;
                self.opening = Some(Opening {
                    id,
                    rule: None,
                    mapping: Some(mapping),
                });
                return Ok(());
            }
        }
        // What is delivered here keeps its source, except from a clash.
        let delivered = end == End::Source && packet.key().fields().locality.destination;
        let turned = opening
            .filter(|_| end == End::Source)
            .and_then(|opening| opening.mapping)
            .and_then(|mapping| {
                self.mappings
                    .hairpin(mapping, packet.key().source().address)
            });
        let decided = if turned.is_some() || delivered {
            None
        } else {
            self.rules.decide(end, packet, context, &mut self.scratch)
        };
        if let Some((rule, Action::Nat64(pool))) = decided {
            context.by = By {
                hook: NAME,
                rule: Some(rule.0),
            };
            return self
                .cross_out(id, pool, rule, now)
                .map_err(|why| why.by(pool));
        }
        let interface = match end {
            End::Source => context.egress.map(|egress| egress.interface),
            End::Destination => Some(packet.ingress()),
        };
        let pool = match decided {
            Some((_, Action::Pool(pool))) => Some(pool),
            _ => turned,
        };
        let range = match decided {
            Some((rule, action)) => {
                context.by = By {
                    hook: NAME,
                    rule: Some(rule.0),
                };
                self.range_of(action, &packet.key(), interface)?
            }
            None => None,
        };
        let planned = range.is_some();
        let Some(range) = range.or_else(|| self.null_range(id, end)) else {
            return Ok(());
        };
        match pool {
            Some(pool) => self
                .decide_by_pool(id, pool, now)
                .map_err(|why| why.by(pool))?,
            None => self.decide(id, end, &range, planned, now)?,
        }
        let rule = decided.map(|(rule, _)| rule);
        if end == End::Destination {
            self.opening = Some(Opening {
                id,
                rule,
                mapping: None,
            });
        } else if let Some(side) = self.sides.side_mut(id) {
            let before = opening.and_then(|opening| opening.rule);
            side.rules = [rule, before];
            if let Some((_, Action::Masquerade { .. })) = decided {
                side.masqueraded = interface;
            }
            if let Some(mapping) = opening.and_then(|opening| opening.mapping) {
                side.mappings[1] = Some(mapping);
                self.mappings.join(mapping, None);
            }
        }
        Ok(())
    }

    /// The mapping that a packet from outside is for, and what its destination becomes.
    fn mapped(&self, key: &K) -> Result<Option<(u32, Range)>, Refusal> {
        let Some(number) = self.mappings.of_outside(&key.at(Locality::default())) else {
            return Ok(None);
        };
        if !self.mappings.lets_in(number, key.source().address) {
            return Err(Refusal::Filtered);
        }
        Ok(self.mappings.get(number).map(|mapping| {
            let inside = mapping.inside.source();
            let range = Range::address(inside.address).with_ports(Ports::one(inside.port));
            (number, range)
        }))
    }

    /// The change of one end of packets of one direction; `None` where it stays.
    fn rewrite_of(
        &self,
        key: &K,
        end: End,
        id: ConnId,
        direction: Direction,
    ) -> Option<Rewrite<K>> {
        let connection = self.tracker.connection(id)?;
        if !connection.status().contains(changed(end, direction)) {
            return None;
        }
        let target = connection.tuple(direction.reverse()).inverse()?;
        let to = self.translated(key, end, &target, true);
        let rewrite = Rewrite::between(key, &to);
        (!rewrite.is_nothing()).then_some(rewrite)
    }

    /// Whether a masqueraded connection is about to leave by another interface; then it ends.
    fn has_moved(&mut self, id: ConnId, masqueraded: Option<Interface>, context: &Context) -> bool {
        let egress = context.egress.map(|egress| egress.interface);
        let moved = masqueraded.is_some() && egress.is_some() && masqueraded != egress;
        if moved {
            self.tracker.delete(id);
            self.bury();
            self.counters.moved += 1;
        }
        moved
    }

    /// Rewrites an ICMP error about a translated packet: the quotation as that packet was before, and the addresses as
    /// those of an answer. False where it must not pass.
    fn translate_error<P: Packet<Key = K>>(
        &self,
        end: End,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> bool {
        let Some(connection) = self.tracker.connection(id) else {
            return true;
        };
        let status = connection.status();
        let key = packet.key();
        let [kind, _] = key.destination().port.to_be_bytes();
        let redirects = match key.fields().family {
            Family::V4 => kind == 5,
            Family::V6 => kind == 137,
        };
        if redirects {
            let changes = status.intersects(Status::SRC_NAT.union(Status::DST_NAT));
            return is_decided(status) && !changes;
        }
        if !status.contains(changed(end, direction)) {
            return true;
        }
        let other = *connection.tuple(direction.reverse());
        let (Some(quoted), Some(target)) = (packet.quoted(), other.inverse()) else {
            return false;
        };
        if !packet.is_intact() {
            return false;
        }
        let before = moved(&quoted, end.other(), &other, true);
        if !packet.rewrite_quoted(&Rewrite::between(&quoted, &before)) {
            return false;
        }
        let to = self.translated(&key, end, &target, false);
        packet.rewrite(&Rewrite::between(&key, &to));
        true
    }
}

/// The status bit that says that an end of packets of this direction changes: roles are mirrored in the reply.
const fn changed(end: End, direction: Direction) -> Status {
    match direction {
        Direction::Original => end.bit(),
        Direction::Reply => end.other().bit(),
    }
}

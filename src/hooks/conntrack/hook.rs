//! The tracker as a hook: first in the pipeline, its step the window check or the refresh of a two-way flow.
//!
//! Apart because it is the only file here that knows of caches and pipelines.
//!
//! | packet | its step |
//! |---|---|
//! | TCP, plain, within the window of an assured, established connection | [`Conntrack::advance`] |
//! | TCP, plain, of an open connection, that breaks a bound | does not fit: judged |
//! | TCP without SYN, FIN and RST before and after that, where it is valid | the whole procedure, tried beforehand on a copy |
//! | TCP with SYN, FIN or RST; shifted numbers, helpers | does not fit: judged |
//! | UDP, ICMP query, GRE, others | the whole procedure, without the look-up |
//! | SCTP, nothing but data and acknowledgements with the right tag | the same |
//! | SCTP, others | does not fit: judged |
//! | invalid | none: judged |
//! | ICMP errors, enhanced GRE: one key, many connections | never cached |
//!
//! The class and status that other hooks read are set afresh for every packet, so that a filter's residue on `ct state`
//! judges each as it would without a cache; no entry becomes stale because a class changes. A connection that is deleted or
//! has expired makes its entries unfit.
//!
//! A connection's [helper](super::Helper) reads its packets once they are accepted.
//!
//! A new connection is confirmed when its packet's verdict is known and is to accept, else refused. Where another connection
//! was faster to one of its tuples, the packet is dropped or becomes the other connection's, as in Linux
//! ([`Confirmation`]). A hook that translates makes sure at [`Stage::Source`](crate::hook::Stage::Source) that the reply
//! tuple is free ([`Conntrack::is_taken`]), while it can still choose another.

use core::fmt;

use super::connection::Kind;
use super::facts::Facts;
use super::tcp::{self, Setting};
use super::{
    Confirmation, ConnId, Conntrack, Outcome, Reason, Status, Template, Trackable, Tracked,
};
use crate::hook::{
    Caching, Class, Context, Direction, Hook, Judge, Judgement, Recheck, Rejudged, Stage, Stages,
    Tally, Track,
};
use crate::interest::Trigger;
use crate::key::{Locality, Protocol};
use crate::packet::{Packet, Segment, TcpFlags};
use crate::time::Instant;
use crate::verdict::{By, Verdict};

/// What the tracker leaves in a flow's destiny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackStep {
    /// Its packets belong to this connection, and go this way.
    Connection(ConnId, Direction),
    /// They are not tracked.
    Untracked,
}

const NAME: &str = "conntrack";

impl<K: Trackable> Hook for Conntrack<K> {
    type Step = TrackStep;

    fn name(&self) -> &'static str {
        NAME
    }

    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Track)
    }

    fn may_rekey(&self) -> bool {
        false
    }

    fn warm(&self, step: &TrackStep) -> u64 {
        let TrackStep::Connection(id, _) = step else {
            return 0;
        };
        let Some(hot) = self.table.hot_of(*id) else {
            return 0;
        };
        if hot.clock.is_plain() {
            return 1;
        }
        self.table.cold(id.slot).born.nanos()
    }

    /// The class and status of an open, assured connection do not change with its packets; their windows are learnt afresh when it
    /// is taken back. Its mark may change meanwhile, and its owner may delete it: who does takes it back first.
    fn may_offload(&self, step: &TrackStep, context: &mut Context) -> bool {
        let may = match *step {
            TrackStep::Untracked => true,
            TrackStep::Connection(id, _) => self.is_steady(id),
        };
        context.track = self.steady_track(step);
        may
    }

    fn lend(&mut self, step: &TrackStep) {
        if let TrackStep::Connection(id, _) = *step {
            self.bypass_blind(id);
        }
    }

    fn take_back(&mut self, step: &TrackStep) {
        if let TrackStep::Connection(id, _) = *step {
            self.take_back_blind(id, Instant::START);
        }
    }

    fn credit(&mut self, step: &TrackStep, tally: &Tally, context: &mut Context) {
        context.track = self.steady_track(step);
        if let TrackStep::Connection(id, direction) = *step {
            Conntrack::credit(self, id, direction, tally);
        }
    }

    fn describe(&self, step: &TrackStep, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match step {
            TrackStep::Connection(id, direction) => write!(f, "connection {id}, {direction:?}"),
            TrackStep::Untracked => f.write_str("untracked"),
        }
    }
}

impl<K: Trackable, P: Packet<Key = K>> Judge<P> for Conntrack<K> {
    fn have_interest(&self, flow: &K) -> Option<Trigger> {
        Some(match flow.protocol() {
            Protocol::TCP => Trigger::tcp(Trigger::SYN | Trigger::FIN | Trigger::RST),
            _ => Trigger::NONE,
        })
    }

    fn warm_new(&self, flows: &[K]) -> u64 {
        let tuples = |flow: &K| {
            let tuple = flow.at(Locality::default());
            [tuple, tuple.inverse().unwrap_or(tuple)]
        };
        self.table.warm(flows.iter().map(tuples))
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<TrackStep>,
    ) -> Judgement {
        let known = match step {
            Some(TrackStep::Connection(id, direction)) => Some((*id, *direction)),
            _ => None,
        };
        let tracked = self.track_again(&*packet, context.now, known);
        context.track = Some(tracked.track());
        *step = match (tracked.class, tracked.connection, tracked.direction) {
            (Class::Untracked, ..) => Some(TrackStep::Untracked),
            (_, Some(id), Some(direction)) => {
                // A flow that is its own answer is found by its reply tuple from its second packet on.
                let own_answer = self
                    .connection(id)
                    .is_some_and(|one| one.tuple(direction) == one.tuple(direction.reverse()));
                let direction = if own_answer {
                    Direction::Reply
                } else {
                    direction
                };
                Some(TrackStep::Connection(id, direction))
            }
            _ => None,
        };
        if tracked.drop {
            context.by = By {
                hook: NAME,
                rule: None,
            };
            context.caching.forbid(Caching::Forbidden);
            return Judgement::Finish {
                verdict: self.config.answer.map_or(Verdict::Drop, Verdict::Reject),
                constant: false,
            };
        }
        if self.listens
            && tracked.status.contains(Status::HELPER)
            && self.is_partial(&*packet, &tracked)
        {
            self.counters[Reason::HelperPartial as usize] += 1;
            context.by = By {
                hook: NAME,
                rule: None,
            };
            return Judgement::Finish {
                verdict: Verdict::Drop,
                constant: false,
            };
        }
        let key = packet.key();
        let quotes = key.protocol().is_icmp() && packet.quoted().is_some();
        let call = key.protocol() == Protocol::GRE && is_call(&*packet);
        if quotes || call {
            context.caching.forbid(Caching::Forbidden);
        } else if tracked.class == Class::Invalid {
            context.caching.forbid(Caching::SlowPath);
        }
        Judgement::Continue
    }

    #[inline]
    fn fits(&self, step: &TrackStep, packet: &P, context: &Context) -> bool {
        let fits = match *step {
            TrackStep::Untracked => true,
            TrackStep::Connection(id, direction) => match self.kind_if_kept(id, context) {
                None => false,
                Some(Kind::Tcp) => packet.segment().is_some_and(|segment| {
                    self.fits(id, direction, &segment, context.now)
                        || self.passes(id, direction, &segment, context.now)
                }),
                Some(Kind::Gre) => !is_call(packet),
                Some(Kind::Sctp) => self
                    .table
                    .hot_of(id)
                    .is_some_and(|hot| super::sctp::fits(&hot.tcp, direction, packet.transport())),
                Some(_) => true,
            },
        };
        fits && (!self.config().checksum || packet.is_intact())
    }

    #[inline]
    fn run(
        &mut self,
        _: Stage,
        step: &TrackStep,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        let tracked = match *step {
            TrackStep::Untracked => Tracked::UNTRACKED,
            TrackStep::Connection(id, direction) => self.rerun(id, direction, packet, context),
        };
        context.track = Some(tracked.track());
        None
    }

    /// Whether the flow's connection is still the one of the step. What becomes of the packet in it, `fits` has said.
    fn rejudge(
        &self,
        _: Stage,
        packet: &P,
        context: &Context,
        step: Option<&TrackStep>,
    ) -> Option<Rejudged> {
        let TrackStep::Connection(id, _) = *step? else {
            return None;
        };
        let found = self.find(&packet.key(), context.now);
        Some(Rejudged {
            keeps: found.is_some_and(|(found, _)| found == id),
            verdict: None,
        })
    }

    fn recheck(&mut self, _: Option<&TrackStep>, _: &K) -> Recheck<TrackStep> {
        Recheck::Keep
    }

    fn settle(
        &mut self,
        packet: &P,
        context: &mut Context,
        verdict: Verdict,
        _: Option<&mut TrackStep>,
    ) -> Verdict {
        let Some(track @ Track { connection, .. }) = context.track else {
            return verdict;
        };
        if track.direction.is_none() {
            return verdict;
        }
        let id = ConnId::from_bits(connection);
        if !verdict.is_accept() {
            self.refuse(id);
            return verdict;
        }
        let status = Status(track.status);
        if self.listens && status.contains(Status::HELPER) {
            let tracked = Tracked {
                class: track.class,
                direction: track.direction,
                connection: Some(id),
                status,
                ..Tracked::UNTRACKED
            };
            let _ = self.help(packet, &tracked, context.now);
        }
        match self.confirm(id, context.now) {
            Confirmation::Confirmed | Confirmation::Already => verdict,
            Confirmation::Merged(_) | Confirmation::ReplyOnly => {
                // The flow's next packet is found to be the winner's.
                context.caching.forbid(Caching::Forbidden);
                verdict
            }
            Confirmation::Clash | Confirmation::Unknown => {
                context.caching.forbid(Caching::Forbidden);
                context.by = By {
                    hook: NAME,
                    rule: None,
                };
                Verdict::Drop
            }
        }
    }
}

/// Whether a GRE packet belongs to a call (RFC 2637), whose number is in no key.
fn is_call<P: Packet>(packet: &P) -> bool {
    packet.transport().get(1).is_some_and(|byte| byte & 7 == 1)
}

impl Tracked {
    /// What other hooks read.
    pub fn track(&self) -> Track {
        Track {
            class: self.class,
            direction: self.direction,
            status: self.status.0,
            mark: self.mark,
            connection: self.connection.map_or(0, ConnId::to_bits),
        }
    }
}

impl<K: Trackable> Conntrack<K> {
    /// What it says of packets of a steady connection.
    fn steady_track(&self, step: &TrackStep) -> Option<Track> {
        let tracked = match *step {
            TrackStep::Untracked => Tracked::UNTRACKED,
            TrackStep::Connection(id, direction) => Tracked {
                class: Class::Established,
                ..self.attached(self.table.slot_of(id)?, direction)
            },
        };
        Some(tracked.track())
    }

    /// The kind of a connection that is in the table, has not expired, and is found by both its tuples.
    #[inline]
    fn kind_if_kept(&self, id: ConnId, context: &Context) -> Option<Kind> {
        let hot = self.table.hot_of(id)?;
        if hot.clock.has_passed(context.now) {
            return None;
        }
        let kind = hot.clock.kind();
        if kind == Kind::Tcp {
            // The window step asks for more.
            return Some(kind);
        }
        let status = self.table.cold(id.slot).status;
        let kept = status.contains(Status::CONFIRMED)
            && !status.intersects(Status::DYING.union(Status::NAT_CLASH));
        kept.then_some(kind)
    }

    /// Whether a segment of a connection that is not open yet, or not any more, is valid and ends nothing: an acknowledgement of
    /// a handshake, data after the first FIN. Changes nothing. Cost: the procedure, on a copy of the state.
    fn passes(&self, id: ConnId, direction: Direction, segment: &Segment, now: Instant) -> bool {
        const UNUSUAL: Status = Status::FIXED_TIMEOUT
            .union(Status::SEQ_ADJUST)
            .union(Status::HELPER)
            .union(Status::DYING)
            .union(Status::NAT_CLASH);
        const DECIDES: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0;
        let Some(hot) = self.table.hot_of(id).filter(|hot| !hot.clock.is_plain()) else {
            return false;
        };
        let status = self.table.cold(id.slot).status;
        if !status.contains(Status::CONFIRMED)
            || status.intersects(UNUSUAL)
            || segment.flags.0 & DECIDES != 0
            || !tcp::has_sane_flags(segment)
        {
            return false;
        }
        let (mut state, timeouts) = (hot.tcp, self.timeouts(hot.clock.policy()));
        let setting = Setting::new(
            self.config(),
            timeouts,
            status,
            hot.clock.end() - now,
            [0; 2],
        );
        let outcome = tcp::step(&mut state, direction, segment, &setting);
        matches!(outcome, Outcome::Accept { .. } | Outcome::Ignore(_))
    }

    /// What judging would do to a packet that fits, without looking for its connection.
    #[inline]
    fn rerun<P: Packet<Key = K>>(
        &mut self,
        id: ConnId,
        direction: Direction,
        packet: &P,
        context: &Context,
    ) -> Tracked {
        self.bury();
        let Some(hot) = self.table.hot_of(id) else {
            return Tracked::UNTRACKED;
        };
        let (slot, clock) = (id.slot, hot.clock);
        if clock.is_plain() {
            if let Some(segment) = packet.segment() {
                self.advance(id, direction, &segment, packet.length(), context.now);
                let mark = if clock.is_marked() {
                    self.table.cold(slot).mark
                } else {
                    0
                };
                return Tracked {
                    class: Class::Established,
                    direction: Some(direction),
                    connection: Some(id),
                    status: clock.plain_status(),
                    mark,
                    ..Tracked::UNTRACKED
                };
            }
        }
        let facts = Facts::read(packet, false);
        let key = facts.key;
        let template = Template::default();
        let tracked = self.known(slot, direction, &facts, &key, context.now, &template);
        if let Some(reason) = tracked.reason {
            self.counters[reason as usize] += 1;
        }
        tracked
    }
}

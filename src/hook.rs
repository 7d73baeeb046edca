//! The contract of a hook: what it wants to see, what it says, and the step that it leaves behind.
//!
//! A hook is a part of the slow path: connection tracking, translation, routing, filtering, a meter. It judges the first
//! packet of a flow's direction and leaves a *step* in the flow's destiny: the constant part of its work. Later packets run
//! the step and the hook itself is not asked, unless its [`Trigger`] fires, its step does not fit, or an edit touched it.
//!
//! ```text
//!  stage         Track      Destination    Route       Filter      Source        (settle)
//!  who           conntrack  dnat           routes      filter      snat          all, once the verdict is known
//!  view          Arrived    Arrived        Routed      Routed      Routed
//! ```
//!
//! A hook of a dataplane's own implements the same trait as the ones shipped, and stands in the same
//! [`Pipeline`](crate::pipeline::Pipeline).

use core::fmt;

use crate::epoch::View;
use crate::interest::{InterestIndex, Trigger};
use crate::key::{Fields, FlowKey, Span};
use crate::packet::{Origin, Packet};
use crate::time::Instant;
use crate::verdict::{By, Consumer, Egress, Verdict};

/// A hook: what it is called, where it stands, what it leaves in an entry. What it does with packets is [`Judge`].
pub trait Hook {
    /// What it leaves in a flow's destiny: a constant of one direction, or a handle to state of the
    /// hook's own. State proper stays in the hook, so that evicting an entry loses nothing.
    type Step;

    /// What it is called in outcomes, dumps and [changes](crate::epoch::Change).
    fn name(&self) -> &'static str;

    /// The stages at which it judges packets. Constant over the hook's life.
    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Filter)
    }

    /// How it makes its interests known.
    fn interests(&self) -> Interests<'_> {
        Interests::Ask
    }

    /// A step is no longer in any destiny. State that it refers to lives on by the hook's own rules.
    fn release(&mut self, step: Self::Step) {
        let _ = step;
    }

    /// Whether its judgement of a packet that does not [fit](Judge::fits), or that its trigger asks for, may give the packet other
    /// tuples than its step would have given, or anything else that the hooks behind judge a flow by: then they all judge that
    /// packet, too. Default: yes.
    fn may_rekey(&self) -> bool {
        true
    }

    /// Reads what [`run`](Judge::run) will read of the hook's own state for this step: called for all packets of a burst before
    /// the first of them is processed, so that misses in the machine's caches overlap. Changes nothing, and its value, made of
    /// what was read, means nothing. Default: reads nothing.
    fn warm(&self, step: &Self::Step) -> u64 {
        let _ = step;
        0
    }

    /// Whether a NIC may do the step's work, because it lets every packet pass, and all that a packet leaves behind in the hook
    /// is that it was counted: for every packet without SYN, FIN or RST the step would fit and would give the same context and verdict, and
    /// [`credit`](Self::credit) makes up for the packets that the hook did not see. Default: no.
    ///
    /// What the step would say of such packets, of the flow's track above all, it says in `context`: the hooks behind it read it.
    fn may_offload(&self, step: &Self::Step, context: &mut Context) -> bool {
        let _ = (step, context);
        false
    }

    /// From now on packets of the step's flow may go by without being shown to the hook. Those that are shown may be out of order
    /// with them.
    fn lend(&mut self, step: &Self::Step) {
        let _ = step;
    }

    /// All packets of the step's flow are shown again, and those that went by have been [credited](Self::credit).
    fn take_back(&mut self, step: &Self::Step) {
        let _ = step;
    }

    /// So many packets of a flow went by without being shown to the hook; asked of steps that
    /// [may be offloaded](Self::may_offload) only.
    /// `context` is filled as with [`may_offload`](Self::may_offload).
    fn credit(&mut self, step: &Self::Step, tally: &Tally, context: &mut Context) {
        let _ = (step, tally, context);
    }

    /// How far a step reaches: narrows `span`, flows around `flow`, to those whose packets the hook would treat by this step as
    /// well as by their own, as far as it can tell. `flow` is the key of all stages, for nothing is translated. `step` is what judging
    /// left; `None` where the hook has no interest in the flow, and then the span is narrowed to flows that it has none in.
    ///
    /// A hook that has state by flow, or that wants to be shown packets, says [`Reach::Never`], as is the default. Asked only
    /// where the owner wants [aggregates](crate::cache::Config::aggregates). A step that stands for many flows is
    /// [released](Self::release) once.
    fn reach(&self, flow: &Fields, step: Option<&Self::Step>, span: &mut Span) -> Reach {
        let _ = (flow, step, span);
        Reach::Never
    }

    /// The consumer that takes the packets of a step's flow and wants to run their steps itself; what
    /// [`FlowCache::deliver`](crate::cache::FlowCache::deliver) asks. Default: nobody.
    fn deferred(&self, step: &Self::Step) -> Option<Consumer> {
        let _ = step;
        None
    }

    /// Writes what a step does, for people.
    fn describe(&self, step: &Self::Step, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = step;
        f.write_str("a step")
    }
}

/// Packets of one direction of a flow that went by without being shown to hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the last of them came.
    pub last: Instant,
}

/// What a hook does with packets of type `P`.
///
/// # Laws
///
/// For a flow whose step the hook has left and that no edit has touched since, whenever no trigger
/// fires and [`fits`](Self::fits) holds, [`run`](Self::run) does to the packet, the context and the
/// hook's own state what [`judge`](Self::judge) would have done. That is all that transparency asks of
/// a hook.
pub trait Judge<P: Packet>: Hook {
    /// For [`Interests::Ask`]: whether it wants a say in the packets of this flow, and which of the
    /// later ones it wants to be shown. `flow` is the key as seen at the stage. Without an interest the
    /// hook is not called and is no dependency.
    fn have_interest(&self, flow: &P::Key) -> Option<Trigger> {
        let _ = flow;
        Some(Trigger::NONE)
    }

    /// Reads what [`judge`](Self::judge) will read of the hook's own state for the first packets of these flows, at most 32; they
    /// are the keys as they arrive. Otherwise as [`Hook::warm`]. Default: reads nothing.
    fn warm_new(&self, flows: &[P::Key]) -> u64 {
        let _ = flows;
        0
    }

    /// Judges a packet at one of its [`stages`](Hook::stages) and leaves, changes or takes away its
    /// step.
    ///
    /// `step` is `None` for a packet whose direction it has not judged, or holds what it left last time.
    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Self::Step>,
    ) -> Judgement;

    /// Whether [`run`](Self::run) can decide this packet. All hooks are asked before any of them runs,
    /// so the context holds the facts of arrival only. False sends the packet, untouched, to
    /// [`judge`](Self::judge).
    fn fits(&self, step: &Self::Step, packet: &P, context: &Context) -> bool {
        let _ = (step, packet, context);
        true
    }

    /// Does the constant work of one stage on a packet; `Some` ends its way. Called at each of the hook's
    /// stages, as [`judge`](Self::judge) would be. Allocates nothing.
    fn run(
        &mut self,
        stage: Stage,
        step: &Self::Step,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict>;

    /// An edit touched the flow: is the step still right? `flow` is the key in the view of the hook's
    /// first stage. Default: judge the next packet.
    fn recheck(&mut self, step: Option<&Self::Step>, flow: &P::Key) -> Recheck<Self::Step> {
        let _ = (step, flow);
        Recheck::Judge
    }

    /// A second look, for [shadow mode](crate::pipeline::Shadowed): what judging this packet at this stage would come to, found
    /// out without changing anything. Asked right before `step` is run on a packet of a cached flow; neither the packet nor the
    /// context has been touched by this hook at this stage. It may be as slow as judging, and may allocate. Default: cannot tell.
    fn rejudge(
        &self,
        stage: Stage,
        packet: &P,
        context: &Context,
        step: Option<&Self::Step>,
    ) -> Option<Rejudged> {
        let _ = (stage, packet, context, step);
        None
    }

    /// A packet that hooks judged has got its verdict: make permanent or take back what the judgement
    /// prepared. Called once for each packet that was judged, on every hook, also those not asked.
    ///
    /// Gives the verdict back, or a denial where an accepted packet cannot pass after all; that is what the hooks behind are told. A
    /// hook that denies here also [forbids](Caching::forbid) caching, since this is one packet's misfortune. Default: gives the
    /// verdict back.
    fn settle(
        &mut self,
        packet: &P,
        context: &mut Context,
        verdict: Verdict,
        step: Option<&mut Self::Step>,
    ) -> Verdict {
        let _ = (packet, context, step);
        verdict
    }
}

/// Where on its way a packet is. Stages come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Connection tracking: nothing has happened yet.
    Track,
    /// Destination translation.
    Destination,
    /// Routing, with the destination translated.
    Route,
    /// Filtering, with the egress known.
    Filter,
    /// Source translation.
    Source,
}

impl Stage {
    /// Every stage in order.
    pub const ALL: [Self; 5] = [
        Self::Track,
        Self::Destination,
        Self::Route,
        Self::Filter,
        Self::Source,
    ];

    /// Which of the packet's tuples a hook sees at the stage, before it changes anything itself.
    pub const fn view(self) -> View {
        match self {
            Self::Track | Self::Destination => View::Arrived,
            Self::Route | Self::Filter | Self::Source => View::Routed,
        }
    }
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stages(u8);

impl Stages {
    /// One stage.
    pub const fn of(stage: Stage) -> Self {
        Self(1 << stage as u8)
    }

    /// This set and one more stage.
    #[must_use]
    pub const fn and(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u8)
    }

    /// Whether the set has the stage.
    pub const fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    /// The earliest stage of the set; [`Stage::Filter`] for the empty one.
    pub fn first(self) -> Stage {
        Stage::ALL
            .into_iter()
            .find(|stage| self.contains(*stage))
            .unwrap_or(Stage::Filter)
    }
}

/// How a hook makes its interests known. Either way gives the same destinies.
#[derive(Clone, Copy, Debug)]
pub enum Interests<'a> {
    /// Ask it: [`Judge::have_interest`].
    Ask,
    /// All flows, with this trigger.
    All(Trigger),
    /// Look the flow up here; the triggers of all patterns that match are joined.
    Listed(&'a InterestIndex<Trigger>),
}

/// What a hook says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Go on to the next hook.
    Continue,
    /// The packet's way ends here.
    Finish {
        /// How it ends.
        verdict: Verdict,
        /// Whether every packet of this direction ends at this hook while no edit touches it, so that the hooks behind it
        /// need never be asked. The verdicts may differ.
        constant: bool,
    },
}

/// How far a hook's answer reaches beyond one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It does not, or the hook cannot tell.
    Never,
    /// Over the span; the packets of its flows go on to the hooks behind, some of them at least.
    Passes,
    /// Over the span, and no packet of its flows gets past.
    Ends,
}

/// What a hook's [second look](Judge::rejudge) at a packet of a cached flow comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejudged {
    /// Whether judging would leave the step that is there.
    pub keeps: bool,
    /// Whether judging would end the packet's way, and how.
    pub verdict: Option<Verdict>,
}

/// What becomes of a step that an edit touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck<S> {
    /// It is right as it is, and so is its trigger.
    Keep,
    /// This one takes its place; `None`: the hook has no more interest in the flow. The packets of the flow reach the hooks
    /// behind exactly when they did before.
    Replace(Option<S>),
    /// The hook judges the next packet.
    Judge,
    /// All hooks judge the next packet, for what they see may have changed.
    JudgeAll,
}

/// What hooks tell one another, and the caller, about a packet on its way.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The time of arrival.
    pub now: Instant,
    /// Received, or generated here.
    pub origin: Origin,
    /// Where it is going to leave, once a route hook has said so.
    pub egress: Option<Egress>,
    /// Who is going to take it, once a socket hook has said so.
    pub consumer: Option<Consumer>,
    /// The packet mark.
    pub mark: u32,
    /// Whether some rule wants the packet logged.
    pub log: bool,
    /// What connection tracking says of it; `None` where no tracker has seen it.
    pub track: Option<Track>,
    /// The last hook and rule that made a difference.
    pub by: By,
    /// Whether the flow may be cached.
    pub caching: Caching,
}

impl Context {
    /// The context of a packet that has just come.
    pub const fn new(now: Instant, origin: Origin) -> Self {
        Self {
            now,
            origin,
            egress: None,
            consumer: None,
            mark: 0,
            log: false,
            track: None,
            by: By {
                hook: "",
                rule: None,
            },
            caching: Caching::Allowed,
        }
    }
}

/// Whether a hook lets a flow be cached. Hooks only tighten it, with [`forbid`](Self::forbid).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caching {
    /// Yes.
    #[default]
    Allowed,
    /// An entry that says "do slow path": each packet of the flow is judged.
    SlowPath,
    /// No entry at all.
    Forbidden,
}

impl Caching {
    /// Tightens to `limit`; never loosens.
    pub fn forbid(&mut self, limit: Self) {
        if *self < limit {
            *self = limit;
        }
    }
}

/// A packet's place in its connection, as classes of connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It opens, or repeats the opening of, a connection that has seen no reply.
    New,
    /// It belongs to a connection that has seen packets in both directions.
    Established,
    /// It opens an expected connection, or is an error about a tracked one.
    Related,
    /// The tracker refused it.
    Invalid,
    /// Tracking was not wanted.
    Untracked,
}

/// Which way a packet goes within its connection or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

impl Direction {
    /// Both, original first.
    pub const BOTH: [Self; 2] = [Self::Original, Self::Reply];

    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// What a tracker says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its class.
    pub class: Class,
    /// Its direction; `None` where it belongs to no connection.
    pub direction: Option<Direction>,
    /// Status bits of the connection, in the tracker's numbering.
    pub status: u16,
    /// The connection's mark.
    pub mark: u32,
    /// The connection, in the tracker's numbering; meaningless where `direction` is `None`.
    pub connection: u64,
}

/// A packet's three tuples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views<K> {
    /// As it came in.
    pub arrived: K,
    /// With its destination translated.
    pub routed: K,
    /// As it goes out.
    pub departed: K,
}

impl<K: FlowKey> Views<K> {
    /// A packet that comes in as `arrived` and goes out as `departed`.
    ///
    /// The middle one has the source of the first and the destination of the last; where their families differ it is the
    /// last.
    pub fn between(arrived: K, departed: K) -> Self {
        let routed = if arrived == departed {
            arrived
        } else {
            arrived
                .with(arrived.source(), departed.destination())
                .unwrap_or(departed)
        };
        Self {
            arrived,
            routed,
            departed,
        }
    }

    /// One of the three.
    pub const fn of(&self, view: View) -> &K {
        match view {
            View::Arrived => &self.arrived,
            View::Routed => &self.routed,
            View::Departed => &self.departed,
        }
    }
}

/// A set of hooks, by their places in the pipeline. At most 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HookSet(u16);

impl HookSet {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// All hooks.
    pub const ALL: Self = Self(u16::MAX);

    /// The hook at place `index`; empty from 16 on.
    pub const fn one(index: usize) -> Self {
        Self(if index < 16 { 1 << index } else { 0 })
    }

    /// The hooks of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The hooks of both sets that are in each.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The hooks of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set has the hook at place `index`.
    pub const fn contains(self, index: usize) -> bool {
        self.0 & Self::one(index).0 != 0
    }

    /// Whether the set has no hook.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

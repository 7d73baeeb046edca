//! No entry, or one that is not ready: take the packet through the hooks, and keep what they leave behind.

use super::session::{Entry, Half, Session};
use super::{End, FlowCache, OverBudget, Segment};
use crate::destiny::Destiny;
use crate::epoch::Ticket;
use crate::hook::{Caching, Context, Direction, HookSet, Judgement};
use crate::interest::{Signals, Trigger};
use crate::key::FlowKey;
use crate::observe::Event;
use crate::packet::{Origin, Packet};
use crate::pipeline::{Pipeline, Walk};
use crate::time::Instant;
use crate::trie::{Indexed, KeyIndex};
use crate::verdict::{Path, Uncached, Verdict};

/// What the hooks said of a packet.
struct Judged {
    verdict: Verdict,
    /// Whether the packet got past every hook, so that all were asked and its last tuple is known.
    complete: bool,
    /// Whether the destiny holds for every packet of the direction, and if not, why.
    keep: Result<(), Uncached>,
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Judges a packet and forgets what was learnt.
    pub(super) fn judge_once<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
    ) -> Verdict
    where
        H: Walk<P>,
    {
        let mut destiny = H::Destiny::default();
        let judged = self.judge(packet, context, &mut destiny, HookSet::ALL);
        self.hooks.release(destiny);
        judged.verdict
    }

    /// A packet that no budget is left for: the owner has chosen what becomes of it.
    pub(super) fn beyond_budget<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        let verdict = match self.config.over_budget {
            OverBudget::Judge => self.judge_once(packet, context),
            OverBudget::Refuse => Verdict::Drop,
        };
        (verdict, Path::Uncached(Uncached::OverBudget))
    }

    /// The first packet of a flow: judges it and begins a session.
    pub(super) fn miss<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        if !self.misses.take(context.now) {
            return self.beyond_budget(packet, context);
        }
        let ticket = self.log.ticket();
        let (arrived, length) = (packet.key(), packet.length());
        let mut half = Half::unjudged(packet.origin());
        let judged = self.judge(packet, context, &mut half.destiny, HookSet::ALL);
        half.count(length);
        let path = match judged.keep {
            Ok(()) => {
                half.keep(judged.complete);
                let ticket = match self.spread(ticket, &arrived, packet, &mut half, context.now) {
                    Ok(()) => return (judged.verdict, Path::Miss),
                    Err(ticket) => ticket,
                };
                match self.begin(ticket, arrived, packet.key(), half, judged.verdict, context) {
                    Ok(()) => Path::Miss,
                    Err(why) => Path::Uncached(why),
                }
            }
            Err(why) => {
                self.hooks.release(core::mem::take(&mut half.destiny));
                if why == Uncached::SlowPath {
                    // The mark is an entry whose destiny is never ready. Where there is no room, the next packet misses.
                    let _ =
                        self.begin(ticket, arrived, packet.key(), half, judged.verdict, context);
                }
                Path::Uncached(why)
            }
        };
        (judged.verdict, path)
    }

    /// Lets the judgement of a new flow stand for the flows around it, where it may; else gives the ticket back.
    fn spread<P: Packet<Key = K>>(
        &mut self,
        ticket: Ticket,
        arrived: &K,
        packet: &P,
        half: &mut Half<H::Destiny>,
        now: Instant,
    ) -> Result<(), Ticket> {
        if !self.aggregates.are_wanted()
            || half.trigger != Trigger::NONE
            || packet.key() != *arrived
        {
            return Err(ticket);
        }
        let destiny = core::mem::take(&mut half.destiny);
        let said = (destiny, half.complete, packet.length());
        let flow = arrived.fields();
        self.aggregate(ticket, packet.origin(), &flow, said, now)
            .map_err(|(ticket, destiny)| {
                half.destiny = destiny;
                ticket
            })
    }

    /// A packet of a cached flow that some or all hooks must judge: the first reply, a trigger, an unfit step, an edit.
    pub(super) fn revisit<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        let ticket = self.log.ticket();
        let (arrived, length) = (packet.key(), packet.length());
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return self.miss(packet, context);
        };
        session.touch(context.now);
        let kept = session.kept.intersection(self.policies.grandfather);
        let half = &mut session.halves[entry.direction as usize];
        let first = half.packets == 0;
        half.count(length);
        session.seen[entry.direction as usize] = true;
        let pending = half.pending;
        let fired = half.destiny.asked(Signals::tcp(packet.tcp_flags().0));
        let asked = if !half.complete {
            HookSet::ALL
        } else {
            let own = fired.union(self.hooks.unfit(&half.destiny, packet, context));
            // What may give the packet another tuple has all others judge that.
            let all = match own.intersection(self.hooks.rekeyers()).is_empty() {
                true => HookSet::NONE,
                false => HookSet::ALL.without(kept),
            };
            pending.union(own).union(all)
        };
        // The destiny is lent to the hooks; the entry is not ready while it is away.
        half.pending = HookSet::ALL;
        let mut destiny = core::mem::take(&mut half.destiny);

        let judged = self.judge(packet, context, &mut destiny, asked);

        let Some(session) = self.sessions.get_mut(entry.slot) else {
            self.hooks.release(destiny);
            return (judged.verdict, Path::Uncached(Uncached::Refused));
        };
        // Whether the packet ended with the tuple that the session's keys foretell: its last one, or, where it got no
        // further than the filter, the one with the destination translated. The tests of regions rely on it.
        let views = session.views(entry.direction);
        let foretold = packet.key()
            == if judged.complete {
                views.departed
            } else {
                views.routed
            };
        let half = &mut session.halves[entry.direction as usize];
        let path = match judged.keep {
            Ok(()) if foretold => {
                half.destiny = destiny;
                half.keep(judged.complete);
                let segment = session.segment_after(judged.verdict);
                self.move_to(segment, entry.slot, context.now);
                self.answer(entry);
                if first {
                    Path::FirstReply
                } else {
                    Path::Revisited
                }
            }
            Ok(()) => {
                // Its packets have other tuples than the session was made for: it has become another flow.
                let mut moved = Half {
                    destiny,
                    ..Half::unjudged(half.origin)
                };
                (moved.packets, moved.bytes) = (1, u64::from(length));
                moved.keep(judged.complete);
                self.end(entry.slot, End::Rekeyed);
                let begun = self.begin(
                    ticket,
                    arrived,
                    packet.key(),
                    moved,
                    judged.verdict,
                    context,
                );
                begun.map_or_else(Path::Uncached, |()| Path::Revisited)
            }
            Err(Uncached::PacketDependent)
                if foretold && half.complete && asked != HookSet::ALL =>
            {
                // Only this packet ends here: what the hooks behind have said before still stands.
                half.destiny = destiny;
                half.trigger = half.destiny.trigger();
                // Where a hook that was not asked ended the packet, it may end every packet; only its judgement can tell, so all
                // are asked next time. A hook whose step is kept is not.
                half.pending = if pending.is_empty() || !kept.is_empty() {
                    pending
                } else {
                    HookSet::ALL
                };
                Path::Revisited
            }
            Err(why) => {
                half.complete = false;
                half.trigger = Trigger::NONE;
                self.hooks.release(destiny);
                Path::Uncached(why)
            }
        };
        (judged.verdict, path)
    }

    /// Takes a packet through the hooks and tells them the verdict.
    fn judge<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
        destiny: &mut H::Destiny,
        asked: HookSet,
    ) -> Judged
    where
        H: Walk<P>,
    {
        let judgement = self
            .hooks
            .judge(packet, context, destiny, asked, &mut self.scratch);
        let (judged, mut complete, constant) = match judgement {
            Judgement::Continue => (Verdict::Accept, true, true),
            Judgement::Finish { verdict, constant } => (verdict, false, constant),
        };
        let verdict = self.hooks.settle(packet, context, judged, destiny);
        complete &= verdict == judged;
        let keep = match context.caching {
            Caching::Forbidden => Err(Uncached::Refused),
            Caching::SlowPath => Err(Uncached::SlowPath),
            Caching::Allowed if !constant => Err(Uncached::PacketDependent),
            Caching::Allowed => Ok(()),
        };
        Judged {
            verdict,
            complete,
            keep,
        }
    }

    /// Begins a session: a slot, and its keys in their indexes. On failure nothing is left behind.
    fn begin(
        &mut self,
        ticket: Ticket,
        arrived: K,
        departed: K,
        half: Half<H::Destiny>,
        verdict: Verdict,
        context: &Context,
    ) -> Result<(), Uncached> {
        let reply = match reply_key(&arrived, &departed) {
            Ok(reply) => reply,
            Err(why) => {
                self.hooks.release(half.destiny);
                return Err(why);
            }
        };
        // What is addressed to this machine is answered from it.
        let answer_origin = if reply.fields().locality.source {
            Origin::Local
        } else {
            Origin::Received
        };
        let mut session = Session {
            keys: [arrived, reply],
            answers: false,
            translated: arrived != departed,
            seen: [true, false],
            halves: [half, Half::unjudged(answer_origin)],
            stamp: ticket.redeem(),
            last_seen: context.now,
            kept: HookSet::NONE,
            segment: Segment::Provisional,
            visits: 0,
            lent: false,
        };
        session.segment = session.segment_after(verdict);
        let entry = self.admit(session, context.now)?;
        self.answer(entry);
        Ok(())
    }

    /// Gives a session a slot and its original key a place in the index. On failure nothing is left behind.
    pub(super) fn admit(
        &mut self,
        session: Session<K, H::Destiny>,
        now: Instant,
    ) -> Result<Entry, Uncached> {
        let (segment, arrived) = (session.segment, session.keys[0]);
        let origin = session.halves[0].origin;
        let flow = arrived.fields();
        let admitted = match self.make_room(segment, &flow, now) {
            Ok(()) => self
                .sessions
                .insert(session)
                .map_err(|session| (Uncached::Full, session)),
            Err(why) => Err((why, session)),
        };
        let slot = match admitted {
            Ok(slot) => slot,
            Err((why, session)) => {
                self.give_back(session);
                return Err(why);
            }
        };
        let entry = Entry {
            slot,
            direction: Direction::Original,
        };
        if self.indexes[origin as usize]
            .insert(&arrived, entry.id())
            .is_err()
        {
            if let Some(session) = self.sessions.remove(slot) {
                self.give_back(session);
            }
            return Err(Uncached::Full);
        }
        self.turnover += 1;
        self.stats.begun += 1;
        self.segments.zones.add(&flow, true);
        self.enter(segment, slot, now);
        self.hooks.observe(|| Event::Begun { flow });
        Ok(entry)
    }

    fn give_back(&mut self, session: Session<K, H::Destiny>) {
        for half in session.halves {
            self.hooks.release(half.destiny);
        }
    }

    /// Lets replies find the session, where its packets get through and no other session has the reply's key.
    fn answer(&mut self, entry: Entry) {
        let through = |session: &Session<K, H::Destiny>| session.halves[0].complete;
        if self.sessions.get(entry.slot).is_some_and(through) {
            self.let_replies_find(entry);
        }
    }

    /// The same, whether or not its packets get through.
    pub(super) fn let_replies_find(&mut self, entry: Entry) {
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return;
        };
        let [original, reply] = session.keys;
        if session.answers || original == reply {
            return;
        }
        let index = &mut self.indexes[session.halves[1].origin as usize];
        let entry = Entry {
            direction: Direction::Reply,
            ..entry
        };
        let header = index.header(&reply);
        session.answers = match index.insert_hashed(header, &reply, entry.id()) {
            Ok(None) => true,
            Ok(Some(other)) => {
                // Another session had the key first, and keeps it: its place is there.
                let _ = index.insert_hashed(header, &reply, other);
                false
            }
            Err(_) => false,
        };
        self.turnover += u64::from(session.answers);
        if !session.answers {
            self.stats.one_way += 1;
        }
    }
}

/// The key of what answers a packet that came as `arrived` and leaves as `departed`; `arrived` itself where nothing does, or
/// where a packet is its own answer. A packet that was rewritten must have an answer, for its last tuple is known by that.
fn reply_key<K: FlowKey>(arrived: &K, departed: &K) -> Result<K, Uncached> {
    match departed.inverse() {
        Some(reply) if reply != *arrived || arrived == departed => Ok(reply),
        None if arrived == departed => Ok(*arrived),
        _ => Err(Uncached::Irreversible),
    }
}

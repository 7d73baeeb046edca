//! Judging a packet: the one procedure, protocol by protocol, that every packet takes which no cache decides.
//!
//! Apart because it is the order of things; what each protocol thinks is elsewhere.

use super::connection::{Clock, Cold, Hot, Kind, Rank};
use super::facts::Facts;
use super::tcp::{self, Setting, TcpState};
use super::{
    ConnId, Conntrack, Mode, News, Outcome, Reason, Status, TimeoutClass, Trackable, sctp,
};
use crate::hook::{Class, Direction};
use crate::key::{Family, Protocol, Zone};
use crate::packet::{Packet, Segment};
use crate::time::{Duration, Instant};

/// What a new connection begins with, and where the packet's connection is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The zones of tuples in the original and in the reply direction; `None`: the packet's own zone for both.
    ///
    /// With a zone for the original direction only, networks with the same addresses share one outside.
    pub zones: Option<[Zone; 2]>,
    /// The mark.
    pub mark: u32,
    /// Which of [`Config::timeouts`](super::Config::timeouts), 0 to 15.
    pub policy: u8,
}

/// What the tracker says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its class.
    pub class: Class,
    /// Its direction; `None` where it belongs to no connection.
    pub direction: Option<Direction>,
    /// Its connection: for an ICMP error, the one that the error is about.
    pub connection: Option<ConnId>,
    /// The connection's status bits now.
    pub status: Status,
    /// The connection's mark.
    pub mark: u32,
    /// Why it is invalid, was not believed, or found no place.
    pub reason: Option<Reason>,
    /// There was no place for its connection: it must not pass.
    pub drop: bool,
    /// What happened to the connection. Any of it can change what a filter says of packets of the other direction.
    pub news: News,
}

impl Tracked {
    /// A packet that was not to be tracked.
    pub const UNTRACKED: Self = Self {
        class: Class::Untracked,
        direction: None,
        connection: None,
        status: Status::NONE,
        mark: 0,
        reason: None,
        drop: false,
        news: News::NONE,
    };

    pub(super) const fn invalid(reason: Reason) -> Self {
        Self {
            class: Class::Invalid,
            reason: Some(reason),
            ..Self::UNTRACKED
        }
    }

    const fn dropped(reason: Reason) -> Self {
        Self {
            drop: true,
            ..Self::invalid(reason)
        }
    }
}

/// The time after which two-way UDP traffic is a stream.
const STREAM_AGE: Duration = Duration::from_secs(2);

impl<K: Trackable> Conntrack<K> {
    /// Judges a packet, and lets an existing connection advance. A new connection stays pending until it is
    /// [confirmed](Self::confirm) or [refused](Self::refuse).
    ///
    /// Cost: one or two index look-ups and O(1) work; O(chunks) for SCTP; one pass over the packet where checksums are
    /// verified.
    #[must_use = "a packet without a place must be dropped, a new connection confirmed or refused"]
    pub fn track<P: Packet<Key = K>>(&mut self, packet: &P, now: Instant) -> Tracked {
        let template = self.template_of(&packet.key());
        self.track_with(packet, now, &template)
    }

    /// What packets with this key are tracked with where nobody says otherwise. Cost: O(zones listed).
    pub(super) fn template_of(&self, key: &K) -> Template {
        let pairs = &self.config.reply_zones;
        if pairs.is_empty() {
            return Template::default();
        }
        let zone = key.fields().zone;
        let pair = pairs.iter().rev().find(|(from, _)| *from == zone);
        Template {
            zones: pair.map(|(from, to)| [*from, *to]),
            ..Template::default()
        }
    }

    /// The same, in the zones and with the beginnings of `template`.
    #[must_use = "a packet without a place must be dropped, a new connection confirmed or refused"]
    pub fn track_with<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        now: Instant,
        template: &Template,
    ) -> Tracked {
        self.bury();
        let facts = Facts::read(packet, self.config.checksum);
        let tracked = self.judge(&facts, now, template, None);
        self.count_reason(&tracked);
        tracked
    }

    /// [`track`](Self::track), where the packets of this flow belonged to `known` lately.
    pub(super) fn track_again<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        now: Instant,
        known: Option<(ConnId, Direction)>,
    ) -> Tracked {
        self.bury();
        let facts = Facts::read(packet, self.config.checksum);
        let template = self.template_of(&packet.key());
        let tracked = self.judge(&facts, now, &template, known);
        self.count_reason(&tracked);
        tracked
    }

    fn count_reason(&mut self, tracked: &Tracked) {
        if let Some(reason) = tracked.reason {
            self.counters[reason as usize] += 1;
        }
    }

    fn judge(
        &mut self,
        facts: &Facts<'_, K>,
        now: Instant,
        template: &Template,
        known: Option<(ConnId, Direction)>,
    ) -> Tracked {
        if let Some(reason) = facts.wrong {
            return Tracked::invalid(reason);
        }
        match (facts.protocol, facts.key.fields().family) {
            (Protocol::TCP, _) if !facts.segment.as_ref().is_some_and(tcp::has_sane_flags) => {
                return Tracked::invalid(Reason::TcpFlags);
            }
            (Protocol::ICMP, Family::V4) => match facts.icmp() {
                [3 | 4 | 5 | 11 | 12, _] => return self.error(facts, now, template),
                [(19..), _] => return Tracked::invalid(Reason::IcmpType),
                _ => {}
            },
            (Protocol::ICMPV6, Family::V6) => match facts.icmp() {
                // Neighbours, routers and listeners: housekeeping of the link.
                [130..=136 | 143 | 151 | 152, _] => return Tracked::UNTRACKED,
                [137, 0] => return self.redirect(facts, now, template),
                [0..=127, _] => return self.error(facts, now, template),
                _ => {}
            },
            _ => {}
        }
        let tuple = match facts.tuple() {
            Ok(tuple) => tuple,
            Err(reason) => return Tracked::invalid(reason),
        };
        let known = known.and_then(|(id, direction)| self.recall(id, direction, &tuple, now));
        match known.or_else(|| self.seek(&tuple, now, template)) {
            Some((slot, direction)) => self.known(slot, direction, facts, &tuple, now, template),
            None => self.unknown(facts, &tuple, now, template),
        }
    }

    /// What looking for the tuple would find, if it would find this connection.
    fn recall(
        &self,
        id: ConnId,
        direction: Direction,
        tuple: &K,
        now: Instant,
    ) -> Option<(u32, Direction)> {
        let slot = self.table.slot_of(id)?;
        let Cold { tuples, status, .. } = self.table.cold(slot);
        let is_known = status.contains(Status::CONFIRMED)
            && !status.intersects(Status::DYING.union(Status::NAT_CLASH))
            && !self.table.hot(slot).clock.has_passed(now);
        (is_known && tuples[direction as usize] == *tuple).then_some((slot, direction))
    }

    /// The living connection that has this tuple in its zone. What has expired ends here.
    fn seek(&mut self, tuple: &K, now: Instant, template: &Template) -> Option<(u32, Direction)> {
        let Some([original, reply]) = template.zones else {
            return self.alive(tuple, now);
        };
        let found = self.alive(&tuple.in_zone(original), now);
        if original == reply {
            return found;
        }
        found
            .filter(|(_, direction)| *direction == Direction::Original)
            .or_else(|| {
                self.alive(&tuple.in_zone(reply), now)
                    .filter(|(_, direction)| *direction == Direction::Reply)
            })
    }

    fn alive(&mut self, tuple: &K, now: Instant) -> Option<(u32, Direction)> {
        let (slot, direction) = self.table.find(tuple)?;
        if self.table.hot(slot).clock.has_passed(now) {
            self.end(slot);
            return None;
        }
        Some((slot, direction))
    }

    /// A packet of a connection.
    pub(super) fn known(
        &mut self,
        slot: u32,
        direction: Direction,
        facts: &Facts<'_, K>,
        tuple: &K,
        now: Instant,
        template: &Template,
    ) -> Tracked {
        let status = self.table.cold(slot).status;
        let class = if direction == Direction::Reply || status.contains(Status::SEEN_REPLY) {
            Class::Established
        } else if status.contains(Status::EXPECTED) {
            Class::Related
        } else {
            Class::New
        };
        let hot = self.table.hot(slot);
        let (mut state, clock) = (hot.tcp, hot.clock);
        let outcome = self.step(&mut state, clock, slot, direction, facts, now);
        self.table.hot_mut(slot).tcp = state;
        let mut news = News::NONE;
        let mut reason = None;
        match outcome {
            Outcome::Accept {
                refresh,
                assured,
                changed,
            } => {
                if let Some(class) = refresh {
                    self.refresh(slot, direction, class, facts.length, now);
                }
                let cold = self.table.cold_mut(slot);
                if assured && !cold.status.intersects(Status::ASSURED) {
                    cold.status.set(Status::ASSURED);
                    news.add(News::ASSURED);
                }
                if changed {
                    news.add(News::STATE);
                }
            }
            Outcome::Ignore(why) => reason = Some(why),
            Outcome::Invalid { reason, shorten } => {
                if let Some(class) = shorten {
                    let end = now + self.timeouts(clock.policy()).of(class);
                    self.table.hot_mut(slot).clock.set(end, class);
                }
                return Tracked::invalid(reason);
            }
            Outcome::Repeat => {
                self.end(slot);
                return self.unknown(facts, tuple, now, template);
            }
            Outcome::Kill => {
                self.table
                    .account(slot, direction, 1, u64::from(facts.length));
                news.add(News::STATE);
            }
        }
        if direction == Direction::Reply && !status.contains(Status::SEEN_REPLY) {
            self.table.cold_mut(slot).status.set(Status::SEEN_REPLY);
            news.add(News::REPLY);
        }
        self.rank(slot);
        self.tell(slot, news);
        let clash = direction == Direction::Reply && status.contains(Status::NAT_CLASH);
        if outcome == Outcome::Kill || clash {
            self.end_after_packet(slot);
            news.add(News::DESTROY);
        }
        Tracked {
            class,
            reason,
            news,
            ..self.attached(slot, direction)
        }
    }

    pub(super) fn attached(&self, slot: u32, direction: Direction) -> Tracked {
        let cold = self.table.cold(slot);
        Tracked {
            direction: Some(direction),
            connection: Some(self.table.id_of(slot)),
            status: cold.status,
            mark: cold.mark,
            ..Tracked::UNTRACKED
        }
    }

    /// What the packet's protocol says.
    fn step(
        &self,
        state: &mut TcpState,
        clock: Clock,
        slot: u32,
        direction: Direction,
        facts: &Facts<'_, K>,
        now: Instant,
    ) -> Outcome {
        let cold = self.table.cold(slot);
        let replied = cold.status.contains(Status::SEEN_REPLY);
        let mut assured = false;
        let class = match clock.kind() {
            Kind::Tcp => {
                let timeouts = self.timeouts(clock.policy());
                let remaining = clock.end() - now;
                let shift = self.ack_shift(slot, direction, facts.segment.as_ref(), cold.status);
                let setting = Setting::new(&self.config, timeouts, cold.status, remaining, shift);
                return match &facts.segment {
                    Some(segment) => tcp::step(state, direction, segment, &setting),
                    None => Outcome::Ignore(Reason::Malformed),
                };
            }
            Kind::Sctp => return sctp::step(state, direction, facts.transport),
            Kind::Udp => {
                // A question and its answer are not worth keeping; what goes on for longer is.
                let stream = replied && now > cold.born + STREAM_AGE;
                assured = stream && !cold.status.contains(Status::NAT_CLASH);
                if stream {
                    TimeoutClass::UdpStream
                } else {
                    TimeoutClass::Udp
                }
            }
            Kind::Gre => {
                assured = replied;
                if replied {
                    TimeoutClass::GreStream
                } else {
                    TimeoutClass::Gre
                }
            }
            Kind::Icmp => TimeoutClass::Icmp,
            Kind::Icmpv6 => TimeoutClass::Icmpv6,
            Kind::Generic => TimeoutClass::Generic,
        };
        Outcome::Accept {
            refresh: Some(class),
            assured,
            changed: false,
        }
    }

    /// What translation has added to the numbers that a segment of `direction` acknowledges: to the acknowledgement itself, and
    /// to the highest edge of the selective ones. Linux takes the former off both, and so may refuse what is right.
    fn ack_shift(
        &self,
        slot: u32,
        direction: Direction,
        segment: Option<&Segment>,
        status: Status,
    ) -> [u32; 2] {
        let (true, Some(segment)) = (status.contains(Status::SEQ_ADJUST), segment) else {
            return [0; 2];
        };
        let edges = segment.options.sack_ranges().iter();
        let highest = edges.fold(segment.ack, |highest, (_, right)| highest.max(*right));
        self.shifts.get(&slot).map_or([0; 2], |shifts| {
            let shift = &shifts[direction.reverse() as usize];
            [shift.of_ack(segment.ack), shift.of_ack(highest)]
        })
    }

    fn refresh(
        &mut self,
        slot: u32,
        direction: Direction,
        class: TimeoutClass,
        length: u32,
        now: Instant,
    ) {
        let status = self.table.cold(slot).status;
        if !status.contains(Status::FIXED_TIMEOUT) {
            let policy = self.table.hot(slot).clock.policy();
            let end = self.timeouts(policy).end(now, class);
            let slack = self.config.slack;
            let clock = &mut self.table.hot_mut(slot).clock;
            if status.contains(Status::CONFIRMED) {
                clock.refresh(end, class, slack);
            } else {
                clock.set_class(class);
            }
        }
        self.table.account(slot, direction, 1, u64::from(length));
    }

    /// A packet of no connection: it may open one.
    fn unknown(
        &mut self,
        facts: &Facts<'_, K>,
        tuple: &K,
        now: Instant,
        template: &Template,
    ) -> Tracked {
        let Some(reply) = tuple.inverse() else {
            return Tracked::invalid(Reason::IcmpType);
        };
        let state = match self.open(facts) {
            Ok(state) => state,
            Err(reason) => return Tracked::invalid(reason),
        };
        let tuples = match template.zones {
            Some([original, answer]) => [tuple.in_zone(original), reply.in_zone(answer)],
            None => [*tuple, reply],
        };
        if let Err(reason) = self.admit(&tuples[0], now) {
            return Tracked::dropped(reason);
        }
        let kind = Kind::of(facts.protocol);
        let hot = Hot {
            tcp: state,
            clock: Clock::new(TimeoutClass::Generic, template.policy, kind),
            ..Hot::default()
        };
        let cold = Cold {
            tuples,
            born: now,
            mark: template.mark,
            previous: 0,
            next: 0,
            status: Status::NONE,
            rank: Rank::Pending,
        };
        let Some(id) = self.table.allocate(hot, cold) else {
            return Tracked::dropped(Reason::Full);
        };
        if template.zones.is_none() {
            self.unmatched = Some((id, self.table.publications()));
        }
        self.count_source(&tuples[0], true);
        self.assign_by_rule(id.slot);
        if let Some(master) = self.announced(&tuples[0], now) {
            let mark = self.connection(master).map(|master| master.mark());
            self.masters.insert(id.slot, master);
            let cold = self.table.cold_mut(id.slot);
            cold.status.set(Status::EXPECTED);
            cold.mark = mark.unwrap_or(template.mark);
        }
        let tracked = self.known(id.slot, Direction::Original, facts, tuple, now, template);
        if tracked.connection.is_none() {
            self.discard(id.slot);
        }
        tracked
    }

    /// What a connection that this packet opens begins with.
    fn open(&self, facts: &Facts<'_, K>) -> Result<TcpState, Reason> {
        match facts.protocol {
            Protocol::TCP => facts
                .segment
                .as_ref()
                .and_then(|segment| tcp::open(segment, &self.config.tcp))
                .ok_or(Reason::TcpNew),
            Protocol::SCTP => sctp::open(facts.transport).ok_or(Reason::SctpChunks),
            Protocol::ICMP if !matches!(facts.icmp(), [8 | 13 | 15 | 17, _]) => {
                Err(Reason::IcmpType)
            }
            Protocol::ICMPV6 if !matches!(facts.icmp(), [128 | 139, _]) => Err(Reason::IcmpType),
            _ => Ok(TcpState::default()),
        }
    }

    /// An ICMP error: it belongs to the connection that it quotes, if it goes to the end whose packet it quotes.
    fn error(&mut self, facts: &Facts<'_, K>, now: Instant, template: &Template) -> Tracked {
        let Some(answer) = facts.quoted.and_then(|quoted| quoted.inverse()) else {
            return Tracked::invalid(Reason::IcmpUnknown);
        };
        let Some((slot, direction)) = self.seek(&answer, now, template) else {
            return Tracked::invalid(Reason::IcmpUnknown);
        };
        let tuple = self.table.cold(slot).tuples[direction as usize];
        if facts.key.destination().address != tuple.destination().address {
            return Tracked::invalid(Reason::IcmpMisdirected);
        }
        if self.config.mode == Mode::Hardened && !self.quotes_sent(slot, direction, facts) {
            return Tracked::invalid(Reason::IcmpSequence);
        }
        Tracked {
            class: Class::Related,
            ..self.attached(slot, direction)
        }
    }

    /// A redirect is an error only from a neighbour, and only where it quotes (RFC 4861 section 8.1).
    fn redirect(&mut self, facts: &Facts<'_, K>, now: Instant, template: &Template) -> Tracked {
        let link_local = facts.key.fields().source >> 118 == 0xfe80 >> 6;
        if facts.hop_limit != 255 || !link_local {
            return Tracked::invalid(Reason::Malformed);
        }
        match facts.transport.get(40..42) {
            Some([4, (1..)]) => self.error(facts, now, template),
            _ => Tracked::invalid(Reason::Malformed),
        }
    }

    /// Whether the quoted TCP segment is one that was sent, and not longer ago than a window. `direction` is the error's.
    fn quotes_sent(&self, slot: u32, direction: Direction, facts: &Facts<'_, K>) -> bool {
        let hot = self.table.hot(slot);
        let (Kind::Tcp, Some(seq)) = (hot.clock.kind(), facts.quoted_seq()) else {
            return true;
        };
        let sent = direction.reverse();
        let shifts = self.shifts.get(&slot).copied().unwrap_or_default();
        let seq = shifts[sent as usize].undo(seq);
        let (own, peer) = (hot.tcp.side(sent), hot.tcp.side(direction));
        own.window == 0 || !seq.is_after(own.end) && !seq.is_before(own.end - peer.window.max(1))
    }
}

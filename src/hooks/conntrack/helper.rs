//! Helpers: what reads announcements out of a connection's data.
//!
//! Apart because it is the tracker's only look at payload, and only for connections that a rule has assigned one to.
//!
//! A helper is asked after the filter and before confirmation ([`Conntrack::help`]), for each packet of its connection: such
//! connections never [fit](Conntrack::fits), so that a cache shows each of their packets to the hooks. They carry a command now
//! and then; what they announce carries the data, and is cached like any other.
//!
//! Under translation an announcement names an end that the peer cannot reach; [`Conntrack::help_across`] writes the end that it
//! can.

mod across;
mod ftp;
mod ftp64;

use super::{
    ConnId, Conntrack, ExpectError, Expectation, News, Reason, Status, Trackable, Tracked,
    connection::Kind,
};
use crate::hook::{Class, Direction};
use crate::key::{Endpoint, Pattern};
use crate::packet::{Packet, Seq};
use crate::time::{Duration, Instant};
use across::Stream;
use ftp::Found;
use ftp64::Dialogue;

/// A helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Helper {
    /// The file transfer protocol's control connection: PORT, EPRT, PASV and EPSV (RFC 959, RFC 2428). Between a client of IPv6 and
    /// a server of IPv4 each is told what it understands (RFC 6384).
    Ftp,
}

/// What a helper made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Nothing to do with it.
    Nothing,
    /// It announces a connection to this end.
    Announced(Endpoint),
    /// It must not pass.
    Drop(Reason),
}

/// How long an announcement stands.
const ANNOUNCED: Duration = Duration::from_secs(300);

/// What the helper remembers of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// Sequence numbers behind a line's end, two a direction.
    ends: [[Option<Seq>; 2]; 2],
    /// Across a translation, by direction.
    streams: [Stream; 2],
    /// Between the families.
    dialogue: Dialogue,
}

impl Lines {
    fn begins_at(&self, direction: Direction, seq: Seq) -> bool {
        self.ends[direction as usize].contains(&Some(seq))
    }

    /// Remembers a line's end in the place of an older one.
    fn ended_at(&mut self, direction: Direction, seq: Seq) {
        let places = &mut self.ends[direction as usize];
        if places.contains(&Some(seq)) {
            return;
        }
        match places {
            [place @ None, _] | [Some(_), place @ None] => *place = Some(seq),
            [Some(a), Some(b)] => {
                let oldest = if a.is_before(*b) { a } else { b };
                *oldest = oldest.max(seq);
            }
        }
    }
}

impl<K: Trackable> Conntrack<K> {
    /// Has the data of connections read by a helper whose first packet, as it arrived, matches the pattern; connections that
    /// there are stay as they are. There is no such rule to begin with, and none is made by itself.
    ///
    /// Cost: for every new connection, O(rules) while there are any.
    ///
    /// ```
    /// use gufc::hooks::conntrack::{Config, Conntrack, Helper};
    /// use gufc::hooks::filter;
    /// use gufc::key::Tuple;
    ///
    /// let mut tracker: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
    /// let control: filter::Rule = "ip saddr 10.0.0.0/8 tcp dport 21".parse()?;
    /// tracker.assign_to(control.pattern, Some(Helper::Ftp));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// With `None` the rules for this pattern are taken back.
    pub fn assign_to(&mut self, pattern: Pattern, helper: Option<Helper>) {
        self.assignments.retain(|(other, _)| *other != pattern);
        if let Some(helper) = helper {
            self.assignments.push((pattern, helper));
        }
    }

    /// Assigns the helper that a new connection is to have.
    pub(super) fn assign_by_rule(&mut self, slot: u32) {
        if self.assignments.is_empty() {
            return;
        }
        let fields = self.table.cold(slot).tuples[0].fields();
        let mut rules = self.assignments.iter();
        if let Some((_, helper)) = rules.find(|(pattern, _)| pattern.matches(&fields)) {
            let helper = *helper;
            self.assign(self.table.id_of(slot), helper);
        }
    }

    /// Has a connection's data read by a helper from now on. False for a name that names nothing, and for a connection of
    /// another protocol than the helper's.
    pub fn assign(&mut self, id: ConnId, helper: Helper) -> bool {
        let Some(slot) = self.table.slot_of(id) else {
            return false;
        };
        let Helper::Ftp = helper;
        if self.table.hot(slot).clock.kind() != Kind::Tcp {
            return false;
        }
        self.helpers.insert(slot, Lines::default());
        self.table.cold_mut(slot).status.set(Status::HELPER);
        self.rank(slot);
        self.tell(slot, News::HELPER);
        true
    }

    /// Shows a packet that the filter let pass to the helper of its connection, if it has one. For connections that are not
    /// translated; else see [`help_across`](Self::help_across). As a hook the tracker does it itself, once the packet has its verdict; a
    /// part of a command it drops before.
    ///
    /// Cost: O(1) without a helper; O(length of one line) with one.
    pub fn help<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        tracked: &Tracked,
        now: Instant,
    ) -> Help {
        let (Class::Established, Some(id), Some(direction)) =
            (tracked.class, tracked.connection, tracked.direction)
        else {
            return Help::Nothing;
        };
        let help = self.listen(packet, id, direction, now);
        self.count_help(help)
    }

    /// Leaves it to the owner of this tracker to call its helpers: the hook does not.
    pub(in crate::hooks) fn leave_helpers(&mut self) {
        self.listens = false;
    }

    /// Whether a packet ends in the middle of a command, so that [`help`](Self::help) will not let it pass: for the hook, which says so
    /// before other hooks have spoken.
    pub(super) fn is_partial<P: Packet<Key = K>>(&self, packet: &P, tracked: &Tracked) -> bool {
        let (Class::Established, Some(id), Some(direction)) =
            (tracked.class, tracked.connection, tracked.direction)
        else {
            return false;
        };
        let lines = self
            .table
            .slot_of(id)
            .and_then(|slot| self.helpers.get(&slot));
        let (Some(lines), Some(segment)) = (lines, packet.segment()) else {
            return false;
        };
        let header = usize::from(segment.options.length) + 20;
        let data = packet.transport().get(header..).unwrap_or(&[]);
        lines.begins_at(direction, segment.seq)
            && matches!(ftp::read_line(data, direction), Found::Partial)
    }

    fn count_help(&mut self, help: Help) -> Help {
        if let Help::Drop(reason) = help {
            self.counters[reason as usize] += 1;
        }
        help
    }

    fn listen<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        id: ConnId,
        direction: Direction,
        now: Instant,
    ) -> Help {
        let (Some(slot), false) = (self.table.slot_of(id), self.helpers.is_empty()) else {
            return Help::Nothing;
        };
        let (Some(lines), Some(segment)) = (self.helpers.get_mut(&slot), packet.segment()) else {
            return Help::Nothing;
        };
        let header = usize::from(segment.options.length) + 20;
        let data = packet.transport().get(header..).unwrap_or(&[]);
        let at_line = lines.begins_at(direction, segment.seq);
        if data.last() == Some(&b'\n') {
            lines.ended_at(direction, segment.end());
        }
        if !at_line {
            return Help::Nothing;
        }
        let said = match ftp::read_line(data, direction) {
            Found::Nothing => return Help::Nothing,
            Found::Partial => return Help::Drop(Reason::HelperPartial),
            Found::End(said) => said,
        };
        // As the peer sees the announcing end.
        let back = self.table.cold(slot).tuples[direction.reverse() as usize];
        let own = self.table.cold(slot).tuples[direction as usize].source();
        if said.address.is_some_and(|address| address != own.address) {
            // Somebody else's address: a bounce.
            return Help::Nothing;
        }
        let end = Endpoint::new(back.destination().address, said.port);
        match self.expect_from(id, back, end, now) {
            Ok(()) => Help::Announced(end),
            Err(_) => Help::Drop(Reason::HelperExpectation),
        }
    }

    /// Expects a connection of a master's peer, whose packets arrive as `back`, to an end.
    fn expect_from(
        &mut self,
        master: ConnId,
        back: K,
        end: Endpoint,
        now: Instant,
    ) -> Result<(), ExpectError> {
        let source = Endpoint::new(back.source().address, 0);
        let tuple = back.with(source, end).ok_or(ExpectError::Master)?;
        self.expect(
            Expectation {
                master,
                tuple,
                any_address: false,
                any_port: true,
                class: 0,
                class_max: 1,
                permanent: false,
                until: now + ANNOUNCED,
            },
            now,
        )
    }
}

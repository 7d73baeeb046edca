//! Helpers: what reads announcements out of a connection's data.
//!
//! Apart because it is the tracker's only look at payload, and only for connections that a rule has assigned one to.
//!
//! A helper is asked after the filter and before confirmation ([`Conntrack::help`]), for each packet of its connection: such
//! connections never [fit](Conntrack::fits).

mod ftp;

use super::{ConnId, Conntrack, ExpectError, Expectation, News, Reason, Status, Trackable};
use super::{Tracked, connection::Kind};
use crate::hook::{Class, Direction};
use crate::key::Endpoint;
use crate::packet::{Packet, Seq};
use crate::time::{Duration, Instant};
use ftp::Found;

/// A helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Helper {
    /// The file transfer protocol's control connection: PORT, EPRT, PASV and EPSV (RFC 959, RFC 2428).
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

/// What the helper remembers of one connection: sequence numbers behind a line's end, two a direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines([[Option<Seq>; 2]; 2]);

impl Lines {
    fn begins_at(&self, direction: Direction, seq: Seq) -> bool {
        self.0[direction as usize].contains(&Some(seq))
    }

    /// Remembers a line's end in the place of an older one.
    fn ended_at(&mut self, direction: Direction, seq: Seq) {
        let places = &mut self.0[direction as usize];
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

    /// Shows a packet that the filter let pass to the helper of its connection, if it has one.
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
        if !tracked.status.contains(Status::HELPER) {
            return Help::Nothing;
        }
        let (Some(slot), Some(segment)) = (self.table.slot_of(id), packet.segment()) else {
            return Help::Nothing;
        };
        let header = usize::from(segment.options.length) + 20;
        let data = packet.transport().get(header..).unwrap_or(&[]);
        let Some(lines) = self.helpers.get_mut(&slot) else {
            return Help::Nothing;
        };
        let at_line = lines.begins_at(direction, segment.seq);
        if data.last() == Some(&b'\n') {
            lines.ended_at(direction, segment.end());
        }
        if !at_line {
            return Help::Nothing;
        }
        // As the peer sees the announcing end.
        let back = self.table.cold(slot).tuples[direction.reverse() as usize];
        let own = self.table.cold(slot).tuples[direction as usize].source();
        let help = match ftp::read(data, direction) {
            Found::Nothing => Help::Nothing,
            Found::Partial => Help::Drop(Reason::HelperPartial),
            // Somebody else's address: a bounce.
            Found::End(Some(address), _) if address != own.address => Help::Nothing,
            Found::End(_, port) => {
                let end = Endpoint::new(back.destination().address, port);
                match self.announce(id, back, end, now) {
                    Ok(()) => Help::Announced(end),
                    Err(_) => Help::Drop(Reason::HelperExpectation),
                }
            }
        };
        if let Help::Drop(reason) = help {
            self.counters[reason as usize] += 1;
        }
        help
    }

    fn announce(
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

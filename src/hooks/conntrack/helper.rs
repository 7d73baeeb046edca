//! Helpers: what reads announcements out of a connection's data.
//!
//! Apart because it is the tracker's only look at payload, and only for connections that a rule has assigned one to.
//!
//! A helper is asked after the filter and before confirmation ([`Conntrack::help`]), for each packet of its connection: such
//! connections never [fit](Conntrack::fits), so that a cache shows each of their packets to the hooks. They carry a command now
//! and then; what they announce carries the data, and is cached like any other.
//!
//! Under translation an announcement names an end that the peer cannot reach. [`Conntrack::help_across`] writes the end that it
//! can, and takes note of how much the segment has grown:
//!
//! ```text
//!  client 10.0.0.2        translator 203.0.113.1                        server
//!  PORT 10,0,0,2,4,1   ─► PORT 203,0,113,1,4,1, 3 bytes more         ─► 200 fine
//!  seq 100, 20 bytes      seq 100, 23 bytes; from now on seq + 3        ack 123
//!           ack 120    ◄─ ack - 3                                    ◄─
//!                         203.0.113.1:1025 is expected: it becomes 10.0.0.2:1025
//! ```

mod ftp;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::{
    ConnId, Conntrack, ExpectError, Expectation, News, Reason, Status, Trackable, Tracked,
    connection::Kind,
};
use crate::hook::{Class, Direction};
use crate::key::{Endpoint, Pattern};
use crate::packet::{Packet, Segment, Seq, TcpFlags};
use crate::time::{Duration, Instant};
use ftp::{Found, Said};

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

/// Ports that are tried for an announcement whose own is taken.
const PORTS_TRIED: usize = 128;

/// The ports that are tried.
const PORTS: core::ops::RangeInclusive<u16> = 1024..=65_535;

/// Announcements of a direction that are remembered, for what says them may be sent again.
const REMEMBERED: usize = super::seqadj::EDITS;

/// What the helper remembers of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// Sequence numbers behind a line's end, two a direction.
    ends: [[Option<Seq>; 2]; 2],
    /// Across a translation, by direction.
    streams: [Stream; 2],
}

/// One direction's data, as far as it has been read without a gap.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// The number of its SYN, if that was seen.
    begin: Option<Seq>,
    /// Where reading goes on.
    next: Option<Seq>,
    /// Whether that is not the beginning of a line.
    within: bool,
    /// The newest announcements, oldest first.
    said: Vec<Announcement>,
    /// Behind the last announcement that is remembered no more; its receiver has what is before.
    forgotten: Option<Seq>,
}

/// What was announced once.
#[derive(Clone, Debug)]
struct Announcement {
    /// Where its arguments stand, in the sender's numbers, and how long they are.
    at: Seq,
    length: u32,
    /// As its sender said.
    inside: Endpoint,
    /// As its receiver was told, and in which words, if not the same.
    outside: Endpoint,
    text: Option<String>,
}

impl Announcement {
    fn end(&self) -> Seq {
        self.at + self.length
    }
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

/// What is to become of a segment's data.
#[derive(Debug, Default)]
struct Plan {
    announced: Option<Endpoint>,
    /// What is to be written in the place of what, from the data's begin on, in order.
    changes: Vec<(Range<usize>, String)>,
    /// Where the data are to end, for their sender to send the rest again.
    cut: Option<usize>,
    /// How many data before all that are to go, since their receiver has them.
    skip: usize,
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

    /// The same for a connection that may be translated: where the announced end is another one outside, that is what the
    /// packet says afterwards. Later segments, and the acknowledgements that come back, are then
    /// [adjusted](Self::adjusted). What says it again gets the same text, however it is cut into segments.
    ///
    /// Data are read in order: a segment behind a gap is not to pass before what is missing. A line that may announce something
    /// and ends too early is cut off, and its sender sends it again; one that its sender cuts at the same byte each time never
    /// passes, as in Linux.
    ///
    /// Outside, the port is the announced one, or the first free one of at most 128 that `draw` gives.
    ///
    /// To be called for every segment of the connection, the first included; `direction` is the packet's in the connection
    /// `id`. A packet that cannot be [changed](Packet::splice) is not to pass: the reason is counted.
    ///
    /// Cost: O(1) without a helper; O(length of the packet) with one.
    pub fn help_across<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
        now: Instant,
        draw: impl FnMut() -> u16,
    ) -> Help {
        let help = match self.plan(packet, id, direction, now, draw) {
            Ok(Some(plan)) => carry_out(&plan, packet),
            Ok(None) => Help::Nothing,
            Err(reason) => Help::Drop(reason),
        };
        self.count_help(help)
    }

    /// Reads on in the data of one direction.
    fn plan<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        id: ConnId,
        direction: Direction,
        now: Instant,
        mut draw: impl FnMut() -> u16,
    ) -> Result<Option<Plan>, Reason> {
        let (Some(slot), false) = (self.table.slot_of(id), self.helpers.is_empty()) else {
            return Ok(None);
        };
        let (Some(lines), Some(segment)) = (self.helpers.get_mut(&slot), packet.segment()) else {
            return Ok(None);
        };
        let stream = &mut lines.streams[direction as usize];
        if segment.flags.contains(TcpFlags::SYN) {
            // One that is repeated begins nothing.
            if stream.begin != Some(segment.seq) {
                *stream = Stream {
                    begin: Some(segment.seq),
                    next: Some(segment.end()),
                    ..Stream::default()
                };
            }
            return Ok(None);
        }
        let next = *stream.next.get_or_insert(segment.seq);
        if segment.flags.contains(TcpFlags::RST) || segment.occupies() == 0 {
            return Ok(None);
        }
        if segment.seq.is_after(next) {
            return Err(Reason::HelperOrder);
        }
        let header = usize::from(segment.options.length) + 20;
        let data = packet.transport().get(header..).unwrap_or(&[]);
        if data.len() != segment.payload as usize {
            return Err(Reason::HelperRewrite);
        }
        // How what is forgotten was said nobody knows: only the rest is said again. Without any it provokes an answer still.
        let mut plan = Plan::default();
        if let Some(forgotten) = stream.forgotten {
            if segment.seq.is_before(forgotten) {
                plan.skip = ((forgotten - segment.seq) as usize).min(data.len());
            }
        }
        let data = data.get(plan.skip..).unwrap_or(&[]);
        let (begin, end) = (
            segment.seq + plan.skip as u32,
            segment.seq + segment.payload,
        );
        for one in &stream.said {
            if !one.end().is_after(begin) || !one.at.is_before(end) {
                continue;
            }
            if one.at.is_before(begin) {
                return Err(Reason::HelperPartial);
            }
            let at = (one.at - begin) as usize;
            plan.announced = Some(one.outside);
            if one.end().is_after(end) {
                plan.cut = Some(at);
            } else if let Some(text) = &one.text {
                plan.changes
                    .push((at..at + one.length as usize, text.clone()));
            }
        }
        let within = core::mem::replace(&mut stream.within, true);
        let mut read = if begin.is_before(next) {
            (next - begin) as usize
        } else {
            0
        };
        if within && read < data.len() {
            read = line_end(data, read).unwrap_or(data.len());
        }
        while read < data.len() && plan.cut.is_none() {
            let line = data.get(read..).unwrap_or(&[]);
            match ftp::read_line(line, direction) {
                Found::Nothing => {}
                Found::Partial if read == 0 => {
                    self.reads_on(slot, direction, next, within);
                    return Err(Reason::HelperPartial);
                }
                Found::Partial => plan.cut = Some(read),
                Found::End(said) => {
                    let at = said.at.start + read..said.at.end + read;
                    let seq = begin + at.start as u32;
                    match self.say(id, slot, direction, [begin, seq], &said, now, &mut draw) {
                        Ok(None) => {}
                        Ok(Some((outside, text))) => {
                            plan.announced = Some(outside);
                            plan.changes.extend(text.map(|text| (at, text)));
                        }
                        // What is before it has been said: it comes again.
                        Err(_) if read > 0 => plan.cut = Some(read),
                        Err(reason) => {
                            self.reads_on(slot, direction, next, within);
                            return Err(reason);
                        }
                    }
                }
            }
            if plan.cut.is_none() {
                read = line_end(data, read).unwrap_or(data.len());
            }
        }
        let whole = plan.cut.unwrap_or(data.len());
        let reached = begin + whole as u32;
        if reached.is_after(next) {
            let within = whole > 0 && data.get(whole - 1) != Some(&b'\n');
            self.reads_on(slot, direction, reached, within);
        } else {
            self.reads_on(slot, direction, next, within);
        }
        if plan.cut == Some(0) && plan.skip == 0
            || plan.cut.is_some() && segment.flags.contains(TcpFlags::FIN)
        {
            return Err(Reason::HelperPartial);
        }
        Ok(Some(plan))
    }

    fn reads_on(&mut self, slot: u32, direction: Direction, next: Seq, within: bool) {
        if let Some(lines) = self.helpers.get_mut(&slot) {
            let stream = &mut lines.streams[direction as usize];
            stream.next = Some(next);
            stream.within = within;
        }
    }

    /// Expects what a line at `at` announces, in a segment that begins at `begin`, and remembers how it is to be said outside;
    /// `None` for somebody else's address.
    #[expect(clippy::too_many_arguments, reason = "the place of one line, in parts")]
    fn say(
        &mut self,
        id: ConnId,
        slot: u32,
        direction: Direction,
        [begin, at]: [Seq; 2],
        said: &Said,
        now: Instant,
        draw: &mut impl FnMut() -> u16,
    ) -> Result<Option<(Endpoint, Option<String>)>, Reason> {
        // As the peer sees the announcing end.
        let back = self.table.cold(slot).tuples[direction.reverse() as usize];
        let own = self.table.cold(slot).tuples[direction as usize].source();
        if said.address.is_some_and(|address| address != own.address) {
            return Ok(None);
        }
        let heard = self.table.hot(slot).tcp.side(direction.reverse()).acked;
        let lines = self.helpers.get(&slot);
        let stream = lines.and_then(|lines| lines.streams.get(direction as usize));
        let said_before = stream.map_or(&[][..], |stream| &stream.said[..]);
        let oldest = said_before.first().map(Announcement::end);
        if said_before.len() >= REMEMBERED
            && oldest.is_some_and(|end| end.is_after(heard) || end.is_after(begin))
        {
            return Err(Reason::HelperExpectation);
        }
        let inside = Endpoint::new(own.address, said.port);
        let outside = self.announce(id, back, inside, now, || Some(draw()));
        let outside = outside.ok_or(Reason::HelperExpectation)?;
        let stays = inside == outside || said.address.is_none() && inside.port == outside.port;
        let text = if stays {
            None
        } else {
            Some(said.written(outside).ok_or(Reason::HelperRewrite)?)
        };
        let length = said.at.len() as u32;
        if let Some(text) = &text {
            // Also where the length stays: what is written anew is acknowledged as a whole.
            let growth = text.len() as i32 - length as i32;
            self.adjust_slot(slot, direction, at, length, growth);
        }
        if let Some(lines) = self.helpers.get_mut(&slot) {
            let stream = &mut lines.streams[direction as usize];
            let said = &mut stream.said;
            if said.len() >= REMEMBERED {
                stream.forgotten = Some(said.remove(0).end());
            }
            said.push(Announcement {
                at,
                length,
                inside,
                outside,
                text: text.clone(),
            });
        }
        Ok(Some((outside, text)))
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

    /// Expects what was announced; the end that the peer can reach, or `None` where there is no place for it.
    fn announce(
        &mut self,
        master: ConnId,
        back: K,
        inside: Endpoint,
        now: Instant,
        mut draw: impl FnMut() -> Option<u16>,
    ) -> Option<Endpoint> {
        let address = back.destination().address;
        let mut port = inside.port;
        for _ in 0..=PORTS_TRIED {
            let outside = Endpoint::new(address, port);
            match self.expect_from(master, back, outside, now) {
                Ok(()) => return Some(outside),
                Err(ExpectError::Busy) if address != inside.address => {}
                Err(_) => return None,
            }
            let drawn = draw()?;
            let size = PORTS.end() - PORTS.start() + 1;
            port = PORTS.start() + drawn % size;
        }
        None
    }

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

    /// The end that a connection's helper read where the peer was told `outside`: where a connection that was announced goes.
    /// `None` where it is forgotten or was never said.
    pub fn announced_as(&self, master: ConnId, outside: Endpoint) -> Option<Endpoint> {
        let lines = self.helpers.get(&self.table.slot_of(master)?)?;
        let mut all = lines.streams.iter().flat_map(|stream| &stream.said);
        all.rfind(|one| one.outside == outside)
            .map(|one| one.inside)
    }
}

/// Changes a packet's data as planned.
fn carry_out<P: Packet>(plan: &Plan, packet: &mut P) -> Help {
    let Some(segment) = packet.segment() else {
        return Help::Drop(Reason::HelperRewrite);
    };
    let header = usize::from(segment.options.length) + 20;
    let data = header + plan.skip;
    let length = packet.transport().len();
    let mut done = true;
    if let Some(cut) = plan.cut {
        done &= packet.splice(data + cut..length, &[]).is_ok();
    }
    for (at, text) in plan.changes.iter().rev() {
        let at = at.start + data..at.end + data;
        done &= packet.splice(at, text.as_bytes()).is_ok();
    }
    if plan.skip > 0 {
        let seq = segment.seq + plan.skip as u32;
        done &= packet.splice(header..data, &[]).is_ok();
        done &= packet.renumber(&Segment { seq, ..segment });
    }
    match plan.announced {
        _ if !done => Help::Drop(Reason::HelperRewrite),
        Some(end) => Help::Announced(end),
        None => Help::Nothing,
    }
}

/// Where the line that `from` is in has ended.
fn line_end(data: &[u8], from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    Some(from + rest.iter().position(|byte| *byte == b'\n')? + 1)
}

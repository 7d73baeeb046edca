//! Helpers across a translation: data that are read in order, and written anew where they announce an end.
//!
//! Apart because the tracker's own helper only looks: here segments change their length, so that what was said has to be remembered
//! for as long as it may be said again.
//!
//! ```text
//!  client 10.0.0.2        translator 203.0.113.1                        server
//!  PORT 10,0,0,2,4,1   ─► PORT 203,0,113,1,4,1, 3 bytes more         ─► 200 fine
//!  seq 100, 20 bytes      seq 100, 23 bytes; from now on seq + 3        ack 123
//!           ack 120    ◄─ ack - 3                                    ◄─
//!                         203.0.113.1:1025 is expected: it becomes 10.0.0.2:1025
//! ```

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use super::Help;
use super::ftp::{self, Found};
use super::ftp64::{self, Own, Turn};
use crate::hook::Direction;
use crate::hooks::conntrack::{ConnId, Conntrack, ExpectError, Reason, Trackable, seqadj};
use crate::key::{Endpoint, Family};
use crate::packet::{Packet, Segment, Seq, TcpFlags};
use crate::time::Instant;

/// Ports that are tried for an announcement whose own is taken.
const PORTS_TRIED: usize = 128;

/// The ports that are tried.
const PORTS: core::ops::RangeInclusive<u16> = 1024..=65_535;

/// Announcements of a direction that are remembered, for what says them may be sent again.
const REMEMBERED: usize = seqadj::EDITS;

/// Bytes that changes may add to one segment: before it there must be room for them, and for a header of the other family. What
/// is more is cut off, and sent again.
const GROWTH_MAX: i32 = 36;

/// One direction's data, as far as it has been read without a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The number of its SYN, if that was seen.
    begin: Option<Seq>,
    /// Where reading goes on.
    next: Option<Seq>,
    /// Whether that is not the beginning of a line.
    within: bool,
    /// The newest announcements and changes, oldest first.
    said: Vec<Saying>,
    /// Behind the last of them that is remembered no more; its receiver has what is before.
    forgotten: Option<Seq>,
}

impl Stream {
    /// Has said again what was said once of the data in a range; what would end in the middle of something is cut off before it.
    fn repeat(&self, range: Range<Seq>, plan: &mut Plan) -> Result<(), Reason> {
        for one in &self.said {
            if !one.end().is_after(range.start) || !one.at.is_before(range.end) {
                continue;
            }
            if one.at.is_before(range.start) {
                return Err(Reason::HelperPartial);
            }
            if one.end().is_after(range.end) {
                plan.cut = Some((one.at - range.start) as usize);
            }
            plan.note(one, range.start);
        }
        Ok(())
    }
}

/// What was announced, or changed, once.
#[derive(Clone, Debug)]
struct Saying {
    /// Where the words that count stand, in the sender's numbers, and how long they are.
    at: Seq,
    length: u32,
    /// The end that was announced, if one was.
    announced: Option<Announced>,
    /// In which words its receiver was told, if not the same.
    text: Option<Text>,
}

/// An end that was announced.
#[derive(Clone, Copy, Debug)]
struct Announced {
    /// As its sender said.
    inside: Endpoint,
    /// As its receiver was told.
    outside: Endpoint,
}

/// Words in the place of others.
type Text = Cow<'static, str>;

/// Where a line is: whose it is, and where its segment and the line itself begin.
#[derive(Clone, Copy)]
struct Place {
    id: ConnId,
    slot: u32,
    direction: Direction,
    segment: Seq,
    line: Seq,
}

impl Saying {
    fn end(&self) -> Seq {
        self.at + self.length
    }

    /// How much longer it is for its receiver.
    fn growth(&self) -> i32 {
        let text = self.text.as_ref();
        text.map_or(0, |text| text.len() as i32 - self.length as i32)
    }
}

/// What is to become of a segment's data.
#[derive(Debug, Default)]
struct Plan {
    announced: Option<Endpoint>,
    /// What is to be written in the place of what, from the data's begin on, in order.
    changes: Vec<(Range<usize>, Text)>,
    /// Where the data are to end, for their sender to send the rest again.
    cut: Option<usize>,
    /// How many data before all that are to go, since their receiver has them.
    skip: usize,
    /// By how much the changes make them longer.
    growth: i32,
}

impl Plan {
    /// Has something said, in data from `begin` on, unless they are cut off before it.
    fn note(&mut self, one: &Saying, begin: Seq) {
        if let Some(announced) = one.announced {
            self.announced = Some(announced.outside);
        }
        let (Some(text), None) = (&one.text, self.cut) else {
            return;
        };
        let at = (one.at - begin) as usize;
        self.growth += one.growth();
        if self.growth > GROWTH_MAX && at > 0 {
            self.cut = Some(at);
        } else {
            let at = at..at + one.length as usize;
            self.changes.push((at, text.clone()));
        }
    }
}

impl<K: Trackable> Conntrack<K> {
    /// As [`help`](Self::help), for a connection that may be translated: where the announced end is another one outside, that is what the
    /// packet says afterwards. Later segments, and the acknowledgements that come back, are then
    /// [adjusted](Self::adjusted). What says it again gets the same text, however it is cut into segments.
    ///
    /// Data are read in order: a segment behind a gap is not to pass before what is missing. A line that may announce something
    /// and ends too early is cut off, and its sender sends it again; one that its sender cuts at the same byte each time never
    /// passes, as in Linux. What would make a segment more than 36 bytes longer is cut off, too.
    ///
    /// Outside, the port is the announced one, or the first free one of at most 128 that `draw` gives. Between a client of IPv6
    /// and a server of IPv4 the client's ends are lent by a [translator's](crate::hooks::nat::Nat) pool, and by nobody here.
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
        self.help_between(packet, id, direction, now, draw, |_, _| None)
    }

    /// The same for a connection that may be between a client of IPv6 and a server of IPv4: each is told what it understands (RFC
    /// 6384). `lend` says which end outside an end of the client's becomes.
    pub(in crate::hooks) fn help_between<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
        now: Instant,
        mut draw: impl FnMut() -> u16,
        mut lend: impl FnMut(&Self, Endpoint) -> Option<Endpoint>,
    ) -> Help {
        let families = self.table.slot_of(id).map(|slot| {
            let tuples = self.table.cold(slot).tuples;
            tuples.map(|tuple| tuple.fields().family)
        });
        let is_between = match families {
            Some([Family::V6, Family::V4]) => true,
            // The RFC leaves it to the client, and so do we.
            Some([Family::V4, Family::V6]) => return Help::Nothing,
            _ => false,
        };
        let mut read = |tracker: &mut Self, place: &Place, line: &[u8]| {
            if is_between {
                tracker.turn(place, line, now, &mut lend)
            } else {
                tracker.say(place, line, now, &mut draw)
            }
        };
        let help = match self.plan(packet, id, direction, &mut read) {
            Ok(Some(plan)) => carry_out(&plan, packet),
            Ok(None) => Help::Nothing,
            Err(reason) => Help::Drop(reason),
        };
        self.count_help(help)
    }

    /// Reads on in the data of one direction; `read` reads what begins at a line.
    fn plan<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        id: ConnId,
        direction: Direction,
        read: &mut impl FnMut(&mut Self, &Place, &[u8]) -> Result<Option<Saying>, Reason>,
    ) -> Result<Option<Plan>, Reason> {
        let (Some(slot), false) = (self.table.slot_of(id), self.helpers.is_empty()) else {
            return Ok(None);
        };
        let (Some(lines), Some(segment)) = (self.helpers.get_mut(&slot), packet.segment()) else {
            return Ok(None);
        };
        let is_aside = lines.dialogue.is_aside();
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
        if segment.seq.is_after(next) && !is_aside {
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
        let begin = segment.seq + plan.skip as u32;
        let end = segment.seq + segment.payload;
        stream.repeat(begin..end, &mut plan)?;
        let within = core::mem::replace(&mut stream.within, true);
        let mut at = if is_aside {
            data.len()
        } else if begin.is_before(next) {
            (next - begin) as usize
        } else {
            0
        };
        if within && at < data.len() {
            at = line_end(data, at).unwrap_or(data.len());
        }
        while at < data.len() && plan.cut.is_none() {
            let line = data.get(at..).unwrap_or(&[]);
            let place = Place {
                id,
                slot,
                direction,
                segment: begin,
                line: begin + at as u32,
            };
            match read(self, &place, line) {
                Ok(said) => {
                    if let Some(said) = &said {
                        plan.note(said, begin);
                    }
                    self.remember(slot, direction, said);
                    at = line_end(data, at).unwrap_or(data.len());
                }
                // What is before it has been said: it comes again.
                Err(_) if at > 0 => plan.cut = Some(at),
                Err(reason) => {
                    self.reads_on(slot, direction, next, within);
                    return Err(reason);
                }
            }
        }
        let reached = begin + at as u32;
        if reached.is_after(next) && !is_aside {
            let within = at > 0 && data.get(at - 1) != Some(&b'\n');
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

    /// Reads what begins at a line: expects what it announces, and says how that is to be said outside. `None` where it
    /// announces nothing, or somebody else's address.
    fn say(
        &mut self,
        place: &Place,
        line: &[u8],
        now: Instant,
        draw: &mut impl FnMut() -> u16,
    ) -> Result<Option<Saying>, Reason> {
        let direction = place.direction;
        let said = match ftp::read_line(line, direction) {
            Found::Nothing => return Ok(None),
            Found::Partial => return Err(Reason::HelperPartial),
            Found::End(said) => said,
        };
        // As the peer sees the announcing end.
        let back = self.table.cold(place.slot).tuples[direction.reverse() as usize];
        let own = self.table.cold(place.slot).tuples[direction as usize].source();
        if said.address.is_some_and(|address| address != own.address) {
            return Ok(None);
        }
        self.is_room(place)?;
        let inside = Endpoint::new(own.address, said.port);
        let outside = self.announce(place.id, back, inside, now, || Some(draw()));
        let outside = outside.ok_or(Reason::HelperExpectation)?;
        let stays = inside == outside || said.address.is_none() && inside.port == outside.port;
        let text = if stays {
            None
        } else {
            Some(said.written(outside).ok_or(Reason::HelperRewrite)?.into())
        };
        Ok(Some(Saying {
            at: place.line + said.at.start as u32,
            length: said.at.len() as u32,
            announced: Some(Announced { inside, outside }),
            text,
        }))
    }

    /// The same between the families, where other words change, too.
    fn turn(
        &mut self,
        place: &Place,
        line: &[u8],
        now: Instant,
        lend: &mut impl FnMut(&Self, Endpoint) -> Option<Endpoint>,
    ) -> Result<Option<Saying>, Reason> {
        let tuples = self.table.cold(place.slot).tuples;
        let own = tuples[place.direction as usize].source().address;
        let back = tuples[place.direction.reverse() as usize];
        let lines = self.helpers.get(&place.slot);
        let mut dialogue = lines
            .map(|lines| lines.dialogue.clone())
            .unwrap_or_default();
        let turn = match place.direction {
            Direction::Original => dialogue.command(line, own),
            Direction::Reply => dialogue.reply(line, own),
        };
        let expects = |tracker: &mut Self, outside: Endpoint| {
            let expected = tracker.expect_from(place.id, back, outside, now).is_ok();
            expected.then_some(outside)
        };
        let (at, inside, outside, text) = match turn {
            Turn::Same => (0..0, None, None, None),
            Turn::Partial => return Err(Reason::HelperPartial),
            Turn::Full => return Err(Reason::HelperExpectation),
            Turn::Words(at, text) => {
                self.is_room(place)?;
                (at, None, None, Some(text))
            }
            Turn::Lend(at, port) => {
                self.is_room(place)?;
                let inside = Endpoint::new(own, port);
                let lent = lend(self, inside);
                let lent = lent.filter(|lent| lent.address == back.destination().address);
                let lent = lent.and_then(|lent| expects(self, lent));
                let text = match lent {
                    Some(Endpoint {
                        address: IpAddr::V4(address),
                        port,
                    }) => ftp64::port(address, port),
                    _ => dialogue.refuse(),
                };
                (at, Some(inside), lent, Some(text))
            }
            Turn::Expect(at, port, text) => {
                self.is_room(place)?;
                let outside = expects(self, Endpoint::new(back.destination().address, port));
                let text = outside.map_or_else(|| Some(Own::CannotOpen.line()), |_| text);
                (at, Some(Endpoint::new(own, port)), outside, text)
            }
        };
        if let Some(lines) = self.helpers.get_mut(&place.slot) {
            lines.dialogue = dialogue;
        }
        let announced = inside.zip(outside);
        let said = Saying {
            at: place.line + at.start as u32,
            length: at.len() as u32,
            announced: announced.map(|(inside, outside)| Announced { inside, outside }),
            text,
        };
        Ok((!at.is_empty()).then_some(said))
    }

    /// Whether one more announcement or change can be remembered: what gives way must have been heard.
    fn is_room(&self, place: &Place) -> Result<(), Reason> {
        let direction = place.direction;
        let heard = self
            .table
            .hot(place.slot)
            .tcp
            .side(direction.reverse())
            .acked;
        let lines = self.helpers.get(&place.slot);
        let said = lines.map_or(&[][..], |lines| &lines.streams[direction as usize].said);
        let oldest = said.first().map(Saying::end);
        let is_needed = |end: Seq| end.is_after(heard) || end.is_after(place.segment);
        if said.len() >= REMEMBERED && oldest.is_some_and(is_needed) {
            return Err(Reason::HelperExpectation);
        }
        Ok(())
    }

    /// Remembers what is said, and from where on numbers are shifted.
    fn remember(&mut self, slot: u32, direction: Direction, said: Option<Saying>) {
        let Some(one) = said else { return };
        if one.text.is_some() {
            // Also where the length stays: what is written anew is acknowledged as a whole.
            self.adjust_slot(slot, direction, one.at, one.length, one.growth());
        }
        if let Some(lines) = self.helpers.get_mut(&slot) {
            let stream = &mut lines.streams[direction as usize];
            if stream.said.len() >= REMEMBERED {
                stream.forgotten = Some(stream.said.remove(0).end());
            }
            stream.said.push(one);
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

    /// The end that a connection's helper read where the peer was told `outside`: where a connection that was announced goes.
    /// `None` where it is forgotten or was never said.
    pub fn announced_as(&self, master: ConnId, outside: Endpoint) -> Option<Endpoint> {
        let lines = self.helpers.get(&self.table.slot_of(master)?)?;
        let said = lines.streams.iter().flat_map(|stream| &stream.said);
        let mut all = said.filter_map(|one| one.announced);
        let found = all.rfind(|one| one.outside == outside);
        found.map(|one| one.inside)
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

//! Long questions and answers: they come in fragments, are translated as the datagrams that they make, and leave in fragments.

use gufc::cache::FlowCache;
use gufc::key::{Embedding, FlowKey, Tuple};
use gufc::packet::{Mtus, Packet};
use gufc::time::Instant;
use gufc::verdict::Verdict;
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{Arrival, Cut, Frame, HEADROOM, Limits, Reassembler, Reassembly};

use crate::Hooks;

/// What every link takes.
const MTUS: Mtus = Mtus::both(1500);

/// What has been seen of long datagrams.
#[derive(Default)]
pub(crate) struct Report {
    /// Datagrams that came,
    pub(crate) datagrams: u64,
    /// in so many fragments,
    pub(crate) came: u64,
    /// and left in so many.
    pub(crate) left: u64,
}

/// A dataplane around the hooks.
struct Dataplane<'a> {
    cache: &'a mut FlowCache<Tuple, Hooks>,
    reassembler: Reassembler,
    now: Instant,
}

impl Dataplane<'_> {
    /// What leaves of one packet.
    fn send(&mut self, mut packet: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
        let frame: Frame = Frame::ip(&mut packet, &Arrival::default())?;
        let mut cut = Cut::of(&frame);
        let mut buffer = vec![0; HEADROOM];
        match self.reassembler.push(&frame, self.now) {
            Reassembly::Whole => buffer.extend_from_slice(frame.packet()),
            Reassembly::Complete(datagram) => {
                buffer.extend_from_slice(datagram);
                cut = self.reassembler.cut();
            }
            Reassembly::Queued | Reassembly::Discarded(_) => return Ok(Vec::new()),
        }
        let frame: Frame = Frame::with_headroom(&mut buffer, HEADROOM, &Arrival::default())?;
        let mut frame = frame.with_cut(&cut);
        let outcome = self.cache.process(&mut frame, self.now);
        match outcome.verdict {
            Verdict::Accept => Ok(cut.fragments(frame.packet(), &MTUS)?),
            _ => Ok(Vec::new()),
        }
    }
}

/// Lets each host ask one long question, last fragment first, and get a long answer.
pub(crate) fn run(
    cache: &mut FlowCache<Tuple, Hooks>,
    hosts: u32,
    now: Instant,
) -> Result<Report, Box<dyn std::error::Error>> {
    let mut plane = Dataplane {
        cache,
        reassembler: Reassembler::new(Limits::default()),
        now,
    };
    let mut report = Report::default();
    let payload: Vec<u8> = (0..4000u32).map(|n| (n % 251) as u8).collect();
    for host in 0..hosts {
        let server = Embedding::WELL_KNOWN.embed([192, 0, 2, 1 + (host % 200) as u8].into());
        let mut key: Tuple = format!("udp [2001:db8::{host:x}]:4000 > [{server}]:53").parse()?;
        for _ in 0..2 {
            let (source, destination) = (key.source(), key.destination());
            let transport = Transport::udp(source.port, destination.port);
            let mut datagram = Datagram::new(source.address, destination.address, transport);
            datagram.identification = host & 0xffff;
            let pieces = datagram.with_payload(&payload).fragments(1500)?;
            report.datagrams += 1;
            report.came += pieces.len() as u64;
            let mut left = Vec::new();
            for piece in pieces.into_iter().rev() {
                left.extend(plane.send(piece)?);
            }
            report.left += left.len() as u64;
            key = received(&left, &payload)?.inverse().ok_or("no answer")?;
        }
    }
    Ok(report)
}

/// Puts together what has left; its key, if it is whole, intact, and carries what was sent.
fn received(pieces: &[Vec<u8>], payload: &[u8]) -> Result<Tuple, Box<dyn std::error::Error>> {
    let mut reassembler = Reassembler::new(Limits::default());
    for piece in pieces {
        let mut piece = piece.clone();
        let frame: Frame = Frame::ip(&mut piece, &Arrival::default())?;
        if let Reassembly::Complete(datagram) = reassembler.push(&frame, Instant::START) {
            let frame: Frame = Frame::ip(datagram, &Arrival::default())?;
            if frame.is_intact() && frame.transport().ends_with(payload) {
                return Ok(frame.key());
            }
        }
    }
    Err("a long datagram did not arrive".into())
}

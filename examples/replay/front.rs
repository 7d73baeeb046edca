//! What stands before the hooks: fragments wait for one another, so that hooks see datagrams with ports.

use gufc::packet::{Defect, Interface};
use gufc::wire::{Arrival, Frame, Limits, Losses, Reassembler, Reassembly, Refusal};

use crate::capture::Captured;

/// Why a packet of the capture is not judged, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is no IP packet.
    Defect(Defect),
    /// A fragment whose datagram is not complete.
    Waits,
    /// A fragment that does not fit to the others of its datagram.
    Refused(Refusal),
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Defect(defect) => defect.fmt(f),
            Self::Waits => f.write_str("fragment, judged with the last of its datagram"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// A reassembler, or nothing.
pub(crate) struct Front(Option<Reassembler>);

impl Front {
    pub(crate) fn new(reassembles: bool) -> Self {
        Self(reassembles.then(|| Reassembler::new(Limits::default())))
    }

    /// Shows `judge` the packet, or the datagram that it is the last fragment of.
    pub(crate) fn offer<T>(
        &mut self,
        captured: &Captured,
        bytes: &mut [u8],
        judge: impl FnOnce(&mut Frame<'_>) -> T,
    ) -> Result<T, Held> {
        let mut arrival = Arrival::on(Interface(1));
        if captured.cut {
            arrival = arrival.cut_short();
        }
        let mut frame: Frame<'_> =
            Frame::parse(captured.link, bytes, &arrival).map_err(Held::Defect)?;
        let Some(reassembler) = &mut self.0 else {
            return Ok(judge(&mut frame));
        };
        match reassembler.push(&frame, captured.at) {
            Reassembly::Whole => Ok(judge(&mut frame)),
            Reassembly::Queued => Err(Held::Waits),
            Reassembly::Discarded(refusal) => Err(Held::Refused(refusal)),
            Reassembly::Complete(bytes) => {
                let arrival = Arrival::on(Interface(1));
                let mut datagram = Frame::ip(bytes, &arrival).map_err(Held::Defect)?;
                Ok(judge(&mut datagram))
            }
        }
    }

    /// Datagrams that still wait, and those given up.
    pub(crate) fn unfinished(&self) -> (usize, Losses) {
        let none = (0, Losses::default());
        self.0.as_ref().map_or(none, |reassembler| {
            (reassembler.len(), reassembler.losses())
        })
    }
}

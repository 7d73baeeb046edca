//! What the owner of a tracker decides: capacity, seed, mode, switches.
//!
//! Apart because all of it is data.

use alloc::vec::Vec;

use super::Timeouts;
use crate::key::Zone;
use crate::time::Duration;
use crate::verdict::Answer;

/// Whose judgement the tracker gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// That of Linux 6.18, packet by packet.
    #[default]
    Linux,
    /// That of Linux with four doors closed to a sender who sees nothing of the connection:
    ///
    /// 1. *The two-packet kill.* A forged SYN that is let through to provoke an answer, and a forged reset that acknowledges
    ///    it, close an established connection in Linux. Here such a reset passes and changes nothing.
    /// 2. *Planted windows.* A SYN/ACK that is refused leaves its numbers in the connection in Linux. Here a refused segment
    ///    leaves nothing.
    /// 3. *Blind ICMP errors.* An error that quotes a TCP segment is related in Linux whatever the quoted sequence number.
    ///    Here the segment must be one that was sent, and not long ago.
    /// 4. *Resets while closing.* From the first FIN on any reset closes in Linux. Here it has to be exact, as in the
    ///    established state; one that is in the window passes and changes nothing; and none is believed in TIME_WAIT and
    ///    CLOSE (RFC 1337).
    Hardened,
}

/// TCP's switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// Whether a connection may be picked up in its middle. Such a connection is not checked against windows.
    pub loose: bool,
    /// Whether segments outside the window are believed. Resets that are too old never are.
    pub liberal: bool,
    /// Whether resets that are too old are let through.
    pub ignore_invalid_rst: bool,
    /// Repetitions of one segment after which the lifetime is at most
    /// [`TcpRetransmission`](super::TimeoutClass::TcpRetransmission).
    pub max_retransmissions: u8,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            loose: true,
            liberal: false,
            ignore_invalid_rst: false,
            max_retransmissions: 3,
        }
    }
}

/// Everything that a tracker is made from.
///
/// ```
/// use gufc::hooks::conntrack::{Config, Mode};
///
/// let config = Config { mode: Mode::Hardened, ..Config::new(65_536, [1, 2]) };
/// assert_eq!(config.capacity, 65_536);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections at once, those not yet confirmed included; 1 to 2^29.
    pub capacity: u32,
    /// Secret randomness for the index, from a generator that nobody can predict.
    pub seed: [u64; 2],
    /// Whose judgement it gives.
    pub mode: Mode,
    /// Lifetimes by policy; a connection's policy is chosen at its birth ([`Template::policy`](super::Template::policy)).
    /// An empty list counts as one Linux profile. At most 16.
    pub timeouts: Vec<Timeouts>,
    /// A refresh that would move a connection's end by less than this is left out. Zero, as in Linux, leaves none out.
    pub slack: Duration,
    /// TCP's switches.
    pub tcp: TcpConfig,
    /// Whether transport checksums are verified.
    pub checksum: bool,
    /// Whether packets and bytes are counted for each connection.
    pub accounting: bool,
    /// News kept for a listener that has not fetched them; 0 keeps none. When full the newest is lost and counted.
    pub news_capacity: usize,
    /// Connections from one source address; `None` does not count them.
    pub per_source_max: Option<u32>,
    /// Connections at once that have been tracked and neither confirmed nor refused; the oldest is refused when one more
    /// comes. At least 1.
    pub pending_max: u32,
    /// Announced connections at once.
    pub expectations_max: u32,
    /// For a packet that comes in the first zone of a pair and opens a connection, the zone in which its replies come, so that
    /// networks with the same addresses, each in a zone of its own, share one outside. In zones that are not listed, replies come
    /// where the packet came. The last pair of a zone counts. [`Template::zones`](super::Template::zones) says the same for one
    /// packet.
    pub reply_zones: Vec<(Zone, Zone)>,
    /// What the sender of a packet is told for whose connection there is no place, or no more of its source's; `None`, as in Linux:
    /// nothing (RFC 5508 requirement 8 asks for [`Answer::AdminProhibited`]).
    pub answer: Option<Answer>,
}

impl Config {
    /// Linux's defaults with room for `capacity` connections.
    pub fn new(capacity: u32, seed: [u64; 2]) -> Self {
        Self {
            capacity,
            seed,
            mode: Mode::Linux,
            timeouts: Vec::new(),
            slack: Duration::ZERO,
            tcp: TcpConfig::default(),
            checksum: true,
            accounting: false,
            news_capacity: 0,
            per_source_max: None,
            pending_max: 32,
            expectations_max: 256,
            reply_zones: Vec::new(),
            answer: None,
        }
    }
}

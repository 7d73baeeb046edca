//! What a NIC does for a flow cache: it spreads flows over queues, and may name a packet's entry.
//!
//! Apart from the cache because it knows nothing of it: the hash, the tables and the solver are of use to any dataplane that
//! programs a real NIC, and the simulated one obeys the same calls, delays and faults.
//!
//! | file | question |
//! |---|---|
//! | `toeplitz` | the hash of some bytes |
//! | `rss` | which fields are hashed; the hash as the trie's header |
//! | `by_nic` | a key that is indexed by the hash |
//! | `indirection` | from hash to queue, and how load is moved |
//! | `solve` | which port makes a reply come home |
//! | `cookies` | what fits into 16, 24 or 32 bits, and when a number may name something else |
//! | `device` | the simulated NIC: filters, queues, delays |
//! | `driver` | what software believes of it |
//! | `faults` | what goes wrong |

mod by_nic;
mod cookies;
mod device;
mod driver;
mod faults;
mod indirection;
mod rss;
mod solve;
mod toeplitz;

pub use by_nic::ByNic;
pub use cookies::{Cookies, CookiesFull, Life, Refusal, ShortCookie, Width};
pub use device::{
    Busy, Command, Completion, Facts, Intake, Mark, Nic, NicConfig, NicStats, Received,
};
pub use driver::{Driver, DriverStats, OffloadId, Told, Unhelped};
pub use faults::{Fault, Faults};
pub use indirection::{Bucket, Indirection, Move, Queue, chi_square};
pub use rss::{Function, Rss, RssHeader, Symmetry};
pub use solve::{Choice, End, HomePorts, PortBlock, PortSolver, Ports};
pub use toeplitz::{INPUT_MAX, RssKey, Toeplitz};

/// The next number of SplitMix64 (Steele, Lea, Flood 2014) over two seeds.
pub(crate) fn draw(state: &mut [u64; 2]) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    state[0] = state[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
    state[1] = state[1].wrapping_add(0xd1b5_4a32_d192_ed03);
    mix(state[0]) ^ mix(state[1]).rotate_left(32)
}

//! Faults from a seed: what can go wrong between wire, NIC and driver, as often as the owner says.

use super::draw;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A packet is lost.
    Drop,
    /// A packet comes twice.
    Duplicate,
    /// A packet changes places with the one queued before it.
    Reorder,
    /// A packet is held until others have come.
    Delay,
    /// A packet bears a cookie that was right for an earlier packet.
    StaleCookie,
    /// A packet bears a number that was never given.
    ForgedCookie,
    /// The NIC has done what it was asked, and the answer is lost.
    LostCompletion,
}

impl Fault {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// How often each fault strikes, in 1/256 of its chances, and the stream of chance that decides.
///
/// Equal seeds and rates give equal faults for equal traffic.
///
/// ```
/// use gufc::nic::{Fault, Faults};
///
/// let mut faults = Faults::new([1, 2]).with(Fault::Drop, 256);
/// assert!(faults.strikes(Fault::Drop) && !faults.strikes(Fault::Delay));
/// assert_eq!(faults.struck(Fault::Drop), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    state: [u64; 2],
    rates: [u16; Fault::COUNT],
    struck: [u64; Fault::COUNT],
}

impl Faults {
    /// None, ever; rates are added by [`with`](Self::with).
    pub const fn new(seed: [u64; 2]) -> Self {
        Self {
            state: seed,
            rates: [0; Fault::COUNT],
            struck: [0; Fault::COUNT],
        }
    }

    /// The same, with this fault striking `rate` times in 256; 256 and more is always.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: u16) -> Self {
        if let Some(place) = self.rates.get_mut(fault as usize) {
            *place = rate;
        }
        self
    }

    /// Whether it strikes now; counted. A fault whose rate is 0 draws no chance.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.rates.get(fault as usize).copied().unwrap_or(0);
        let strikes = rate > 0 && u16::from(self.chance() as u8) < rate;
        if strikes {
            if let Some(count) = self.struck.get_mut(fault as usize) {
                *count += 1;
            }
        }
        strikes
    }

    /// How often it has struck.
    pub fn struck(&self, fault: Fault) -> u64 {
        self.struck.get(fault as usize).copied().unwrap_or(0)
    }

    /// The next number of the stream.
    pub(super) fn chance(&mut self) -> u64 {
        draw(&mut self.state)
    }
}

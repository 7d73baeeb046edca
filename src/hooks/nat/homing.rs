//! Where answers arrive: the choice of a port for the queue that it leads to.
//!
//! Apart because who hashes packets to queues is not known here. Where several translators, one for each queue, share an outside
//! address, their ports must differ, and answers should come to the translator that knows their connection.

use core::fmt;

use crate::key::Fields;

/// What a choice of a port came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Homed {
    /// Answers arrive where the connection is known.
    Home(u16),
    /// They arrive elsewhere, and have to be handed over. No other translator chooses this port.
    Away(u16),
    /// None was free among those that were tried.
    Full,
}

/// Chooses outside ports by where answers to them arrive, no two translators the same;
/// [`HomingPorts`](crate::shard::HomingPorts) does for shards.
pub trait Homing: fmt::Debug + Send {
    /// A port that `is_free`, to be the destination port of `reply`, the answers' tuple without it. `turn` is random and spreads the
    /// choices.
    fn choose(&mut self, reply: &Fields, turn: u32, is_free: &mut dyn FnMut(u16) -> bool) -> Homed;
}

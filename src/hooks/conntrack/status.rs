//! What is known of a connection as a whole, and what changed with a packet: two sets of bits.
//!
//! Apart because filters read the first and listeners the second, and neither needs the tracker.

use core::fmt;

/// Status bits of a connection, numbered as in Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Nothing yet.
    pub const NONE: Self = Self(0);
    /// Another connection announced it.
    pub const EXPECTED: Self = Self(1 << 0);
    /// Packets have been seen both ways.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// It is not given up when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    /// It is in the table.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// Its source is translated.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// Its destination is translated.
    pub const DST_NAT: Self = Self(1 << 5);
    /// Its sequence numbers are shifted.
    pub const SEQ_ADJUST: Self = Self(1 << 6);
    /// Whether its source is translated has been decided.
    pub const SRC_NAT_DONE: Self = Self(1 << 7);
    /// Whether its destination is translated has been decided.
    pub const DST_NAT_DONE: Self = Self(1 << 8);
    /// It has left the table.
    pub const DYING: Self = Self(1 << 9);
    /// Traffic does not change its lifetime.
    pub const FIXED_TIMEOUT: Self = Self(1 << 10);
    /// Only its reply tuple is in the table: the original one belongs to the winner of a race.
    pub const NAT_CLASH: Self = Self(1 << 12);
    /// A helper was assigned by a rule.
    pub const HELPER: Self = Self(1 << 13);

    /// Each bit with its name, lowest first.
    pub const NAMES: [(Self, &'static str); 13] = [
        (Self::EXPECTED, "EXPECTED"),
        (Self::SEEN_REPLY, "SEEN_REPLY"),
        (Self::ASSURED, "ASSURED"),
        (Self::CONFIRMED, "CONFIRMED"),
        (Self::SRC_NAT, "SRC_NAT"),
        (Self::DST_NAT, "DST_NAT"),
        (Self::SEQ_ADJUST, "SEQ_ADJUST"),
        (Self::SRC_NAT_DONE, "SRC_NAT_DONE"),
        (Self::DST_NAT_DONE, "DST_NAT_DONE"),
        (Self::DYING, "DYING"),
        (Self::FIXED_TIMEOUT, "FIXED_TIMEOUT"),
        (Self::NAT_CLASH, "NAT_CLASH"),
        (Self::HELPER, "HELPER"),
    ];

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, self.0, &Self::NAMES.map(|(bit, name)| (bit.0, name)))
    }
}

/// What happened to a connection: the kinds of news that listeners are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct News(pub u16);

impl News {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It entered the table.
    pub const NEW: Self = Self(1 << 0);
    /// It entered the table, announced by another one.
    pub const RELATED: Self = Self(1 << 1);
    /// The first reply came.
    pub const REPLY: Self = Self(1 << 2);
    /// It became assured.
    pub const ASSURED: Self = Self(1 << 3);
    /// Its protocol's state changed.
    pub const STATE: Self = Self(1 << 4);
    /// Its mark changed.
    pub const MARK: Self = Self(1 << 5);
    /// Its label changed.
    pub const LABEL: Self = Self(1 << 6);
    /// A helper was assigned.
    pub const HELPER: Self = Self(1 << 7);
    /// It left the table.
    pub const DESTROY: Self = Self(1 << 8);
    /// Its sequence numbers are shifted, or shifted anew.
    pub const SEQ_ADJUST: Self = Self(1 << 9);

    const NAMES: [(u16, &'static str); 10] = [
        (1 << 0, "NEW"),
        (1 << 1, "RELATED"),
        (1 << 2, "REPLY"),
        (1 << 3, "ASSURED"),
        (1 << 4, "STATE"),
        (1 << 5, "MARK"),
        (1 << 6, "LABEL"),
        (1 << 7, "HELPER"),
        (1 << 8, "DESTROY"),
        (1 << 9, "SEQ_ADJUST"),
    ];

    /// Whether every kind of `other` is there.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kinds of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, self.0, &Self::NAMES)
    }
}

/// The names of the bits that are set, joined by `|`; `-` for none.
fn write_names(f: &mut fmt::Formatter<'_>, bits: u16, names: &[(u16, &str)]) -> fmt::Result {
    let mut first = true;
    for (_, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
        if !core::mem::take(&mut first) {
            f.write_str("|")?;
        }
        f.write_str(name)?;
    }
    if first {
        f.write_str("-")?;
    }
    Ok(())
}

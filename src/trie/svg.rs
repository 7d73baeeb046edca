//! A trie as an SVG image: a row of slots for each level, whichever head it is that draws.
//!
//! Apart from the heads because a picture needs to know of a slot only what [`Picture`] says.

use alloc::vec::Vec;
use core::fmt;

/// What is seen of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Empty,
    /// A bucket of so many entries.
    Bucket(usize),
    Node,
}

/// A head that can be drawn.
pub(super) trait Picture {
    /// A slot, and what else it takes to say what is in it.
    type Place;

    fn look(&self, place: &Self::Place) -> Look;

    /// Whether the slot has an answer for all that comes to it, whatever else is in it.
    fn is_covered(&self, place: &Self::Place) -> bool {
        let _ = place;
        false
    }

    /// The children of a node; none of anything else.
    fn below(&self, place: &Self::Place) -> Vec<Self::Place>;

    /// What shows when the slot is pointed at, after "child" and its number.
    fn tell(&self, place: &Self::Place, out: &mut impl fmt::Write) -> fmt::Result;
}

const COLUMN: usize = 22;
const BOX: usize = 20;
const ROW: usize = 34;
const MARGIN: usize = 8;
/// Height of the stripe at the foot of a covered slot.
const STRIPE: usize = 4;
/// From one entry to eight.
const SHADES: [&str; 8] = [
    "#eef5fb", "#dcebf7", "#cbe1f3", "#b9d7ef", "#a8cdeb", "#96c3e7", "#85b9e3", "#73afdf",
];

/// Writes the image of a trie whose topmost slots are `top`.
pub(super) fn draw<P: Picture>(
    trie: &P,
    top: &[P::Place],
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let columns: usize = top.iter().map(|place| columns(trie, place)).sum();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"10\">",
        columns * COLUMN + 2 * MARGIN,
        levels(trie, top) * ROW + 2 * MARGIN
    )?;
    row(trie, top, (MARGIN, MARGIN), out)?;
    writeln!(out, "</svg>")
}

fn row<P: Picture>(
    trie: &P,
    places: &[P::Place],
    (mut x, y): (usize, usize),
    out: &mut impl fmt::Write,
) -> fmt::Result {
    for (index, place) in places.iter().enumerate() {
        let wide = columns(trie, place) * COLUMN;
        let look = trie.look(place);
        let fill = match look {
            Look::Empty => "#ffffff",
            Look::Bucket(count) => {
                let shade = SHADES.get(count.wrapping_sub(1));
                shade.copied().unwrap_or("#000000")
            }
            Look::Node => "#ffe9b3",
        };
        write!(out, "<g><title>child {index}")?;
        trie.tell(place, out)?;
        writeln!(
            out,
            "</title><rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{BOX}\" fill=\"{fill}\" stroke=\"#444444\"/>"
        )?;
        if trie.is_covered(place) {
            let foot = y + BOX - STRIPE;
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{foot}\" width=\"{wide}\" height=\"{STRIPE}\" fill=\"#5b9b6b\"/>"
            )?;
        }
        let (middle, line) = (x + wide / 2, y + BOX - 6);
        if !matches!(look, Look::Empty) {
            write!(
                out,
                "<text x=\"{middle}\" y=\"{line}\" text-anchor=\"middle\">"
            )?;
        }
        match look {
            Look::Empty => {}
            Look::Bucket(count) => writeln!(out, "{count}</text>")?,
            Look::Node => writeln!(out, "node</text>")?,
        }
        writeln!(out, "</g>")?;
        if matches!(look, Look::Node) {
            let (top, foot) = (y + BOX, y + ROW);
            writeln!(
                out,
                "<path d=\"M{middle} {top}V{foot}\" stroke=\"#444444\"/>"
            )?;
            row(trie, &trie.below(place), (x, foot), out)?;
        }
        x += wide;
    }
    Ok(())
}

/// Columns that a slot and all below it need.
fn columns<P: Picture>(trie: &P, place: &P::Place) -> usize {
    let below: usize = trie
        .below(place)
        .iter()
        .map(|place| columns(trie, place))
        .sum();
    below.max(1)
}

fn levels<P: Picture>(trie: &P, places: &[P::Place]) -> usize {
    let below = places
        .iter()
        .map(|place| trie.below(place))
        .filter(|places| !places.is_empty())
        .map(|places| levels(trie, &places));
    1 + below.max().unwrap_or(0)
}

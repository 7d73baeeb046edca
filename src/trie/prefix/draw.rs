//! A picture of a small trie of prefixes.
//!
//! Apart because it only reads, and because nobody needs it at run time.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::bits::{Bits, Width};
use super::head::PrefixIndex;
use super::index::ROOT;
use super::prefix_type::{BitsOf, Prefix};
use super::slot::{Slot, View};
use crate::key::Key;
use crate::trie::svg::{self, Look, Picture};

impl<K: Key> PrefixIndex<K>
where
    K::Words: Width,
{
    /// Writes the trie as an SVG image: a row of slots for each level, darker where a bucket is fuller, with a green foot where a
    /// prefix covers the slot. What a slot holds shows when pointed at.
    ///
    /// Cost: O((slots + prefixes) × depth); meant for some hundred of them.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```
    /// use gufc::trie::prefix::{Prefix, PrefixIndex};
    /// use core::net::Ipv4Addr;
    ///
    /// let mut routes = PrefixIndex::try_new(4)?;
    /// routes.insert(Prefix::new(Ipv4Addr::new(192, 0, 2, 0), 24).unwrap(), 7)?;
    /// let mut svg = String::new();
    /// routes.draw_svg(&mut svg)?;
    /// assert!(svg.contains("192.0.2.0/24 = 7"));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn draw_svg(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let root = Place {
            slot: self.index.slot(ROOT),
            path: BitsOf::<K>::default(),
            depth: 0,
        };
        svg::draw(self, &[root], out)
    }
}

/// A slot, and the bits that lead to it.
#[derive(Clone, Copy)]
pub(in crate::trie) struct Place<B> {
    slot: Slot,
    path: B,
    depth: u32,
}

impl<K: Key> Picture for PrefixIndex<K>
where
    K::Words: Width,
{
    type Place = Place<BitsOf<K>>;

    fn look(&self, place: &Self::Place) -> Look {
        match place.slot.view() {
            View::Empty => Look::Empty,
            View::Bucket(bucket) => Look::Bucket(bucket.count as usize),
            View::Node(_) => Look::Node,
        }
    }

    fn is_covered(&self, place: &Self::Place) -> bool {
        place.slot.cover().is_some()
    }

    fn below(&self, place: &Self::Place) -> Vec<Self::Place> {
        let View::Node(node) = place.slot.view() else {
            return vec![];
        };
        let path = self.index.through(node, place.path, place.depth);
        let index_at = place.depth + node.skip;
        (0..node.size())
            .map(|child| Place {
                slot: self.index.slot(node.base + child),
                path: path.with(index_at, node.bits, u64::from(child)),
                depth: index_at + node.bits,
            })
            .collect()
    }

    fn tell(&self, place: &Self::Place, out: &mut impl fmt::Write) -> fmt::Result {
        match place.slot.view() {
            View::Empty => {}
            View::Bucket(bucket) => {
                for cell in self.index.cells_of(bucket) {
                    let entry = self.index.entry(cell, place.path, place.depth);
                    let prefix = Prefix::<K>::of(entry.bits, entry.len);
                    write!(
                        out,
                        "\n{:?}/{} = {}",
                        prefix.first(),
                        prefix.len(),
                        entry.number
                    )?;
                }
            }
            View::Node(node) => {
                let first = place.depth + node.skip;
                write!(out, ": bits {first} to {}", first + node.bits - 1)?;
            }
        }
        if let Some(cover) = place.slot.cover() {
            let record = self.index.record(cover.id);
            let prefix = Prefix::<K>::of(record.bits, record.len);
            write!(
                out,
                "\ncover {:?}/{} = {}",
                prefix.first(),
                prefix.len(),
                record.number
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::net::Ipv4Addr;

    #[test]
    fn the_picture_in_the_documentation_is_what_is_drawn() {
        // Goal: the picture never goes stale. Method: draw it again. To renew it, write what is printed to the file.
        let mut index = PrefixIndex::try_new(60).unwrap();
        let mut number = 0;
        let mut insert = |a, b, c, len| {
            let prefix = Prefix::new(Ipv4Addr::new(a, b, c, 0), len).unwrap();
            number += 1;
            index.insert(prefix, number).unwrap();
        };
        insert(10, 0, 0, 8);
        insert(10, 64, 0, 11);
        for net in 0..12 {
            insert(10, net * 21, 0, 16);
        }
        for net in 0..9 {
            insert(10, 128, net * 7, 24);
        }
        insert(172, 16, 0, 12);
        insert(192, 168, 0, 16);
        let mut svg = String::new();
        index.draw_svg(&mut svg).unwrap();
        std::println!("{svg}");
        assert!(svg == include_str!("small.svg"));
    }

    #[test]
    fn every_prefix_is_in_the_picture() {
        let mut index = PrefixIndex::try_new(200).unwrap();
        for number in 0..150u32 {
            let address = Ipv4Addr::from_bits(number.wrapping_mul(0x0765_4321) & !0xff);
            let prefix = Prefix::new(address, 24).unwrap();
            index.insert(prefix, number).unwrap();
        }
        let mut svg = String::new();
        index.draw_svg(&mut svg).unwrap();
        let shown: Vec<&str> = svg
            .lines()
            .filter_map(|line| line.split("</title>").next())
            .map(|line| line.trim_start_matches("cover "))
            .collect();
        for (prefix, number) in index.iter() {
            let entry = alloc::format!("{prefix} = {number}");
            assert!(shown.contains(&entry.as_str()), "{entry}");
        }
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
    }
}

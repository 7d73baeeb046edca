//! Pictures of a small trie, for Graphviz or as SVG: to see what level and path compression do.
//!
//! Apart because it only reads, and because nobody needs it at run time.

use alloc::vec::Vec;
use core::fmt;

use super::header::HeaderHash;
use super::index::LcIndex;
use super::slot::{Slot, View};
use super::svg::{self, Look, Picture};
use crate::key::Key;

impl<K: Key, H: HeaderHash> LcIndex<K, H> {
    /// Writes the trie as a Graphviz graph: nodes as records of their children, buckets as lists of keys and ids.
    ///
    /// Cost: O(slots + entries); meant for some hundred of them.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```
    /// use gufc::trie::LcIndex;
    /// use core::net::Ipv4Addr;
    ///
    /// let mut index = LcIndex::try_new([1, 2], 4)?;
    /// index.insert(&Ipv4Addr::new(192, 0, 2, 1), 7)?;
    /// let mut dot = String::new();
    /// index.draw_dot(&mut dot)?;
    /// assert!(dot.contains("192.0.2.1 = 7"));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn draw_dot(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(out, "digraph trie {{\n  node [shape=record, fontsize=10];")?;
        self.dot_record(out, "root", "root", &self.root)?;
        writeln!(out, "}}")
    }

    fn dot_record(
        &self,
        out: &mut impl fmt::Write,
        name: &str,
        title: &str,
        slots: &[Slot],
    ) -> fmt::Result {
        write!(out, "  {name} [label=\"{{{title}|{{")?;
        for index in 0..slots.len() {
            let bar = if index == 0 { "" } else { "|" };
            write!(out, "{bar}<{index}>{index}")?;
        }
        writeln!(out, "}}}}\"];")?;
        for (index, &slot) in slots.iter().enumerate() {
            match slot.view() {
                View::Empty => {}
                View::Bucket(bucket) => {
                    write!(out, "  b{} [shape=box, label=\"", bucket.base)?;
                    for cell in self.cells.run(bucket.base, bucket.count) {
                        write!(out, "{:?} = {}\\l", cell.key, cell.id)?;
                    }
                    writeln!(out, "\"];\n  {name}:{index} -> b{};", bucket.base)?;
                }
                View::Node(node) => {
                    let below = alloc::format!("n{}", node.base);
                    let title = alloc::format!("bit {}, {} wide", node.position, node.bits);
                    writeln!(out, "  {name}:{index} -> {below};")?;
                    let children = self.nodes.block(node.base, node.bits);
                    self.dot_record(out, &below, &title, children)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the trie as an SVG image: a row of slots for each level, darker where a bucket is fuller; what a bucket holds
    /// shows when pointed at.
    ///
    /// Cost: O((slots + entries) × depth); meant for some hundred of them.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn draw_svg(&self, out: &mut impl fmt::Write) -> fmt::Result {
        svg::draw(self, &self.root, out)
    }
}

impl<K: Key, H: HeaderHash> Picture for LcIndex<K, H> {
    type Place = Slot;

    fn look(&self, slot: &Slot) -> Look {
        match slot.view() {
            View::Empty => Look::Empty,
            View::Bucket(bucket) => Look::Bucket(bucket.count),
            View::Node(_) => Look::Node,
        }
    }

    fn below(&self, slot: &Slot) -> Vec<Slot> {
        match slot.view() {
            View::Node(node) => self.nodes.block(node.base, node.bits).to_vec(),
            _ => Vec::new(),
        }
    }

    fn tell(&self, slot: &Slot, out: &mut impl fmt::Write) -> fmt::Result {
        match slot.view() {
            View::Empty => write!(out, ": empty")?,
            View::Bucket(bucket) => {
                for cell in self.cells.run(bucket.base, bucket.count) {
                    write!(out, "\n{:?} = {}", cell.key, cell.id)?;
                }
            }
            View::Node(node) => {
                let last = node.position + node.bits - 1;
                write!(out, ": bits {} to {last}", node.position)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::trie::{Spread, ToyHash};
    use crate::trie::Folded;
    use alloc::string::String;
    use core::net::Ipv4Addr;

    /// Addresses of 192.0.2.0/24 have even headers, all others one and the same.
    #[derive(Clone, Debug)]
    struct Lopsided(Folded);

    impl HeaderHash for Lopsided {
        fn header<K: Key>(&self, key: &K) -> u64 {
            let top = key.words().as_ref().first().map_or(0, |word| word >> 40);
            if top == 0xc0_0002 {
                self.0.header(key)
            } else {
                5
            }
        }
    }

    #[test]
    fn the_picture_in_the_documentation_is_what_is_drawn() {
        // Goal: the picture never goes stale. Method: draw it again. To renew it, write what is printed to the file.
        let mut index = LcIndex::try_with_hash(Lopsided(Folded::new([1, 2])), 60).unwrap();
        let even = (0..34).map(|n| Ipv4Addr::new(192, 0, 2, n));
        let equal = (0..18).map(|n| Ipv4Addr::new(203, 0, 113, n * 7));
        for (id, key) in (0..).zip(even.chain(equal)) {
            index.insert(&key, id).unwrap();
        }
        let mut svg = String::new();
        index.draw_svg(&mut svg).unwrap();
        std::println!("{svg}");
        assert!(svg == include_str!("small.svg"));
    }

    #[test]
    fn every_entry_is_in_both_pictures_once() {
        let mut index = LcIndex::try_with_hash(ToyHash::Constant(0), 400).unwrap();
        for n in 0..100 {
            index.insert(&Spread(n * 10), u32::from(n)).unwrap();
        }
        let (mut dot, mut svg) = (String::new(), String::new());
        index.draw_dot(&mut dot).unwrap();
        index.draw_svg(&mut svg).unwrap();
        for n in 0..100u16 {
            let entry = alloc::format!("Spread({}) = {n}", n * 10);
            assert_eq!(dot.matches(&alloc::format!("{entry}\\l")).count(), 1);
            assert_eq!(
                svg.lines().filter(|line| line.starts_with(&entry)).count(),
                1,
                "{entry}"
            );
        }
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    }
}

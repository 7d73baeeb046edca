//! The manual: what no single module can say.
//!
//! It has no code, and stands here so that its links cannot break and its programs are tests.
//!
//! | chapter | for whom |
//! |---|---|
//! | [`way`] | the packet's way through the modules: read it first |
//! | [`hook`] | you have a part of a slow path of your own |
//! | [`freshness`] | how an edit is seen by the very next packet, and what that costs |
//! | [`bounds`] | every structure, its capacity, what happens when it is full |
//! | [`nat`] | translation: which kind to choose, and what five RFCs ask of it, row by row |
//! | [`planning`] | how much memory, how many flows, how many cores |
//! | [`choices`] | what was decided, by what evidence, and what the idea of 2006 had left open |
//! | [`glossary`] | words |

#[doc = include_str!("way.md")]
pub mod way {}

#[doc = include_str!("hook.md")]
pub mod hook {}

#[doc = include_str!("freshness.md")]
pub mod freshness {}

#[doc = include_str!("bounds.md")]
pub mod bounds {}

#[doc = include_str!("nat.md")]
pub mod nat {}

#[doc = include_str!("planning.md")]
pub mod planning {}

#[doc = include_str!("choices.md")]
pub mod choices {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

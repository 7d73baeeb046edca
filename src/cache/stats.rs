//! Counters: every outcome, every reason.

use super::End;
use crate::verdict::{Outcome, Path, Uncached, Verdict};

/// Counters of a cache since it was made. Each packet moves exactly one of the counters from `hits` to `uncached`, and one
/// of the three verdict counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Packets answered by a fresh entry.
    pub hits: u64,
    /// Packets answered by an entry that no edit since its stamp touched.
    pub restamped: u64,
    /// Packets answered by an entry whose hooks kept or replaced their steps after an edit.
    pub rechecked: u64,
    /// Packets answered by an entry that an edit touched, beyond the budget of re-runs, as the hooks' slack allows.
    pub stale: u64,
    /// Packets answered by an aggregate: an entry that stands for many flows.
    pub aggregated: u64,
    /// Packets of cached flows that hooks judged again.
    pub revisited: u64,
    /// First packets of the second direction of a session.
    pub first_replies: u64,
    /// Packets whose judgement is cached now.
    pub misses: u64,
    /// Packets judged without being cached, by `Uncached as usize`.
    pub uncached: [u64; Uncached::COUNT],
    /// Packets accepted.
    pub accepted: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets rejected.
    pub rejected: u64,
    /// Packets that were left to their consumers ([`deliver`](super::FlowCache::deliver)). They are in the other counters
    /// once these have processed them.
    pub deferred: u64,
    /// Packets whose cookie named their entry, or the subtree that it was found in.
    pub cookie_hits: u64,
    /// Packets whose cookie was stale, forged or recycled, or named a subtree that has no entry of theirs; they were looked up by
    /// key.
    pub cookie_misses: u64,
    /// Sessions begun.
    pub begun: u64,
    /// Times that a session could not be found by its replies, because another session had their key first.
    pub one_way: u64,
    /// Sessions ended, by `End as usize`.
    pub ended: [u64; End::COUNT],
    /// Times that a session kept the steps of hooks whose edits touched it.
    pub grandfathered: u64,
    /// Aggregates begun.
    pub aggregates_begun: u64,
    /// Aggregates ended: idle, touched by an edit, or to make room.
    pub aggregates_ended: u64,
    /// Hits that hooks looked at a second time, as [`Shadowed`](crate::pipeline::Shadowed) drew them.
    pub shadowed: u64,
    /// Second looks that came to something else than what was cached. Anything but 0 is a mistake in some hook.
    pub disagreed: u64,
    /// Commits published.
    pub commits: u64,
    /// Region tests made for entries older than the last commit.
    pub region_tests: u64,
    /// Entries older than many regions that were found untouched without testing any.
    pub cleared: u64,
    /// Entries older than the region log, whose hooks all looked again.
    pub log_lost: u64,
}

impl Stats {
    /// Packets processed.
    pub fn packets(&self) -> u64 {
        self.accepted + self.dropped + self.rejected
    }

    /// Packets answered without any hook judging them.
    pub fn cached(&self) -> u64 {
        self.hits + self.restamped + self.rechecked + self.stale + self.aggregated
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        let path = match outcome.path {
            Path::Hit => &mut self.hits,
            Path::Restamped => &mut self.restamped,
            Path::Rechecked => &mut self.rechecked,
            Path::Stale => &mut self.stale,
            Path::Aggregated => &mut self.aggregated,
            Path::Revisited => &mut self.revisited,
            Path::FirstReply => &mut self.first_replies,
            Path::Miss => &mut self.misses,
            Path::Uncached(why) => &mut self.uncached[why as usize],
        };
        *path += 1;
        match outcome.verdict {
            Verdict::Accept => self.accepted += 1,
            Verdict::Drop => self.dropped += 1,
            Verdict::Reject(_) => self.rejected += 1,
        }
    }
}

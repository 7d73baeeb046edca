//! What an edit does to the flows that it touches: for each hook, its owner's choice.

use core::fmt;

use super::FlowCache;
use crate::epoch::Change;
use crate::hook::HookSet;
use crate::key::FlowKey;
use crate::pipeline::Pipeline;
use crate::trie::Indexed;

/// What an edit of a hook does to the cached sessions that it touches. Chosen for each hook with
/// [`FlowCache::on_edit`].
///
/// Whichever is chosen, flows that begin after the edit are judged by the rules of then, and sessions that the edit does not
/// touch are left alone. All is done when a session's next packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnEdit {
    /// The hook looks again; no packet is judged by the rules before the edit.
    #[default]
    Revalidate,
    /// The same, but while the budget for [re-runs](super::Config::reruns) is used up, packets of the session may still meet
    /// what it has. For hooks that shape traffic rather than protect anybody.
    RevalidateWithSlack,
    /// A session that packets of both directions got through at the time of the edit keeps the hook's steps, and the hook is
    /// not asked about them any more, for as long as the session lasts. Others are revalidated: half-open ones, denied ones.
    ///
    /// The hook is asked all the same, and answers by the rules of now, where a packet does not fit its own step, where its own
    /// trigger fires, and where another hook says that all must look again ([`Recheck::JudgeAll`](crate::hook::Recheck)). A session that has ended, by idling out say, begins anew and is not established.
    Grandfather,
    /// The session ends: the hooks get their steps back ([`Hook::release`](crate::hook::Hook::release)), and the packet is
    /// judged as the first of a new one. What hooks remember by themselves, as connection tracking does, they keep.
    Kill,
}

/// No hook of the pipeline has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchHook;

impl fmt::Display for NoSuchHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no hook of the pipeline has this name")
    }
}

impl core::error::Error for NoSuchHook {}

/// The hooks under each policy but the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policies {
    pub(super) slack: HookSet,
    pub(super) grandfather: HookSet,
    pub(super) kill: HookSet,
}

impl Policies {
    fn set(&mut self, hooks: HookSet, policy: OnEdit) {
        for (set, of) in [
            (&mut self.slack, OnEdit::RevalidateWithSlack),
            (&mut self.grandfather, OnEdit::Grandfather),
            (&mut self.kill, OnEdit::Kill),
        ] {
            *set = if policy == of {
                set.union(hooks)
            } else {
                set.without(hooks)
            };
        }
    }
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Chooses what edits of the hook named `hook` do to the sessions that they touch, from now on.
    ///
    /// ```
    /// use gufc::cache::{Config, FlowCache, OnEdit};
    /// use gufc::hooks::filter::{Filter, Policy};
    /// use gufc::key::Tuple;
    ///
    /// let filter = Filter::new("filter", 100, 1, Policy::Accept);
    /// let mut cache: FlowCache<Tuple, _> = FlowCache::new(Config::new([3, 4]), (filter,))?;
    /// cache.on_edit("filter", OnEdit::Grandfather)?;
    /// assert!(cache.on_edit("fliter", OnEdit::Kill).is_err());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Sessions that kept a hook's steps while it grandfathered them look again, once, when it no longer does.
    ///
    /// # Errors
    ///
    /// [`NoSuchHook`].
    pub fn on_edit(&mut self, hook: &str, policy: OnEdit) -> Result<(), NoSuchHook> {
        let hooks = self.hooks.hooks_named(hook);
        if hooks.is_empty() {
            return Err(NoSuchHook);
        }
        let before = self.policies.grandfather;
        self.policies.set(hooks, policy);
        let freed = before.without(self.policies.grandfather);
        if !freed.is_empty() {
            self.edited = self.edited.union(freed);
            self.log.publish(&Change::everything(""), |_| freed);
        }
        Ok(())
    }
}

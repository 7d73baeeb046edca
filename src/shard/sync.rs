//! What threads share with, by one name: the model check puts its own in place of this.

pub(super) use alloc::sync::Arc;
pub(super) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
pub(super) use std::sync::{Mutex, RwLock};

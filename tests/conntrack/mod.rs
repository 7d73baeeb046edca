//! The connection tracker: against a kernel's traces, against stories written by hand, and against itself with its window
//! step.

mod bounds;
mod bypass;
mod cached;
mod capacity;
mod fast;
mod filtered;
mod flood;
mod fragments;
mod golden;
mod hardened;
mod listing;
mod protocols;
mod reasons;
mod related;
mod scenarios;
mod seqadj;
mod stacks;
mod story;
mod time;
mod vectors;

//! The connection tracker: against a kernel's traces, against stories written by hand, and against itself with its window
//! step.

mod bounds;
mod bypass;
mod cached;
mod capacity;
mod fast;
mod filtered;
mod fragments;
mod golden;
mod hardened;
mod protocols;
mod related;
mod scenarios;
mod seqadj;
mod stacks;
mod story;
mod vectors;

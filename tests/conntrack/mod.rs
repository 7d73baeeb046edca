//! The connection tracker: against a kernel's traces, against stories written by hand, and against itself with its window
//! step.
//!
//! | what | where |
//! |---|---|
//! | Linux, packet by packet, with and without a cache | [`golden`], [`cached`] |
//! | TCP: transitions, the four bounds, scaling, selective acknowledgements, overshoot, ceilings (repetitions, zero window, unacknowledged data), resets, challenges, reopening, simultaneous opening, picking up, liberal mode, fast open, keep-alives, half-closed, wrap-around | [`vectors`], one story each |
//! | conforming stacks are never invalid, and close | [`stacks`] |
//! | the window step is the procedure | [`fast`]; behind a cache [`filtered`], [`cached`] |
//! | hardened mode, one deviation each | [`hardened`] |
//! | UDP and UDP-Lite, ICMP, ICMPv6, errors, redirects, neighbours, GRE, SCTP, others | [`protocols`] |
//! | announcements, the FTP helper | [`related`] |
//! | shifted sequence numbers | [`seqadj`] |
//! | profiles of lifetimes, slack, flush and callback | [`time`], [`bypass`] |
//! | a full table, early drop, a source's limit, races, refused connections, zones, marks, labels | [`capacity`] |
//! | a flood of openings behind a cache | [`flood`] |
//! | `ct state`, `ct status`, `ct mark`, `ct zone`, `ct direction` | [`filtered`] |
//! | fragments in front | [`fragments`] |
//! | connections as bytes, and back | [`export`] |
//! | listing, choices, deletion, events | [`listing`], [`related`] |
//! | every reason and its counter | [`reasons`] |
//! | any bytes, and what a connection costs in memory | [`bounds`] |
//! | other suites' stories | [`scenarios`] |

mod bounds;
mod bypass;
mod cached;
mod capacity;
mod export;
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

//! The stories of `vectors.txt`, and those of the kernel's own packet scripts: what a segment comes to, and every number that
//! is remembered after it.

use std::fmt::Write;

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Status, TcpPhase, TcpSide};
use gufc::key::Tuple;
use gufc::time::Instant;

use super::story::{line, pass, secs, tcp_key, tracker};

fn short(phase: TcpPhase) -> &'static str {
    match phase {
        TcpPhase::None => "NO",
        TcpPhase::SynSent => "SS",
        TcpPhase::SynRecv => "SR",
        TcpPhase::Established => "ES",
        TcpPhase::FinWait => "FW",
        TcpPhase::CloseWait => "CW",
        TcpPhase::LastAck => "LA",
        TcpPhase::TimeWait => "TW",
        TcpPhase::Close => "CL",
        TcpPhase::SynSent2 => "S2",
    }
}

fn side(side: &TcpSide) -> String {
    let acked = side.acked.map_or("-".into(), |acked| acked.to_string());
    let mut text = format!(
        "{}/{}/{}/{acked}/{}",
        side.end, side.limit, side.window, side.scale
    );
    let names = [
        ("DATA_UNACKNOWLEDGED", "U"),
        ("CLOSE_INIT", "CI"),
        ("BE_LIBERAL", "LIB"),
    ];
    let mut separator = ' ';
    for (name, short) in names {
        let bit = TcpSide::NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .expect("a flag")
            .0;
        if side.flags & bit != 0 {
            write!(text, "{separator}{short}").expect("room");
            separator = '+';
        }
    }
    text
}

/// The connection as the stories write it.
fn state(tracker: &Conntrack<Tuple>, now: Instant) -> String {
    let Some((id, _)) = tracker.find(&tcp_key(Direction::Original), now) else {
        return "none".into();
    };
    let one = tracker.connection(id).expect("found");
    let status = one.status();
    let mut text = format!(
        "{}{}{} {} | {} | {}",
        short(one.tcp_phase().expect("TCP")),
        if status.contains(Status::SEEN_REPLY) {
            "r"
        } else {
            ""
        },
        if status.contains(Status::ASSURED) {
            "a"
        } else {
            ""
        },
        one.timeout().as_secs(),
        side(&one.tcp_side(Direction::Original).expect("TCP")),
        side(&one.tcp_side(Direction::Reply).expect("TCP")),
    );
    match one.tcp_repetitions() {
        Some(0) | None => {}
        Some(n) => write!(text, " | rt{n}").expect("room"),
    }
    text
}

#[test]
fn stories() {
    let mut stories = 0;
    let mut segments = 0;
    let mut wrong = Vec::new();
    let mut tracker_now = None::<Conntrack<Tuple>>;
    let mut title = "";
    for text in include_str!("vectors.txt").lines() {
        if let Some(name) = text.strip_prefix("# ") {
            title = name;
            stories += 1;
            let mut config = Config::new(16, [1, 2]);
            config.tcp.loose = !name.contains("loose=0");
            config.tcp.liberal = name.starts_with("be_liberal");
            config.tcp.ignore_invalid_rst = name.contains("ignore_invalid_rst on");
            tracker_now = Some(tracker(config));
            continue;
        }
        let Some(tracker) = &mut tracker_now else {
            continue;
        };
        if text.starts_with('!') {
            let (id, _) = tracker
                .find(&tcp_key(Direction::Original), secs(1))
                .expect("a connection");
            tracker.forget_windows(id);
            continue;
        }
        let Some((told, expected)) = text.split_once(" | ") else {
            continue;
        };
        segments += 1;
        let tracked = pass(tracker, &line(told), secs(1));
        let (outcome, expected) = expected.split_once(" | ").expect("an outcome");
        let got = match (tracked.class, tracked.reason) {
            (Class::Invalid, _) => "INVALID",
            (_, Some(_)) => "IGNORE",
            (_, None) => "ACCEPT",
        };
        let wanted = outcome.strip_prefix("REOPEN:").unwrap_or(outcome);
        let wanted = wanted.split('(').next().expect("a word");
        let state = state(tracker, secs(1));
        let counts = expected.contains(" | rt");
        let seen = if counts {
            state.clone()
        } else {
            state.split(" | rt").next().expect("a part").to_string()
        };
        if got != wanted || seen != expected {
            wrong.push(format!("{title}: {text}\n    got {got} | {state}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        stories >= 40 && segments >= 280,
        "{stories} stories, {segments} segments"
    );
}

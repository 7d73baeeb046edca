//! FTP between a client of IPv6 and a server of IPv4 (RFC 6384): each hears what it understands, and data connections reach whom they
//! are for, across the families. Every packet goes through a cached and an uncached dataplane, and comes out the same.

use gufc::hook::Direction;
use gufc::hooks::conntrack::{Reason, Status};
use gufc::hooks::filter::{Filter, Policy};
use gufc::hooks::nat::{Filtering, Place, PoolConfig, PoolId};
use gufc::key::{FlowKey, Ports, Tuple};
use gufc::packet::TcpFlags;
use gufc::time::Duration;
use proptest::prelude::*;

use super::ftp::{Hooks, NOW, Pair, Talk, filtered, read, segment, translator};

/// The client's end of the control connection, and the server's.
const CONTROL: &str = "tcp [2001:db8::7]:40000 > [64:ff9b::c000:235]:21";

pub(super) fn pool() -> PoolConfig {
    PoolConfig {
        prefix64: Some("64:ff9b::/96".parse().expect("a prefix")),
        ..PoolConfig::new(vec!["198.51.100.1".parse().expect("an address")])
    }
}

pub(super) fn hooks(pool: &PoolConfig) -> Hooks {
    let mut nat = translator();
    nat.add_pool(pool.clone()).expect("room");
    // Control connections only: data connections follow them.
    let rule = "ip6 daddr 64:ff9b::/96 tcp dport 21 nat64 to pool 0".parse();
    let _ = nat
        .insert(Place::Last, rule.expect("a rule"))
        .expect("room");
    filtered(nat)
}

fn pair(pool: &PoolConfig) -> Pair {
    Pair::over(|| hooks(pool))
}

fn open(pool: &PoolConfig) -> Talk {
    Talk::over(pair(pool), CONTROL)
}

/// A client that has been greeted, and has logged in.
fn logged_in() -> Talk {
    let mut talk = open(&pool());
    play(
        &mut talk,
        &[
            (1, "220 hello\r\n", "220 hello\r\n"),
            (0, "USER anonymous\r\n", "USER anonymous\r\n"),
            (1, "230 welcome\r\n", "230 welcome\r\n"),
        ],
    );
    talk
}

/// Who says what, and what the other hears.
fn play(talk: &mut Talk, lines: &[(usize, &str, &str)]) {
    for (from, said, heard) in lines {
        assert_eq!(talk.say(*from, said).as_deref(), Some(*heard), "{said}");
    }
}

const PASSIVE: (usize, &str, &str) = (
    1,
    "227 Entering Passive Mode (192,0,2,53,200,10).\r\n",
    "229 Entering Extended Passive Mode (|||51210|)\r\n",
);

/// The client opens the data connection, and two segments pass each way; how many of them the cache knew.
fn transfer(talk: &mut Talk, from: &str, to: &str, back: &str) -> usize {
    assert_eq!(talk.connect(from).as_deref(), Some(to));
    let key = |text: &str| -> Tuple { text.parse().expect("a tuple") };
    let both = TcpFlags::SYN | TcpFlags::ACK;
    let hits = talk.pair.hits;
    for (who, seq, ack, flags, data) in [
        (back, 70, 10, both, &b""[..]),
        (from, 10, 71, TcpFlags::ACK, b""),
        (from, 10, 71, TcpFlags::ACK, b"PORT 1,2,3,4,5,6\r\n"),
        (back, 71, 28, TcpFlags::ACK, b"227 (1,2,3,4,5,6)\r\n"),
        (from, 28, 90, TcpFlags::ACK, b"more"),
        (back, 90, 32, TcpFlags::ACK, b"more"),
    ] {
        let sent = segment(&key(who), seq, ack, flags, data);
        let seen = talk.pair.process(&sent, talk.now).expect("passes");
        let (other, seen_seq, seen_ack, text) = read(&seen);
        assert_eq!(text.as_bytes(), data, "data are nobody's business");
        let opposite = key(if who == from { back } else { from }).inverse();
        assert_eq!(Some(other), opposite);
        let ack = if flags == TcpFlags::SYN { 0 } else { ack };
        assert_eq!((seen_seq, seen_ack), (seq, ack));
    }
    talk.pair.hits - hits
}

#[test]
fn sec_6_epsv_becomes_pasv_and_its_reply_comes_back() {
    let mut talk = logged_in();
    play(&mut talk, &[(0, "EPSV\r\n", "PASV\r\n"), PASSIVE]);
    let status = talk
        .pair
        .nat()
        .tracker()
        .iter()
        .next()
        .map(|one| one.status());
    let both = Status::SEQ_ADJUST.union(Status::HELPER);
    assert!(status.is_some_and(|status| status.contains(both)));
    // The client acknowledges what it got; the server hears what it sent.
    let ack = segment(
        &talk.keys[0],
        talk.seq[0],
        talk.heard[0],
        TcpFlags::ACK,
        b"",
    );
    let seen = talk.pair.process(&ack, NOW).expect("an acknowledgement");
    assert_eq!(read(&seen).2, talk.seq[1]);
    // Nobody else may use it; the client may, and no rule but the announcement is needed. Then the cache carries it.
    let other = "tcp [2001:db8::8]:40001 > [64:ff9b::c000:235]:51210";
    assert_eq!(talk.connect(other), None);
    let hits = transfer(
        &mut talk,
        "tcp [2001:db8::7]:40001 > [64:ff9b::c000:235]:51210",
        "tcp 198.51.100.1:40001 > 192.0.2.53:51210",
        "tcp 192.0.2.53:51210 > 198.51.100.1:40001",
    );
    assert!(hits >= 3, "{hits}");
    assert_eq!(
        talk.connect("tcp [2001:db8::7]:40002 > [64:ff9b::c000:235]:51210"),
        None,
        "once"
    );
    play(
        &mut talk,
        &[
            (0, "epsv 2\r\n", "PASV\r\n"),
            PASSIVE,
            (0, "RETR a\r\n", "RETR a\r\n"),
            (1, "150 here\r\n", "150 here\r\n"),
            (1, "226 done\r\n", "226 done\r\n"),
        ],
    );
}

/// Its words to EPSV, what the server hears, what it answers, and what the client hears of that.
#[test]
fn sec_6_replies_to_pasv() {
    let refused = "425 Can't open data connection\r\n";
    for (answer, heard) in [
        // Another address than its own, and what nobody can read.
        ("227 Passive (192,0,2,54,200,10)\r\n", refused),
        ("227 Passive (10,0,0,1,200,10)\r\n", refused),
        ("227 Passive (192,0,2,53,0,0)\r\n", refused),
        ("227 Passive (192,0,2,53,200,256)\r\n", refused),
        ("227 Passive 192,0,2,53,200,10\r\n", refused),
        ("227 (\r\n", refused),
        ("227 \r\n", refused),
        // The oldest of forms.
        ("227 (192,0,2,53,200,10\r\n", PASSIVE.2),
        (
            "227 =(192,0,2,53,200,10) is it\n",
            "229 Entering Extended Passive Mode (|||51210|)\n",
        ),
        // Refused by the server.
        ("500 what?\r\n", "500 what?\r\n"),
        ("530 log in first\r\n", "530 log in first\r\n"),
        (
            "425-no\r\n 227 (192,0,2,53,200,10)\r\n425 no\r\n",
            "425-no\r\n 227 (192,0,2,53,200,10)\r\n425 no\r\n",
        ),
        // In the middle of another reply it is text.
        (
            "200-a\r\n227 (192,0,2,53,200,10)\r\n200 b\r\n",
            "200-a\r\n227 (192,0,2,53,200,10)\r\n200 b\r\n",
        ),
        // A preliminary reply is not the last.
        (
            "150 wait\r\n227 (192,0,2,53,200,10)\r\n",
            &format!("150 wait\r\n{}", PASSIVE.2),
        ),
    ] {
        let mut talk = logged_in();
        play(
            &mut talk,
            &[(0, "EPSV\r\n", "PASV\r\n"), (1, answer, heard)],
        );
        let there = "tcp [2001:db8::7]:40001 > [64:ff9b::c000:235]:51210";
        let announced = heard.contains("229 ");
        assert_eq!(talk.connect(there).is_some(), announced, "{answer}");
        // Whatever it was, it has been answered: a 227 that nobody asked for is none.
        let text = "227 Passive (192,0,2,53,200,11)\r\n";
        play(&mut talk, &[(0, "PASV\r\n", "PASV\r\n"), (1, text, text)]);
    }
}

#[test]
fn sec_7_eprt_becomes_port_with_an_end_that_is_lent() {
    let mut talk = logged_in();
    let lent = |talk: &Talk| talk.pair.nat().pool(PoolId(0)).map(|pool| pool.lent());
    assert_eq!(lent(&talk), Some(1));
    play(
        &mut talk,
        &[
            (
                0,
                "EPRT |2|2001:db8::7|1025|\r\n",
                "PORT 198,51,100,1,4,1\r\n",
            ),
            (1, "200 fine\r\n", "200 fine\r\n"),
        ],
    );
    assert_eq!(lent(&talk), Some(2));
    assert_eq!(talk.connect("tcp 192.0.2.54:20 > 198.51.100.1:1025"), None);
    let hits = transfer(
        &mut talk,
        "tcp 192.0.2.53:20 > 198.51.100.1:1025",
        "tcp [64:ff9b::c000:235]:20 > [2001:db8::7]:1025",
        "tcp [2001:db8::7]:1025 > [64:ff9b::c000:235]:20",
    );
    assert!(hits >= 3, "{hits}");
    // Another end: the first one stays lent for the connection that uses it.
    play(
        &mut talk,
        &[
            (
                0,
                "eprt !2!2001:db8::7!1026!\r\n",
                "PORT 198,51,100,1,4,2\r\n",
            ),
            (1, "200 fine\r\n", "200 fine\r\n"),
        ],
    );
    assert_eq!(lent(&talk), Some(3));
    // And another: the second one is nobody's.
    play(
        &mut talk,
        &[
            (
                0,
                "EPRT |2|2001:DB8:0::7|1027|\r\n",
                "PORT 198,51,100,1,4,3\r\n",
            ),
            (1, "200 fine\r\n", "200 fine\r\n"),
        ],
    );
    assert_eq!(lent(&talk), Some(3));
    assert_eq!(talk.connect("tcp 192.0.2.53:20 > 198.51.100.1:1026"), None);
    // With the control connection goes what it has announced.
    talk.pair.both(|nat| {
        let control = nat
            .tracker()
            .iter()
            .find(|one| one.status().contains(Status::HELPER));
        let id = control.map(|one| one.id()).expect("it is there");
        nat.tracker_mut().delete(id);
        nat.maintain(NOW, 100);
    });
    assert_eq!(lent(&talk), Some(1), "of the data connection");
    assert_eq!(talk.connect("tcp 192.0.2.53:20 > 198.51.100.1:1027"), None);
}

#[test]
fn sec_7_filtering_does_not_keep_out_what_was_announced() {
    for filtering in [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ] {
        let mut talk = open(&PoolConfig {
            filtering,
            ..pool()
        });
        let eprt = "EPRT |2|2001:db8::7|1025|\r\n";
        play(&mut talk, &[(0, eprt, "PORT 198,51,100,1,4,1\r\n")]);
        assert_eq!(
            talk.connect("tcp 192.0.2.53:20 > 198.51.100.1:1025")
                .as_deref(),
            Some("tcp [64:ff9b::c000:235]:20 > [2001:db8::7]:1025")
        );
    }
}

/// Who gets no port for his data connection is told so by the pool, as for any other (RFC 6146 section 3.5.1.1).
#[test]
fn sec_6_a_data_connection_without_a_port_is_answered() {
    let mut talk = open(&PoolConfig {
        ports: Ports {
            first: 40_000,
            last: 40_000,
        },
        ..pool()
    });
    play(&mut talk, &[(0, "EPSV\r\n", "PASV\r\n"), PASSIVE]);
    let data = "tcp [2001:db8::7]:50002 > [64:ff9b::c000:235]:51210";
    assert_eq!(talk.connect(data), None);
    assert_eq!(talk.pair.nat().counters().unlent, 1);
    assert_eq!(talk.pair.cached.stats().rejected, 1);
}

#[test]
fn sec_7_a_pool_that_lends_nothing_is_an_answer() {
    let mut talk = open(&PoolConfig {
        ports: Ports {
            first: 40_000,
            last: 40_000,
        },
        ..pool()
    });
    play(
        &mut talk,
        &[
            (0, "EPRT |2|2001:db8::7|1025|\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", "425 Can't open data connection\r\n"),
            (0, "NOOP\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", "200 zzz\r\n"),
        ],
    );
}

#[test]
fn sec_7_ends_that_are_not_the_clients_stay() {
    let mut talk = logged_in();
    for line in [
        "EPRT |2|2001:db8::8|1025|\r\n",
        "EPRT |1|10.0.0.1|1025|\r\n",
        "EPRT |1|198.51.100.1|1025|\r\n",
        "EPRT |2|2001:db8::7|0|\r\n",
        "EPRT |2|2001:db8::7|65536|\r\n",
        "EPRT |2|2001:db8::7|1025\r\n",
        "EPRT |3|2001:db8::7|1025|\r\n",
        "EPRT\r\n",
        "EPRTX |2|2001:db8::7|1025|\r\n",
        "EPSVX\r\n",
        "XEPSV\r\n",
        "\r\n",
    ] {
        play(&mut talk, &[(0, line, line)]);
    }
    assert_eq!(talk.pair.nat().tracker().expectations().count(), 0);
}

/// A client that announces nothing: the server connects to where the control connection comes from.
#[test]
fn sec_8_the_default_port_leads_to_the_client() {
    let permissive = || {
        let (nat, _) = hooks(&pool());
        (nat, Filter::new("filter", 1, 7, Policy::Accept))
    };
    let mut talk = Talk::over(Pair::over(permissive), CONTROL);
    assert_eq!(
        talk.connect("tcp 192.0.2.53:20 > 198.51.100.1:40000")
            .as_deref(),
        Some("tcp [64:ff9b::c000:235]:20 > [2001:db8::7]:40000")
    );
}

#[test]
fn sec_9_commands_of_ipv4_pass_as_they_are() {
    let mut talk = logged_in();
    let passive = "227 Passive (192,0,2,53,200,10)\r\n";
    play(
        &mut talk,
        &[
            (0, "PORT 10,0,0,2,4,1\r\n", "PORT 10,0,0,2,4,1\r\n"),
            (1, "200 fine\r\n", "200 fine\r\n"),
            (0, "PASV\r\n", "PASV\r\n"),
            (1, passive, passive),
            (0, "EPSV\r\n", "PASV\r\n"),
            PASSIVE,
        ],
    );
}

#[test]
fn sec_6_epsv_all_and_other_families_are_answered_here() {
    let mut talk = logged_in();
    let all = "504 Not for that parameter\r\n";
    let network = "522 Network protocol: use (2)\r\n";
    play(
        &mut talk,
        &[
            (0, "EPSV ALL\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", all),
            (0, "EPSV 1\r\n", "NOOP\r\n"),
            (
                1,
                "530-log\r\n in\r\n530 first\r\n",
                &network.replace("522 ", "522-log\r\n in\r\n522 "),
            ),
            (0, "EPSV 3\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", network),
            (0, "EPSV x y\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", network),
            (0, "EPSV\r\n", "PASV\r\n"),
            PASSIVE,
        ],
    );
}

#[test]
fn after_auth_nothing_is_read() {
    let mut talk = logged_in();
    // Refused: on as before.
    play(
        &mut talk,
        &[
            (0, "AUTH TLS\r\n", "AUTH TLS\r\n"),
            (1, "504 what?\r\n", "504 what?\r\n"),
            (0, "EPSV\r\n", "PASV\r\n"),
            PASSIVE,
            (0, "AUTH TLS\r\n", "AUTH TLS\r\n"),
            (1, "234 go\r\n", "234 go\r\n"),
            (0, "EPSV\r\n", "EPSV\r\n"),
            (1, PASSIVE.1, PASSIVE.1),
            (
                0,
                "EPRT |2|2001:db8::7|1025|\r\n",
                "EPRT |2|2001:db8::7|1025|\r\n",
            ),
            (0, "E", "E"),
            (0, "\x16\x03\x01", "\x16\x03\x01"),
        ],
    );
    // In any order, too; and what was changed before is still changed where it is said again.
    let seq = talk.seq[0];
    let far = segment(
        &talk.keys[0],
        seq + 10,
        talk.heard[0],
        TcpFlags::ACK,
        b"far",
    );
    assert!(talk.pair.process(&far, NOW).is_some());
    let before = 1001 + "USER anonymous\r\nAUTH TLS\r\n".len() as u32;
    assert_eq!(
        talk.say_at(0, before, "EPSV\r\n").as_deref(),
        Some("PASV\r\n")
    );
}

#[test]
fn sec_11_the_client_chooses() {
    let mut talk = logged_in();
    let on = "216 EPSVEPRT\r\n";
    let off = "216 NONE\r\n";
    let (eprt, passive) = (
        "EPRT |2|2001:db8::7|1025|\r\n",
        "229 Passive (|||51210|)\r\n",
    );
    play(
        &mut talk,
        &[
            (0, "ALGS STATUS64\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", on),
            (0, "algs disable64\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", off),
            (0, "ALGS STATUS64\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", off),
            (0, eprt, eprt),
            (1, "500 what?\r\n", "500 what?\r\n"),
            // A server that knows EPSV says a port that is right as it is.
            (0, "EPSV\r\n", "EPSV\r\n"),
            (1, passive, passive),
        ],
    );
    let there = "tcp [2001:db8::7]:40001 > [64:ff9b::c000:235]:51210";
    assert!(talk.connect(there).is_some());
    let parameter = "504 Not for that parameter\r\n";
    play(
        &mut talk,
        &[
            (0, "ALGS ENABLE64\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", on),
            (0, eprt, "PORT 198,51,100,1,4,1\r\n"),
            (1, "200 fine\r\n", "200 fine\r\n"),
            (0, "ALGS\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", parameter),
            (0, "ALGS ENABLE46\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", parameter),
        ],
    );
}

/// What was announced is waited for longer than the half minute that is asked for, and not for ever.
#[test]
fn sec_12_how_long_a_data_connection_is_waited_for() {
    for (waits, comes) in [(31, true), (299, true), (301, false)] {
        let mut talk = logged_in();
        play(
            &mut talk,
            &[
                (0, "EPSV\r\n", "PASV\r\n"),
                PASSIVE,
                (
                    0,
                    "EPRT |2|2001:db8::7|1025|\r\n",
                    "PORT 198,51,100,1,4,1\r\n",
                ),
            ],
        );
        talk.now = NOW + Duration::from_secs(waits);
        let active = talk.connect("tcp 192.0.2.53:20 > 198.51.100.1:1025");
        assert_eq!(active.is_some(), comes, "{waits} s");
    }
}

/// Commands that do not wait for replies, and replies that do not wait for what is asked next.
#[test]
fn replies_find_the_commands_that_they_answer() {
    let mut talk = logged_in();
    play(
        &mut talk,
        &[
            (
                0,
                "CWD a\r\nEPSV ALL\r\nNOOP\r\nEPSV\r\nALGS STATUS64\r\nQUIT\r\n",
                "CWD a\r\nNOOP\r\nNOOP\r\nPASV\r\nNOOP\r\nQUIT\r\n",
            ),
            (
                1,
                &format!("250 a\r\n200 b\r\n200 c\r\n{}200 d\r\n221 e\r\n", PASSIVE.1),
                &format!(
                    "250 a\r\n504 Not for that parameter\r\n200 c\r\n{}216 EPSVEPRT\r\n221 e\r\n",
                    PASSIVE.2
                ),
            ),
        ],
    );
    // Each 227 is for whom it answers.
    let native = "227 Passive (192,0,2,53,200,9)\r\n";
    play(
        &mut talk,
        &[
            (0, "PASV\r\nEPSV\r\nPASV\r\n", "PASV\r\nPASV\r\nPASV\r\n"),
            (
                1,
                &format!("{native}{}{native}", PASSIVE.1),
                &format!("{native}{}{native}", PASSIVE.2),
            ),
        ],
    );
    // A greeting answers nothing, though the client has not waited for it.
    let mut talk = open(&pool());
    play(
        &mut talk,
        &[
            (0, "EPSV ALL\r\n", "NOOP\r\n"),
            (
                1,
                "120 wait\r\n220-hello\r\n220 there\r\n",
                "120 wait\r\n220-hello\r\n220 there\r\n",
            ),
            (1, "200 zzz\r\n", "504 Not for that parameter\r\n"),
        ],
    );
}

/// A server that leaves out a reply, and one that gives one too many: EPSV is understood all the same.
#[test]
fn servers_that_miscount() {
    let mut talk = logged_in();
    play(
        &mut talk,
        &[
            (0, "NOOP\r\nEPSV\r\n", "NOOP\r\nPASV\r\n"),
            PASSIVE,
            (1, "200 late\r\n", "200 late\r\n"),
            (1, "200 unasked\r\n", "200 unasked\r\n"),
            (0, "EPSV\r\n", "PASV\r\n"),
            PASSIVE,
            (0, "EPSV ALL\r\n", "NOOP\r\n"),
            (1, "200 zzz\r\n", "504 Not for that parameter\r\n"),
        ],
    );
}

/// More replies outstanding than are remembered: the commands that are too many come again.
#[test]
fn too_many_commands_wait() {
    let mut talk = logged_in();
    let heard = talk
        .say_at(0, talk.seq[0], &"EPSV ALL\r\n".repeat(20))
        .expect("some pass");
    let passed = heard.matches("NOOP\r\n").count();
    assert_eq!((passed, heard.len()), (8, 8 * 6));
    talk.seq[0] += 8 * 10;
    let again = talk.seq[0];
    assert_eq!(talk.say_at(0, again, "EPSV ALL\r\n"), None);
    let tracker = talk.pair.nat().tracker();
    assert!(tracker.count(Reason::HelperExpectation) > 0);
    let said = talk.say(1, "200 zzz\r\n");
    assert_eq!(said.as_deref(), Some("504 Not for that parameter\r\n"));
    // The server has acknowledged the first eight by that: there is room for one more.
    assert_eq!(talk.say(0, "EPSV ALL\r\n").as_deref(), Some("NOOP\r\n"));
}

/// Replies that become too long for what is before a packet: the segment is cut, and the rest comes again.
#[test]
fn what_grows_too_much_comes_in_two_segments() {
    let mut talk = logged_in();
    let commands = "EPSV ALL\r\n".repeat(3);
    play(&mut talk, &[(0, &commands, &"NOOP\r\n".repeat(3))]);
    let (said, heard) = ("200\r\n", "504 Not for that parameter\r\n");
    let seq = talk.seq[1];
    let all = said.repeat(3);
    for number in 0..3 {
        let rest = talk.say_at(1, seq + 5 * number, &all[5 * number as usize..]);
        assert_eq!(rest.as_deref(), Some(heard));
    }
    // All of it again, and cut as before.
    assert_eq!(talk.say_at(1, seq, &all).as_deref(), Some(heard));
    talk.seq[1] += 15;
    play(&mut talk, &[(0, "EPSV\r\n", "PASV\r\n"), PASSIVE]);
}

/// Every cut of a dialogue into segments, said again and again: what passes is what passed before, in the same words.
#[test]
fn what_is_cut_anew_or_said_again_is_said_in_the_same_words() {
    let asked = "NOOP\r\nEPSV 2\r\nEPRT |2|2001:db8::7|1025|\r\nEPSV ALL\r\nRETR x\r\n";
    let heard = "NOOP\r\nPASV\r\nPORT 198,51,100,1,4,1\r\nNOOP\r\nRETR x\r\n";
    let answers = format!("200 a\r\n{}200 b\r\n200 c\r\n150 d\r\n226 e\r\n", PASSIVE.1);
    let told = format!(
        "200 a\r\n{}200 b\r\n504 Not for that parameter\r\n150 d\r\n226 e\r\n",
        PASSIVE.2
    );
    let mut talk = logged_in();
    let starts = talk.seq;
    play(&mut talk, &[(0, asked, heard), (1, &answers, &told)]);
    let sides = [(asked, heard), (&answers, &told)];
    let mut cut_short = 0;
    for (from, (said, heard)) in sides.into_iter().enumerate() {
        let base = 1 - from;
        let offset = talk.heard[base] - heard.len() as u32;
        for begin in 0..said.len() {
            for end in begin + 1..=said.len() {
                let data = &said.as_bytes()[begin..end];
                let (key, seq) = (&talk.keys[from], starts[from] + begin as u32);
                let sent = segment(key, seq, talk.heard[from], TcpFlags::ACK, data);
                let Some(seen) = talk.pair.process(&sent, NOW) else {
                    continue;
                };
                let (_, seq, _, text) = read(&seen);
                let at = (seq - offset) as usize;
                assert_eq!(text, heard[at..at + text.len()], "{from}: {begin}..{end}");
                cut_short += usize::from(at + text.len() < heard.len());
            }
        }
    }
    assert!(cut_short > 0);
    // Nothing was asked or answered a second time.
    play(&mut talk, &[(0, "EPSV\r\n", "PASV\r\n"), PASSIVE]);
}

/// In two pieces, cut at each place: what is too short to tell waits for the rest.
#[test]
fn lines_in_two_pieces() {
    for (who, asked, heard) in [
        (0, "EPSV\r\n", "PASV\r\n"),
        (
            0,
            "EPRT |2|2001:db8::7|1025|\r\n",
            "PORT 198,51,100,1,4,1\r\n",
        ),
        (0, "AUTH TLS\r\n", "AUTH TLS\r\n"),
        (0, "EPSV ALL\r\n", "NOOP\r\n"),
        (1, PASSIVE.1, PASSIVE.2),
        (1, "500 what?\r\n", "500 what?\r\n"),
    ] {
        for cut in 1..asked.len() {
            let mut talk = logged_in();
            if who == 1 {
                play(&mut talk, &[(0, "EPSV\r\n", "PASV\r\n")]);
            }
            let seq = talk.seq[who];
            let first = talk.say_at(who, seq, &asked[..cut]);
            let passed = first.as_deref().unwrap_or("");
            // With its rest, or its rest alone where the first piece has passed.
            let rest = match passed {
                "" => talk.say_at(who, seq, asked),
                _ => talk.say_at(who, seq + cut as u32, &asked[cut..]),
            };
            let whole = format!("{passed}{}", rest.expect("passes"));
            assert_eq!(whole, heard, "{cut}");
        }
    }
}

/// A command, what the server hears, what it answers, and what the client hears of that: each paired by hand.
fn exchange(command: u8, answer: u8, port: u8) -> [String; 4] {
    let (asked, heard) = match command {
        0 => ("NOOP", "NOOP"),
        1 => ("EPSV", "PASV"),
        2 => ("EPSV 2", "PASV"),
        3 => ("PASV", "PASV"),
        4 => ("EPSV ALL", "NOOP"),
        5 => ("EPSV 1", "NOOP"),
        6 => ("ALGS STATUS64", "NOOP"),
        _ => ("CWD a", "CWD a"),
    };
    let own = match command {
        4 => Some("504 Not for that parameter"),
        5 => Some("522 Network protocol: use (2)"),
        6 => Some("216 EPSVEPRT"),
        _ => None,
    };
    let (before, said, told) = match (answer, command) {
        (0, 1 | 2) => (
            "",
            format!("227 Passive (192,0,2,53,200,{port})"),
            format!(
                "229 Entering Extended Passive Mode (|||{}|)",
                51_200 + u16::from(port)
            ),
        ),
        (1, 1 | 2) => (
            "150 wait\r\n",
            format!("227 (192,0,2,9,200,{port})"),
            "425 Can't open data connection".to_string(),
        ),
        (0 | 1, 3) => {
            let line = format!("227 (192,0,2,53,200,{port})");
            ("", line.clone(), line)
        }
        (2, _) if own.is_none() => {
            let lines = "500-a\r\n227 b\r\n500 c".to_string();
            ("", lines.clone(), lines)
        }
        (3, _) => (
            "120-a\r\n b\r\n120 c\r\n",
            "550 no".to_string(),
            "550 no".to_string(),
        ),
        _ => ("", "200 fine".to_string(), "200 fine".to_string()),
    };
    let told = own.map_or(told, str::to_string);
    [
        format!("{asked}\r\n"),
        format!("{heard}\r\n"),
        format!("{before}{said}\r\n"),
        format!("{before}{told}\r\n"),
    ]
}

/// One end says it all, in pieces of about these lengths, and again from where the other acknowledges; what that hears.
fn deliver(talk: &mut Talk, from: usize, text: &str, lengths: &[usize]) -> String {
    let (base, other) = (talk.seq[from], 1 - from);
    let (mut heard, mut at, mut length) = (String::new(), 0, 0);
    let mut lengths = lengths.iter().cycle();
    while at < text.len() {
        // What does not pass is said again, and more with it.
        length += lengths.next().expect("there are some");
        let end = (at + length).min(text.len());
        let passed = talk.say_at(from, base + at as u32, &text[at..end]);
        heard += &passed.unwrap_or_default();
        let ack = segment(
            &talk.keys[other],
            talk.seq[other],
            talk.heard[other],
            TcpFlags::ACK,
            b"",
        );
        let ack = read(
            &talk
                .pair
                .process(&ack, talk.now)
                .expect("an acknowledgement"),
        )
        .2;
        if ack > base + at as u32 {
            (at, length) = ((ack - base) as usize, 0);
        }
    }
    talk.seq[from] = base + text.len() as u32;
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Commands, some without waiting for replies, cut anyhow: each reply is taken for the command that it is to.
    #[test]
    fn replies_are_paired_with_commands(
        turns in prop::collection::vec(prop::collection::vec((0u8..8, 0u8..5, 1u8..), 1..4), 1..8),
        lengths in prop::collection::vec(1usize..30, 1..6),
    ) {
        let mut talk = logged_in();
        for turn in turns {
            let [asked, heard, said, told] = [0, 1, 2, 3].map(|part| {
                let words = turn.iter().map(|(command, answer, port)| exchange(*command, *answer, *port)[part].clone());
                words.collect::<String>()
            });
            prop_assert_eq!(deliver(&mut talk, 0, &asked, &lengths), heard);
            prop_assert_eq!(deliver(&mut talk, 1, &said, &lengths), told);
        }
        talk.pair.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is said in whichever pieces, both dataplanes make the same of it, and keep what they lend in order.
    #[test]
    fn babble(
        pieces in prop::collection::vec((0usize..2, 0u32..30, "(EPSV|EPRT|PASV|AUTH|ALGS|2|227|229|425| |-|ALL|STATUS64|\\(|\\||,|2001:db8::7|192,0,2,53|1025|\r|\n|\r\n|x){1,12}"), 1..30),
    ) {
        let mut talk = logged_in();
        for (from, back, text) in pieces {
            let seq = talk.seq[from] - back;
            let (key, heard) = (talk.keys[from], talk.heard[from]);
            let sent = segment(&key, seq, heard, TcpFlags::ACK | TcpFlags::PSH, text.as_bytes());
            if let Some(seen) = talk.pair.process(&sent, talk.now) {
                let (_, seq, _, text) = read(&seen);
                let end = seq.wrapping_add(text.len() as u32);
                let other = 1 - from;
                talk.heard[other] = talk.heard[other].max(end);
                talk.seq[from] = talk.seq[from].max(sent_end(&sent));
            }
        }
        talk.pair.check();
    }
}

/// The number behind a segment, as its sender counts.
fn sent_end(packet: &[u8]) -> u32 {
    let (_, seq, _, text) = read(packet);
    seq + text.len() as u32
}

/// Bytes that are no lines at all: everything passes or waits, and both dataplanes agree.
#[test]
fn noise_passes() {
    let mut talk = logged_in();
    let long = "x".repeat(1_000);
    for text in [
        "\n",
        "\r",
        "\r\n\r\n",
        "\u{7f}\n",
        "227\n",
        "22\n",
        "2\n",
        "227 (1,2,3)\r\n",
        "999 \r\n",
        "000-\r\n",
        "000 \r\n",
        "-227 (192,0,2,53,1,1)\n",
        "229 (|||)\r\n",
        "229 no\r\n",
        &long,
        "\n",
    ] {
        for who in 0..2 {
            play(&mut talk, &[(who, text, text)]);
        }
    }
    assert_eq!(talk.pair.nat().tracker().expectations().count(), 0);
}

/// A client of IPv4 and a server of IPv6 are not what the RFC is about: nothing is read.
#[test]
fn the_other_way_round_nothing_is_read() {
    let forwarding = || {
        let (mut nat, filter) = hooks(&pool());
        let inside = "tcp [2001:db8::21]:21 > [::]:0".parse().expect("a tuple");
        let outside: std::net::SocketAddr = "198.51.100.1:21".parse().expect("an end");
        let outside = gufc::key::Endpoint::new(outside.ip(), outside.port());
        nat.forward(PoolId(0), &inside, outside).expect("free");
        (nat, filter)
    };
    let mut talk = Talk::over(
        Pair::over(forwarding),
        "tcp 192.0.2.9:4000 > 198.51.100.1:21",
    );
    assert_eq!(
        talk.keys[1].to_string(),
        "tcp [2001:db8::21]:21 > [64:ff9b::c000:209]:4000"
    );
    for (who, text) in [
        (0, "EPSV\r\n"),
        (0, "PORT 192,0,2,9,4,1\r\n"),
        (1, "229 (|||51210|)\r\n"),
        (1, "227 (198,51,100,1,4,4)\r\n"),
    ] {
        play(&mut talk, &[(who, text, text)]);
    }
    let control = talk
        .pair
        .nat()
        .tracker()
        .iter()
        .next()
        .expect("it is there");
    assert!(!control.status().contains(Status::SEQ_ADJUST));
    assert!(control.tcp_side(Direction::Original).is_some());
}

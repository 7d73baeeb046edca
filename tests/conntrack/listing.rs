//! Seen and managed: lines, events, choices in the words of the familiar tool, and deletion by them.

use gufc::hooks::conntrack::{
    Config, Conntrack, Filter, Helper, News, ParseFilterError, Status, Template,
};
use gufc::key::{Tuple, Zone};

use super::cached::Pair;
use super::story::{Told, pass, secs, segment, tracker};

fn sample() -> Conntrack<Tuple> {
    let mut config = Config::new(16, [1, 2]);
    config.accounting = true;
    config.news_capacity = 64;
    let mut tracker = tracker(config);
    let now = secs(1);
    let web = Told::of("tcp 10.0.0.1:1000 > 192.0.2.2:80");
    for (packet, words) in [
        (&web, "S 0:0 w9000 l0"),
        (&web.answered(), "SA 0:1 w9000 l0"),
        (&web, "A 1:1 w9000 l0"),
    ] {
        pass(&mut tracker, &Told::tcp(packet.key, segment(words)), now);
    }
    let other = Told::of("tcp 10.0.0.9:1001 > 192.0.2.2:443");
    pass(
        &mut tracker,
        &Told::tcp(other.key, segment("S 0:0 w9 l0")),
        now,
    );
    for key in [
        "udp 10.0.0.1:5 > 192.0.2.2:53 zone 3",
        "udplite 2001:db8::1:5 > 2001:db8::2:53",
        "gre 10.0.0.1 > 192.0.2.2",
    ] {
        // An IPv6 end with a port has brackets.
        let key = key
            .replace("2001:db8::1:5", "[2001:db8::1]:5")
            .replace("2001:db8::2:53", "[2001:db8::2]:53");
        pass(&mut tracker, &Told::of(&key), now);
    }
    tracker
}

#[test]
fn lines_of_every_kind() {
    let tracker = sample();
    let lines: Vec<_> = tracker
        .iter()
        .map(|one| one.line(secs(2)).to_string())
        .collect();
    assert_eq!(
        lines,
        [
            "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=192.0.2.2 sport=1000 dport=80 packets=2 bytes=80 \
             src=192.0.2.2 dst=10.0.0.1 sport=80 dport=1000 packets=1 bytes=40 [ASSURED] mark=0",
            "tcp      6 119 SYN_SENT src=10.0.0.9 dst=192.0.2.2 sport=1001 dport=443 packets=1 bytes=40 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.9 sport=443 dport=1001 mark=0",
            "udp      17 29 src=10.0.0.1 dst=192.0.2.2 sport=5 dport=53 packets=1 bytes=40 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 sport=53 dport=5 mark=0 zone=3",
            "udplite  136 29 src=2001:db8::1 dst=2001:db8::2 sport=5 dport=53 packets=1 bytes=40 [UNREPLIED] \
             src=2001:db8::2 dst=2001:db8::1 sport=53 dport=5 mark=0",
            "gre      47 29 src=10.0.0.1 dst=192.0.2.2 srckey=0x0 dstkey=0x0 packets=1 bytes=40 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 srckey=0x0 dstkey=0x0 mark=0",
        ]
    );
}

#[test]
fn lines_with_zones_labels_and_helpers() {
    let mut tracker = tracker(Config::new(16, [1, 2]));
    let zone = |id| Zone::new(id).expect("a zone");
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    for (zones, text) in [
        (
            [7, 0],
            "udp      17 29 src=10.0.0.1 dst=192.0.2.2 sport=5 dport=53 zone-orig=7 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 sport=53 dport=5 mark=1",
        ),
        (
            [0, 8],
            "udp      17 29 src=10.0.0.1 dst=192.0.2.2 sport=5 dport=53 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 sport=53 dport=5 zone-reply=8 mark=1",
        ),
        (
            [9, 9],
            "udp      17 29 src=10.0.0.1 dst=192.0.2.2 sport=5 dport=53 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 sport=53 dport=5 mark=1 zone=9",
        ),
    ] {
        let template = Template {
            zones: Some(zones.map(zone)),
            mark: 1,
            ..Template::default()
        };
        let id = tracker.track_with(&ask, secs(1), &template).connection;
        let id = id.expect("pending");
        let line = |tracker: &Conntrack<Tuple>| {
            let one = tracker.connection(id).expect("there");
            one.line(secs(2)).to_string()
        };
        assert!(
            line(&tracker).starts_with("udp      17 src="),
            "no time before it is confirmed"
        );
        assert!(tracker.confirm(id, secs(1)).is_accept());
        assert_eq!(line(&tracker), text);
    }
    let syn = Told::tcp(
        Told::of("tcp 10.0.0.1:5 > 192.0.2.2:21").key,
        segment("S 0:0 w9 l0"),
    );
    let id = pass(&mut tracker, &syn, secs(1)).connection.expect("there");
    assert!(tracker.assign(id, Helper::Ftp));
    assert!(tracker.set_label(id, 0xa0, u128::MAX));
    let one = tracker.connection(id).expect("there");
    let line = one.line(secs(2)).to_string();
    assert!(line.ends_with(" mark=0 helper=ftp labels=0xa0"), "{line}");
}

/// What happened, in order, as `conntrack -E` says it.
#[test]
fn events_are_told_in_order() {
    let mut tracker = sample();
    let (id, _) = tracker
        .find(&Told::of("tcp 10.0.0.1:1000 > 192.0.2.2:80").key, secs(2))
        .expect("there");
    tracker.set_mark(id, 5, u32::MAX);
    tracker.delete(id);
    let mut told = Vec::new();
    while let Some(item) = tracker.next_news() {
        told.push((item.news, item.to_string()));
    }
    let first = "src=10.0.0.1 dst=192.0.2.2 sport=1000 dport=80";
    let starts = [
        (News::NEW, format!("    [NEW] tcp      6 SYN_SENT {first} ")),
        (
            News::REPLY.union(News::STATE),
            format!(" [UPDATE] tcp      6 SYN_RECV {first} "),
        ),
        (
            News::ASSURED.union(News::STATE),
            format!(" [UPDATE] tcp      6 ESTABLISHED {first} "),
        ),
        (News::NEW, "    [NEW] tcp      6 SYN_SENT ".into()),
        (News::NEW, "    [NEW] udp      17 src=".into()),
        (News::NEW, "    [NEW] udplite  136 src=".into()),
        (News::NEW, "    [NEW] gre      47 src=".into()),
        (
            News::MARK,
            format!(" [UPDATE] tcp      6 ESTABLISHED {first} "),
        ),
        (
            News::DESTROY,
            format!("[DESTROY] tcp      6 ESTABLISHED {first} "),
        ),
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for ((news, line), (wanted, start)) in told.iter().zip(starts) {
        assert_eq!(*news, wanted, "{line}");
        assert!(line.starts_with(&start), "{line}");
    }
    let last = &told.last().expect("nine").1;
    assert!(
        last.ends_with("packets=1 bytes=40 [ASSURED] mark=5"),
        "{last}"
    );
    assert_eq!(tracker.news_lost(), 0);
}

#[test]
fn words_choose() {
    let mut tracker = sample();
    let (labelled, _) = tracker
        .find(&Told::of("gre 10.0.0.1 > 192.0.2.2").key, secs(2))
        .expect("there");
    assert!(tracker.set_label(labelled, 0x5a, u128::MAX));
    let count = |words: &str| {
        let Ok(filter) = words.parse::<Filter>() else {
            return usize::MAX;
        };
        tracker.iter().filter(|one| filter.matches(one)).count()
    };
    for (words, wanted) in [
        ("", 5),
        ("-p tcp", 2),
        ("--proto tcp --state ESTABLISHED", 1),
        ("--state syn_sent", 1),
        ("-f ipv6", 1),
        ("-f ipv4", 4),
        ("-s 10.0.0.1", 3),
        ("--src 10.0.0.0/8 --dst 192.0.2.0/24", 4),
        ("--orig-src 10.0.0.9", 1),
        ("-r 192.0.2.2 -q 10.0.0.9", 1),
        ("--dport 443", 1),
        ("--sport 5", 2),
        ("-w 3", 1),
        ("-u ASSURED", 1),
        ("-u UNREPLIED", 4),
        ("--status SEEN_REPLY,CONFIRMED", 1),
        ("-m 0", 5),
        ("--mark 0x1/0x1", 0),
        ("-m 0x100000000/1", usize::MAX),
        ("-l 0x50/0xf0", 1),
        ("--label 0", 4),
        ("-n", 0),
        ("--any-nat", 0),
        ("-p 47", 1),
    ] {
        assert_eq!(count(words), wanted, "{words}");
    }
    for (words, error) in [
        ("--colour green", ParseFilterError::Option(0)),
        ("-p tcp --state", ParseFilterError::Value(1)),
        ("-n -g -j", ParseFilterError::Contradiction),
        ("-s 10.0.0.1/8", ParseFilterError::Value(0)),
        ("-w 4194304", ParseFilterError::Value(0)),
        ("-m 0xg", ParseFilterError::Value(0)),
        ("-u FAST", ParseFilterError::Value(0)),
    ] {
        assert_eq!(words.parse::<Filter>(), Err(error), "{words}");
        assert!(!error.to_string().is_empty());
    }
}

/// Deletion by tuple, port, zone and status takes those and no others; behind a cache the flows of what is gone are judged anew.
#[test]
fn deleted_by_words() {
    for (words, left) in [
        ("-w 3", 4),
        ("-p tcp --dport 443", 4),
        ("-u UNREPLIED", 1),
        ("-s 10.0.0.1 -d 192.0.2.2", 2),
        ("", 0),
    ] {
        let mut tracker = sample();
        let filter: Filter = words.parse().expect(words);
        let before = tracker.len();
        let deleted = tracker.delete_where(|one| filter.matches(one));
        assert_eq!((before - deleted, tracker.len()), (left, left), "{words}");
        assert!(!tracker.iter().any(|one| filter.matches(&one)));
        tracker.check().expect("sound");
    }

    let rules = "chain main {
        policy drop
        ct state established accept
        ct state new accept
    }";
    let mut pair = Pair::new(&Config::new(16, [1, 2]), rules);
    let flows = [5, 6].map(|port| Told::of(&format!("udp 10.0.0.1:{port} > 192.0.2.2:53")));
    for flow in &flows {
        for packet in [flow, &flow.answered(), flow] {
            let _ = pair.tell(packet, secs(1));
        }
    }
    pair.edit(|(tracker, _)| {
        let filter: Filter = "--sport 5".parse().expect("words");
        assert_eq!(tracker.delete_where(|one| filter.matches(one)), 1);
    });
    let gone = pair.tell(&flows[0], secs(1));
    assert_eq!((gone.by.rule, gone.path.is_cached()), (Some(1), false));
    let kept = pair.tell(&flows[1], secs(1));
    assert_eq!((kept.by.rule, kept.path.is_cached()), (Some(0), true));
    let statuses: Vec<_> = pair
        .cached
        .hooks()
        .0
        .iter()
        .map(|one| one.status())
        .collect();
    assert_eq!(statuses.len(), 2);
    assert!(
        statuses
            .iter()
            .all(|status| status.contains(Status::CONFIRMED))
    );
}

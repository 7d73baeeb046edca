//! What a filter reads of a connection, each judged behind a cache as without one: by the same rule, on cached packets, too.
//!
//! A story's line is a packet, the id of the rule that is to decide it, and whether the cache is to answer it by itself. Ids are given
//! in the order of the chains' names, rule by rule.

use gufc::hook::Direction;
use gufc::hooks::conntrack::{Config, Helper, Reason};
use gufc::hooks::filter::Rule;
use gufc::key::{FlowKey, Tuple};
use gufc::time::Instant;
use gufc::verdict::{Path, Uncached};

use super::cached::Pair;
use super::story::{Told, line, secs, segment};

fn play(rules: &str, story: &[(Told, u64, u32, bool)]) -> Pair {
    let mut config = Config::new(64, [1, 2]);
    config.checksum = false;
    let mut pair = Pair::new(&config, rules);
    for (number, (packet, second, rule, cached)) in story.iter().enumerate() {
        let got = pair.tell(packet, secs(*second));
        let wanted = (Some(*rule), *cached);
        assert_eq!(
            (got.by.rule, got.path.is_cached()),
            wanted,
            "packet {number}, {}: {got:?}",
            packet.key
        );
    }
    pair
}

/// The same for segments of one connection, all in the same second.
fn play_lines(rules: &str, story: &[(&str, u32, bool)]) -> Pair {
    let told = |(text, rule, cached): &(&str, u32, bool)| (line(text), 1, *rule, *cached);
    let story: Vec<_> = story.iter().map(told).collect();
    play(rules, &story)
}

fn udp() -> (Told, Told) {
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let answer = ask.answered();
    (ask, answer)
}

/// `ct state`: every class, and a change of class that no entry notices. The first reply makes the other direction's packets
/// established at once, though its entry is older.
#[test]
fn state() {
    let rules = "chain main {
        policy drop
        ct state invalid drop
        ct state untracked accept
        ct state related accept
        ct state established accept
        ct state new accept
    }";
    let (ask, answer) = udp();
    let neighbour =
        Told::of("icmpv6 fe80::1 > fe80::2 type 135 code 0").with(&[135, 0, 0, 0, 0, 0, 0, 0]);
    let error = Told::of("icmp 203.0.113.9 > 10.0.0.1 type 3 code 3")
        .with(&[3, 3, 0, 0, 0, 0, 0, 0])
        .quoting("udp 10.0.0.1:5 > 192.0.2.2:53");
    let strayed = Told::of("icmp 203.0.113.9 > 10.0.0.66 type 3 code 3")
        .with(&[3, 3, 0, 0, 0, 0, 0, 0])
        .quoting("udp 10.0.0.1:5 > 192.0.2.2:53");
    play(
        rules,
        &[
            (ask.clone(), 1, 4, false),
            (ask.clone(), 1, 4, true),
            (error.clone(), 1, 2, false),
            (answer.clone(), 1, 3, false),
            (ask.clone(), 1, 3, true),
            (answer, 1, 3, true),
            (error, 1, 2, false),
            (strayed, 1, 0, false),
            (neighbour.clone(), 1, 1, false),
            (neighbour, 1, 1, true),
            // What has expired begins anew, its entry or not.
            (ask.clone(), 60, 4, false),
            (ask, 60, 4, true),
        ],
    );
}

/// `ct state invalid drop` on a cached flow: the window step finds what no rule could have known before.
#[test]
fn state_by_the_window_step() {
    let rules = "chain main {
        policy drop
        ct state invalid drop
        ct status assured jump on
        ct state new accept
        ct status none / assured accept
    }
    chain on {
        ct zone 0 ct direction original accept
        ct state established accept
    }";
    let story = [
        ("> S 0:0 w9000 l0", 2, false),
        ("< SA 0:1 w9000 l0", 3, false),
        ("> A 1:1 w9000 l0", 4, true),
        ("> A 1:1 w9000 l100", 4, true),
        ("< A 1:101 w9000 l0", 5, true),
        ("< A 1:101 w9000 l500", 5, true),
        // Beyond the window; then what is in it again.
        ("> A 900000:501 w9000 l10", 0, false),
        ("> A 101:501 w9000 l10", 4, false),
        ("> A 111:501 w9000 l10", 4, true),
        // Acknowledges what was never sent.
        ("< A 501:700000 w9000 l10", 0, false),
        ("< A 501:121 w9000 l10", 5, false),
        ("< A 511:121 w9000 l10", 5, true),
        // A reset that is too old, and a FIN beyond the window.
        ("< R 1:0 w0 l0", 0, false),
        ("> FA 900000:521 w9000 l0", 0, false),
    ];
    let pair = play_lines(rules, &story);
    assert_eq!(pair.cached.stats().dropped, 4);
    assert_eq!(
        pair.cached.stats().uncached[Uncached::SlowPath as usize],
        4,
        "each was judged anew"
    );
}

/// `ct state` over a TCP connection's whole life: besides SYN, FIN, RST and the first packets of either side all are answered by the cache,
/// opening and closing ones, too.
#[test]
fn state_before_and_after_the_open_one() {
    let rules = "chain main {
        policy drop
        ct state invalid drop
        ct state established accept
        ct state new accept
    }";
    let story = [
        ("> S 0:0 w9000 l0 sk", 2, false),
        ("> S 0:0 w9000 l0 sk", 2, false),
        ("< SA 0:1 w9000 l0 sk", 1, false),
        ("> A 1:1 w9000 l0", 1, true),
        ("> A 1:1 w9000 l100", 1, true),
        ("> A 101:1 w9000 l100", 1, true),
        // A gap, told of by a selective acknowledgement.
        ("< A 1:1 w9000 l0 sack..201", 1, true),
        ("< A 1:1 w9000 l0 sack..201", 1, true),
        ("< A 1:201 w0 l0", 1, true),
        ("> A 201:1 w9000 l1", 1, true),
        ("< A 1:202 w9000 l0", 1, true),
        ("> FA 202:1 w9000 l0", 1, false),
        ("< A 1:203 w9000 l0", 1, true),
        ("< A 1:203 w9000 l500", 1, true),
        ("> A 203:501 w9000 l0", 1, true),
        ("< FA 501:203 w9000 l0", 1, false),
        ("> A 203:502 w9000 l0", 1, true),
        ("> A 203:502 w9000 l0", 1, true),
        // Data beyond the window after the end.
        ("< A 90000:203 w9000 l10", 0, false),
    ];
    play_lines(rules, &story);
}

/// `ct state` of an association: data and acknowledgements with the right tag are answered by the cache, all else is judged.
#[test]
fn state_of_an_association() {
    let rules = "chain main {
        policy drop
        ct state invalid drop
        ct state established accept
        ct state new accept
    }";
    let out = Told::of("sctp 10.0.0.1:5 > 192.0.2.2:6");
    let back = out.answered();
    let packet = |key: &Told, tag: u32, kinds: &[u8], word: u32| {
        let mut bytes = vec![0, 5, 0, 6];
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        for kind in kinds {
            bytes.extend([*kind, 0, 0, 8]);
            bytes.extend(word.to_be_bytes());
        }
        key.clone().with(&bytes)
    };
    let (mine, theirs) = (0x11, 0x22);
    play(
        rules,
        &[
            (packet(&out, 0, &[1], mine), 1, 2, false),
            (packet(&back, mine, &[2], theirs), 1, 1, false),
            (packet(&out, theirs, &[10], 0), 1, 1, false),
            (packet(&back, mine, &[11], 0), 1, 1, false),
            (packet(&out, theirs, &[0], 7), 1, 1, true),
            (packet(&back, mine, &[3, 0], 7), 1, 1, true),
            (packet(&out, theirs, &[4], 7), 1, 1, false),
            (packet(&out, theirs, &[0, 7], 7), 1, 1, false),
            (packet(&out, 0x99, &[0], 7), 1, 0, false),
            (packet(&back, mine, &[8], 0), 1, 1, false),
        ],
    );
}

/// `ct status`: the same cached flow is confirmed, answered, assured in turn.
#[test]
fn status() {
    let rules = "chain main {
        policy drop
        ct status assured accept
        ct status seen-reply accept
        ct status confirmed accept
        ct state new accept
    }";
    let (ask, answer) = udp();
    play(
        rules,
        &[
            (ask.clone(), 1, 3, false),
            (ask.clone(), 1, 2, true),
            (answer.clone(), 1, 1, false),
            (ask.clone(), 1, 1, true),
            (answer.clone(), 2, 1, true),
            // More than two seconds old, and answered.
            (ask, 5, 0, true),
            (answer, 5, 0, true),
        ],
    );
}

/// `ct mark`: it is the connection's, so a cached flow of either direction is judged by the mark that it has now.
#[test]
fn mark() {
    let rules = "chain main {
        policy drop
        ct mark 0x1/0x3 drop
        ct mark 0x2/0x3 accept
        ct state new,established accept
    }";
    let mut pair = Pair::new(&Config::new(64, [1, 2]), rules);
    let (ask, answer) = udp();
    let now = Instant::from_secs(1);
    for packet in [&ask, &answer] {
        assert_eq!(pair.tell(packet, now).by.rule, Some(2));
    }
    for (mark, rule) in [(0x2, 1), (0x1, 0), (0x10, 2), (0x11, 0), (0x12, 1), (0, 2)] {
        pair.edit(|hooks| {
            let (id, _) = hooks.0.find(&ask.key, now).expect("there");
            hooks.0.set_mark(id, mark, u32::MAX);
        });
        for (at, packet) in [&ask, &answer].into_iter().enumerate() {
            let got = pair.tell(packet, now);
            assert_eq!(got.by.rule, Some(rule), "mark {mark:#x}, {at}: {got:?}");
            assert_eq!(got.verdict.is_accept(), rule != 0);
        }
    }
    assert!(pair.hits >= 10, "{} of {} cached", pair.hits, pair.packets);
}

/// `ct zone`: the same addresses and ports in three zones are three connections.
#[test]
fn zone() {
    let rules = "chain main {
        policy drop
        ct zone 1 accept
        ct zone 2 drop
        ct zone 0 ct state new,established accept
    }";
    let in_zone = |zone: u32| {
        let (ask, answer) = udp();
        [ask, answer].map(|packet| Told {
            key: packet
                .key
                .in_zone(gufc::key::Zone::new(zone).expect("a zone")),
            ..packet
        })
    };
    let mut story = Vec::new();
    for (zone, rule) in [(1, 0), (0, 2)] {
        let [ask, answer] = in_zone(zone);
        story.push((ask.clone(), 1, rule, false));
        story.push((answer.clone(), 1, rule, false));
        story.push((ask, 1, rule, true));
        story.push((answer, 1, rule, true));
    }
    let [ask, _] = in_zone(2);
    // A refused connection leaves nothing; what is kept is that it is refused.
    story.push((ask.clone(), 1, 1, false));
    story.push((ask, 1, 1, false));
    let pair = play(rules, &story);
    let (tracker, _) = pair.cached.hooks();
    assert_eq!(tracker.len(), 2);
    let zones: Vec<_> = tracker
        .iter()
        .map(|one| one.tuple(Direction::Reply).fields().zone.id())
        .collect();
    assert_eq!(zones, [1, 0]);
}

/// Zones for one direction: two networks with the same client share an outside, where the replies come; whatever is cached, each packet
/// is judged as the dataplane without a cache does.
#[test]
fn zone_of_one_direction() {
    let zone = |id| gufc::key::Zone::new(id).expect("a zone");
    let mut config = Config::new(64, [1, 2]);
    config.reply_zones = vec![(zone(1), zone(0)), (zone(2), zone(0))];
    let rules = "chain main {
        policy drop
        ct state established ct direction reply accept
        ct state established accept
        ct zone 1 ct state new accept
        ct zone 2 ct state new accept
    }";
    let mut pair = Pair::new(&config, rules);
    let ask = |network: u32, port: u32| {
        let ask = Told::of(&format!("udp 10.0.0.1:{port} > 192.0.2.2:53"));
        Told {
            key: ask.key.in_zone(zone(network)),
            ..ask
        }
    };
    let answer = |port: u32| Told::of(&format!("udp 10.0.0.1:{port} > 192.0.2.2:53")).answered();
    // Without translation the second network's client needs another port: its replies would be the first one's.
    for (network, port, rule) in [(1, 5, 2), (2, 6, 3)] {
        let first = pair.tell(&ask(network, port), secs(1));
        assert_eq!((first.by.rule, first.path.is_cached()), (Some(rule), false));
        for cached in [false, true] {
            let got = pair.tell(&answer(port), secs(1));
            assert_eq!((got.by.rule, got.path.is_cached()), (Some(0), cached));
        }
        let again = pair.tell(&ask(network, port), secs(1));
        assert_eq!((again.by.rule, again.path.is_cached()), (Some(1), true));
    }
    // As in Linux, a packet from inside that has an answer's tuple is looked for where answers come.
    let inward = pair.tell(&ask(1, 6).answered(), secs(1));
    assert_eq!(inward.by.rule, Some(0));
    let zones = |direction| {
        let tracker = &pair.cached.hooks().0;
        let ids: Vec<_> = tracker
            .iter()
            .map(|one| one.tuple(direction).fields().zone.id())
            .collect();
        ids
    };
    assert_eq!(zones(Direction::Original), [1, 2]);
    assert_eq!(zones(Direction::Reply), [0, 0]);
}

/// `ct direction`: of the connection, whoever the packet's tuple looks like.
#[test]
fn direction() {
    let rules = "chain main {
        policy drop
        ct direction reply meta length 0-999 accept
        ct direction reply drop
        ct direction original accept
    }";
    let story = [
        ("> S 0:0 w9000 l0", 2, false),
        ("< SA 0:1 w9000 l0", 0, false),
        ("> A 1:1 w9000 l0", 2, true),
        ("> A 1:1 w9000 l1000", 2, true),
        ("< A 1:1001 w9000 l10", 0, true),
        ("< A 11:1001 w9000 l10", 0, true),
        ("< A 21:1001 w9000 l1000", 1, true),
    ];
    play_lines(rules, &story);
    // After its end the other side opens: it is the original one now.
    let story = [
        ("> S 0:0 w9000 l0", 2, false),
        ("< SA 0:1 w9000 l0", 0, false),
        ("> RA 1:1 w9000 l0", 2, false),
        ("> S 70000:0 w9000 l0", 2, false),
        ("< SA 0:70001 w9000 l0", 0, false),
        ("> FA 70001:1 w9000 l0", 2, false),
        ("< FA 1:70002 w9000 l0", 0, false),
        ("> A 70002:2 w9000 l0", 2, true),
        ("< S 300000:0 w9000 l0", 2, false),
        ("> SA 500000:300001 w9000 l0", 0, false),
        ("< A 300001:500001 w9000 l0", 2, true),
    ];
    play_lines(rules, &story);
}

/// `ct state related` by a helper: what an FTP command announces comes through a filter that is otherwise closed, once; a command in
/// pieces does not pass; the control connection stays off the fast path.
#[test]
fn state_related_by_a_helper() {
    let rules = "chain main {
        policy drop
        ct state established,related accept
        tcp dport 21 ct state new accept
    }";
    let mut pair = Pair::new(&Config::new(64, [1, 2]), rules);
    let control: Rule = "tcp dport 21".parse().expect("a rule");
    pair.edit(|hooks| hooks.0.assign_to(control.pattern, Some(Helper::Ftp)));
    let out = Told::of("tcp 10.0.0.1:1000 > 192.0.2.2:21");
    let back = out.answered();
    let mut seq = [1, 1];
    let mut say = |pair: &mut Pair, by: usize, text: &str| {
        let key = [&out, &back][by].key;
        let mut bytes = vec![0; 20];
        bytes.extend(text.as_bytes());
        let words = format!("PA {}:{} w9000 l{}", seq[by], seq[1 - by], text.len());
        let got = pair.tell(&Told::tcp(key, segment(&words)).with(&bytes), secs(1));
        assert!(!got.path.is_cached(), "{text}");
        if got.verdict.is_accept() {
            seq[by] += text.len();
        }
        let counts =
            [pair.cached.hooks(), &pair.plain.hooks].map(|hooks| hooks.0.expectations().count());
        assert_eq!(counts[0], counts[1]);
        (got.verdict.is_accept(), counts[0])
    };
    for (packet, words) in [
        (&out, "S 0:0 w9000 l0"),
        (&back, "SA 0:1 w9000 l0"),
        (&out, "A 1:1 w9000 l0"),
    ] {
        let got = pair.tell(&Told::tcp(packet.key, segment(words)), secs(1));
        assert!(got.verdict.is_accept());
    }
    assert_eq!(say(&mut pair, 1, "220 hello\r\n"), (true, 0));
    assert_eq!(say(&mut pair, 0, "USER x\r\n"), (true, 0));
    assert_eq!(say(&mut pair, 0, "PORT 10,0,"), (false, 0), "in pieces");
    assert_eq!(say(&mut pair, 0, "PORT 10,0,0,1,8,1\r\n"), (true, 1));
    let syn = |pair: &mut Pair, tuple: &str| {
        let packet = Told::tcp(tuple.parse().expect("a tuple"), segment("S 5:0 w9000 l0"));
        pair.tell(&packet, secs(1)).verdict.is_accept()
    };
    assert!(
        !syn(&mut pair, "tcp 192.0.2.3:20 > 10.0.0.1:2049"),
        "somebody else"
    );
    assert!(
        !syn(&mut pair, "tcp 192.0.2.2:20 > 10.0.0.1:2050"),
        "another port"
    );
    assert!(syn(&mut pair, "tcp 192.0.2.2:20 > 10.0.0.1:2049"));
    assert!(
        !syn(&mut pair, "tcp 192.0.2.2:22 > 10.0.0.1:2049"),
        "used up"
    );
    assert_eq!(say(&mut pair, 1, "229 Yes (|||2051|)\r\n"), (true, 1));
    assert!(syn(&mut pair, "tcp 10.0.0.1:3000 > 192.0.2.2:2051"));
    let tracker = &pair.cached.hooks().0;
    assert_eq!(tracker.count(Reason::HelperPartial), 1);
    assert_eq!(
        tracker.iter().filter(|one| one.master().is_some()).count(),
        2
    );
}

/// A hook that is asked what it says of a packet is asked about the packet, not about its flow: nothing of all this made an entry stale.
#[test]
fn no_entry_is_stale_because_a_class_changed() {
    let rules = "chain main {
        policy drop
        ct state new,established accept
    }";
    let (ask, answer) = udp();
    let pair = play(
        rules,
        &[
            (ask.clone(), 1, 0, false),
            (answer.clone(), 1, 0, false),
            (ask, 5, 0, true),
            (answer, 5, 0, true),
        ],
    );
    let stats = pair.cached.stats();
    assert_eq!((stats.commits, stats.revisited, stats.rechecked), (0, 0, 0));
    assert_eq!(pair.cached.len(), 1);
    let key: Tuple = "udp 10.0.0.1:5 > 192.0.2.2:53".parse().expect("a tuple");
    assert!(pair.cached.hooks().0.find(&key, secs(5)).is_some());
    assert_ne!(Path::Hit, Path::Miss);
}

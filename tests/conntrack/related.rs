//! Announced connections, the FTP helper, and listings.

use gufc::hook::Class;
use gufc::hooks::conntrack::{
    Config, ConnId, Conntrack, ExpectError, Expectation, Filter, Help, Helper, News, Reason, Status,
};
use gufc::key::{Protocol, Tuple};
use gufc::packet::Segment;
use gufc::time::Instant;

use super::story::{Told, pass, secs, segment, tracker};

const NOW: Instant = Instant::from_secs(1);
const CONTROL: &str = "tcp 10.0.0.1:1000 > 192.0.2.2:21";

/// A control connection, open.
fn control(config: Config) -> (Conntrack<Tuple>, ConnId) {
    let mut tracker = tracker(config);
    let out = Told::of(CONTROL);
    let mut id = None;
    for (packet, words) in [
        (&out, "S 0:0 w9000 l0"),
        (&out.answered(), "SA 0:1 w9000 l0"),
        (&out, "A 1:1 w9000 l0"),
    ] {
        id = pass(&mut tracker, &Told::tcp(packet.key, segment(words)), NOW).connection;
    }
    (tracker, id.expect("open"))
}

/// A segment with data.
fn data(key: Tuple, seq: u32, ack: u32, text: &str) -> Told {
    let mut bytes = vec![0; 20];
    bytes.extend(text.as_bytes());
    let words = format!("PA {seq}:{ack} w9000 l{}", text.len());
    let segment: Segment = segment(&words);
    Told::tcp(key, segment).with(&bytes)
}

fn expectation(master: ConnId, tuple: &str) -> Expectation<Tuple> {
    Expectation {
        master,
        tuple: tuple.parse().expect("a tuple"),
        any_address: false,
        any_port: true,
        class: 0,
        class_max: 2,
        permanent: false,
        until: secs(100),
    }
}

#[test]
fn announced_connections_are_related_once() {
    let (mut tracker, id) = control(Config::new(16, [1, 2]));
    tracker.set_mark(id, 77, u32::MAX);
    let one = expectation(id, "tcp 192.0.2.2:0 > 10.0.0.1:2000");
    assert_eq!(tracker.expect(one, NOW), Ok(()));
    assert_eq!(tracker.expect(one, NOW), Ok(()), "the same again prolongs");
    assert_eq!(tracker.expectations().count(), 1);
    let open = |from: &str| {
        Told::tcp(
            format!("tcp {from} > 10.0.0.1:2000").parse().unwrap(),
            segment("S 5:0 w9000 l0"),
        )
    };
    let stranger = tracker.track(&open("192.0.2.3:20"), NOW);
    assert_eq!(stranger.class, Class::New, "another address");
    let tracked = pass(&mut tracker, &open("192.0.2.2:20"), NOW);
    assert_eq!((tracked.class, tracked.mark), (Class::Related, 77));
    assert!(tracked.status.contains(Status::EXPECTED));
    let child = tracked.connection.expect("there");
    assert_eq!(tracker.connection(child).expect("there").master(), Some(id));
    assert_eq!(
        pass(&mut tracker, &open("192.0.2.2:20"), NOW).class,
        Class::Related,
        "a repeated SYN"
    );
    assert_eq!(
        pass(&mut tracker, &open("192.0.2.2:21"), NOW).class,
        Class::New,
        "used up"
    );
    assert!(tracker.delete(id));
    assert!(tracker.connection(child).is_some(), "children survive");
}

#[test]
fn announcements_end_and_are_limited() {
    let mut config = Config::new(16, [1, 2]);
    config.expectations_max = 3;
    config.news_capacity = 20;
    let (mut tracker, id) = control(config);
    let to = |port: u32| expectation(id, &format!("tcp 192.0.2.2:0 > 10.0.0.1:{port}"));
    for port in 1..=3 {
        assert_eq!(tracker.expect(to(port), NOW), Ok(()));
        tracker.check().expect("sound");
    }
    let ports: Vec<_> = tracker
        .expectations()
        .map(|one| one.tuple.to_string())
        .collect();
    assert_eq!(
        ports.len(),
        2,
        "two of a class: the oldest gave way: {ports:?}"
    );
    let other = |port| Expectation {
        class: 1,
        ..to(port)
    };
    assert_eq!(tracker.expect(other(3), NOW), Err(ExpectError::Busy));
    assert_eq!(tracker.expect(other(4), NOW), Ok(()));
    let third = Expectation { class: 2, ..to(5) };
    assert_eq!(tracker.expect(third, NOW), Err(ExpectError::Full));
    assert_eq!(
        tracker.expect(
            Expectation {
                until: secs(900),
                ..third
            },
            secs(100)
        ),
        Ok(()),
        "expired ones made room"
    );
    tracker.check().expect("sound");
    tracker.delete(id);
    assert_eq!(
        tracker.expectations().count(),
        0,
        "they end with their master"
    );
    assert_eq!(tracker.expect(to(9), NOW), Err(ExpectError::Master));
    let udp = tracker
        .track(&Told::of("udp 10.0.0.1:5 > 192.0.2.2:53"), NOW)
        .connection;
    let pending = Expectation {
        master: udp.expect("pending"),
        ..to(9)
    };
    assert_eq!(tracker.expect(pending, NOW), Err(ExpectError::Master));
    tracker.check().expect("sound");
}

#[test]
fn ftp_announces_both_ways() {
    let (mut tracker, id) = control(Config::new(16, [1, 2]));
    assert!(tracker.assign(id, Helper::Ftp));
    let out: Tuple = CONTROL.parse().expect("a tuple");
    let back = Told::of(CONTROL).answered().key;
    let (mut client, mut server) = (1u32, 1u32);
    let mut say = |tracker: &mut Conntrack<Tuple>, by_client: bool, text: &str| {
        let (key, seq, ack) = if by_client {
            (out, client, server)
        } else {
            (back, server, client)
        };
        let packet = data(key, seq, ack, text);
        let tracked = pass(tracker, &packet, NOW);
        assert_eq!(
            (tracked.class, tracked.reason),
            (Class::Established, None),
            "{text}"
        );
        let help = tracker.help(&packet, &tracked, NOW);
        if !matches!(help, Help::Drop(_)) {
            *(if by_client { &mut client } else { &mut server }) += text.len() as u32;
        }
        tracker.check().expect("sound");
        help
    };
    let syn = |tuple: &str| Told::tcp(tuple.parse().expect("a tuple"), segment("S 5:0 w9000 l0"));
    assert_eq!(say(&mut tracker, false, "220 hello\r\n"), Help::Nothing);
    assert_eq!(say(&mut tracker, true, "USER x\r\n"), Help::Nothing);
    // Active: the server will come.
    let help = say(&mut tracker, true, "PORT 10,0,0,1,8,1\r\n");
    assert_eq!(
        help,
        Help::Announced(
            "10.0.0.1:2049"
                .parse::<std::net::SocketAddr>()
                .map(|end| gufc::key::Endpoint::new(end.ip(), end.port()))
                .unwrap()
        )
    );
    let active = pass(&mut tracker, &syn("tcp 192.0.2.2:20 > 10.0.0.1:2049"), NOW);
    assert_eq!(active.class, Class::Related);
    // Passive: the client will come.
    assert!(matches!(
        say(&mut tracker, false, "227 Yes (192,0,2,2,8,2)\r\n"),
        Help::Announced(_)
    ));
    assert_eq!(
        pass(
            &mut tracker,
            &syn("tcp 10.0.0.1:3000 > 192.0.2.2:2050"),
            NOW
        )
        .class,
        Class::Related
    );
    assert!(matches!(
        say(&mut tracker, false, "229 Yes (|||2051|)\r\n"),
        Help::Announced(_)
    ));
    assert_eq!(
        pass(
            &mut tracker,
            &syn("tcp 10.0.0.1:3000 > 192.0.2.2:2051"),
            NOW
        )
        .class,
        Class::Related
    );
    // A bounce, and what only looks like a line.
    assert_eq!(
        say(&mut tracker, true, "PORT 10,0,0,9,8,3\r\n"),
        Help::Nothing
    );
    assert_eq!(say(&mut tracker, true, "NOOP"), Help::Nothing);
    assert_eq!(
        say(&mut tracker, true, "PORT 10,0,0,1,8,4\r\n"),
        Help::Nothing,
        "not at a line's begin"
    );
    // In pieces: it has to come again in one.
    assert_eq!(
        say(&mut tracker, true, "PORT 10,0,"),
        Help::Drop(Reason::HelperPartial)
    );
    assert!(matches!(
        say(&mut tracker, true, "PORT 10,0,0,1,8,5\r\n"),
        Help::Announced(_)
    ));
    assert_eq!(tracker.count(Reason::HelperPartial), 1);
    assert_eq!(tracker.expectations().count(), 1);
    let plain = segment("A 1:1 w9000 l0");
    assert!(
        !tracker.fits(id, gufc::hook::Direction::Original, &plain, NOW),
        "a helper sees all"
    );
}

#[test]
fn listings_and_choices() {
    let mut config = Config::new(16, [1, 2]);
    config.accounting = true;
    config.news_capacity = 16;
    let (mut tracker, id) = control(config);
    let _ = pass(
        &mut tracker,
        &Told::of("udp 10.0.0.1:5 > 192.0.2.2:53 zone 3"),
        NOW,
    );
    let ping =
        Told::of("icmp 10.0.0.1 > 192.0.2.2 id 9 type 8 code 0").with(&[8, 0, 0, 0, 0, 9, 0, 0]);
    let _ = pass(&mut tracker, &ping, NOW);
    let _ = pass(
        &mut tracker,
        &Told::of("esp 2001:db8::1 > 2001:db8::2"),
        NOW,
    );
    tracker.set_mark(id, 5, u32::MAX);
    let lines: Vec<_> = tracker
        .iter()
        .map(|one| one.line(secs(2)).to_string())
        .collect();
    assert_eq!(
        lines,
        [
            "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=192.0.2.2 sport=1000 dport=21 packets=2 bytes=80 \
             src=192.0.2.2 dst=10.0.0.1 sport=21 dport=1000 packets=1 bytes=40 [ASSURED] mark=5",
            "udp      17 29 src=10.0.0.1 dst=192.0.2.2 sport=5 dport=53 packets=1 bytes=40 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 sport=53 dport=5 mark=0 zone=3",
            "icmp     1 29 src=10.0.0.1 dst=192.0.2.2 type=8 code=0 id=9 packets=1 bytes=40 [UNREPLIED] \
             src=192.0.2.2 dst=10.0.0.1 type=0 code=0 id=9 mark=0",
            "unknown  50 599 src=2001:db8::1 dst=2001:db8::2 packets=1 bytes=40 [UNREPLIED] \
             src=2001:db8::2 dst=2001:db8::1 mark=0",
        ]
    );
    let count = |filter: Filter| tracker.iter().filter(|one| filter.matches(one)).count();
    let all = Filter::default();
    assert_eq!(count(all), 4);
    assert_eq!(
        count(Filter {
            with: Status::ASSURED,
            ..all
        }),
        1
    );
    assert_eq!(
        count(Filter {
            without: Status::SEEN_REPLY,
            ..all
        }),
        3
    );
    assert_eq!(
        count(Filter {
            protocol: Some(Protocol::UDP),
            ..all
        }),
        1
    );
    assert_eq!(
        count(Filter {
            source: Some("10.0.0.0/24".parse().unwrap()),
            ..all
        }),
        3
    );
    assert_eq!(
        count(Filter {
            destination_port: Some(21),
            ..all
        }),
        1
    );
    assert_eq!(
        count(Filter {
            mark: Some((4, 4)),
            ..all
        }),
        1
    );
    assert_eq!(
        count(Filter {
            zone: gufc::key::Zone::new(3),
            ..all
        }),
        1
    );
    let condemned = Filter {
        without: Status::ASSURED,
        ..all
    };
    assert_eq!(tracker.delete_where(|one| condemned.matches(one)), 3);
    assert_eq!(tracker.len(), 1);
    let mut news = Vec::new();
    while let Some(item) = tracker.next_news() {
        news.push(item.news.to_string());
    }
    assert_eq!(
        news,
        [
            "NEW",
            "REPLY|STATE",
            "ASSURED|STATE",
            "NEW",
            "NEW",
            "NEW",
            "MARK",
            "DESTROY",
            "DESTROY",
            "DESTROY"
        ]
    );
    assert_eq!(News::NONE.to_string(), "-");
}

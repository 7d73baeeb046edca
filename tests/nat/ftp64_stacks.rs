//! A client of IPv6 fetches files from a server of IPv4 that knows PASV and PORT only, actively and passively (RFC 6384): real stacks, over
//! a network that loses, repeats and reorders on both sides of the translator.

use std::collections::VecDeque;

use gufc::hooks::conntrack::{Reason, Status};
use gufc::testing::prng::SplitMix64;
use gufc::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::ftp::Pair;
use super::ftp64::{hooks, pool};
use crate::stack_wire::{Network, Wire};

const CLIENT: &str = "2001:db8::7";
const SERVER: &str = "192.0.2.53";
/// The server as the client knows it.
const EMBEDDED: &str = "64:ff9b::192.0.2.53";

fn address(text: &str) -> IpAddress {
    text.parse::<std::net::IpAddr>().expect("an address").into()
}

/// What is in a file: also lines that would mean something on a control connection.
fn file(number: usize) -> Vec<u8> {
    let line = format!("EPRT |2|{CLIENT}|{number}|\r\n227 ({number},2,3,4,5,6)\r\n");
    line.repeat(60 + 40 * number).into_bytes()
}

/// A host with one control connection and any number of data connections.
struct Host {
    wire: Wire,
    stack: Interface,
    sockets: SocketSet<'static>,
    control: SocketHandle,
    /// What its user has to say, and has heard, line by line; the last may be without its end.
    to_say: VecDeque<u8>,
    heard: String,
}

impl Host {
    fn new(chance: &mut SplitMix64, own: &str, gateway: &str) -> Self {
        // IPv6's smallest, and what it is on the other side.
        let mut wire = Wire::new(if own.contains(':') { 1_280 } else { 1_260 });
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = chance.next();
        let mut stack = Interface::new(config, &mut wire, Moment::ZERO);
        stack.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address(own), 24)).expect("room");
        });
        let routes = stack.routes_mut();
        match address(gateway) {
            IpAddress::Ipv4(gateway) => routes.add_default_ipv4_route(gateway),
            IpAddress::Ipv6(gateway) => routes.add_default_ipv6_route(gateway),
        }
        .expect("room");
        let mut sockets = SocketSet::new(Vec::new());
        let control = sockets.add(socket(chance));
        Self {
            wire,
            stack,
            sockets,
            control,
            to_say: VecDeque::new(),
            heard: String::new(),
        }
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn open(&mut self, chance: &mut SplitMix64, to: (IpAddress, u16), from: u16) -> SocketHandle {
        let handle = self.sockets.add(socket(chance));
        self.connect(handle, to, from);
        handle
    }

    fn connect(&mut self, handle: SocketHandle, to: (IpAddress, u16), from: u16) {
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let connected = socket.connect(self.stack.context(), to, from);
        connected.expect("a socket");
    }

    fn listen(&mut self, chance: &mut SplitMix64, port: u16) -> SocketHandle {
        let handle = self.sockets.add(socket(chance));
        self.socket(handle).listen(port).expect("a port");
        handle
    }

    fn say(&mut self, line: &str) {
        self.to_say.extend(line.bytes());
    }

    /// The next line, if it is there in full.
    fn hear(&mut self) -> Option<String> {
        let end = self.heard.find("\r\n")?;
        let line = self.heard.drain(..end + 2).collect::<String>();
        Some(line.trim_end().to_string())
    }

    /// Lets the stack work, and the control connection take a few bytes at a time.
    fn turn(&mut self, chance: &mut SplitMix64, now: u64) {
        let moment = Moment::from_millis(now as i64);
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.control);
        if socket.can_send() && !self.to_say.is_empty() {
            let length = (1 + chance.below(40) as usize).min(self.to_say.len());
            let piece: Vec<u8> = self.to_say.iter().take(length).copied().collect();
            let sent = socket.send_slice(&piece).expect("open");
            self.to_say.drain(..sent);
        }
        if socket.can_recv() {
            let heard = &mut self.heard;
            let _ = socket.recv(|data| {
                heard.push_str(core::str::from_utf8(data).expect("text"));
                (data.len(), ())
            });
        }
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
    }
}

fn socket(chance: &mut SplitMix64) -> Socket<'static> {
    // Large enough for a file: this stack does not ask whether a window has opened, and cuts segments where a ring ends.
    let [received, sent] = [(); 2].map(|()| SocketBuffer::new(vec![0; 32_768]));
    let mut socket = Socket::new(received, sent);
    socket.set_nagle_enabled(chance.below(2) == 0);
    socket
}

/// What a client does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It says a line, and hears a reply that begins so.
    Say(&'static str, &'static str),
    /// It has the server wait, with this command.
    Passive(&'static str),
    /// It waits itself.
    Active,
}

const STEPS: [Step; 14] = [
    Step::Say("USER anonymous", "230 "),
    Step::Say("ALGS STATUS64", "216 EPSVEPRT"),
    Step::Passive("EPSV"),
    Step::Active,
    Step::Say("EPSV ALL", "504 "),
    Step::Passive("EPSV 2"),
    Step::Passive("epsv"),
    Step::Say("AUTH TLS", "500 "),
    Step::Active,
    Step::Say("ALGS DISABLE64", "216 NONE"),
    Step::Say("EPSV", "500 "),
    Step::Say("ALGS ENABLE64", "216 EPSVEPRT"),
    Step::Active,
    Step::Say("QUIT", "221 "),
];

/// The user at the client.
struct User {
    step: usize,
    /// Replies of this step that have been heard.
    replies: usize,
    data: Option<SocketHandle>,
    /// The file that comes.
    got: Vec<u8>,
    fetched: usize,
}

impl User {
    fn begin(&mut self, client: &mut Host, chance: &mut SplitMix64) {
        self.replies = 0;
        let Some(step) = STEPS.get(self.step) else {
            return;
        };
        match step {
            Step::Say(line, _) | Step::Passive(line) => client.say(&format!("{line}\r\n")),
            Step::Active => {
                let port = 42_000 + self.fetched as u16;
                self.data = Some(client.listen(chance, port));
                client.say(&format!("EPRT |2|{CLIENT}|{port}|\r\n"));
            }
        }
    }

    fn turn(&mut self, client: &mut Host, chance: &mut SplitMix64) {
        if let Some(data) = self.data {
            let socket = client.socket(data);
            let got = &mut self.got;
            if socket.can_recv() {
                let _ = socket.recv(|data| {
                    got.extend_from_slice(data);
                    (data.len(), ())
                });
            } else if !socket.may_recv() && socket.state() == State::CloseWait {
                socket.close();
            }
        }
        let Some(line) = client.hear() else { return };
        if line.starts_with(' ') || line.as_bytes().get(3) == Some(&b'-') {
            // More lines of this reply will come.
            return;
        }
        let step = STEPS.get(self.step).copied();
        let number = self.fetched;
        match (step, self.replies) {
            // The greeting has no step; it begins the first one.
            (_, _) if line == "220 hello" => {}
            (Some(Step::Say(said, reply)), _) => {
                assert!(line.starts_with(reply), "{said}: {line}");
                self.step += 1;
            }
            (Some(Step::Passive(_)), 0) => {
                let port = line.strip_prefix("229 Entering Extended Passive Mode (|||");
                let port = port.and_then(|rest| rest.strip_suffix("|)"));
                let port = port.and_then(|port| port.parse().ok());
                let port = port.unwrap_or_else(|| panic!("no port: {line}"));
                let from = 41_000 + number as u16;
                self.data = Some(client.open(chance, (address(EMBEDDED), port), from));
                client.say(&format!("RETR {number}\r\n"));
                self.replies += 1;
                return;
            }
            (Some(Step::Active), 0) => {
                assert_eq!(line, "200 fine");
                client.say(&format!("RETR {number}\r\n"));
                self.replies += 1;
                return;
            }
            (_, 1) => {
                assert_eq!(line, "150 here it comes");
                self.replies += 1;
                return;
            }
            _ => {
                assert_eq!(line, "226 that was it");
                assert!(self.got == file(number), "file {number} is what was sent");
                self.got.clear();
                self.fetched += 1;
                self.step += 1;
            }
        }
        self.begin(client, chance);
    }
}

/// The server's program.
#[derive(Default)]
struct Program {
    greeted: bool,
    data: Option<SocketHandle>,
    /// The file that is wanted, and whether it is on its way.
    wanted: Option<usize>,
    sending: bool,
    count: u16,
}

impl Program {
    fn turn(&mut self, server: &mut Host, chance: &mut SplitMix64) {
        if !self.greeted && server.socket(server.control).may_send() {
            self.greeted = true;
            server.say("220 hello\r\n");
        }
        if let (Some(number), Some(data)) = (self.wanted, self.data) {
            let socket = server.socket(data);
            if !self.sending && socket.state() == State::Established {
                let sent = socket.send_slice(&file(number)).expect("open");
                assert_eq!(sent, file(number).len(), "it has room");
                socket.close();
                self.sending = true;
                server.say("150 here it comes\r\n");
            } else if self.sending && matches!(socket.state(), State::TimeWait | State::Closed) {
                (self.wanted, self.data, self.sending) = (None, None, false);
                server.say("226 that was it\r\n");
            }
        }
        let Some(line) = server.hear() else { return };
        let (word, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "USER" => server.say("230 welcome\r\n"),
            "NOOP" => server.say("200-nothing\r\n to do\r\n200 so it is done\r\n"),
            "QUIT" => server.say("221 bye\r\n"),
            "PASV" => {
                self.count += 1;
                let port = 50_000 + self.count;
                self.data = Some(server.listen(chance, port));
                let ([a, b, c, d], [high, low]) = ([192, 0, 2, 53], port.to_be_bytes());
                server.say(&format!("227 Entering ({a},{b},{c},{d},{high},{low}).\r\n"));
            }
            "PORT" => {
                let numbers: Vec<u8> = argument
                    .split(',')
                    .map(|number| number.parse().expect("a number"))
                    .collect();
                let [a, b, c, d, high, low] = numbers[..] else {
                    panic!("{line}")
                };
                let to = (IpAddress::v4(a, b, c, d), u16::from_be_bytes([high, low]));
                self.data = Some(server.open(chance, to, 20));
                server.say("200 fine\r\n");
            }
            "RETR" => self.wanted = Some(argument.parse().expect("a number")),
            _ => server.say("500 what?\r\n"),
        }
    }
}

/// All of it once; packets that the cache knew, and segments that had to wait for others.
fn fetch(seed: u64) -> (usize, u64) {
    let mut chance = SplitMix64(seed);
    let mut pair = Pair::over(|| hooks(&pool()));
    let mut client = Host::new(&mut chance, CLIENT, "2001:db8::1");
    let mut server = Host::new(&mut chance, SERVER, "192.0.2.1");
    let (mut user, mut program) = (
        User {
            step: 0,
            replies: 0,
            data: None,
            got: Vec::new(),
            fetched: 0,
        },
        Program::default(),
    );
    let listening = server.control;
    server.socket(listening).listen(21).expect("a port");
    client.connect(client.control, (address(EMBEDDED), 21), 40_000);
    let mut network = Network::<(bool, usize, Vec<u8>)>::new(&mut chance, [10, 10, 50]);
    let mut now = 0u64;
    while user.step < STEPS.len() {
        assert!(
            now < 2_000_000,
            "seed {seed}: step {} never ends",
            user.step
        );
        let mut sent = Vec::new();
        while let Some((translated, to, packet)) = network.receive(now) {
            if translated {
                let host = if to == 0 { &mut client } else { &mut server };
                host.wire.incoming.push_back(packet);
            } else if let Some(packet) = pair.process(&packet, Instant::from_millis(1_000 + now)) {
                sent.push((true, to, packet));
            }
        }
        client.turn(&mut chance, now);
        user.turn(&mut client, &mut chance);
        server.turn(&mut chance, now);
        program.turn(&mut server, &mut chance);
        let outgoing = client.wire.outgoing.drain(..);
        sent.extend(outgoing.map(|packet| (false, 1, packet)));
        let outgoing = server.wire.outgoing.drain(..);
        sent.extend(outgoing.map(|packet| (false, 0, packet)));
        for packet in sent {
            network.send(&mut chance, now, &packet);
        }
        now += 5;
    }
    assert_eq!(user.fetched, 6, "files");
    pair.check();
    let tracker = pair.nat().tracker();
    for reason in [
        Reason::TcpAckUnsent,
        Reason::Malformed,
        Reason::Checksum,
        Reason::HelperRewrite,
        Reason::HelperExpectation,
    ] {
        assert_eq!(tracker.count(reason), 0, "seed {seed}: {reason}");
    }
    assert_eq!(pair.nat().counters().untranslated, 0);
    let control = tracker
        .iter()
        .find(|one| one.status().contains(Status::HELPER));
    let shifted = control.map(|one| one.status().contains(Status::SEQ_ADJUST));
    assert_eq!(shifted, Some(true));
    (pair.hits, tracker.count(Reason::HelperOrder))
}

#[test]
fn a_client_of_ipv6_fetches_files_from_a_server_of_ipv4() {
    let seeds = std::env::var("GUFC_STACK_SEEDS").map_or(8, |text| text.parse().expect("a number"));
    let (mut hits, mut waited) = (0, 0);
    for seed in 0..seeds {
        let (known, out_of_order) = fetch(seed);
        hits += known;
        waited += out_of_order;
    }
    assert!(hits > 100, "data are cached: {hits}");
    assert!(waited > 0, "the network reordered");
}

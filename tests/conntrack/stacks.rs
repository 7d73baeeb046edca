//! Two real TCP stacks talk through the tracker over a network that loses, repeats and reorders: whatever conforming ends do is
//! valid, cached or not, and after they have closed the connection is closing.
//!
//! `GUFC_STACK_SEEDS=5000 cargo test --release --test promises stacks` looks longer.

use gufc::hooks::conntrack::{Config, Reason, TcpPhase, Timeouts};
use gufc::testing::prng::SplitMix64;
use gufc::time::Instant;
use gufc::verdict::Verdict;
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::cached::Pair;
use crate::stack_wire::{Network, Wire};

const RULES: &str = "
    chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        tcp dport 80 ct state new accept
    }
";

/// Milliseconds that a packet takes at most on either side of the tracker.
const DELAY_MAX: u64 = 100;

/// One end: a stack with one socket, and what its user still wants to say and to hear.
struct Host {
    wire: Wire,
    stack: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    to_send: usize,
    to_hear: usize,
    /// Whether it resets instead of closing.
    rude: bool,
    closed: bool,
    open_since: Option<u64>,
}

impl Host {
    fn new(chance: &mut SplitMix64, address: IpAddress, mtu: usize) -> Self {
        const BUFFERS: [usize; 6] = [64, 600, 4_096, 20_000, 70_000, 300_000];
        let mut wire = Wire::new(mtu);
        let mut config = iface::Config::new(HardwareAddress::Ip);
        config.random_seed = chance.next();
        let mut stack = Interface::new(config, &mut wire, Moment::ZERO);
        let prefix = match address {
            IpAddress::Ipv4(_) => 24,
            IpAddress::Ipv6(_) => 64,
        };
        stack.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(address, prefix))
                .expect("room for one");
        });
        let mut buffer = || SocketBuffer::new(vec![0; BUFFERS[chance.below(6) as usize]]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(chance.below(2) == 0);
        // An end whose peer's last reset was lost has to find out.
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(5)));
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            wire,
            stack,
            sockets,
            socket,
            to_send: 0,
            to_hear: 0,
            rude: chance.below(8) == 0,
            closed: false,
            open_since: None,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// The stack's turn, and then its user's.
    fn turn(&mut self, now: u64) {
        let moment = Moment::from_millis(now as i64);
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
        let (to_send, to_hear) = (self.to_send, self.to_hear);
        let socket = self.socket();
        if matches!(socket.state(), State::Established | State::CloseWait) {
            let sent = socket.send(|room| {
                let length = room.len().min(to_send);
                (length, length)
            });
            let heard = socket.recv(|data| (data.len(), data.len()));
            self.to_send -= sent.unwrap_or(0);
            self.to_hear = to_hear.saturating_sub(heard.unwrap_or(0));
            let since = *self.open_since.get_or_insert(now);
            // No segment of the opening is still under way when the end begins: that is what TIME-WAIT is for, and neither
            // end of so short a connection would be in it.
            let old = now > since + 4 * DELAY_MAX;
            if !self.closed && old && self.to_send == 0 && (self.rude || self.to_hear == 0) {
                self.closed = true;
                let rude = self.rude;
                let socket = self.socket();
                if rude { socket.abort() } else { socket.close() }
            }
        } else if to_hear > 0 && socket.can_recv() {
            let heard = socket.recv(|data| (data.len(), data.len()));
            self.to_hear = to_hear.saturating_sub(heard.unwrap_or(0));
        }
        self.stack.poll(moment, &mut self.wire, &mut self.sockets);
    }

    fn next_turn(&mut self, now: u64) -> Option<u64> {
        let moment = Moment::from_millis(now as i64);
        let at = self.stack.poll_at(moment, &self.sockets)?;
        Some((at.total_millis() as u64).max(now + 1))
    }

    fn is_over(&mut self, now: u64) -> bool {
        // This stack can wait for ever for a FIN that its peer takes for acknowledged.
        if self.socket().state() == State::FinWait2 && now > 600_000 {
            return true;
        }
        // A server that was reset before it was open listens again.
        matches!(
            self.socket().state(),
            State::Closed | State::TimeWait | State::Listen
        )
    }
}

/// Where a packet is: before the tracker, or behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leg {
    ToTracker,
    ToHost,
}

/// What a whole conversation came to.
#[derive(Default)]
struct Told {
    packets: usize,
    hits: usize,
    phase: Option<TcpPhase>,
    rude: bool,
}

fn is_reset(packet: &[u8]) -> bool {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[header + 13] & 0x04 != 0
}

fn converse(seed: u64) -> Told {
    let mut chance = SplitMix64(seed);
    let mut config = Config::new(16, [1, 2]);
    // The ends repeat with pauses of up to ten seconds; Linux's shorter lifetimes would be a matter of luck.
    config.timeouts = vec![Timeouts::RFC];
    config.accounting = true;
    let mut pair = Pair::new(&config, RULES);
    let addresses = if chance.below(3) == 0 {
        [
            IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        ]
    } else {
        [IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2)]
    };
    let mtu = [1280, 1400, 1500, 9000][chance.below(4) as usize];
    let mut hosts = addresses.map(|address| Host::new(&mut chance, address, mtu));
    for from in 0..2 {
        let size = [0, 1, 500, 3_000, 20_000, 60_000][chance.below(6) as usize];
        hosts[from].to_send = size;
        hosts[1 - from].to_hear = size;
    }
    let [client, server] = &mut hosts;
    server.socket().listen(80).expect("a port");
    let socket = client.sockets.get_mut::<Socket<'_>>(client.socket);
    socket
        .connect(client.stack.context(), (addresses[1], 80), 40_000)
        .expect("a socket");

    let mut network = Network::<(Leg, usize, Vec<u8>)>::new(&mut chance, [16, 12, DELAY_MAX]);
    let mut old_resets = 0;
    let mut now = 0;
    for _ in 0..200_000 {
        let mut sent = Vec::new();
        while let Some((leg, to, packet)) = network.receive(now) {
            match leg {
                Leg::ToTracker => {
                    let moment = Instant::from_millis(1_000 + now);
                    let verdict = pair.process(&packet, moment).expect("a packet");
                    if is_reset(&packet) && verdict == Verdict::Drop {
                        // This stack resets with the number that it goes back to for repeating, though the peer may have
                        // acknowledged more. The peer would refuse such a reset (RFC 9293 section 3.10.7.4), too.
                        old_resets += 1;
                        continue;
                    }
                    assert_eq!(
                        verdict,
                        Verdict::Accept,
                        "seed {seed}, {now} ms, to host {to}: {packet:02x?}"
                    );
                    sent.push((Leg::ToHost, to, packet));
                }
                Leg::ToHost => hosts[to].wire.incoming.push_back(packet),
            }
        }
        for (from, host) in hosts.iter_mut().enumerate() {
            host.turn(now);
            let packets = host.wire.outgoing.drain(..);
            sent.extend(packets.map(|packet| (Leg::ToTracker, 1 - from, packet)));
        }
        for packet in sent {
            network.send(&mut chance, now, &packet);
        }
        let arrival = network.next_arrival();
        if arrival.is_none() && now > 0 && hosts.iter_mut().all(|host| host.is_over(now)) {
            let tracker = &pair.cached.hooks().0;
            for reason in Reason::ALL
                .into_iter()
                .take_while(|r| *r <= Reason::GrePayload)
            {
                let allowed = if reason == Reason::TcpReset {
                    old_resets
                } else {
                    0
                };
                assert_eq!(tracker.count(reason), allowed, "seed {seed}: {reason}");
            }
            return Told {
                packets: pair.packets,
                hits: pair.hits,
                phase: tracker.iter().next().and_then(|one| one.tcp_phase()),
                rude: hosts.iter().any(|host| host.rude),
            };
        }
        let [client, server] = &mut hosts;
        let turns = [client.next_turn(now), server.next_turn(now)];
        let next = turns.into_iter().flatten().chain(arrival).min();
        now = next.unwrap_or(now + 1).max(now);
        // The user looks now and then, too.
        let open = hosts.iter().any(|host| !host.closed);
        if open && next.is_none_or(|next| next > now + DELAY_MAX) {
            now += DELAY_MAX;
        }
    }
    let states = hosts.map(|mut host| (host.socket().state(), host.to_send, host.to_hear));
    panic!("seed {seed}: they never end: {states:?} at {now} ms");
}

#[test]
fn conforming_ends_are_never_invalid() {
    let seeds =
        std::env::var("GUFC_STACK_SEEDS").map_or(16, |text| text.parse().expect("a number"));
    let (mut packets, mut hits, mut resets, mut closed) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let told = converse(seed);
        packets += told.packets;
        hits += told.hits;
        let closing = |phase: TcpPhase| {
            !matches!(
                phase,
                TcpPhase::SynSent | TcpPhase::SynRecv | TcpPhase::Established
            )
        };
        assert!(
            told.rude || told.phase.is_none_or(closing),
            "seed {seed}: {:?}",
            told.phase
        );
        if told.rude {
            // Where both ends reset, nobody repeats a reset that was lost.
            resets += 1;
            closed += usize::from(told.phase.is_none_or(closing));
        }
    }
    println!("{seeds} conversations, {packets} packets, {hits} hits");
    assert!(closed * 8 >= resets * 7, "{closed} of {resets}");
    assert!(hits > packets / 4, "{hits} of {packets}");
}

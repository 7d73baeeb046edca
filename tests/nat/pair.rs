//! A cached dataplane and its uncached twin, which say the same of every packet.

use core::net::IpAddr;

use gufc::cache::{self, FlowCache};
use gufc::key::Tuple;
use gufc::packet::{Interface, Packet};
use gufc::pipeline::Walk;
use gufc::testing::uncached::Uncached;
use gufc::time::Instant;
use gufc::verdict::{Outcome, Path};
use gufc::wire::{Arrival, Cut, Frame, HEADROOM};

pub(super) struct Pair<H: gufc::pipeline::Pipeline> {
    pub(super) cached: FlowCache<Tuple, H>,
    pub(super) plain: Uncached<H>,
    pub(super) hits: usize,
    /// The machine's own addresses.
    pub(super) local: Vec<IpAddr>,
}

impl<H: for<'a> Walk<Frame<'a, Tuple>>> Pair<H> {
    pub(super) fn new(hooks: impl Fn() -> H) -> Self {
        Self {
            cached: FlowCache::new(cache::Config::new([3, 4]), hooks()).expect("room"),
            plain: Uncached { hooks: hooks() },
            hits: 0,
            local: Vec::new(),
        }
    }

    /// What befalls the packet, and the packet afterwards.
    pub(super) fn process(&mut self, packet: &[u8], on: u32, now: Instant) -> (Outcome, Vec<u8>) {
        self.process_cut(packet, on, now, &Cut::default())
    }

    /// The same for a datagram that came so, and is cut again afterwards.
    pub(super) fn process_cut(
        &mut self,
        packet: &[u8],
        on: u32,
        now: Instant,
        cut: &Cut,
    ) -> (Outcome, Vec<u8>) {
        let roomy = || {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend(packet);
            buffer
        };
        let (mut one, mut other) = (roomy(), roomy());
        let arrival = Arrival::on(Interface(on));
        let read = |bytes| Frame::<Tuple>::with_headroom(bytes, HEADROOM, &arrival);
        let local = self.local.clone();
        let is_local = |address| local.contains(&address);
        let mut one = read(&mut one).expect("a packet");
        one = one.locate(is_local).with_cut(cut);
        let mut other = read(&mut other).expect("a packet");
        other = other.locate(is_local).with_cut(cut);
        let was_intact = one.is_intact();
        let got = self.cached.process(&mut one, now);
        let wanted = self.plain.process(&mut other, now);
        self.hits += usize::from(got.path == Path::Hit);
        assert!(got.agrees(&wanted), "{got:?} is not {wanted:?}");
        assert_eq!(one.packet(), other.packet());
        assert_eq!(one.key(), other.key());
        assert_eq!(one.is_intact(), was_intact);
        let after = one.packet().to_vec();
        let mut again = after.clone();
        let again = Frame::<Tuple>::ip(&mut again, &arrival).expect("still a packet");
        let plain = |key: Tuple| key.at(gufc::key::Locality::default());
        assert_eq!(plain(again.key()), plain(one.key()));
        assert_eq!(again.is_intact(), was_intact);
        (got, after)
    }
}

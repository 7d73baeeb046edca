//! A trigger fired for a hook that gave the packet another tuple; only that hook was asked, and the packet got through by what the
//! filter behind it had said of the old tuple.

use core::net::IpAddr;

use gufc::cache::{Config, FlowCache};
use gufc::hook::{Context, Hook, Judge, Judgement, Stage, Stages};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::interest::Trigger;
use gufc::key::{Endpoint, FlowKey, Tuple};
use gufc::packet::{Packet, Rewrite, TcpFlags};
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Verdict;

/// Sends each connection to one backend, and to the other from its next SYN on.
struct Balancer {
    backends: [IpAddr; 2],
}

impl Hook for Balancer {
    type Step = Rewrite<Tuple>;

    fn name(&self) -> &'static str {
        "balancer"
    }
    fn stages(&self) -> Stages {
        Stages::of(Stage::Destination)
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Balancer {
    fn have_interest(&self, _: &Tuple) -> Option<Trigger> {
        Some(Trigger::tcp(Trigger::SYN))
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        _: &mut Context,
        step: &mut Option<Self::Step>,
    ) -> Judgement {
        if packet.tcp_flags().intersects(TcpFlags::SYN) {
            self.backends.reverse();
        }
        let from = packet.key();
        let to = Endpoint {
            address: self.backends[0],
            ..from.destination()
        };
        let rewrite = from
            .with(from.source(), to)
            .map(|to| Rewrite::between(&from, &to));
        if let Some(rewrite) = &rewrite {
            packet.rewrite(rewrite);
        }
        *step = rewrite;
        Judgement::Continue
    }

    fn run(
        &mut self,
        _: Stage,
        step: &Self::Step,
        packet: &mut P,
        _: &mut Context,
    ) -> Option<Verdict> {
        packet.rewrite(step);
        None
    }
}

#[test]
fn the_hooks_behind_judge_the_new_tuple() {
    let backends = ["10.1.0.1", "10.1.0.2"].map(|text| text.parse().expect("an address"));
    let hooks = (
        Balancer { backends },
        Filter::new("filter", 1, 1, Policy::Accept),
    );
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let rule = "ip daddr 10.1.0.2 drop".parse().expect("a rule");
    let _ = cache
        .edit(|(_, filter)| filter.insert(Place::Last, rule))
        .expect("room");
    let now = Instant::from_secs(1);
    let tuple: Tuple = "tcp 10.0.0.1:5000 > 10.0.0.2:80".parse().expect("a tuple");
    let mut send = |flags| {
        let mut packet = ToyPacket::new(tuple).with_flags(flags);
        cache.process(&mut packet, now).verdict
    };
    assert_eq!(send(TcpFlags::ACK), Verdict::Accept);
    assert_eq!(send(TcpFlags::SYN), Verdict::Drop);
    assert_eq!(send(TcpFlags::ACK), Verdict::Drop);
    assert_eq!(cache.check(), Ok(()));
}

//! The slow twin of [`Sockets`](crate::hooks::socket::Sockets): a list, all of which is read for every question.

use alloc::vec::Vec;

use crate::hooks::socket::{Bound, Listen, SocketId};
use crate::key::{Family, FlowKey, Tuple};
use crate::packet::Interface;

/// A socket and where it stands.
#[derive(Clone, Copy, Debug)]
pub enum Twin {
    /// It listens.
    Listens(SocketId, Listen),
    /// It takes one flow.
    Connected(SocketId, Tuple),
}

/// All sockets, in the order in which they were bound.
#[derive(Clone, Debug, Default)]
pub struct LinearSockets(pub Vec<Twin>);

/// Whether a bound takes packets to `key`'s destination.
fn takes(bound: Bound, key: &Tuple) -> bool {
    match bound {
        Bound::Any => true,
        Bound::AnyOf(family) => Family::align(key.destination().address).0 == family,
        Bound::One(address) => address == key.destination().address,
    }
}

impl LinearSockets {
    /// The sockets of which one takes the flow: all that are bound as closely as can be.
    pub fn best(&self, key: &Tuple, ingress: Interface) -> Vec<SocketId> {
        let mut ranked = Vec::new();
        for twin in &self.0 {
            match twin {
                Twin::Connected(id, to) if to == key => {
                    ranked.push(((true, false, false, false), *id))
                }
                Twin::Listens(id, listen)
                    if listen.zone == key.fields().zone
                        && listen.protocol == key.protocol()
                        && listen.port == key.destination().port
                        && takes(listen.address, key)
                        && listen.interface.is_none_or(|bound| bound == ingress) =>
                {
                    let to_address = matches!(listen.address, Bound::One(_));
                    let rank = (
                        false,
                        to_address,
                        listen.interface.is_some(),
                        listen.address != Bound::Any,
                    );
                    ranked.push((rank, *id));
                }
                _ => {}
            }
        }
        let Some(best) = ranked.iter().map(|(rank, _)| *rank).max() else {
            return Vec::new();
        };
        let equal = ranked.iter().filter(|(rank, _)| *rank == best);
        equal.map(|(_, id)| *id).collect()
    }

    /// Whether some packet, from some interface, could be taken by both of two sockets: tried out with the packets of `world`.
    pub fn clash(&self, listen: &Listen, world: &[(Tuple, Interface)]) -> bool {
        self.0.iter().any(|twin| match twin {
            Twin::Connected(..) => false,
            Twin::Listens(_, other) => {
                let both = world.iter().any(|(key, ingress)| {
                    [other, listen].iter().all(|one| {
                        one.zone == key.fields().zone
                            && one.protocol == key.protocol()
                            && one.port == key.destination().port
                            && takes(one.address, key)
                            && one.interface.is_none_or(|bound| bound == *ingress)
                    })
                });
                both && !(listen.share.is_some() && listen.share == other.share)
            }
        })
    }

    /// Takes a socket out.
    pub fn close(&mut self, id: SocketId) {
        self.0.retain(|twin| match twin {
            Twin::Listens(other, _) | Twin::Connected(other, _) => *other != id,
        });
    }
}

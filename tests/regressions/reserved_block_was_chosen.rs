//! A block of ports was chosen by chance among those that nobody had; where all of its ports were reserved the subscriber was
//! refused, though other blocks would have done, and the block was put to rest.

use core::net::IpAddr;
use gufc::hooks::nat::{Allocation, Pool, PoolConfig, PoolError};
use gufc::key::{Ports, Protocol};
use gufc::time::Instant;

fn host(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn pool(first: u16, last: u16) -> PoolConfig {
    PoolConfig {
        ports: Ports { first, last },
        ..PoolConfig::new(vec![IpAddr::from([203, 0, 113, 8])])
    }
}

#[test]
fn a_block_that_is_reserved_whole_is_passed_over() {
    let mut config = pool(1024, 1031);
    config.allocation = Allocation::Blocks { size: 2, max: 1 };
    config.reserved = vec![(
        config.addresses[0],
        Ports {
            first: 1024,
            last: 1029,
        },
    )];
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    let lent = pool
        .open(host(1), Protocol::UDP, 4000, Instant::START)
        .expect("the last block");
    assert!(lent.outside.port >= 1030);
    assert_eq!(
        pool.open(host(2), Protocol::UDP, 4000, Instant::START),
        Err(PoolError::Exhausted)
    );
    assert_eq!(pool.resting(), 0);
}

//! A subscriber who gave each port back at once was forgotten with it, and his openings of this second too: no rate held him.

use core::net::IpAddr;
use gufc::hooks::nat::{Pool, PoolConfig, PoolError};
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
fn a_subscriber_without_ports_is_still_held_to_his_rate() {
    let mut config = pool(1024, 65_535);
    config.rate = Some(3);
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    for _ in 0..3 {
        let lent = pool
            .open(host(1), Protocol::UDP, 4000, Instant::START)
            .expect("a port");
        pool.close(host(1), Protocol::UDP, lent.outside, Instant::START)
            .expect("held");
    }
    assert_eq!(
        pool.open(host(1), Protocol::UDP, 4000, Instant::START),
        Err(PoolError::Rate)
    );
    assert!(
        pool.open(host(2), Protocol::UDP, 4000, Instant::START)
            .is_ok(),
        "others are not"
    );
    assert!(
        pool.open(host(1), Protocol::UDP, 4000, Instant::from_secs(1))
            .is_ok()
    );
}

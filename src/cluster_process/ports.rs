//! Ports that nobody uses, and that nobody is given by accident while a broker is down.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use crate::error::CommandError;

/// Below are the ports of well-known services.
const FIRST: u16 = 10_240;
const ATTEMPTS: u64 = 10_000;

/// So many free addresses of this machine. They are outside of the range that the system takes for
/// outgoing connections: one of those would keep a broker from coming back to its port.
///
/// # Errors
/// There are not enough.
pub fn free_ports(count: usize) -> Result<Vec<SocketAddr>, CommandError> {
    let last = outgoing_from().unwrap_or(32_768).max(FIRST + 1_024);
    let random = RandomState::new();
    let mut held = Vec::new();
    for attempt in 0..ATTEMPTS {
        if held.len() == count {
            break;
        }
        let port = FIRST + u16::try_from(random.hash_one(attempt) % u64::from(last - FIRST)).unwrap_or(0);
        // Held until all are found, so that none is found twice.
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    let addresses: Vec<SocketAddr> = held.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    if addresses.len() == count {
        return Ok(addresses);
    }
    Err(CommandError::Failed(format!("there are no {count} free ports between {FIRST} and {last}")))
}

/// The first port that the system gives to outgoing connections.
fn outgoing_from() -> Option<u16> {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        let again: Vec<TcpListener> = ports.iter().map(|port| TcpListener::bind(port).unwrap()).collect();
        assert_eq!(again.len(), 20);
    }
}

//! Addresses of other brokers: names or numbers with a port, and the list of voters.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

/// A host, by name or by number, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The address to listen on, when the host is a number.
    #[must_use]
    pub fn listen_address(&self) -> Option<SocketAddr> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        format!("{host}:{}", self.port).parse().ok()
    }

    /// Whether it certainly is this address.
    #[must_use]
    pub fn is(&self, address: SocketAddr) -> bool {
        self.listen_address() == Some(address)
    }
}

impl FromStr for HostPort {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} must be HOST:PORT, for example 127.0.0.1:9000 or [::1]:9000");
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        let number = format!("{host}:{port}").parse::<SocketAddr>();
        let name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        // Digits and dots alone are a number, and then a good one.
        let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        if number.is_ok() || (name && !numeric) {
            return Ok(Self { host: host.to_owned(), port });
        }
        Err(refuse())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A broker that keeps the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its number.
    pub id: u32,
    /// Where other brokers reach it.
    pub address: HostPort,
}

/// Reads `ID@HOST:PORT,…`; each number and each address once.
pub(super) fn parse_voters(text: &str) -> Result<Vec<Voter>, String> {
    let mut voters = BTreeMap::new();
    for entry in text.split(',').map(str::trim) {
        let refuse = |reason: String| format!("{reason}; voters look like 0@127.0.0.1:9000,1@127.0.0.1:9001");
        let (id, address) = entry.split_once('@').ok_or_else(|| refuse(format!("{entry:?} has no `@`")))?;
        let number = id.parse::<u32>().ok().filter(|id| *id <= i32::MAX.unsigned_abs());
        let id = number.ok_or_else(|| refuse(format!("{id:?} is no broker's number")))?;
        let address: HostPort = address.parse().map_err(refuse)?;
        if voters.values().any(|other| *other == address) {
            return Err(format!("{address} is there twice"));
        }
        if voters.insert(id, address).is_some() {
            return Err(format!("broker {id} is there twice"));
        }
    }
    Ok(voters.into_iter().map(|(id, address)| Voter { id, address }).collect())
}

/// The list as it is written.
#[must_use]
pub fn voters_text(voters: &[Voter]) -> String {
    voters.iter().map(|voter| format!("{}@{}", voter.id, voter.address)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_numbers_with_addresses() {
        let voters = parse_voters("1@[::1]:9001, 0@127.0.0.1:9000,7@broker.example:9000").unwrap();
        assert_eq!(voters_text(&voters), "0@127.0.0.1:9000,1@[::1]:9001,7@broker.example:9000");
        assert_eq!(voters[0].address.listen_address(), Some(SocketAddr::from(([127, 0, 0, 1], 9000))));
        assert_eq!(voters[2].address.listen_address(), None);
    }

    #[test]
    fn what_names_nobody_or_somebody_twice_is_refused() {
        for (text, reason) in [
            ("", "no `@`"),
            ("127.0.0.1:9000", "no `@`"),
            ("x@127.0.0.1:9000", "no broker's number"),
            ("-1@127.0.0.1:9000", "no broker's number"),
            ("0@127.0.0.1", "HOST:PORT"),
            ("0@127.0.0.1:0", "HOST:PORT"),
            ("0@127.0.0:9000", "HOST:PORT"),
            ("0@:9000", "HOST:PORT"),
            ("0@a b:9000", "HOST:PORT"),
            ("0@127.0.0.1:9000,0@127.0.0.1:9001", "broker 0 is there twice"),
            ("0@127.0.0.1:9000,1@127.0.0.1:9000", "127.0.0.1:9000 is there twice"),
            ("0@127.0.0.1:9000,", "no `@`"),
        ] {
            let error = parse_voters(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

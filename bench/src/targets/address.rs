//! Where a system is reached: `scheme://[user:password@]host:port[,host:port]…[?option=value[&…]]`.

use std::{collections::BTreeMap, time::Duration};

use crate::target::{SendError, TargetError};

/// How long an acknowledgement may take if the address does not say.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(15);

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it was written.
    pub(crate) text: String,
    /// Every `host:port`.
    pub(crate) hosts: Vec<String>,
    /// User and password.
    pub(crate) user: Option<(String, String)>,
    options: BTreeMap<String, String>,
}

impl Address {
    /// Reads it. Only these options are taken, besides `timeout_ms`.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, TargetError> {
        let wrong = |why: String| TargetError::Unsupported(format!("{text}: {why}"));
        let (_, rest) = text.split_once("://").ok_or_else(|| wrong("not a URL".to_owned()))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = match place.rsplit_once('@') {
            Some((user, hosts)) => {
                let (name, password) = user.split_once(':').ok_or_else(|| wrong("no password".to_owned()))?;
                (Some((name.to_owned(), password.to_owned())), hosts)
            }
            None => (None, place),
        };
        let hosts: Vec<String> = hosts.trim_end_matches('/').split(',').map(str::to_owned).collect();
        if let Some(host) = hosts.iter().find(|host| host_and_port(host).is_none()) {
            return Err(wrong(format!("{host:?} is not host:port")));
        }
        let mut options = BTreeMap::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if name != "timeout_ms" && !known.contains(&name) {
                return Err(wrong(format!("unknown option {name}")));
            }
            options.insert(name.to_owned(), value.to_owned());
        }
        let address = Self { text: text.to_owned(), hosts, user, options };
        match address.option("timeout_ms").map(str::parse::<u64>) {
            Some(Err(error)) => Err(wrong(format!("timeout_ms: {error}"))),
            _ => Ok(address),
        }
    }

    /// An option's value.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// How long an acknowledgement may take: `timeout_ms`.
    pub(crate) fn timeout(&self) -> Duration {
        let stated = self.option("timeout_ms").and_then(|ms| ms.parse().ok());
        stated.map_or(ACKNOWLEDGEMENT, Duration::from_millis)
    }

    /// It is not there, or broke off.
    pub(crate) fn unreachable(&self, reason: impl ToString) -> TargetError {
        TargetError::Unreachable { address: self.hosts.join(","), reason: reason.to_string() }
    }

    /// It will not do what was asked.
    pub(crate) fn refused(&self, what: &str, reason: impl ToString) -> TargetError {
        TargetError::Refused { address: self.hosts.join(","), what: what.to_owned(), reason: reason.to_string() }
    }
}

/// The parts of `host:port`.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty()).then_some(host).zip(port.parse().ok())
}

/// A batch that is not acknowledged.
pub(crate) fn send_error(kind: &str, reason: impl ToString) -> SendError {
    SendError { kind: kind.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_hosts_a_user_and_options() {
        let address = Address::parse("x://u:p@a:1,b:2/?timeout_ms=250&monitor=c:3", &["monitor"]).unwrap();
        assert_eq!((address.hosts.join(" "), address.user.clone()), ("a:1 b:2".into(), Some(("u".into(), "p".into()))));
        assert_eq!((address.timeout(), address.option("monitor")), (Duration::from_millis(250), Some("c:3")));
        assert_eq!(Address::parse("x://a:1", &[]).unwrap().timeout(), ACKNOWLEDGEMENT);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in ["a:1", "x://a", "x://a:1,b", "x://:1", "x://u@a:1", "x://a:1?other=1", "x://a:1?timeout_ms=soon"]
        {
            let said = Address::parse(wrong, &[]).unwrap_err().to_string();
            assert!(said.starts_with(wrong), "{said}");
        }
    }
}

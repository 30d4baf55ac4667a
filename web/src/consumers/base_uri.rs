//! The URL under which a client reaches its consumer instance: the way it came, proxies included, and never an address
//! that only the broker itself knows.

use actix_web::http::header::{self, HeaderName};
use pubg1_model::{GroupId, InstanceName};

use crate::call::Call;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The URL of an instance.
pub(super) fn of(call: &Call, group: &GroupId, name: &InstanceName) -> String {
    let root =
        root(call).unwrap_or_else(|| call.state.broker.config().advertised_http.trim_end_matches('/').to_owned());
    let prefix = call.header(&X_FORWARDED_PREFIX).and_then(prefix).unwrap_or_default();
    format!("{root}{prefix}/consumers/{group}/instances/{name}")
}

/// Scheme and host as the client sees them, if it, or a proxy, told.
fn root(call: &Call) -> Option<String> {
    let told = [header::FORWARDED, X_FORWARDED_HOST, header::HOST];
    if !told.iter().any(|name| call.headers().contains_key(name)) {
        return None;
    }
    let info = call.req.connection_info();
    let host = info.host();
    let scheme = if info.scheme().eq_ignore_ascii_case("https") { "https" } else { "http" };
    is_host(host).then(|| format!("{scheme}://{host}"))
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

/// What a proxy cut off from the beginning of the path.
fn prefix(text: &str) -> Option<&str> {
    let prefix = text.trim().trim_end_matches('/');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_~%".contains(&byte);
    (prefix.starts_with('/') && !prefix.starts_with("//") && prefix.bytes().all(allowed)).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_prefixes_that_are_none_are_ignored() {
        for host in ["a", "a.b:80", "[::1]:80", "under_score"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "a/b", "a b", "a\"", "a@b", "a?x"] {
            assert!(!is_host(host), "{host}");
        }
        assert_eq!(prefix("/kafka/"), Some("/kafka"));
        for none in ["", "/", "kafka", "//evil.example", "/a b"] {
            assert_eq!(prefix(none).unwrap_or_default(), "", "{none}");
        }
    }
}

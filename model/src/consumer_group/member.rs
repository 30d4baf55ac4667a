//! The words of membership, and what the group knows of a member.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Ticket;

/// Counts the assignments of a group: it grows with every rebalance. 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation of a group that never had a member.
    pub const ZERO: Self = Self(0);

    /// A generation from its number; numbers above 2³¹ − 1 are clamped to it, as the protocol has no larger ones.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        if value > i32::MAX.cast_unsigned() { Self(i32::MAX.cast_unsigned()) } else { Self(value) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0.saturating_add(1))
    }

    /// The signed form of Kafka's protocol.
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        self.0.cast_signed()
    }

    /// A generation from its signed form; `None` when it is negative, which stands for "none".
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        u32::try_from(value).ok().map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id that a request names; `None` for an empty text, which stands for "none" in Kafka's protocol.
            #[must_use]
            pub fn from_wire(text: &str) -> Option<Self> {
                (!text.is_empty()).then(|| Self(text.into()))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_id! {
    /// The identity of a member, chosen by the coordinator when it joins. Cheap to clone.
    MemberId
}

text_id! {
    /// The name that a static member keeps through its restarts (KIP-345), chosen by its operator. Cheap to clone.
    GroupInstanceId
}

/// Who speaks the protocol for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Driver {
    /// The client itself: it is waited for in every rebalance.
    Client,
    /// The coordinator, for a consumer over HTTP: it re-joins and syncs at once.
    Server,
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) group_instance_id: Option<GroupInstanceId>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) driver: Driver,
    pub(super) session_timeout_ms: u32,
    pub(super) rebalance_timeout_ms: u32,
    /// What it can use, most wanted first, with what it says of itself under each.
    pub(super) protocols: Vec<(String, Vec<u8>)>,
    /// What it was given last.
    pub(super) assignment: Vec<u8>,
    /// When its session is over, unless it waits for an answer of ours then.
    pub(super) session_deadline_ms: u64,
    /// It has not been part of a generation yet.
    pub(super) is_new: bool,
    /// Its join, which waits for the others.
    pub(super) join: Option<Ticket>,
    /// Its sync, which waits for the leader's.
    pub(super) sync: Option<Ticket>,
    /// It has been told of the generation, and has not asked for its assignment yet.
    pub(super) sync_due: bool,
}

impl Member {
    /// Whether nobody has to wait for it in a rebalance.
    pub(super) fn has_joined(&self) -> bool {
        self.driver == Driver::Server || self.join.is_some()
    }

    /// Whether the group lets it wait, so that it cannot be blamed for its silence. A new one is: it may have given up and
    /// come again under another id. So is one that the server drives: its client goes on calling.
    pub(super) fn is_kept_waiting(&self) -> bool {
        self.driver == Driver::Client && (self.sync.is_some() || self.join.is_some() && !self.is_new)
    }

    /// It is alive. While a new one waits for its first join another, longer time is set.
    pub(super) fn refresh(&mut self, now_ms: u64) {
        if self.is_new && self.driver == Driver::Client && self.join.is_some() {
            return;
        }
        self.session_deadline_ms = now_ms.saturating_add(u64::from(self.session_timeout_ms));
    }

    /// What it says of itself under a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> &[u8] {
        self.protocols.iter().find(|(name, _)| name == protocol).map_or(&[], |(_, metadata)| metadata)
    }

    /// Whether it can use a protocol.
    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Whether it says the same again. A record holds the protocol in use only, so a member that was restored may add
    /// others to it; they are taken over.
    pub(super) fn repeats(&mut self, protocols: &[(String, Vec<u8>)]) -> bool {
        let repeats = self.protocols.iter().all(|known| protocols.contains(known));
        if repeats {
            self.protocols = protocols.to_vec();
        }
        repeats
    }

    /// How many bytes its metadata has.
    pub(super) fn metadata_bytes(&self) -> usize {
        bytes_of(&self.protocols)
    }
}

/// How many bytes the metadata under all protocols has.
pub(super) fn bytes_of(protocols: &[(String, Vec<u8>)]) -> usize {
    protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
}

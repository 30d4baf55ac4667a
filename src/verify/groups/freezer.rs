//! Makes a member of some group freeze, when somebody wishes so.

use std::time::Duration;

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

/// How a member came out of it.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Which one, and what became of its commit.
    pub what: String,
}

/// Wishes that members take up.
#[derive(Debug)]
pub struct Freezer {
    /// How many members shall freeze, and nobody has yet.
    wanted: Mutex<u64>,
    thawed: watch::Sender<(u64, String)>,
}

impl Default for Freezer {
    fn default() -> Self {
        Self { wanted: Mutex::new(0), thawed: watch::Sender::new((0, String::new())) }
    }
}

impl Freezer {
    /// Makes a member freeze, and waits until it has thawed and committed; `None` when none did in time.
    pub async fn freeze(&self, deadline: Duration) -> Option<Frozen> {
        let mut thawed = self.thawed.subscribe();
        let before = thawed.borrow_and_update().0;
        *self.wanted.lock().await += 1;
        let until = Instant::now() + deadline;
        let seen = tokio::time::timeout_at(until, thawed.wait_for(|(count, _)| *count > before)).await;
        seen.ok().and_then(Result::ok).map(|seen| Frozen { what: seen.1.clone() })
    }

    /// Whether it is the turn of whoever asks: who hears yes freezes.
    pub(super) async fn takes(&self) -> bool {
        let mut wanted = self.wanted.lock().await;
        let takes = *wanted > 0;
        *wanted = wanted.saturating_sub(1);
        takes
    }

    /// A member has thawed.
    pub(super) fn thawed(&self, what: String) {
        self.thawed.send_modify(|thawed| *thawed = (thawed.0 + 1, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_wish_freezes_one_member() {
        let freezer = Freezer::default();
        assert!(!freezer.takes().await);
        let member = async {
            while !freezer.takes().await {
                tokio::task::yield_now().await;
            }
            assert!(!freezer.takes().await);
            freezer.thawed("member 1".to_owned());
        };
        let (frozen, ()) = tokio::join!(freezer.freeze(Duration::from_secs(10)), member);
        assert_eq!(frozen.unwrap().what, "member 1");
        assert!(freezer.freeze(Duration::ZERO).await.is_none());
    }
}

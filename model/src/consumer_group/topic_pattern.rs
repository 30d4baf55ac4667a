//! A subscription to all topics whose name fits a pattern.

use regex::bytes::{Regex, RegexBuilder};

use crate::TopicName;

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// The most memory that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// A regular expression over whole topic names. The time to match is linear in the name.
#[derive(Clone, Debug)]
pub struct TopicPattern {
    text: String,
    regex: Regex,
}

/// A pattern that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic pattern {pattern:?} is not usable: {reason}")]
pub struct InvalidTopicPattern {
    /// The pattern, its beginning if it is long.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TopicPattern {
    /// The pattern with this text.
    ///
    /// # Errors
    /// [`InvalidTopicPattern`]: too long, not a regular expression, or one that takes too much memory.
    pub fn new(text: &str) -> Result<Self, InvalidTopicPattern> {
        let invalid = |reason: String| InvalidTopicPattern { pattern: text.chars().take(80).collect(), reason };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(invalid(format!("it has {} bytes, at most {PATTERN_BYTES_MAX} are allowed", text.len())));
        }
        let build = |pattern: &str| RegexBuilder::new(pattern).unicode(false).size_limit(COMPILED_BYTES_MAX).build();
        // It has to be valid alone: `a)|(b` must not become so between our parentheses.
        build(text).map_err(|error| invalid(error.to_string()))?;
        let regex = build(&format!("^(?:{text})$")).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether the whole name fits. Topics in which the broker keeps its own state never do.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        !topic.is_internal() && self.regex.is_match(topic.as_str().as_bytes())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicPattern::new(pattern).unwrap().matches(&topic.parse().unwrap())
    }

    #[test]
    fn the_whole_name_has_to_fit() {
        assert!(matches("orders-.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(!matches("eu", "orders-eu"));
        assert!(matches("a|b", "b"));
        assert!(!matches("a|b", "ab"));
        assert!(matches(r"[\w-]+\d", "orders-7"));
        assert!(matches("(?i)ORDERS", "orders"));
    }

    #[test]
    fn the_brokers_own_topics_never_fit() {
        assert!(!matches(".*", "__consumer_offsets"));
        assert!(matches(".*", "_mine"));
    }

    #[test]
    fn what_is_no_pattern_or_too_costly_is_refused() {
        for pattern in ["(", "a)|(b", "[z-a]", "(?x) orders # all", "a{1000}{1000}", &"a".repeat(PATTERN_BYTES_MAX + 1)]
        {
            let error = TopicPattern::new(pattern).unwrap_err();
            assert!(!error.reason.is_empty() && error.pattern.len() <= 80, "{error}");
        }
    }
}

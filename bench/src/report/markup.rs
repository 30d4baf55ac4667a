//! Text inside of HTML and SVG.

/// The text as content or as an attribute's value, in either of the two. Whoever wrote the text cannot
/// say anything but text.
#[must_use]
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no way to write these.
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_markup_is_left() {
        assert_eq!(escape("</td><script>'\"&"), "&lt;/td&gt;&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(escape("a\0b\u{1b}c\nd\u{ffff}é"), "a b c d é");
    }
}

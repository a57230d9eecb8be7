//! Texts from outside as strings of the engine.

use godot::prelude::*;

/// U+FEFF, which the engine takes for a byte order mark and drops when it begins UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// `text`, character by character. `GString::from` is for texts of our own: the engine's reader of UTF-8 drops a U+FEFF at
/// the beginning and stops at U+0000, so that two different texts become one.
///
/// No string of the engine can hold U+0000: it becomes U+FFFD, as it does wherever the engine meets one.
pub fn gstring(text: impl AsRef<str>) -> GString {
    let text = text.as_ref();
    if text.starts_with(BYTE_ORDER_MARK) || text.contains('\0') {
        let characters: Vec<char> =
            text.chars().map(|one| if one == '\0' { char::REPLACEMENT_CHARACTER } else { one }).collect();
        return GString::from(characters.as_slice());
    }
    GString::from(text)
}

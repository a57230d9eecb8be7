//! Texts of people: which characters a name may have, and the one form in which texts are kept and compared.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Ask for the character before them in text style or as a picture; they are no characters by themselves.
const EMOJI_STYLES: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];
/// Has no dots: a blank that is a symbol.
const BRAILLE_BLANK: char = '\u{2800}';
/// Join and part letters in several scripts. RFC 8264 allows them in context.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

fn category(letter: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(letter)
}

/// `text` in its composed form (NFC): letters with accents are the same however they were typed.
pub fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

/// Whether everybody sees that `letter` is there and what it does: not so controls, formatting (which turns the direction of
/// what follows, or has no width), separators of lines, private and unassigned characters, and those that are ignored when
/// there is no picture of them.
pub fn is_shown(letter: char) -> bool {
    use GeneralCategory as Of;
    if letter.is_ascii() {
        return !letter.is_ascii_control();
    }
    let hidden = matches!(
        category(letter),
        Of::Control
            | Of::Format
            | Of::PrivateUse
            | Of::Surrogate
            | Of::Unassigned
            | Of::LineSeparator
            | Of::ParagraphSeparator
    );
    !hidden
        && (EMOJI_STYLES.contains(&letter)
            || !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter))
}

/// Whether there is nothing to see in `text`.
pub fn is_blank(text: &str) -> bool {
    use GeneralCategory as Of;
    let is_mark = |letter| matches!(category(letter), Of::NonspacingMark | Of::EnclosingMark);
    text.chars().all(|letter| {
        letter.is_whitespace() || letter == BRAILLE_BLANK || !is_shown(letter) || is_mark(letter)
    })
}

/// A name as it is shown to others: composed, without the characters that are not [shown](is_shown).
pub fn clean(name: &str) -> Cow<'_, str> {
    let name = composed(name);
    if name.chars().all(is_shown) { name } else { name.chars().filter(|letter| is_shown(*letter)).collect() }
}

/// A password as it is hashed: the `OpaqueString` profile of RFC 8265 §4.2.2. Spaces are plain ones, and the rest is composed, so
/// that the same keys give the same password on every system.
pub fn password(typed: &str) -> Cow<'_, str> {
    let is_space = |letter: char| !letter.is_ascii() && category(letter) == GeneralCategory::SpaceSeparator;
    if typed.is_ascii() {
        return typed.into();
    }
    let spaced: String = typed.chars().map(|letter| if is_space(letter) { ' ' } else { letter }).collect();
    composed(&spaced).into_owned().into()
}

/// Whether a new password may hold `letter`: a character that cannot be typed on purpose would lock its owner out.
pub fn is_typed(letter: char) -> bool {
    use GeneralCategory as Of;
    JOINERS.contains(&letter)
        || !matches!(
            category(letter),
            Of::Control
                | Of::Format
                | Of::PrivateUse
                | Of::Surrogate
                | Of::Unassigned
                | Of::LineSeparator
                | Of::ParagraphSeparator
        )
}

#[cfg(test)]
mod tests;

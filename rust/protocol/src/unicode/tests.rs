use super::*;

/// What nobody sees, or what turns the text around it.
const HIDDEN: &[char] = &[
    '\u{0}',
    '\u{7}',
    '\u{7f}',
    '\u{85}',
    '\u{ad}',
    '\u{34f}',
    '\u{61c}',
    '\u{115f}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{200e}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2069}',
    '\u{3164}',
    '\u{e000}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{fff9}',
    '\u{fffe}',
    '\u{378}',
    '\u{1d173}',
    '\u{e0001}',
    '\u{e0041}',
    '\u{10ffff}',
];

#[test]
fn hidden_characters_are_found() {
    for letter in HIDDEN {
        assert!(!is_shown(*letter), "{letter:?}");
        assert_eq!(clean(&format!("A{letter}da")), "Ada", "{letter:?}");
        assert!(is_blank(&format!(" {letter}")), "{letter:?}");
    }
    for text in [
        "Ada Lovelace",
        "Zo\u{eb}",
        "\u{5d3}\u{5d5}\u{5d3}",
        "\u{627}\u{62f}\u{627}",
        "\u{1f438}",
        "\u{2764}\u{fe0f}",
        "\u{96ea}",
    ] {
        assert!(text.chars().all(is_shown), "{text}");
        assert!(!is_blank(text), "{text}");
        assert_eq!(clean(text), text);
    }
}

#[test]
fn blank_is_what_shows_nothing() {
    for text in ["", " ", "\u{a0}\u{2003}", "\u{2800}", "\u{300}", "\u{fe0f}"] {
        assert!(is_blank(text), "{text:?}");
    }
}

#[test]
fn the_same_letters_are_the_same_text() {
    assert_eq!(composed("Zoe\u{308}"), "Zo\u{eb}");
    assert_eq!(password("cafe\u{301} au\u{a0}lait\u{3000}!"), "caf\u{e9} au lait !");
    // Width and case stay: they are typed on purpose.
    assert_eq!(password("\u{ff21}bC"), "\u{ff21}bC");
    assert_eq!(password("\u{fb01}ve"), "\u{fb01}ve");
}

use super::*;

#[test]
fn words_are_found_as_words() {
    assert!(holds("pub struct Letter;", "Letter"));
    assert!(holds("/// In good standing.", "good standing"));
    assert!(holds("Letters and a Letter", "Letter"));
    assert!(holds("const MOST_JOBS: usize = 1;", "MOST_*"));
    assert!(holds("const LAST_WORDS: u8 = 2;", "last_words"));
    assert!(!holds("const ALMOST_ALL: usize = 1;", "MOST_*"));
    for line in ["Letters", "CapitalLetter", "LETTER", "letter_Letter"] {
        assert!(!holds(line, "Letter"), "{line}");
    }
}

#[test]
fn each_word_has_one_term_and_is_there_once() {
    let mut words: Vec<&str> = parse(WORDS).expect("a list").into_iter().map(|word| word.private).collect();
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
    assert!(parse("Letter MailJob").is_err());
}

use super::*;

#[test]
fn reads_one_line_entries_with_and_without_options() {
    let sources = parse_one_line(
        "# deb http://no.example x main\n\
         deb http://a.example/debian bookworm main contrib # why\n\
         deb-src http://a.example/debian bookworm main\n\
         deb\t[ arch=amd64 signed-by=/k/a.gpg trusted=yes ] http://b.example/d bookworm-updates main\n\
         deb [broken http://c.example",
    );
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0].uris, ["http://a.example/debian"]);
    assert_eq!(sources[0].components, ["main", "contrib"]);
    assert_eq!(sources[0].signed_by, None);
    assert_eq!(sources[1].suites, ["bookworm-updates"]);
    assert_eq!(sources[1].signed_by.as_deref(), Some("/k/a.gpg"));
    assert!(sources[1].trusted && !sources[0].trusted);
}

#[test]
fn reads_deb822_stanzas() {
    let sources = parse_deb822(
        "Types: deb deb-src\n# a comment inside\nURIs: http://a.example/debian\nSuites: bookworm\n bookworm-updates\n\
         Components: main\nSigned-By: /k/a.gpg\n\n\n\
         Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n\n\
         Types: deb-src\nURIs: http://src.example\nSuites: bookworm\nComponents: main\n",
    );
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
    assert_eq!(sources[0].signed_by.as_deref(), Some("/k/a.gpg"));
}

#[test]
fn an_inline_key_survives_the_round_trip() {
    let text = "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n \
                -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n -----END PGP PUBLIC KEY BLOCK-----\n";
    let sources = parse_deb822(text);
    assert_eq!(parse_deb822(&sources[0].stanza()), sources);
    assert!(sources[0].stanza().contains("Signed-By:\n -----BEGIN"));
}

#[test]
fn only_the_release_and_its_updates_belong_to_the_machine() {
    let source = |suite: &str, component: &str| Source {
        uris: vec!["http://a.example".to_owned()],
        suites: vec![suite.to_owned()],
        components: vec![component.to_owned()],
        signed_by: None,
        trusted: false,
    };
    assert!(belongs_to(&source("bookworm", "main"), "bookworm"));
    assert!(belongs_to(&source("bookworm-security", "main"), "bookworm"));
    assert!(belongs_to(&source("bookworm/updates", "main"), "bookworm"));
    assert!(!belongs_to(&source("bookwormish", "main"), "bookworm"));
    assert!(!belongs_to(&source("nodistro", "main"), "bookworm"));
    assert!(!belongs_to(&source("bookworm", "contrib"), "bookworm"));
}

#[test]
fn another_suite_keeps_mirror_and_keys() {
    let source =
        parse_one_line("deb [signed-by=/k/a.gpg] http://a.example/debian bookworm main contrib").remove(0);
    let newer = source.with_suite("forky");
    assert_eq!(
        newer.stanza(),
        "Types: deb\nURIs: http://a.example/debian\nSuites: forky\nComponents: main\nSigned-By: /k/a.gpg\n"
    );
}

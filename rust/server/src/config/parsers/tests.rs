use super::origin;

#[test]
fn an_origin_is_a_scheme_and_a_host() {
    for good in ["https://play.example.org", "http://localhost:8060", "*", "https://[::1]:8443"] {
        assert!(origin(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "example.org",
        "https://example.org/",
        "https://example.org/game",
        "null",
        "ftp://example.org",
        "https://a@example.org",
        "https://*.example.org x",
    ] {
        assert!(origin(bad).is_err(), "{bad}");
    }
}

use super::public_address;

#[test]
fn addresses_that_players_can_connect_to_are_taken() {
    let longest = format!("{}.example", vec!["a".repeat(60); 4].join("."));
    assert_eq!(longest.len(), 251);
    for good in [
        "203.0.113.7",
        "10.0.0.1",
        "127.0.0.1",
        "::1",
        "2001:db8::7",
        "::ffff:203.0.113.7",
        "localhost",
        "play.example.org",
        "play.example.org.",
        "eu-1",
        "3com.com",
        "xn--bcher-kva.example",
        &longest,
    ] {
        assert_eq!(public_address("public_address", good), Ok(()), "{good}");
    }
}

#[test]
fn addresses_that_nobody_can_connect_to_are_refused_by_name_and_value() {
    let (long_label, long) = ("a".repeat(64), format!("{}a", "a.".repeat(127)));
    for bad in [
        "",
        " ",
        "0.0.0.0",
        "::",
        "0:0:0:0:0:0:0:0",
        "::ffff:0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "*",
        "http://example.org",
        "enet://1.2.3.4",
        "1.2.3.4:7777",
        "example.org:7777",
        "[::1]",
        "[::1]:7777",
        "fe80::1%eth0",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.04",
        "play .example.org",
        "play\n.example.org",
        "play\0",
        "play.example.org/path",
        "user@example.org",
        "a_b.example",
        "-a.example",
        "a-.example",
        "a..example",
        ".example",
        ".",
        "bücher.example",
        &long_label,
        &long,
    ] {
        let error = public_address("public_address", bad).expect_err(bad);
        assert_eq!(error.field, "public_address");
        let named = error.rule.contains(&format!("{bad:?}")) || bad.len() >= 64;
        assert!(named, "{error} does not name {bad:?}");
    }
}

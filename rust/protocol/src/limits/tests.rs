use super::*;

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

#[test]
fn an_address_is_one_plain_address() {
    for good in [
        "ada@example.org",
        " Ada.Lovelace+game@mail.example.org\u{a0}\r\n",
        "o'hara_{x}@example.org",
        "a@localhost",
        "j\u{fc}rgen@b\u{fc}cher.example",
    ] {
        assert_eq!(email("email", good), Ok(()), "{good:?}");
    }
    for bad in [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "Ada <ada@example.org>",
        "x<ada@example.org>",
        "<ada@example.org>",
        "\"ada\"@example.org",
        "\"x,y\"@example.org",
        "ada(work)@example.org",
        "ada@example.org(work)",
        "ada@example.org,eve@example.org",
        "ada@example.org;eve@example.org",
        "group:ada@example.org;",
        "ada@eve@example.org",
        "@relay.example:ada@example.org",
        "ada@[127.0.0.1]",
        ".ada@example.org",
        "ada.@example.org",
        "a..b@example.org",
        "ada@example..org",
        "ada@example.org.",
        "ada@-example.org",
        "a b@example.org",
        "ada\u{200b}@example.org",
        "ada\u{0}@example.org",
        "ada@exam\u{202e}ple.org",
        "ada%example.org",
        "ada@example.org\r\nbcc:eve@example.org",
    ] {
        assert!(email("email", bad).is_err(), "{bad:?}");
    }
    assert!(email("email", &format!("{}@example.org", "a".repeat(65))).is_err());
    assert!(email("email", &format!("a@{}.org", "a".repeat(64))).is_err());
}

#[test]
fn a_name_is_counted_and_judged_as_it_is_shown() {
    let decomposed = "e\u{301}".repeat(32);
    assert_eq!(text("display_name", &decomposed, 1, 32), Ok(()));
    let refused = text("display_name", "Ada\u{202e}nimda", 1, 32).expect_err("turns what follows");
    assert!(refused.rule.contains("U+202E"), "{refused}");
    assert!(text("display_name", "\u{3164}", 1, 32).is_err());
    assert!(text("display_name", "\u{2800}", 1, 32).is_err());
    assert_eq!(text("region", "", 0, 32), Ok(()));
}

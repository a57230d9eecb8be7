use super::*;

#[test]
fn no_password_is_shown() {
    for (url, shown) in [
        ("postgres://host/game", "postgres://host/game"),
        ("postgres://game:hunter2@host:5432/game?x=1", "postgres://***@host:5432/game?x=1"),
        ("postgress://hunter2@host", "postgress://***@host"),
        ("smtps://ada@example.org:hunter2@mail.example.org", "smtps://***@mail.example.org"),
        ("smtp://ada:hunt/er2@mail.example.org", "smtp://***@mail.example.org"),
        ("/var/lib/a@b.db", "/var/lib/a@b.db"),
    ] {
        assert_eq!(redact_password(url), shown);
    }
}

#[test]
fn a_lease_outlives_a_heartbeat() {
    assert!(Config::default().check().is_ok());
    for lease_seconds in [10, 30] {
        let refused =
            Config { lease_seconds, ..Config::default() }.check().expect_err("too short").to_string();
        assert!(refused.contains(&format!("--lease-seconds {lease_seconds} ")), "{refused}");
    }
    let config = Config { access_token_seconds: 600, refresh_token_seconds: 60, ..Config::default() };
    assert!(config.check().is_err());
}

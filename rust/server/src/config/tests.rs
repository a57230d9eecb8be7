use super::*;

#[test]
fn no_password_is_shown() {
    for (url, shown) in [
        ("postgres://host/game", "postgres://host/game"),
        ("host=db password=hunter2 dbname=game", "***"),
        (
            "postgres://game:hunter2@host:5432/game?sslmode=require",
            "postgres://***@host:5432/game?sslmode=require",
        ),
        (
            "postgres://host/game?sslmode=require&password=hunter2",
            "postgres://host/game?sslmode=require&password=***",
        ),
        ("postgres:///game?host=/run/pg&pass%77ord=hunter2", "postgres:///game?host=/run/pg&password=***"),
        (
            "postgres://host/game?sslpassword=hunter2&sslkey=hunter2",
            "postgres://host/game?sslpassword=***&sslkey=***",
        ),
        ("postgres://host/game?password=hun&ter2=1&ter2", "postgres://host/game?password=***&***&***"),
        ("postgres://host/game?password=hun@ter2", "postgres://***"),
        ("postgres://game:hunt?er2@host/game", "postgres://***"),
        ("postgres://game:hunt#er2@host/game", "postgres://***"),
        ("postgres://host/game#hunter2", "postgres://host/game#***"),
        ("steam=https://verify.example.org/?code=hunter2", "steam=https://verify.example.org/?***"),
        ("s3://key:hunter2@bucket/prefix", "s3://***@bucket/prefix"),
        ("game:hunter2@host/game", "***@host/game"),
        ("postgres:/game:hunter2@host/game", "***@host/game"),
        ("host/game?password=hunter2", "host/game?password=***"),
        ("sqlite:///var/lib/a?b#1.db", "sqlite:///var/lib/a?b#1.db"),
        (r"C:\games\a@b.db", r"C:\games\a@b.db"),
        ("postgress://hunter2@host", "postgress://***@host"),
        ("smtps://ada@example.org:hunter2@mail.example.org", "smtps://***@mail.example.org"),
        ("smtp://ada:hunt/er2@mail.example.org", "smtp://***@mail.example.org"),
        ("/var/lib/a@b.db", "/var/lib/a@b.db"),
    ] {
        assert_eq!(redact_secrets(url), shown);
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

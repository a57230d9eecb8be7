use super::*;

const HELP: &str = "Serves the API

Usage: backend-server serve [OPTIONS]

Options:
      --listen <LISTEN>
          Address to listen on. Port 0 takes
          a free port
          
          [env: BACKEND_LISTEN=127.0.0.1:1]
          [default: 127.0.0.1:8420]

      --email-accounts <EMAIL_ACCOUNTS>
          When an address counts

          Possible values:
          - open:     immediately
          - verified: later
          
          [env: BACKEND_EMAIL_ACCOUNTS=]

      --log <LOG>
          Format of the log
          
          [env: BACKEND_LOG_FORMAT=]
          [default: text]
          [possible values: json, text]

  -h, --help
          Print help
";

#[test]
fn options_are_read_from_the_help() {
    let option = |flag: &str, environment: &str, default: Option<&str>, description: &str| BackendOption {
        flag: flag.into(),
        environment: environment.into(),
        default: default.map(str::to_owned),
        description: description.into(),
    };
    let expected = [
        option(
            "--listen",
            "BACKEND_LISTEN",
            Some("127.0.0.1:8420"),
            "Address to listen on. Port 0 takes a free port",
        ),
        option("--email-accounts", "BACKEND_EMAIL_ACCOUNTS", None, "When an address counts"),
        option("--log", "BACKEND_LOG_FORMAT", Some("text"), "Format of the log: json, text"),
    ];
    assert_eq!(parse_help(HELP).expect("options"), expected);
    assert!(parse_help("Usage: backend-server serve").is_err());
    assert!(parse_help("      --nameless\n          Without a variable\n").is_err());
}

#[test]
fn only_the_table_is_replaced() {
    let (begin, end) = Table::Backend.markers();
    let page = format!("before\n{begin}\n| old |\n{end}\nafter\n");
    let expected = format!("before\n{begin}\n| new |\n{end}\nafter\n");
    assert_eq!(replaced(&page, Table::Backend, "| new |\n").expect("markers"), expected);
    assert!(replaced(&page, Table::Game { described: true }, "").is_err());
}

#[test]
fn every_setting_has_a_row() {
    let short = game_table(false);
    for setting in PROJECT_SETTINGS {
        assert!(short.contains(&format!("| `{}` |", setting.path)), "{}", setting.path);
    }
    let described = game_table(true);
    let rows = 2 + PROJECT_SETTINGS.len() + PROCESS_SETTINGS.len();
    assert_eq!((short.lines().count(), described.lines().count()), (rows, rows));
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let path = workspace::root().join("deploy/grafana/game-servers.json");
    let text = fs::read_to_string(path).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| !panels.is_empty()));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(|word| word.starts_with("backend_client_")) {
        let name = word.trim_end_matches("_bucket");
        assert!(METRICS.iter().any(|metric| metric.name == name), "the dashboard has {word}");
    }
}

//! Which messages are logged: a level, and levels of single modules.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Ours only: HTTP libraries log what a game does not need to see.
const OURS: &str = "backend_";

/// The modules by the names that a game's developer knows, with where their messages come from.
const MODULES: [(&str, &[&str]); 13] = [
    ("network", &["backend_client::api"]),
    ("session", &["backend_client::session", "backend_extension::nodes::backend_session"]),
    ("rooms", &["backend_client::rooms", "backend_extension::nodes::backend_rooms"]),
    ("matchmaking", &["backend_client::matchmaking", "backend_extension::nodes::backend_matchmaker"]),
    (
        "registration",
        &["backend_client::registration", "backend_extension::nodes::backend_server_registration"],
    ),
    (
        "peer_auth",
        &[
            "backend_client::peer_auth",
            "backend_extension::peer_auth",
            "backend_extension::nodes::backend_peer_auth",
        ],
    ),
    (
        "tokens",
        &["backend_client::validation", "backend_token", "backend_extension::nodes::backend_token_validator"],
    ),
    ("player_store", &["backend_client::player_store", "backend_extension::nodes::backend_player_store"]),
    ("journal", &["backend_client::journal"]),
    ("world_store", &["backend_client::world_store", "backend_extension::nodes::backend_world_store"]),
    (
        "shutdown",
        &[
            "backend_client::shutdown",
            "backend_extension::shutdown",
            "backend_extension::nodes::backend_shutdown",
        ],
    ),
    ("host", &["backend_client::host", "backend_extension::shutdown::host_notifier"]),
    ("queries", &["backend_client::server_query"]),
];

/// What is logged, and what of the settings is wrong.
pub fn parse(level: &str, modules: &str) -> (Targets, Vec<String>) {
    let mut wrong = Vec::new();
    let general = parse_level(level).unwrap_or_else(|| {
        wrong.push(format!(
            "the log level \"{level}\" is not known, info is used: set BACKEND_LOG or log/level to off, error, warn, info, debug or \
             trace. Levels of modules are set by BACKEND_LOG_MODULES"
        ));
        LevelFilter::INFO
    });
    let mut targets = Targets::new().with_target(OURS, general);
    for pair in modules.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, level) = pair.split_once('=').unwrap_or((pair, ""));
        let places = MODULES.iter().find(|(known, _)| *known == name.trim());
        match (places, parse_level(level)) {
            (Some((_, places)), Some(level)) => {
                targets = targets.with_targets(places.iter().map(|place| (*place, level)));
            }
            (None, _) => {
                let known: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
                wrong.push(format!(
                    "BACKEND_LOG_MODULES or log/modules names the module \"{name}\", which is not known: use {}",
                    known.join(", ")
                ));
            }
            (Some(_), None) => wrong.push(format!(
                "BACKEND_LOG_MODULES or log/modules has \"{pair}\", which is not used: write {name}=debug, for example"
            )),
        }
    }
    (targets, wrong)
}

/// Numbers, which the parser of levels takes as well, are no levels for a person.
fn parse_level(text: &str) -> Option<LevelFilter> {
    let text = text.trim();
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_module_has_its_own_level_and_the_others_the_general_one() {
        let (targets, wrong) = parse("warn", "player_store=debug, host=off");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(targets.would_enable("backend_client::player_store::uploader", &Level::DEBUG));
        assert!(targets.would_enable("backend_extension::nodes::backend_player_store", &Level::DEBUG));
        assert!(!targets.would_enable("backend_client::player_store", &Level::TRACE));
        assert!(targets.would_enable("backend_client::session", &Level::WARN));
        assert!(!targets.would_enable("backend_client::session", &Level::INFO));
        assert!(!targets.would_enable("backend_client::host::agones", &Level::ERROR));
        assert!(!targets.would_enable("hyper::client", &Level::ERROR));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_holds() {
        let (targets, wrong) = parse("loud", "storage=debug,journal,session=trace");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("\"loud\"") && wrong[0].contains("BACKEND_LOG_MODULES"));
        assert!(wrong[1].contains("\"storage\"") && wrong[1].contains("player_store"));
        assert!(wrong[2].contains("journal=debug"));
        assert!(targets.would_enable("backend_client::session", &Level::TRACE));
        assert!(targets.would_enable("backend_client::journal", &Level::INFO));
        assert!(!targets.would_enable("backend_client::journal", &Level::DEBUG));
    }
}

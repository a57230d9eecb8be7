//! `BackendMatchRules`: the short form of a rule set.

use backend_client::error::ClientError;
use backend_client::matchmaking::MatchRules;
use godot::prelude::*;

use crate::config;
use crate::results::backend_error::{BackendError, Failure};
use crate::variant_json::gstring;

/// Short form of a matchmaking rule set: team sizes, the largest skill gap and the longest latency.
///
/// Use it for games in which one number of all players has to be close. Save the rule set beside the backend's matchmaking file,
/// and enter its name there:
/// ```gdscript
/// var rules: BackendMatchRules = load("res://duel.tres")
/// var error := rules.save_rule_set("user://duel.json")
/// if error != null:
///     push_error(error.message)
/// ```
/// [code]backend-server matchmaking simulate duel.json[/code] prints how long players wait with it. Write other rules in the file
/// itself: see "Matchmaking" in the guide, [code]docs/src/matchmaking.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendMatchRules {
    /// Number of teams.
    #[export(range = (1.0, 32.0, or_greater))]
    #[export_group(name = "Teams")]
    #[init(val = 2)]
    teams: i64,
    /// Minimum number of players in a team. All teams of a match have the same size.
    #[export(range = (1.0, 32.0, or_greater))]
    #[init(val = 1)]
    min_team_size: i64,
    /// Maximum number of players in a team. A match has at most 200 players.
    #[export(range = (1.0, 32.0, or_greater))]
    #[init(val = 1)]
    max_team_size: i64,
    /// Name of the number that has to be close among the players of a match. If empty, all players match.
    #[export]
    #[export_group(name = "Skill")]
    #[init(val = GString::from("skill"))]
    skill_attribute: GString,
    /// Value of [member skill_attribute] for players who send none.
    #[export]
    #[init(val = 1_000.0)]
    default_skill: f64,
    /// Largest difference between two players of a match.
    #[export(range = (0.0, 1000.0, or_greater))]
    #[init(val = 100.0)]
    max_gap: f64,
    /// Interval in seconds at which the largest difference grows. If 0, it never grows.
    #[export(range = (0.0, 120.0, or_greater, suffix = "s"))]
    #[init(val = 10)]
    widen_after_seconds: i64,
    /// Amount by which the largest difference grows each time.
    #[export(range = (0.0, 1000.0, or_greater))]
    #[init(val = 50.0)]
    widen_by: f64,
    /// Upper bound of the largest difference, which is reached in at most 32 steps.
    #[export(range = (0.0, 10000.0, or_greater))]
    #[init(val = 500.0)]
    widest_gap: f64,
    /// Maximum latency in milliseconds of each player to the region of a match. If 0, latencies are ignored.
    #[export(range = (0.0, 500.0, or_greater, suffix = "ms"))]
    #[export_group(name = "Other")]
    max_latency_ms: i64,
    /// Name of a text attribute that all players of a match have in common, for example [code]mode[/code]. If empty, there is none.
    #[export]
    same_attribute: GString,
}

#[godot_api]
impl BackendMatchRules {
    /// Returns the rule set as JSON, or an empty text if a property is invalid; [method get_error] returns the reason.
    #[func]
    fn to_rule_set(&self) -> GString {
        self.rules().and_then(|rules| rules.to_json()).map(gstring).unwrap_or_default()
    }

    /// Returns the first error of the properties, or [code]null[/code] if they are valid.
    #[func]
    fn get_error(&self) -> Option<Gd<BackendError>> {
        self.rules().and_then(|rules| rules.to_json()).err().map(object)
    }

    /// Writes the rule set to a file, for the backend. Returns [code]null[/code], or the reason why it was not written.
    #[func]
    fn save_rule_set(&self, path: GString) -> Option<Gd<BackendError>> {
        let path = config::globalized(&path.to_string());
        self.rules().and_then(|rules| rules.save(path)).err().map(object)
    }

    fn rules(&self) -> Result<MatchRules, ClientError> {
        let count = |field: &str, value: i64| {
            u32::try_from(value)
                .map_err(|_| ClientError::field(field, "must be 0 or more, and not that large"))
        };
        Ok(MatchRules {
            teams: count("teams", self.teams)?,
            min_team_size: count("min_team_size", self.min_team_size)?,
            max_team_size: count("max_team_size", self.max_team_size)?,
            skill_attribute: self.skill_attribute.to_string(),
            default_skill: self.default_skill,
            max_gap: self.max_gap,
            widen_after_seconds: count("widen_after_seconds", self.widen_after_seconds)?,
            widen_by: self.widen_by,
            widest_gap: self.widest_gap,
            max_latency_ms: count("max_latency_ms", self.max_latency_ms)?,
            same_attribute: self.same_attribute.to_string(),
        })
    }
}

fn object(error: ClientError) -> Gd<BackendError> {
    Failure::from(error).into_object()
}

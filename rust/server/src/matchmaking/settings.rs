//! The file that `--matchmaking` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend_matchmaking::RuleSet;
use backend_protocol::Code;
use serde::Deserialize;

use crate::config::InvalidSetting;
use crate::http::{ApiError, ApiResult};

/// A match that has a room counts as going on for so long.
pub const PLACED_MS: i64 = 60_000;
/// Most milliseconds between passes if rooms are created: a room that nobody asks for is given up after 30 s.
const MAX_CREATING_INTERVAL_MS: u32 = 10_000;

/// The rooms that matches are placed in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomSettings {
    /// Only rooms of this mode.
    pub mode: Option<String>,
    /// Only rooms of this map.
    pub map: Option<String>,
    /// Only rooms of this version.
    pub version: Option<String>,
    /// Also rooms that have players.
    pub shared: bool,
    /// A room is created on demand if there is none.
    pub create: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchmakerFile {
    name: String,
    rule_set: PathBuf,
    #[serde(default)]
    acceptance_required: bool,
    #[serde(default = "acceptance_timeout")]
    acceptance_timeout_seconds: u32,
    #[serde(default = "request_timeout")]
    request_timeout_seconds: u32,
    #[serde(default = "placement_timeout")]
    placement_timeout_seconds: u32,
    #[serde(default)]
    additional_player_count: u32,
    bots_after_seconds: Option<u32>,
    #[serde(default)]
    room: RoomSettings,
}

const fn acceptance_timeout() -> u32 {
    30
}

const fn request_timeout() -> u32 {
    120
}

const fn placement_timeout() -> u32 {
    60
}

const fn interval() -> u32 {
    1_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    matchmakers: Vec<MatchmakerFile>,
    #[serde(default = "interval")]
    interval_ms: u32,
}

/// A matchmaker.
pub struct Matchmaker {
    pub name: String,
    pub rule_set: Arc<RuleSet>,
    pub acceptance_required: bool,
    pub room: RoomSettings,
    /// Seats that stay open for players who come later.
    pub additional_player_count: u32,
    acceptance_timeout_seconds: u32,
    request_timeout_seconds: u32,
    placement_timeout_seconds: u32,
    bots_after_seconds: Option<u32>,
}

impl Matchmaker {
    /// After what time the ticket that waits longest gets bots.
    pub fn bots_after_ms(&self) -> Option<i64> {
        self.bots_after_seconds.map(|seconds| i64::from(seconds) * 1_000)
    }

    pub fn acceptance_timeout_ms(&self) -> i64 {
        i64::from(self.acceptance_timeout_seconds) * 1_000
    }

    pub fn request_timeout_ms(&self) -> i64 {
        i64::from(self.request_timeout_seconds) * 1_000
    }

    pub fn placement_timeout_ms(&self) -> i64 {
        i64::from(self.placement_timeout_seconds) * 1_000
    }
}

/// All matchmakers.
#[derive(Default)]
pub struct Matchmaking {
    pub matchmakers: Vec<Matchmaker>,
    /// Time between passes, in milliseconds.
    pub interval_ms: u64,
}

impl Matchmaking {
    /// No match lasts longer from now on: until its players accept, it has a room, or they are there.
    pub fn longest_match_ms(&self) -> i64 {
        let of = |one: &Matchmaker| one.acceptance_timeout_ms().max(one.placement_timeout_ms());
        self.matchmakers.iter().map(of).fold(PLACED_MS, i64::max)
    }

    /// Reads the file and the rule sets that it names, beside it.
    pub fn load(file: Option<&Path>) -> Result<Self, InvalidSetting> {
        let Some(path) = file else { return Ok(Self::default()) };
        let invalid = |what: &str| InvalidSetting(format!("--matchmaking {}: {what}", path.display()));
        let text =
            std::fs::read_to_string(path).map_err(|error| invalid(&format!("cannot be read: {error}")))?;
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let file: File = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| invalid(&error.to_string()))?;
        if !(50..=60_000).contains(&file.interval_ms) {
            return Err(invalid("interval_ms: must be 50 to 60000"));
        }
        let mut matchmakers: Vec<Matchmaker> = Vec::new();
        for one in file.matchmakers {
            let within = |rule: &str| invalid(&format!("matchmaker {}: {rule}", one.name));
            if one.name.is_empty()
                || one.name.chars().count() > 64
                || matchmakers.iter().any(|known| known.name == one.name)
            {
                return Err(within("name: must have 1 to 64 characters and be there once"));
            }
            for (name, seconds, most) in [
                ("acceptance_timeout_seconds", one.acceptance_timeout_seconds, 600),
                ("request_timeout_seconds", one.request_timeout_seconds, 43_200),
                ("placement_timeout_seconds", one.placement_timeout_seconds, 3_600),
            ] {
                if !(1..=most).contains(&seconds) {
                    return Err(within(&format!("{name}: must be 1 to {most}")));
                }
            }
            if one.room.create && file.interval_ms > MAX_CREATING_INTERVAL_MS {
                return Err(within(&format!(
                    "room.create: interval_ms must be at most {MAX_CREATING_INTERVAL_MS}"
                )));
            }
            if one.bots_after_seconds.is_some_and(|seconds| seconds > one.request_timeout_seconds) {
                return Err(within("bots_after_seconds: must be at most request_timeout_seconds"));
            }
            let beside = path.parent().unwrap_or(Path::new("")).join(&one.rule_set);
            let text = std::fs::read_to_string(&beside).map_err(|error| {
                within(&format!("rule_set: {} cannot be read: {error}", beside.display()))
            })?;
            let rule_set = RuleSet::parse(&text).map_err(|error| {
                within(&format!("rule_set: {} cannot be used: {error}", beside.display()))
            })?;
            matchmakers.push(Matchmaker {
                name: one.name,
                rule_set: Arc::new(rule_set),
                acceptance_required: one.acceptance_required,
                room: one.room,
                additional_player_count: one.additional_player_count.min(10_000),
                acceptance_timeout_seconds: one.acceptance_timeout_seconds,
                request_timeout_seconds: one.request_timeout_seconds,
                placement_timeout_seconds: one.placement_timeout_seconds,
                bots_after_seconds: one.bots_after_seconds,
            });
        }
        Ok(Self { matchmakers, interval_ms: file.interval_ms.into() })
    }

    /// Refuses a matchmaker that creates rooms where none can be created.
    pub fn check(&self, creates_rooms: bool) -> Result<(), InvalidSetting> {
        match self.matchmakers.iter().find(|matchmaker| matchmaker.room.create) {
            Some(matchmaker) if !creates_rooms => Err(InvalidSetting(format!(
                "--matchmaking: matchmaker {}: room.create: needs --rooms-on-demand",
                matchmaker.name
            ))),
            _ => Ok(()),
        }
    }

    /// The matchmaker of a name.
    pub fn named(&self, name: &str) -> ApiResult<&Matchmaker> {
        self.matchmakers.iter().find(|matchmaker| matchmaker.name == name).ok_or_else(|| {
            ApiError::new(Code::MatchmakerNotFound, "the backend has no matchmaker of this name")
        })
    }
}

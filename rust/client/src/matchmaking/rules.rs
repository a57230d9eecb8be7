//! The short form of a rule set, for games whose rule is a number that is to be close.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::ClientError;

/// Most players of a match.
const MAX_PLAYERS: u32 = 200;
/// Most steps by which a gap widens.
const MAX_STEPS: u32 = 32;

/// Rules in a few numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchRules {
    /// Number of teams.
    pub teams: u32,
    /// Fewest players of a team.
    pub min_team_size: u32,
    /// Most players of a team.
    pub max_team_size: u32,
    /// Name of the number that has to be close; empty for none.
    pub skill_attribute: String,
    /// The number of a player who has none.
    pub default_skill: f64,
    /// Largest difference between two players.
    pub max_gap: f64,
    /// Seconds after which the largest difference grows; 0 for never.
    pub widen_after_seconds: u32,
    /// By how much it grows, each time.
    pub widen_by: f64,
    /// The largest that it becomes.
    pub widest_gap: f64,
    /// Longest latency to the region of a match, in milliseconds; 0 for any.
    pub max_latency_ms: u32,
    /// Name of a text that has to be equal, such as the mode; empty for none.
    pub same_attribute: String,
}

impl MatchRules {
    /// The rule set, as `backend-server serve --matchmaking` reads it.
    pub fn to_json(&self) -> Result<String, ClientError> {
        self.check()?;
        let mut attributes = Vec::new();
        let mut rules = Vec::new();
        let mut expansions = Vec::new();
        if !self.skill_attribute.is_empty() {
            attributes
                .push(json!({"name": self.skill_attribute, "type": "number", "default": self.default_skill}));
            rules.push(json!({
                "name": "Gap", "type": "batchDistance", "batchAttribute": self.skill_attribute,
                "maxDistance": self.max_gap,
            }));
            let steps = self.steps();
            if !steps.is_empty() {
                expansions.push(json!({"target": "rules[Gap].maxDistance", "steps": steps}));
            }
        }
        if !self.same_attribute.is_empty() {
            attributes.push(json!({"name": self.same_attribute, "type": "string"}));
            rules.push(
                json!({"name": "Same", "type": "batchDistance", "batchAttribute": self.same_attribute}),
            );
        }
        if self.max_latency_ms > 0 {
            rules.push(json!({"name": "Latency", "type": "latency", "maxLatency": self.max_latency_ms}));
        }
        if self.teams > 1 && self.min_team_size < self.max_team_size {
            rules.push(json!({
                "name": "EqualTeams", "type": "comparison", "operation": "=",
                "measurements": "max(count(teams[*].players))",
                "referenceValue": "min(count(teams[*].players))",
            }));
        }
        let mut rule_set = json!({
            "name": "match rules",
            "ruleLanguageVersion": "1.0",
            "teams": [{
                "name": "team", "minPlayers": self.min_team_size, "maxPlayers": self.max_team_size,
                "quantity": self.teams,
            }],
        });
        for (member, values) in
            [("playerAttributes", attributes), ("rules", rules), ("expansions", expansions)]
        {
            if !values.is_empty() {
                rule_set[member] = Value::Array(values);
            }
        }
        serde_json::to_string_pretty(&rule_set)
            .map(|text| text + "\n")
            .map_err(|error| ClientError::new(crate::Fault::Internal, format!("rule set: {error}")))
    }

    /// Writes the rule set to a file.
    pub fn save(&self, path: PathBuf) -> Result<(), ClientError> {
        let text = self.to_json()?;
        std::fs::write(&path, text).map_err(|error| {
            let message = format!("{} cannot be written: {error}", path.display());
            ClientError::new(crate::Fault::Storage, message)
        })
    }

    fn steps(&self) -> Vec<Value> {
        if self.widen_after_seconds == 0 {
            return Vec::new();
        }
        let mut steps = Vec::new();
        for number in 1..=MAX_STEPS {
            let gap = (self.max_gap + self.widen_by * f64::from(number)).min(self.widest_gap);
            steps.push(json!({"waitTimeSeconds": self.widen_after_seconds * number, "value": gap}));
            if gap >= self.widest_gap {
                break;
            }
        }
        steps
    }

    fn check(&self) -> Result<(), ClientError> {
        let broken = |field: &str, rule: &str| Err(ClientError::field(field, rule));
        if self.teams == 0 {
            return broken("teams", "must be at least 1");
        }
        if self.min_team_size == 0 {
            return broken("min_team_size", "must be at least 1");
        }
        if self.max_team_size < self.min_team_size {
            return broken("max_team_size", "must be at least min_team_size");
        }
        if self.teams.saturating_mul(self.max_team_size) > MAX_PLAYERS {
            let rule = format!("times teams must be at most {MAX_PLAYERS} players");
            return broken("max_team_size", &rule);
        }
        if self.skill_attribute == self.same_attribute && !self.skill_attribute.is_empty() {
            return broken("same_attribute", "must be another one than skill_attribute");
        }
        if self.skill_attribute.is_empty() {
            return Ok(());
        }
        let is_length = |number: f64| number.is_finite() && number >= 0.0;
        if !self.default_skill.is_finite() {
            return broken("default_skill", "must be a finite number");
        }
        if !is_length(self.max_gap) {
            return broken("max_gap", "must be 0 or more");
        }
        if self.widen_after_seconds == 0 {
            return Ok(());
        }
        if self.widen_after_seconds > 3_600 {
            return broken("widen_after_seconds", "must be at most 3600");
        }
        if !is_length(self.widen_by) || self.widen_by == 0.0 {
            return broken("widen_by", "must be more than 0");
        }
        if !self.widest_gap.is_finite() || self.widest_gap < self.max_gap {
            return broken("widest_gap", "must be at least max_gap");
        }
        if (self.widest_gap - self.max_gap) / self.widen_by > f64::from(MAX_STEPS) {
            return broken("widen_by", "must reach widest_gap within 32 steps");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

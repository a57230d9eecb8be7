//! Reads a rule set: attributes, teams, algorithm.

use std::collections::BTreeMap;

use serde_json::Value;

use super::members::{self, Members, kind};
use super::{
    Algorithm, Attribute, AttributeKind, BackfillPriority, Batching, MAX_ATTRIBUTES, MAX_BYTES, MAX_MATCH,
    MAX_SMALL_MATCH, RuleSet, RuleSetError, Stage, TeamInstance, TeamSize, read_rules, stages,
};
use crate::json_comments;
use crate::ticket::{AttributeValue, MAX_VALUES_PER_ATTRIBUTE};

pub fn rule_set(text: &str) -> Result<RuleSet, RuleSetError> {
    if text.len() > MAX_BYTES {
        let problem = format!("may have {MAX_BYTES} bytes, this one has {}", text.len());
        return Err(RuleSetError::new("the rule set", problem));
    }
    let value: Value = serde_json::from_str(&json_comments::strip(text))
        .map_err(|error| RuleSetError::new("the rule set", format!("is not JSON: {error}")))?;
    let mut members = Members::new("", &value)?;
    let name = members.text("name")?.unwrap_or_default().to_owned();
    let version = members.take("ruleLanguageVersion");
    match version {
        Some(Value::String(version)) if version == "1.0" => {}
        Some(other) => {
            return Err(
                members.error("ruleLanguageVersion", format!("has to be \"1.0\", not {}", kind(other)))
            );
        }
        None => return Err(members.error("ruleLanguageVersion", "is missing; it has to be \"1.0\"")),
    }
    let attributes = attributes(&mut members)?;
    let (teams, sizes) = teams(&mut members)?;
    let (algorithm, strategy) = algorithm(&mut members, &attributes)?;
    let mut rule_set = RuleSet {
        name,
        attributes,
        teams,
        algorithm,
        rules: Vec::new(),
        stages: vec![Stage { from_ms: 0, teams: sizes, rules: Vec::new() }],
        large: false,
        texts: Vec::new(),
    };
    read_rules::read(&mut members, &mut rule_set)?;
    stages::read(&mut members, &mut rule_set)?;
    members.finish()?;
    complete(&mut rule_set, strategy)?;
    Ok(rule_set)
}

/// What depends on several members.
fn complete(rule_set: &mut RuleSet, strategy: Option<Strategy>) -> Result<(), RuleSetError> {
    for stage in &rule_set.stages {
        for (team, size) in rule_set.teams.iter().zip(&stage.teams) {
            if size.min > size.max || size.max == 0 {
                let after = if stage.from_ms == 0 {
                    String::new()
                } else {
                    format!(" after {} s", stage.from_ms / 1_000)
                };
                let problem = format!(
                    "minPlayers {} and maxPlayers {}{after}: the first may not be above the second, nor the second 0",
                    size.min, size.max
                );
                return Err(RuleSetError::new(format!("teams[{}]", team.base_name), problem));
            }
        }
        if stage.min_players() == 0 {
            return Err(RuleSetError::new(
                "teams",
                "a match has to have at least one player: a minPlayers above 0",
            ));
        }
    }
    let most = rule_set.max_players();
    if most > MAX_MATCH {
        return Err(RuleSetError::new(
            "teams",
            format!("a match may have {MAX_MATCH} players, this one has {most}"),
        ));
    }
    let above = most > MAX_SMALL_MATCH;
    if above && strategy == Some(Strategy::ExhaustiveSearch) {
        let problem = format!(
            "a match of more than {MAX_SMALL_MATCH} players needs `balanced`, and this one has {most}"
        );
        return Err(RuleSetError::new("algorithm.strategy", problem));
    }
    rule_set.large = above || strategy == Some(Strategy::Balanced);
    if rule_set.large {
        read_rules::check_large(rule_set)?;
        if !matches!(rule_set.algorithm.batching, Batching::FastestRegion) {
            rule_set.algorithm.batching = Batching::LargestPopulation;
        }
    }
    Ok(())
}

fn attributes(members: &mut Members<'_>) -> Result<Vec<Attribute>, RuleSetError> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for (path, value) in members.list("playerAttributes", MAX_ATTRIBUTES)? {
        let mut members = Members::new(path, value)?;
        let name = members.name()?;
        if attributes.iter().any(|attribute| attribute.name == name) {
            return Err(members.error("name", format!("`{name}` is declared twice")));
        }
        let kinds = [
            ("number", AttributeKind::Number),
            ("string", AttributeKind::Text),
            ("string_list", AttributeKind::TextList),
            ("string_number_map", AttributeKind::NumberMap),
        ];
        let kind = members.choice("type", &kinds)?.ok_or_else(|| members.error("type", "is missing"))?;
        members.text("description")?;
        let default = members
            .take("default")
            .map(|value| default_value(&members.path("default"), kind, value))
            .transpose()?;
        members.finish()?;
        let column = attributes.iter().filter(|attribute| attribute.kind == kind).count();
        attributes.push(Attribute { name, kind, column, default });
    }
    Ok(attributes)
}

fn default_value(path: &str, kind: AttributeKind, value: &Value) -> Result<AttributeValue, RuleSetError> {
    match kind {
        AttributeKind::Number => members::number(path, value).map(AttributeValue::Number),
        AttributeKind::Text => members::text_value(path, value).map(AttributeValue::Text),
        AttributeKind::TextList => members::texts(path, value).map(AttributeValue::TextList),
        AttributeKind::NumberMap => {
            let Value::Object(entries) = value else {
                return Err(RuleSetError::new(path, "has to be an object of numbers"));
            };
            if entries.len() > MAX_VALUES_PER_ATTRIBUTE {
                return Err(RuleSetError::new(path, format!("may have {MAX_VALUES_PER_ATTRIBUTE} entries")));
            }
            let mut map = BTreeMap::new();
            for (key, value) in entries {
                map.insert(key.clone(), members::number(&format!("{path}.{key}"), value)?);
            }
            Ok(AttributeValue::NumberMap(map))
        }
    }
}

fn teams(members: &mut Members<'_>) -> Result<(Vec<TeamInstance>, Vec<TeamSize>), RuleSetError> {
    let most = MAX_MATCH as usize;
    let mut teams: Vec<TeamInstance> = Vec::new();
    let mut sizes = Vec::new();
    for (path, value) in members.list("teams", most)? {
        let mut members = Members::new(path, value)?;
        let base_name = members.name()?;
        let missing = |members: &Members<'_>, name| members.error(name, "is missing");
        let max = members.count("maxPlayers", MAX_MATCH)?.ok_or_else(|| missing(&members, "maxPlayers"))?;
        let min = members.count("minPlayers", MAX_MATCH)?.ok_or_else(|| missing(&members, "minPlayers"))?;
        let quantity = members.count("quantity", MAX_MATCH)?.unwrap_or(1);
        if quantity == 0 {
            return Err(members.error("quantity", "has to be at least 1"));
        }
        for copy in 1..=quantity {
            let name = if quantity == 1 { base_name.clone() } else { format!("{base_name}_{copy}") };
            if teams.iter().any(|team| team.name == name || (copy == 1 && team.base_name == base_name)) {
                return Err(members.error("name", format!("there is a team `{name}` already")));
            }
            teams.push(TeamInstance { name, base_name: base_name.clone() });
            sizes.push(TeamSize { min, max });
        }
        if teams.len() > most {
            return Err(members.error("quantity", format!("a match may have {most} teams")));
        }
        members.finish()?;
    }
    if teams.is_empty() {
        return Err(members.error("teams", "is missing or empty; a match needs a team"));
    }
    Ok((teams, sizes))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    ExhaustiveSearch,
    Balanced,
}

#[derive(Clone, Copy, PartialEq)]
enum Preference {
    Random,
    Sorted,
    LargestPopulation,
    FastestRegion,
}

fn algorithm(
    members: &mut Members<'_>,
    attributes: &[Attribute],
) -> Result<(Algorithm, Option<Strategy>), RuleSetError> {
    let mut algorithm = Algorithm {
        batching: Batching::Random,
        balanced_attribute: None,
        oldest_expands: false,
        backfill_priority: BackfillPriority::Normal,
    };
    let Some(value) = members.take("algorithm") else { return Ok((algorithm, None)) };
    let mut members = Members::new("algorithm", value)?;
    let strategies = [("exhaustiveSearch", Strategy::ExhaustiveSearch), ("balanced", Strategy::Balanced)];
    let strategy = members.choice("strategy", &strategies)?;
    let preferences = [
        ("random", Preference::Random),
        ("sorted", Preference::Sorted),
        ("largestPopulation", Preference::LargestPopulation),
        ("fastestRegion", Preference::FastestRegion),
    ];
    let preference = members.choice("batchingPreference", &preferences)?;
    let mut sort_by = Vec::new();
    for (path, value) in members.list("sortByAttributes", MAX_ATTRIBUTES)? {
        let name = value.as_str().unwrap_or_default();
        let index = attributes.iter().position(|attribute| attribute.name == name);
        match index {
            Some(index) if matches!(attributes[index].kind, AttributeKind::Number | AttributeKind::Text) => {
                sort_by.push(index);
            }
            Some(_) => {
                return Err(RuleSetError::new(path, "has to be an attribute of type number or string"));
            }
            None => {
                return Err(RuleSetError::new(path, format!("attribute {} is not declared", kind(value))));
            }
        }
    }
    let balanced = strategy == Some(Strategy::Balanced);
    if let Some(preference) = preference {
        let of_balanced = matches!(preference, Preference::LargestPopulation | Preference::FastestRegion);
        if of_balanced != balanced {
            let (can, with) = if balanced {
                ("largestPopulation or fastestRegion", "balanced")
            } else {
                ("random or sorted", "exhaustiveSearch")
            };
            return Err(members.error("batchingPreference", format!("can be {can} with strategy {with}")));
        }
    }
    algorithm.batching = match preference {
        Some(Preference::Sorted) if sort_by.is_empty() => {
            return Err(members.error("sortByAttributes", "is missing; `sorted` needs it"));
        }
        Some(Preference::Sorted) => Batching::Sorted(sort_by),
        Some(Preference::LargestPopulation) => Batching::LargestPopulation,
        Some(Preference::FastestRegion) => Batching::FastestRegion,
        Some(Preference::Random) | None => Batching::Random,
    };
    if let Some(name) = members.text("balancedAttribute")? {
        let index = attributes.iter().position(|attribute| attribute.name == name);
        match index {
            Some(index) if attributes[index].kind == AttributeKind::Number => {
                algorithm.balanced_attribute = Some(index);
            }
            _ => return Err(members.error("balancedAttribute", format!("`{name}` is not a declared number"))),
        }
    }
    algorithm.oldest_expands =
        members.choice("expansionAgeSelection", &[("newest", false), ("oldest", true)])?.unwrap_or(false);
    let priorities = [
        ("normal", BackfillPriority::Normal),
        ("low", BackfillPriority::Low),
        ("high", BackfillPriority::High),
    ];
    algorithm.backfill_priority =
        members.choice("backfillPriority", &priorities)?.unwrap_or(BackfillPriority::Normal);
    members.finish()?;
    Ok((algorithm, strategy))
}

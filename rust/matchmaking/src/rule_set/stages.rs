//! Expansions: what a rule set allows as tickets grow older. They become stages, each with all values of its age.

use serde_json::Value;

use super::members::{self, Members};
use super::{
    CollectionOperation, MAX_EXPANSIONS, MAX_MATCH, Parameters, RuleKind, RuleSet, RuleSetError, TeamSize,
    read_rules,
};
use crate::rule_set::expression::{Element, Expression};

/// The longest waiting time of a step, in seconds: the longest time-out of a request.
const MAX_WAIT_SECONDS: u32 = 43_200;

/// A change from an age on.
struct Step {
    from_ms: i64,
    change: Change,
}

enum Change {
    Team { name: String, min: Option<u32>, max: Option<u32> },
    Rule { index: usize, parameters: Parameters },
}

pub fn read(members: &mut Members<'_>, rule_set: &mut RuleSet) -> Result<(), RuleSetError> {
    let mut steps = Vec::new();
    for (path, value) in members.list("expansions", MAX_EXPANSIONS)? {
        let mut members = Members::new(path, value)?;
        let target = members.text("target")?.ok_or_else(|| members.error("target", "is missing"))?;
        let target = Target::parse(target, rule_set).map_err(|problem| members.error("target", problem))?;
        let mut before = None;
        for (path, value) in members.list("steps", MAX_EXPANSIONS)? {
            let mut step = Members::new(path, value)?;
            let wait = step
                .count("waitTimeSeconds", MAX_WAIT_SECONDS)?
                .ok_or_else(|| step.error("waitTimeSeconds", "is missing"))?;
            if before.is_some_and(|before| before >= wait) {
                return Err(step.error("waitTimeSeconds", "has to be above that of the step before"));
            }
            before = Some(wait);
            let value = step.take("value").ok_or_else(|| step.error("value", "is missing"))?;
            let change = target.change(&step.path("value"), value, rule_set)?;
            step.finish()?;
            steps.push(Step { from_ms: i64::from(wait) * 1_000, change });
        }
        if before.is_none() {
            return Err(members.error("steps", "is missing or empty"));
        }
        members.finish()?;
    }
    steps.sort_by_key(|step| step.from_ms);
    for step in steps {
        let last = rule_set.stages.len() - 1;
        if rule_set.stages[last].from_ms < step.from_ms {
            let mut next = rule_set.stages[last].clone();
            next.from_ms = step.from_ms;
            rule_set.stages.push(next);
        }
        apply(rule_set, step.change);
    }
    read_rules::decide_finality(rule_set);
    Ok(())
}

fn apply(rule_set: &mut RuleSet, change: Change) {
    let last = rule_set.stages.len() - 1;
    let stage = &mut rule_set.stages[last];
    match change {
        Change::Team { name, min, max } => {
            for (team, size) in rule_set.teams.iter().zip(&mut stage.teams) {
                if team.base_name == name || team.name == name {
                    *size = TeamSize { min: min.unwrap_or(size.min), max: max.unwrap_or(size.max) };
                }
            }
        }
        Change::Rule { index, parameters } => {
            let of = &mut stage.rules[index];
            of.min = parameters.min.or(of.min);
            of.max = parameters.max.or(of.max);
            of.max_latency_distance = parameters.max_latency_distance.or(of.max_latency_distance);
            of.reference = parameters.reference.or(of.reference.take());
        }
    }
}

enum Target {
    Team { name: String, is_max: bool },
    Rule { index: usize, member: String },
}

impl Target {
    fn parse(text: &str, rule_set: &RuleSet) -> Result<Self, String> {
        let form = "has to be `rules[NAME].MEMBER` or `teams[NAME].minPlayers` or `.maxPlayers`";
        let (kind, rest) = text.split_once('[').ok_or(form)?;
        let (name, member) = rest.split_once("].").ok_or(form)?;
        match kind.trim() {
            "teams" => {
                if !rule_set.teams.iter().any(|team| team.base_name == name || team.name == name) {
                    return Err(format!("there is no team `{name}`"));
                }
                match member {
                    "minPlayers" | "maxPlayers" => {
                        Ok(Self::Team { name: name.to_owned(), is_max: member == "maxPlayers" })
                    }
                    _ => Err(format!("`{member}` of a team cannot be expanded")),
                }
            }
            "rules" => {
                let index = rule_set
                    .rules
                    .iter()
                    .position(|rule| rule.name == name)
                    .ok_or_else(|| format!("there is no rule `{name}`"))?;
                let allowed: &[&str] = match rule_set.rules[index].kind {
                    RuleKind::BatchDistance(_) if rule_set.stages[0].rules[index].max.is_some() => {
                        &["maxDistance"]
                    }
                    RuleKind::Comparison(..) => &["referenceValue"],
                    RuleKind::Distance(_) => &["minDistance", "maxDistance", "referenceValue"],
                    RuleKind::Collection(_, CollectionOperation::Intersection) => &["minCount", "maxCount"],
                    RuleKind::Collection(..) => &["minCount", "maxCount", "referenceValue"],
                    RuleKind::Latency(None) => &["maxLatency"],
                    RuleKind::Latency(Some(_)) => &["maxLatency", "maxDistance"],
                    _ => &[],
                };
                if allowed.contains(&member) {
                    Ok(Self::Rule { index, member: member.to_owned() })
                } else if allowed.is_empty() {
                    Err(format!("rule `{name}` has nothing that can be expanded"))
                } else {
                    Err(format!("`{member}` of rule `{name}` cannot be expanded; {} can", allowed.join(", ")))
                }
            }
            _ => Err(form.to_owned()),
        }
    }

    fn change(&self, path: &str, value: &Value, rule_set: &mut RuleSet) -> Result<Change, RuleSetError> {
        match self {
            Self::Team { name, is_max } => {
                let size = Some(members::count(path, value, MAX_MATCH)?);
                let (min, max) = if *is_max { (None, size) } else { (size, None) };
                Ok(Change::Team { name: name.clone(), min, max })
            }
            Self::Rule { index, member } => {
                let mut parameters = Parameters::default();
                let is_latency = matches!(rule_set.rules[*index].kind, RuleKind::Latency(_));
                match member.as_str() {
                    "referenceValue" => {
                        let (element, depth) = reference_type(&rule_set.rules[*index].kind);
                        parameters.reference =
                            Some(read_rules::reference(path, value, element, depth, rule_set)?);
                    }
                    "minDistance" | "minCount" => parameters.min = Some(members::number(path, value)?),
                    "maxDistance" if is_latency => {
                        parameters.max_latency_distance = Some(members::number(path, value)?);
                    }
                    _ => parameters.max = Some(members::number(path, value)?),
                }
                Ok(Change::Rule { index: *index, parameters })
            }
        }
    }
}

/// The type of the reference value of a rule.
fn reference_type(kind: &RuleKind) -> (Element, usize) {
    match kind {
        RuleKind::Collection(_, CollectionOperation::ReferenceIntersectionCount) => (Element::Text, 1),
        RuleKind::Collection(..) => (Element::Text, 0),
        RuleKind::Comparison(measurements, _) => (measurements[0].element(), 0),
        _ => (Element::Number, 0),
    }
}

impl Expression {
    fn element(&self) -> Element {
        use crate::rule_set::expression::{Field, Function};
        match self {
            Self::Call(Function::Flatten | Function::SetIntersection, inner) => inner.element(),
            Self::Call(..) | Self::Players { field: Field::Number(_) | Field::Player, .. } => Element::Number,
            Self::Players { .. } => Element::Text,
        }
    }
}

//! Reads the rules of a rule set.

use serde_json::Value;

use super::members::{self, Members, kind};
use super::{
    AttributeKind, CollectionOperation, Comparison, LatencyReference, MAX_MEASUREMENTS, MAX_RULES, MapKey,
    Parameters, PartyAggregation, Reference, Rule, RuleKind, RuleSet, RuleSetError, SortRule, Statement,
    is_final_when_violated,
};
use crate::rule_set::expression::{self, Element, Expression, Names, Type};

#[derive(Clone, Copy, PartialEq)]
enum RuleType {
    BatchDistance,
    Comparison,
    Distance,
    Collection,
    Latency,
    AbsoluteSort,
    DistanceSort,
    Compound,
}

pub fn read(members: &mut Members<'_>, rule_set: &mut RuleSet) -> Result<(), RuleSetError> {
    for (path, value) in members.list("rules", MAX_RULES)? {
        let mut members = Members::new(path, value)?;
        let name = members.name()?;
        if rule_set.rules.iter().any(|rule| rule.name == name) {
            return Err(members.error("name", format!("there is a rule `{name}` already")));
        }
        let (kind, parameters, aggregation) = rule(&mut members, rule_set)?;
        members.text("description")?;
        members.finish()?;
        if let RuleKind::Compound(statement) = &kind {
            let mut parts = Vec::new();
            statement.collect_rules(&mut parts);
            for part in parts {
                rule_set.rules[part].part_of_compound = true;
            }
        }
        rule_set.rules.push(Rule {
            name,
            kind,
            aggregation,
            part_of_compound: false,
            final_when_violated: false,
        });
        rule_set.stages[0].rules.push(parameters);
    }
    Ok(())
}

/// Decides for each rule whether a violation is final, once expansions are known.
pub fn decide_finality(rule_set: &mut RuleSet) {
    for index in 0..rule_set.rules.len() {
        let parameters: Vec<_> = rule_set.stages.iter().map(|stage| &stage.rules[index]).collect();
        let is_final = is_final_when_violated(&rule_set.rules[index].kind, &parameters, &rule_set.rules);
        rule_set.rules[index].final_when_violated = is_final;
    }
}

/// Rejects what a large match cannot have.
pub fn check_large(rule_set: &RuleSet) -> Result<(), RuleSetError> {
    for (index, rule) in rule_set.rules.iter().enumerate() {
        let allowed = match rule.kind {
            RuleKind::BatchDistance(_) => true,
            RuleKind::Latency(reference) => {
                reference.is_none() && rule_set.stages[0].rules[index].max_latency_distance.is_none()
            }
            _ => false,
        };
        if !allowed {
            let problem = "a large match (strategy `balanced`, or more than 40 players) can have batchDistance rules and \
                           latency rules with maxLatency only";
            return Err(RuleSetError::new(format!("rules[{}]", rule.name), problem));
        }
    }
    Ok(())
}

fn rule(
    members: &mut Members<'_>,
    rule_set: &mut RuleSet,
) -> Result<(RuleKind, Parameters, PartyAggregation), RuleSetError> {
    let types = [
        ("batchDistance", RuleType::BatchDistance),
        ("comparison", RuleType::Comparison),
        ("distance", RuleType::Distance),
        ("collection", RuleType::Collection),
        ("latency", RuleType::Latency),
        ("absoluteSort", RuleType::AbsoluteSort),
        ("distanceSort", RuleType::DistanceSort),
        ("compound", RuleType::Compound),
    ];
    let kind = members.choice("type", &types)?.ok_or_else(|| members.error("type", "is missing"))?;
    let aggregation = aggregation(members, kind)?;
    let mut parameters = Parameters::default();
    let kind = match kind {
        RuleType::BatchDistance => batch_distance(members, rule_set, &mut parameters)?,
        RuleType::Comparison => comparison(members, rule_set, &mut parameters)?,
        RuleType::Distance => distance(members, rule_set, &mut parameters)?,
        RuleType::Collection => collection(members, rule_set, &mut parameters)?,
        RuleType::Latency => latency(members, &mut parameters)?,
        RuleType::AbsoluteSort => RuleKind::AbsoluteSort(sort(members, rule_set)?),
        RuleType::DistanceSort => RuleKind::DistanceSort(sort(members, rule_set)?),
        RuleType::Compound => compound(members, rule_set)?,
    };
    Ok((kind, parameters, aggregation))
}

fn aggregation(members: &mut Members<'_>, kind: RuleType) -> Result<PartyAggregation, RuleSetError> {
    let chosen = match kind {
        RuleType::Compound => None,
        RuleType::Collection => members.choice(
            "partyAggregation",
            &[("union", PartyAggregation::AvgOrUnion), ("intersection", PartyAggregation::MinOrIntersection)],
        )?,
        _ => members.choice(
            "partyAggregation",
            &[
                ("avg", PartyAggregation::AvgOrUnion),
                ("min", PartyAggregation::MinOrIntersection),
                ("max", PartyAggregation::Max),
            ],
        )?,
    };
    Ok(chosen.unwrap_or(PartyAggregation::AvgOrUnion))
}

fn batch_distance(
    members: &mut Members<'_>,
    rule_set: &RuleSet,
    parameters: &mut Parameters,
) -> Result<RuleKind, RuleSetError> {
    let attribute = attribute(members, rule_set, "batchAttribute")?;
    parameters.max = members.number("maxDistance")?;
    match rule_set.attributes[attribute].kind {
        AttributeKind::Number if parameters.max.is_none() => {
            Err(members.error("maxDistance", "is missing; a number needs it"))
        }
        AttributeKind::Text if parameters.max.is_some() => {
            Err(members.error("maxDistance", "is not possible with a string, which has to be equal"))
        }
        AttributeKind::Number | AttributeKind::Text => Ok(RuleKind::BatchDistance(attribute)),
        _ => Err(members.error("batchAttribute", "has to be of type number or string")),
    }
}

fn comparison(
    members: &mut Members<'_>,
    rule_set: &mut RuleSet,
    parameters: &mut Parameters,
) -> Result<RuleKind, RuleSetError> {
    let measurements = measurements(members, rule_set)?;
    let operations = [
        ("<", Comparison::Less),
        ("<=", Comparison::AtMost),
        ("=", Comparison::Equal),
        ("!=", Comparison::Different),
        (">", Comparison::Greater),
        (">=", Comparison::AtLeast),
    ];
    let operation =
        members.choice("operation", &operations)?.ok_or_else(|| members.error("operation", "is missing"))?;
    let element = measurements[0].1.element;
    if let Some((_expression, other)) = measurements.iter().find(|(_e, kind)| kind.element != element) {
        return Err(
            members.error("measurements", format!("{} and {other} cannot be compared", measurements[0].1))
        );
    }
    let equality = matches!(operation, Comparison::Equal | Comparison::Different);
    if element != Element::Number && !equality {
        return Err(members.error("operation", "has to be = or != for strings"));
    }
    parameters.reference = match members.take("referenceValue") {
        None if equality => None,
        None => {
            return Err(
                members.error("referenceValue", "is missing; without it the operation has to be = or !=")
            );
        }
        Some(value) => Some(reference(&members.path("referenceValue"), value, element, 0, rule_set)?),
    };
    Ok(RuleKind::Comparison(expressions(measurements), operation))
}

fn distance(
    members: &mut Members<'_>,
    rule_set: &mut RuleSet,
    parameters: &mut Parameters,
) -> Result<RuleKind, RuleSetError> {
    let measurements = measurements(members, rule_set)?;
    if let Some((_expression, other)) = measurements.iter().find(|(_e, kind)| kind.element != Element::Number)
    {
        return Err(members.error("measurements", format!("has to be numbers, not {other}")));
    }
    parameters.min = members.number("minDistance")?;
    parameters.max = members.number("maxDistance")?;
    if parameters.min.is_none() && parameters.max.is_none() {
        return Err(
            members.error("maxDistance", "is missing; there has to be a maxDistance or a minDistance")
        );
    }
    let value =
        members.take("referenceValue").ok_or_else(|| members.error("referenceValue", "is missing"))?;
    parameters.reference =
        Some(reference(&members.path("referenceValue"), value, Element::Number, 0, rule_set)?);
    Ok(RuleKind::Distance(expressions(measurements)))
}

fn collection(
    members: &mut Members<'_>,
    rule_set: &mut RuleSet,
    parameters: &mut Parameters,
) -> Result<RuleKind, RuleSetError> {
    let measurements = measurements(members, rule_set)?;
    if let Some((_expression, other)) =
        measurements.iter().find(|(_e, kind)| kind.element != Element::Text || kind.depth == 0)
    {
        return Err(members.error("measurements", format!("has to be lists of strings, not {other}")));
    }
    let operations = [
        ("intersection", CollectionOperation::Intersection),
        ("contains", CollectionOperation::Contains),
        ("reference_intersection_count", CollectionOperation::ReferenceIntersectionCount),
    ];
    let operation =
        members.choice("operation", &operations)?.ok_or_else(|| members.error("operation", "is missing"))?;
    parameters.min = members.number("minCount")?;
    parameters.max = members.number("maxCount")?;
    if parameters.min.is_none() && parameters.max.is_none() {
        return Err(members.error("minCount", "is missing; there has to be a minCount or a maxCount"));
    }
    let value = members.take("referenceValue");
    parameters.reference = match (operation, value) {
        (CollectionOperation::Intersection, None) => None,
        (CollectionOperation::Intersection, Some(_)) => {
            return Err(members.error("referenceValue", "is not possible with intersection"));
        }
        (_, None) => return Err(members.error("referenceValue", "is missing")),
        (CollectionOperation::Contains, Some(value)) => {
            Some(reference(&members.path("referenceValue"), value, Element::Text, 0, rule_set)?)
        }
        (CollectionOperation::ReferenceIntersectionCount, Some(value)) => {
            Some(reference(&members.path("referenceValue"), value, Element::Text, 1, rule_set)?)
        }
    };
    Ok(RuleKind::Collection(expressions(measurements), operation))
}

fn latency(members: &mut Members<'_>, parameters: &mut Parameters) -> Result<RuleKind, RuleSetError> {
    parameters.max = members.number("maxLatency")?;
    parameters.max_latency_distance = members.number("maxDistance")?;
    let references = [("min", LatencyReference::Min), ("avg", LatencyReference::Avg)];
    let reference = members.choice("distanceReference", &references)?;
    match (parameters.max, parameters.max_latency_distance, reference) {
        (None, None, _) => {
            Err(members.error("maxLatency", "is missing; there has to be a maxLatency or a maxDistance"))
        }
        (_, Some(_), None) => Err(members.error("distanceReference", "is missing; maxDistance needs it")),
        (_, None, Some(_)) => Err(members.error("maxDistance", "is missing; distanceReference needs it")),
        _ => Ok(RuleKind::Latency(reference)),
    }
}

fn sort(members: &mut Members<'_>, rule_set: &RuleSet) -> Result<SortRule, RuleSetError> {
    let attribute = attribute(members, rule_set, "sortAttribute")?;
    let descending =
        members.choice("sortDirection", &[("ascending", false), ("descending", true)])?.unwrap_or(false);
    let keys = [("minValue", MapKey::MinValue), ("maxValue", MapKey::MaxValue)];
    let map_key = members.choice("mapKey", &keys)?;
    match (rule_set.attributes[attribute].kind, map_key) {
        (AttributeKind::NumberMap, None) => Err(members.error("mapKey", "is missing; a map needs it")),
        (AttributeKind::TextList, _) => {
            Err(members.error("sortAttribute", "has to be a number, a string or a string_number_map"))
        }
        (_, map_key) => Ok(SortRule { descending, attribute, map_key: map_key.unwrap_or(MapKey::MaxValue) }),
    }
}

fn compound(members: &mut Members<'_>, rule_set: &RuleSet) -> Result<RuleKind, RuleSetError> {
    let text = members.text("statement")?.ok_or_else(|| members.error("statement", "is missing"))?;
    let statement =
        Statement::parse(text, &rule_set.rules).map_err(|problem| members.error("statement", problem))?;
    let mut parts = Vec::new();
    statement.collect_rules(&mut parts);
    for part in parts {
        let rule = &rule_set.rules[part];
        if matches!(rule.kind, RuleKind::BatchDistance(_)) || !rule.is_condition() {
            let problem = format!(
                "`{}` is a batchDistance or sort rule, which cannot be part of a statement",
                rule.name
            );
            return Err(members.error("statement", problem));
        }
    }
    Ok(RuleKind::Compound(statement))
}

fn attribute(
    members: &mut Members<'_>,
    rule_set: &RuleSet,
    member: &'static str,
) -> Result<usize, RuleSetError> {
    let name = members.text(member)?.ok_or_else(|| members.error(member, "is missing"))?;
    rule_set.attributes.iter().position(|attribute| attribute.name == name).ok_or_else(|| {
        members.error(member, format!("attribute `{name}` is not declared in playerAttributes"))
    })
}

fn measurements(
    members: &mut Members<'_>,
    rule_set: &RuleSet,
) -> Result<Vec<(Expression, Type)>, RuleSetError> {
    let names = Names { attributes: &rule_set.attributes, teams: &rule_set.teams };
    let mut measurements = Vec::new();
    for (path, value) in members.list("measurements", MAX_MEASUREMENTS)? {
        let Value::String(text) = value else {
            return Err(RuleSetError::new(path, format!("has to be an expression, not {}", kind(value))));
        };
        let parsed =
            expression::parse(text, &names).map_err(|problem| RuleSetError::new(path.clone(), problem))?;
        if parsed.1.element == Element::Player {
            return Err(RuleSetError::new(
                path,
                "has to be values of players; players can be counted: `count(…)`",
            ));
        }
        measurements.push(parsed);
    }
    if measurements.is_empty() {
        return Err(members.error("measurements", "is missing or empty"));
    }
    Ok(measurements)
}

fn expressions(measurements: Vec<(Expression, Type)>) -> Vec<Expression> {
    measurements.into_iter().map(|(expression, _kind)| expression).collect()
}

/// A reference value of `element`s in `depth` lists.
pub fn reference(
    path: &str,
    value: &Value,
    element: Element,
    depth: usize,
    rule_set: &mut RuleSet,
) -> Result<Reference, RuleSetError> {
    if let Value::String(text) = value
        && expression::is_expression(text)
    {
        let names = Names { attributes: &rule_set.attributes, teams: &rule_set.teams };
        let (parsed, found) =
            expression::parse(text, &names).map_err(|problem| RuleSetError::new(path, problem))?;
        let wanted = Type { element, depth };
        if found != wanted {
            return Err(RuleSetError::new(path, format!("has to be a {wanted}, not a {found}")));
        }
        return Ok(Reference::Expression(parsed));
    }
    if element == Element::Number {
        return members::number(path, value).map(Reference::Number);
    }
    let mut texts: Vec<u32> =
        members::texts(path, value)?.into_iter().map(|text| text_number(&mut rule_set.texts, text)).collect();
    match (depth, texts.as_slice()) {
        (0, [text]) => Ok(Reference::Text(*text)),
        (0, _) => Err(RuleSetError::new(path, "has to be a single string")),
        _ => {
            texts.sort_unstable();
            texts.dedup();
            Ok(Reference::Texts(texts))
        }
    }
}

fn text_number(texts: &mut Vec<String>, text: String) -> u32 {
    match texts.iter().position(|known| *known == text) {
        Some(number) => number as u32,
        None => {
            texts.push(text);
            texts.len() as u32 - 1
        }
    }
}

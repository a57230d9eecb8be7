//! Values of expressions.

use super::Evaluation;
use crate::rule_set::PartyAggregation;
use crate::rule_set::expression::{Expression, Field, Function};

/// A value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// None, as of a function over no players.
    Absent,
    Number(f64),
    Text(u32),
    Numbers(Vec<f64>),
    Texts(Vec<u32>),
    List(Vec<Value>),
}

impl Value {
    pub fn for_each_number(&self, each: &mut impl FnMut(f64)) {
        match self {
            Self::Number(number) => each(*number),
            Self::Numbers(numbers) => numbers.iter().copied().for_each(each),
            Self::List(values) => values.iter().for_each(|value| value.for_each_number(each)),
            Self::Absent | Self::Text(_) | Self::Texts(_) => {}
        }
    }

    pub fn for_each_text(&self, each: &mut impl FnMut(u32)) {
        match self {
            Self::Text(text) => each(*text),
            Self::Texts(texts) => texts.iter().copied().for_each(each),
            Self::List(values) => values.iter().for_each(|value| value.for_each_text(each)),
            Self::Absent | Self::Number(_) | Self::Numbers(_) => {}
        }
    }

    /// Calls back with each innermost list of texts.
    pub fn for_each_texts(&self, each: &mut impl FnMut(&[u32])) {
        match self {
            Self::Texts(texts) => each(texts),
            Self::List(values) => values.iter().for_each(|value| value.for_each_texts(each)),
            _ => {}
        }
    }
}

/// Evaluates an expression. `once_per_party`: a party's number is there once rather than for each of its players.
pub(crate) fn of(
    evaluation: &Evaluation<'_>,
    expression: &Expression,
    aggregation: PartyAggregation,
    once_per_party: bool,
) -> Value {
    match expression {
        Expression::Players { teams, by_team, field } => {
            let mut values =
                teams.iter().map(|team| team_values(evaluation, *team, *field, aggregation, once_per_party));
            if *by_team { Value::List(values.collect()) } else { values.next().unwrap_or(Value::Absent) }
        }
        Expression::Call(function, inner) => {
            apply(*function, of(evaluation, inner, aggregation, once_per_party))
        }
    }
}

fn team_values(
    evaluation: &Evaluation<'_>,
    team: usize,
    field: Field,
    aggregation: PartyAggregation,
    once_per_party: bool,
) -> Value {
    let seats = &evaluation.draft.teams[team];
    let players = seats.iter().map(|seat| {
        let entry = evaluation.pool.entry(seat.ticket);
        (entry, &entry.players[usize::from(seat.player)], seat.player)
    });
    match field {
        Field::Player => Value::Numbers(vec![0.0; seats.len()]),
        Field::Id => Value::Texts(players.map(|(_entry, player, _index)| player.id_text).collect()),
        Field::Number(column) => Value::Numbers(
            players
                .filter(|(entry, _player, index)| !once_per_party || entry.backfill || *index == 0)
                .map(|(_entry, player, _index)| player.numbers[column][aggregation.index()])
                .collect(),
        ),
        Field::Text(column) => {
            Value::Texts(players.map(|(_entry, player, _index)| player.texts[column]).collect())
        }
        Field::TextList(column) => {
            let which = usize::from(aggregation == PartyAggregation::MinOrIntersection);
            Value::List(
                players
                    .map(|(_entry, player, _index)| Value::Texts(player.lists[column][which].to_vec()))
                    .collect(),
            )
        }
    }
}

fn apply(function: Function, value: Value) -> Value {
    match function {
        Function::Flatten => flatten(value),
        Function::SetIntersection => set_intersection(value),
        Function::Count => match value {
            Value::Numbers(numbers) => Value::Number(numbers.len() as f64),
            Value::Texts(texts) => Value::Number(texts.len() as f64),
            Value::List(values) => map(function, values),
            _ => Value::Absent,
        },
        _ => match value {
            Value::Numbers(mut numbers) => reduce(function, &mut numbers),
            Value::List(values) => map(function, values),
            _ => Value::Absent,
        },
    }
}

/// Applies a function to each of inner lists.
fn map(function: Function, values: Vec<Value>) -> Value {
    let mut numbers = Vec::with_capacity(values.len());
    let mut lists = Vec::new();
    for value in values {
        match apply(function, value) {
            Value::Number(number) => numbers.push(number),
            Value::Absent => {}
            other => lists.push(other),
        }
    }
    if lists.is_empty() { Value::Numbers(numbers) } else { Value::List(lists) }
}

fn reduce(function: Function, numbers: &mut [f64]) -> Value {
    if numbers.is_empty() {
        return Value::Absent;
    }
    let count = numbers.len() as f64;
    let sum: f64 = numbers.iter().sum();
    Value::Number(match function {
        Function::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
        Function::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Function::Sum => sum,
        Function::Avg => sum / count,
        Function::Median => {
            numbers.sort_unstable_by(f64::total_cmp);
            let middle = numbers.len() / 2;
            if numbers.len() % 2 == 1 {
                numbers[middle]
            } else {
                f64::midpoint(numbers[middle - 1], numbers[middle])
            }
        }
        _ => {
            let mean = sum / count;
            (numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
    })
}

fn flatten(value: Value) -> Value {
    let Value::List(values) = value else { return value };
    let (mut numbers, mut texts, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Numbers(more) => numbers.extend(more),
            Value::Texts(more) => texts.extend(more),
            Value::List(more) => lists.extend(more),
            Value::Absent | Value::Number(_) | Value::Text(_) => {}
        }
    }
    if !numbers.is_empty() {
        Value::Numbers(numbers)
    } else if !texts.is_empty() {
        Value::Texts(texts)
    } else {
        Value::List(lists)
    }
}

fn set_intersection(value: Value) -> Value {
    let Value::List(values) = value else { return Value::Absent };
    if values.iter().any(|value| matches!(value, Value::List(_))) {
        return Value::List(values.into_iter().map(set_intersection).collect());
    }
    let mut lists = values.into_iter().filter_map(|value| match value {
        Value::Texts(texts) => Some(texts),
        _ => None,
    });
    let mut common = lists.next().unwrap_or_default();
    for list in lists {
        common.retain(|text| list.contains(text));
    }
    common.sort_unstable();
    common.dedup();
    Value::Texts(common)
}

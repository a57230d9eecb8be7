//! Collection rules.

use super::{Evaluation, Value};
use crate::rule_set::expression::Expression;
use crate::rule_set::{CollectionOperation, Parameters, Rule};

pub(super) fn violation(
    evaluation: &Evaluation<'_>,
    measurements: &[Expression],
    operation: CollectionOperation,
    rule: &Rule,
    parameters: &Parameters,
) -> f64 {
    let outside = |count: usize| {
        let count = count as f64;
        (parameters.min.unwrap_or(f64::NEG_INFINITY) - count)
            .max(count - parameters.max.unwrap_or(f64::INFINITY))
            .max(0.0)
    };
    let values = measurements.iter().map(|measurement| evaluation.value(measurement, rule.aggregation));
    let reference = parameters.reference.as_ref().map(|of| evaluation.reference(of, rule.aggregation));
    match (operation, reference) {
        (CollectionOperation::Intersection, _) => intersection(values).map_or(0.0, outside),
        (CollectionOperation::Contains, Some(Value::Text(reference))) => {
            values.map(|value| outside(containing(&value, reference))).sum()
        }
        (CollectionOperation::ReferenceIntersectionCount, Some(reference)) => {
            let mut wanted = Vec::new();
            reference.for_each_text(&mut |text| wanted.push(text));
            let mut violation = 0.0;
            for value in values {
                value.for_each_texts(&mut |texts| {
                    let mut common: Vec<u32> =
                        texts.iter().copied().filter(|text| wanted.contains(text)).collect();
                    common.sort_unstable();
                    common.dedup();
                    violation += outside(common.len());
                });
            }
            violation
        }
        // Of players who are not there yet.
        (CollectionOperation::Contains | CollectionOperation::ReferenceIntersectionCount, _) => 0.0,
    }
}

/// The number of texts that all lists have; none without lists.
fn intersection(values: impl Iterator<Item = Value>) -> Option<usize> {
    let mut common: Option<Vec<u32>> = None;
    for value in values {
        value.for_each_texts(&mut |texts| match &mut common {
            Some(common) => common.retain(|text| texts.contains(text)),
            None => {
                let mut first = texts.to_vec();
                first.sort_unstable();
                first.dedup();
                common = Some(first);
            }
        });
    }
    common.map(|common| common.len())
}

/// How many lists have a text; in a single list, how often it is there.
fn containing(value: &Value, wanted: u32) -> usize {
    if let Value::Texts(texts) = value {
        return texts.iter().filter(|text| **text == wanted).count();
    }
    let mut count = 0;
    value.for_each_texts(&mut |texts| count += usize::from(texts.contains(&wanted)));
    count
}

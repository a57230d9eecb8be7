//! Rules, evaluated on a match that is being formed.

mod collections;
mod latency;
mod value;

use crate::draft::Draft;
use crate::pool::Pool;
use crate::rule_set::expression::Expression;
use crate::rule_set::{
    AttributeKind, Comparison, Parameters, PartyAggregation, Reference, Rule, RuleKind, RuleSet,
};
use value::Value;

/// How often a rule held and did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleMetric {
    /// How often it held.
    pub passed: u64,
    /// How often it did not.
    pub failed: u64,
}

/// A draft, and what it is judged by.
pub(crate) struct Evaluation<'a> {
    pub rule_set: &'a RuleSet,
    pub pool: &'a Pool,
    pub draft: &'a Draft,
    pub stage: usize,
}

impl Evaluation<'_> {
    /// How much a rule is violated: 0 where it holds.
    pub fn violation(&self, index: usize, metrics: &mut [RuleMetric]) -> f64 {
        let rule = &self.rule_set.rules[index];
        let parameters = &self.rule_set.stages[self.stage].rules[index];
        let violation = match &rule.kind {
            RuleKind::BatchDistance(attribute) => self.batch_distance(*attribute, rule, parameters),
            RuleKind::Comparison(measurements, operation) => {
                self.comparison(measurements, *operation, rule, parameters)
            }
            RuleKind::Distance(measurements) => self.distance(measurements, rule, parameters),
            RuleKind::Collection(measurements, operation) => {
                collections::violation(self, measurements, *operation, rule, parameters)
            }
            RuleKind::Latency(_) => f64::from(u8::from(
                latency::regions(self, index).is_empty() && !self.draft.members.is_empty(),
            )),
            RuleKind::AbsoluteSort(_) | RuleKind::DistanceSort(_) => 0.0,
            RuleKind::Compound(statement) => {
                f64::from(u8::from(!statement.holds(&mut |part| self.violation(part, metrics) == 0.0)))
            }
        };
        let metric = &mut metrics[index];
        if violation == 0.0 {
            metric.passed += 1;
        } else {
            metric.failed += 1;
        }
        violation
    }

    /// The regions that all latency rules allow, nearest first; none without a latency rule.
    pub fn regions(&self) -> Vec<u32> {
        latency::common_regions(self)
    }

    pub fn value(&self, expression: &Expression, aggregation: PartyAggregation) -> Value {
        value::of(self, expression, aggregation, false)
    }

    fn batch_distance(&self, attribute: usize, rule: &Rule, parameters: &Parameters) -> f64 {
        let attribute = &self.rule_set.attributes[attribute];
        let entries = self.draft.members.iter().map(|member| self.pool.entry(member.ticket));
        if attribute.kind == AttributeKind::Number {
            let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
            for entry in entries {
                let number = entry.numbers[attribute.column][rule.aggregation.index()];
                min = min.min(number);
                max = max.max(number);
            }
            return (max - min - parameters.max.unwrap_or(f64::INFINITY)).max(0.0);
        }
        let mut entries = entries.map(|entry| entry.texts[attribute.column]);
        let Some(first) = entries.next() else { return 0.0 };
        f64::from(u8::from(first.is_none() || entries.any(|text| text != first)))
    }

    fn comparison(
        &self,
        measurements: &[Expression],
        operation: Comparison,
        rule: &Rule,
        parameters: &Parameters,
    ) -> f64 {
        let Some(reference) = &parameters.reference else {
            return self.across_players(measurements, operation, rule);
        };
        let reference = self.reference(reference, rule.aggregation);
        let mut violation = 0.0;
        for measurement in measurements {
            let value = self.value(measurement, rule.aggregation);
            match &reference {
                Value::Number(reference) => {
                    value.for_each_number(&mut |number| violation += excess(number, operation, *reference));
                }
                Value::Text(reference) => value.for_each_text(&mut |text| {
                    let holds = (text == *reference) == (operation == Comparison::Equal);
                    violation += f64::from(u8::from(!holds));
                }),
                // Of players who are not there yet.
                _ => {}
            }
        }
        violation
    }

    /// All equal, or all different. A party's number counts once.
    fn across_players(&self, measurements: &[Expression], operation: Comparison, rule: &Rule) -> f64 {
        let mut numbers = Vec::new();
        let mut texts = Vec::new();
        for measurement in measurements {
            let value = value::of(self, measurement, rule.aggregation, true);
            value.for_each_number(&mut |number| numbers.push(number));
            value.for_each_text(&mut |text| texts.push(text));
        }
        numbers.sort_unstable_by(f64::total_cmp);
        texts.sort_unstable();
        if operation == Comparison::Equal {
            let range = numbers.last().zip(numbers.first()).map_or(0.0, |(last, first)| last - first);
            let others = texts.windows(2).filter(|pair| pair[0] != pair[1]).count();
            return range + others as f64;
        }
        // The lint wants a margin; equal means equal here.
        #[allow(clippy::float_cmp)]
        let same = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        (same + texts.windows(2).filter(|pair| pair[0] == pair[1]).count()) as f64
    }

    fn distance(&self, measurements: &[Expression], rule: &Rule, parameters: &Parameters) -> f64 {
        let Some(reference) = &parameters.reference else { return 0.0 };
        let Value::Number(reference) = self.reference(reference, rule.aggregation) else { return 0.0 };
        let (min, max) =
            (parameters.min.unwrap_or(f64::NEG_INFINITY), parameters.max.unwrap_or(f64::INFINITY));
        let mut violation = 0.0;
        for measurement in measurements {
            self.value(measurement, rule.aggregation).for_each_number(&mut |number| {
                let distance = (number - reference).abs();
                violation += (distance - max).max(min - distance).max(0.0);
            });
        }
        violation
    }

    pub(crate) fn reference(&self, reference: &Reference, aggregation: PartyAggregation) -> Value {
        match reference {
            Reference::Number(number) => Value::Number(*number),
            Reference::Text(text) => Value::Text(*text),
            Reference::Texts(texts) => Value::Texts(texts.clone()),
            Reference::Expression(expression) => self.value(expression, aggregation),
        }
    }
}

/// By how much a comparison fails; 0 where it holds.
#[allow(clippy::float_cmp)]
fn excess(number: f64, operation: Comparison, reference: f64) -> f64 {
    let holds = match operation {
        Comparison::Less => number < reference,
        Comparison::AtMost => number <= reference,
        Comparison::Equal => number == reference,
        Comparison::Different => number != reference,
        Comparison::Greater => number > reference,
        Comparison::AtLeast => number >= reference,
    };
    if holds { 0.0 } else { (number - reference).abs().max(f64::MIN_POSITIVE) }
}

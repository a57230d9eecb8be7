//! Latency rules: the regions that are near enough to all.

use super::Evaluation;
use crate::rule_set::{LatencyReference, RuleKind};

/// The regions that a latency rule allows.
pub(super) fn regions(evaluation: &Evaluation<'_>, index: usize) -> Vec<u32> {
    let rule = &evaluation.rule_set.rules[index];
    let parameters = &evaluation.rule_set.stages[evaluation.stage].rules[index];
    let RuleKind::Latency(reference) = rule.kind else { return Vec::new() };
    let which = rule.aggregation.index();
    let max = parameters.max.unwrap_or(f64::INFINITY);
    let Some(first) = evaluation.draft.members.first() else { return Vec::new() };
    let mut allowed = Vec::new();
    for latency in &evaluation.pool.entry(first.ticket).latencies {
        let (mut sum, mut min, mut highest) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        let all_near = evaluation.draft.members.iter().all(|member| {
            let latencies = &evaluation.pool.entry(member.ticket).latencies;
            let Ok(place) = latencies.binary_search_by_key(&latency.region, |latency| latency.region) else {
                return false;
            };
            let ms = latencies[place].of_party[which];
            sum += ms;
            min = min.min(ms);
            highest = highest.max(ms);
            ms <= max
        });
        if !all_near {
            continue;
        }
        let reference = match reference {
            None => {
                allowed.push(latency.region);
                continue;
            }
            Some(LatencyReference::Min) => min,
            Some(LatencyReference::Avg) => sum / evaluation.draft.members.len() as f64,
        };
        let farthest = (highest - reference).max(reference - min);
        if farthest <= parameters.max_latency_distance.unwrap_or(f64::INFINITY) {
            allowed.push(latency.region);
        }
    }
    allowed
}

/// The regions that all latency rules allow, by their mean latency.
pub(super) fn common_regions(evaluation: &Evaluation<'_>) -> Vec<u32> {
    let mut rules = (0..evaluation.rule_set.rules.len()).filter(|index| {
        let rule = &evaluation.rule_set.rules[*index];
        matches!(rule.kind, RuleKind::Latency(_)) && !rule.part_of_compound
    });
    let Some(first) = rules.next() else { return Vec::new() };
    let mut common = regions(evaluation, first);
    for rule in rules {
        let allowed = regions(evaluation, rule);
        common.retain(|region| allowed.contains(region));
    }
    let sum = |region: &u32| -> f64 {
        let members = evaluation.draft.members.iter();
        members
            .flat_map(|member| &evaluation.pool.entry(member.ticket).latencies)
            .filter(|latency| latency.region == *region)
            .map(|latency| latency.of_party[0])
            .sum()
    };
    common.sort_by(|one, other| {
        let names = (evaluation.pool.texts.text(*one), evaluation.pool.texts.text(*other));
        sum(one).total_cmp(&sum(other)).then_with(|| names.0.cmp(names.1))
    });
    common
}

//! One pass over the pool, which forms the matches that can be formed now.

mod large_match;

use std::cmp::Ordering;

use crate::draft::OWN_TEAMS;
use crate::evaluate::RuleMetric;
use crate::formed_match::Match;
use crate::order::{self, Order};
use crate::pool::Pool;
use crate::random::Random;
use crate::rule_set::{AttributeKind, BackfillPriority, Batching, Comparison, RuleKind, RuleSet};
use crate::small_match::Search;

/// Tickets that are put into one batch, unless a number orders them all.
const BATCH: usize = 4_096;
/// The fewest candidates of a ticket.
const MIN_CANDIDATES: usize = 64;
/// The most candidates of a ticket.
const MAX_CANDIDATES: usize = 1_024;

/// Bounds of the work of a pass: candidates tried, and rules of whole matches evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// For each ticket of the pool.
    pub per_ticket: u64,
    /// In any case.
    pub least: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self { per_ticket: 40, least: 20_000 }
    }
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// The matches. Their tickets are still in the pool.
    pub matches: Vec<Match>,
    /// For each rule, how often it held and did not as candidates were tried.
    pub rules: Vec<RuleMetric>,
    /// The work that was done.
    pub work: u64,
    /// Whether tickets were left untried because the work was used up.
    pub work_used_up: bool,
}

/// What a pass has and shares.
pub(crate) struct Context<'a> {
    pub pool: &'a Pool,
    pub now_ms: i64,
    pub limit: u64,
    /// For each place of the pool, whether the ticket has a match.
    pub taken: Vec<bool>,
    pub pass: Pass,
    /// Tickets that are still to be tried as the first of a match.
    pub to_try: usize,
}

impl Pool {
    /// Forms the matches that can be formed at `now_ms`. The seed decides which tickets are in a batch.
    pub fn form_matches(&self, now_ms: i64, seed: u64, work: Work) -> Pass {
        let rule_set: &RuleSet = &self.rule_set;
        let places = self.places();
        let mut context = Context {
            pool: self,
            now_ms,
            limit: work.least.max(work.per_ticket.saturating_mul(places.len() as u64)),
            taken: vec![false; places.last().map_or(0, |last| *last as usize + 1)],
            pass: Pass { rules: vec![RuleMetric::default(); rule_set.rules.len()], ..Pass::default() },
            to_try: places.len(),
        };
        let mut random = Random::new(seed);
        for group in groups(self, places, &mut context.pass.rules) {
            if rule_set.large {
                large_match::form(&mut context, group);
            } else {
                form_small(&mut context, group, &mut random);
            }
        }
        context.pass
    }
}

/// Tickets that can be in one match as far as equal texts are concerned.
fn groups(pool: &Pool, places: Vec<u32>, metrics: &mut [RuleMetric]) -> Vec<Vec<u32>> {
    let rule_set: &RuleSet = &pool.rule_set;
    let mut keys: Vec<(usize, usize)> = Vec::new();
    for (index, rule) in rule_set.rules.iter().enumerate() {
        match &rule.kind {
            RuleKind::BatchDistance(attribute)
                if rule_set.attributes[*attribute].kind == AttributeKind::Text =>
            {
                keys.push((index, rule_set.attributes[*attribute].column));
            }
            RuleKind::Comparison(measurements, Comparison::Equal)
                if !rule.part_of_compound
                    && rule_set.stages.iter().all(|stage| stage.rules[index].reference.is_none()) =>
            {
                let columns = measurements.iter().filter_map(|of| of.text_of_everybody(rule_set.teams.len()));
                keys.extend(columns.map(|column| (index, column)));
            }
            _ => {}
        }
    }
    if keys.is_empty() {
        return vec![places];
    }
    let mut keyed: Vec<(u64, u32)> = Vec::with_capacity(places.len());
    for place in places {
        let entry = pool.entry(place);
        let mut hash = 0_u64;
        let mut mixed = false;
        for (index, column) in &keys {
            match entry.texts[*column] {
                Some(text) => hash = Random::new(hash ^ u64::from(text)).bits(),
                None => {
                    metrics[*index].failed += 1;
                    mixed = true;
                }
            }
        }
        if !mixed {
            keyed.push((hash, place));
        }
    }
    keyed.sort_unstable();
    // Rules are evaluated all the same: two texts with one hash are no match.
    keyed
        .chunk_by(|one, other| one.0 == other.0)
        .map(|group| group.iter().map(|(_hash, place)| *place).collect())
        .collect()
}

fn form_small(context: &mut Context<'_>, mut group: Vec<u32>, random: &mut Random) {
    let pool = context.pool;
    if let Some(index) = Index::of(&pool.rule_set) {
        let mut valued: Vec<(f64, u64, u32)> = group
            .iter()
            .map(|place| {
                let entry = pool.entry(*place);
                (entry.numbers[index.column][index.aggregation], entry.sequence, *place)
            })
            .collect();
        valued.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let values = valued.iter().map(|(value, ..)| *value).collect();
        let tickets = valued.into_iter().map(|(.., place)| place).collect();
        form_batch(context, Order::new(tickets, values), Some(&index));
        return;
    }
    match &pool.rule_set.algorithm.batching {
        Batching::Sorted(attributes) => {
            group.sort_by(|one, other| compare_by(pool, attributes, *one, *other));
        }
        _ if group.len() > BATCH => {
            group.sort_unstable_by_key(|place| pool.entry(*place).sequence);
            random.shuffle(&mut group);
        }
        _ => {}
    }
    for batch in group.chunks(BATCH) {
        let mut batch = batch.to_vec();
        batch.sort_unstable_by_key(|place| (pool.entry(*place).created_at_ms, pool.entry(*place).sequence));
        form_batch(context, Order::new(batch, Vec::new()), None);
    }
}

fn compare_by(pool: &Pool, attributes: &[usize], one: u32, other: u32) -> Ordering {
    let (one, other) = (pool.entry(one), pool.entry(other));
    for attribute in attributes {
        let attribute = &pool.rule_set.attributes[*attribute];
        let column = attribute.column;
        let order = if attribute.kind == AttributeKind::Number {
            one.numbers[column][0].total_cmp(&other.numbers[column][0])
        } else {
            let text = |text: Option<u32>| text.map(|text| pool.texts.text(text));
            text(one.texts[column]).cmp(&text(other.texts[column]))
        };
        if order.is_ne() {
            return order;
        }
    }
    one.sequence.cmp(&other.sequence)
}

/// A number in whose order candidates are near.
struct Index {
    column: usize,
    aggregation: usize,
    /// The rule that bounds the distance, if it does.
    rule: Option<usize>,
}

impl Index {
    fn of(rule_set: &RuleSet) -> Option<Self> {
        let number = |attribute: usize| {
            let attribute = &rule_set.attributes[attribute];
            (attribute.kind == AttributeKind::Number).then_some(attribute.column)
        };
        let bound = rule_set.rules.iter().enumerate().find_map(|(index, rule)| match rule.kind {
            RuleKind::BatchDistance(attribute) => number(attribute).map(|column| Self {
                column,
                aggregation: rule.aggregation.index(),
                rule: Some(index),
            }),
            _ => None,
        });
        bound.or_else(|| {
            rule_set.rules.iter().find(|rule| !rule.is_condition()).and_then(|rule| match &rule.kind {
                RuleKind::DistanceSort(sort) if !sort.descending => number(sort.attribute)
                    .map(|column| Self { column, aggregation: rule.aggregation.index(), rule: None }),
                _ => None,
            })
        })
    }

    /// The largest distance that a match with a ticket of this age can have.
    fn farthest(&self, rule_set: &RuleSet, age_ms: i64) -> f64 {
        let Some(rule) = self.rule else { return f64::INFINITY };
        let stages = if rule_set.algorithm.oldest_expands {
            &rule_set.stages[..]
        } else {
            &rule_set.stages[..=rule_set.stage_at(age_ms)]
        };
        stages.iter().filter_map(|stage| stage.rules[rule].max).fold(0.0, f64::max)
    }
}

/// Forms the matches of one batch, around its oldest ticket, then the next.
fn form_batch(context: &mut Context<'_>, mut order: Order, index: Option<&Index>) {
    let pool = context.pool;
    let rule_set: &RuleSet = &pool.rule_set;
    let mut position_of = vec![0_u32; context.taken.len()];
    let mut anchors: Vec<(u8, i64, u64, u32)> = (0..order.len() as u32)
        .map(|position| {
            let ticket = order.ticket(position);
            position_of[ticket as usize] = position;
            let entry = pool.entry(ticket);
            let class = match (rule_set.algorithm.backfill_priority, entry.backfill) {
                (BackfillPriority::High, false) | (BackfillPriority::Low, true) => 1,
                _ => 0,
            };
            (class, entry.created_at_ms, entry.sequence, ticket)
        })
        .collect();
    anchors.sort_unstable();
    let mut metrics = std::mem::take(&mut context.pass.rules);
    let mut search = Search::new(pool, context.now_ms, &mut metrics);
    search.work = context.pass.work;
    let mut candidates = Vec::new();
    let mut first = 0;
    for (_class, created, _sequence, anchor) in anchors {
        let to_try = context.to_try.max(1) as u64;
        context.to_try = context.to_try.saturating_sub(1);
        if context.taken[anchor as usize] {
            continue;
        }
        let left = context.limit.saturating_sub(search.work);
        if left == 0 {
            context.pass.work_used_up = true;
            break;
        }
        let share = (left / to_try).max(16);
        let limit = (share as usize).clamp(MIN_CANDIDATES, MAX_CANDIDATES);
        let position = position_of[anchor as usize];
        candidates.clear();
        if let Some(index) = index {
            let farthest = index.farthest(rule_set, context.now_ms.saturating_sub(created));
            if order.nearest(position, farthest, limit, &mut candidates)
                && let Some(rule) = index.rule
            {
                search.metrics[rule].failed += 1;
            }
        } else {
            while (first as usize) < order.len() && context.taken[order.ticket(first) as usize] {
                first += 1;
            }
            order.around(position, first, limit, &mut candidates);
        }
        let backfill_last = rule_set.algorithm.backfill_priority == BackfillPriority::Low;
        if backfill_last && !pool.entry(anchor).backfill {
            candidates.retain(|candidate| !pool.entry(*candidate).backfill);
        }
        order::apply_sort_rules(pool, anchor, &mut candidates);
        if search.around(anchor, &candidates, share.max(limit as u64 / 2)) {
            for member in &search.draft.members {
                context.taken[member.ticket as usize] = true;
                order.remove(position_of[member.ticket as usize]);
            }
            debug_assert!(search.draft.members.iter().any(|member| member.team != OWN_TEAMS));
            context.pass.matches.push(Match::of(pool, &search.draft, search.stage_index()));
        }
    }
    context.pass.work = search.work;
    context.pass.rules = metrics;
}

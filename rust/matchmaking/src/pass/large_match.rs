//! Matches of more than 40 players: near in one attribute, and dealt to the teams evenly.

use std::collections::HashMap;

use super::Context;
use crate::draft::{Draft, Member, OWN_TEAMS};
use crate::evaluate::{Evaluation, RuleMetric};
use crate::formed_match::Match;
use crate::order::Order;
use crate::pool::{Entry, Pool};
use crate::rule_set::{AttributeKind, Batching, RuleKind, RuleSet, Stage};

/// Players of one region, or all where latency does not matter, by the balanced attribute.
struct Region {
    /// `None`: everywhere.
    region: Option<u32>,
    order: Order,
    /// Tickets of the region that have no match yet.
    waiting: usize,
}

/// The regions, and where each ticket is in them.
struct Regions {
    regions: Vec<Region>,
    /// Region and position, of each ticket.
    positions: HashMap<u32, Vec<(u32, u32)>>,
}

pub(crate) fn form(context: &mut Context<'_>, mut group: Vec<u32>) {
    let pool = context.pool;
    let rule_set: &RuleSet = &pool.rule_set;
    let mut regions = Regions::new(pool, &group);
    group.sort_unstable_by_key(|place| (pool.entry(*place).created_at_ms, pool.entry(*place).sequence));
    for anchor in group {
        context.to_try = context.to_try.saturating_sub(1);
        if context.taken[anchor as usize] {
            continue;
        }
        if context.pass.work >= context.limit {
            context.pass.work_used_up = true;
            return;
        }
        let mut metrics = std::mem::take(&mut context.pass.rules);
        let formed = around(context, &regions, anchor, &mut metrics);
        context.pass.rules = metrics;
        if let Some((draft, stage)) = formed {
            for member in &draft.members {
                context.taken[member.ticket as usize] = true;
                regions.remove(member.ticket);
            }
            context.pass.matches.push(Match::of(pool, &draft, stage));
        }
    }
    debug_assert!(rule_set.large);
}

impl Regions {
    fn new(pool: &Pool, group: &[u32]) -> Self {
        let rule_set: &RuleSet = &pool.rule_set;
        let column = balanced_column(rule_set);
        let mut sorted: Vec<(f64, u64, u32)> = group
            .iter()
            .filter(|place| !pool.entry(**place).backfill)
            .map(|place| {
                let entry = pool.entry(*place);
                (
                    column.map_or(entry.created_at_ms as f64, |column| entry.numbers[column][0]),
                    entry.sequence,
                    *place,
                )
            })
            .collect();
        sorted.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let by_latency = rule_set.rules.iter().any(|rule| matches!(rule.kind, RuleKind::Latency(_)));
        let mut lists: Vec<(Option<u32>, Vec<u32>, Vec<f64>)> = Vec::new();
        let mut index_of: HashMap<u32, usize> = HashMap::new();
        let mut positions: HashMap<u32, Vec<(u32, u32)>> = HashMap::with_capacity(group.len());
        if !by_latency {
            lists.push((None, Vec::new(), Vec::new()));
        }
        for (value, _sequence, place) in sorted {
            let mut add = |index: usize, lists: &mut Vec<(Option<u32>, Vec<u32>, Vec<f64>)>| {
                positions.entry(place).or_default().push((index as u32, lists[index].1.len() as u32));
                lists[index].1.push(place);
                lists[index].2.push(value);
            };
            if !by_latency {
                add(0, &mut lists);
                continue;
            }
            for latency in &pool.entry(place).latencies {
                let index = *index_of.entry(latency.region).or_insert_with(|| {
                    lists.push((Some(latency.region), Vec::new(), Vec::new()));
                    lists.len() - 1
                });
                add(index, &mut lists);
            }
        }
        let regions = lists
            .into_iter()
            .map(|(region, tickets, values)| Region {
                region,
                waiting: tickets.len(),
                order: Order::new(tickets, values),
            })
            .collect();
        Self { regions, positions }
    }

    fn remove(&mut self, ticket: u32) {
        for (region, position) in self.positions.remove(&ticket).unwrap_or_default() {
            let region = &mut self.regions[region as usize];
            region.order.remove(position);
            region.waiting -= 1;
        }
    }
}

fn balanced_column(rule_set: &RuleSet) -> Option<usize> {
    rule_set.algorithm.balanced_attribute.map(|attribute| rule_set.attributes[attribute].column)
}

/// Looks for a match of the anchor.
fn around(
    context: &mut Context<'_>,
    regions: &Regions,
    anchor: u32,
    metrics: &mut [RuleMetric],
) -> Option<(Draft, usize)> {
    let pool = context.pool;
    let rule_set: &RuleSet = &pool.rule_set;
    let entry = pool.entry(anchor);
    let own_stage = rule_set.stage_at(context.now_ms.saturating_sub(entry.created_at_ms));
    // What a match has to have depends on its newest ticket: a match of any tickets first, then of older ones only.
    let first = if rule_set.algorithm.oldest_expands { own_stage } else { 0 };
    for stage in first..=own_stage {
        for region in regions_of(regions, rule_set, entry, stage) {
            let at =
                regions.positions.get(&anchor).and_then(|of| of.iter().find(|of| of.0 as usize == region));
            let region = &regions.regions[region];
            let picked = pick(context, region, (anchor, at.map(|of| of.1)), stage, metrics);
            if let Some(found) = deal(context, anchor, picked, metrics) {
                return Some(found);
            }
        }
    }
    None
}

/// The regions to try, best first.
fn regions_of(regions: &Regions, rule_set: &RuleSet, anchor: &Entry, stage: usize) -> Vec<usize> {
    let mut found: Vec<(usize, usize, f64)> = Vec::new();
    for (index, region) in regions.regions.iter().enumerate() {
        let Some(number) = region.region else { return vec![index] };
        if is_near(rule_set, anchor, number, stage) {
            let ms = latency(anchor, number).map_or(f64::INFINITY, |latency| latency[0]);
            found.push((index, region.waiting, ms));
        }
    }
    let fastest = rule_set.algorithm.batching == Batching::FastestRegion;
    found.sort_by(|one, other| {
        let by_size = other.1.cmp(&one.1);
        let by_latency = one.2.total_cmp(&other.2);
        let order = if fastest { by_latency.then(by_size) } else { by_size.then(by_latency) };
        order.then(one.0.cmp(&other.0))
    });
    found.into_iter().map(|(index, ..)| index).collect()
}

fn latency(entry: &Entry, region: u32) -> Option<&[f64; 3]> {
    let place = entry.latencies.binary_search_by_key(&region, |latency| latency.region).ok()?;
    Some(&entry.latencies[place].of_party)
}

/// Whether all latency rules allow a region to a ticket.
fn is_near(rule_set: &RuleSet, entry: &Entry, region: u32, stage: usize) -> bool {
    rule_set.rules.iter().enumerate().all(|(index, rule)| {
        !matches!(rule.kind, RuleKind::Latency(_))
            || latency(entry, region).is_some_and(|of_party| {
                let max = rule_set.stages[stage].rules[index].max.unwrap_or(f64::INFINITY);
                of_party[rule.aggregation.index()] <= max
            })
    })
}

/// The tickets of a region that are nearest to the anchor, as many as a match has players.
fn pick(
    context: &mut Context<'_>,
    region: &Region,
    (anchor, at): (u32, Option<u32>),
    stage: usize,
    metrics: &mut [RuleMetric],
) -> Vec<u32> {
    let pool = context.pool;
    let rule_set: &RuleSet = &pool.rule_set;
    let entry = pool.entry(anchor);
    let most = rule_set.stages[stage].max_players();
    let mut players = entry.players.len() as u32;
    let mut picked = Vec::new();
    let mut ranges = ranges(rule_set, entry);
    let value =
        balanced_column(rule_set).map_or(entry.created_at_ms as f64, |column| entry.numbers[column][0]);
    let order = &region.order;
    let (mut below, mut above) = match at {
        Some(at) => (order.before(at), order.after(at)),
        // A running game is not in the order itself.
        None => order.neighbours(value),
    };
    while players < most && context.pass.work < context.limit {
        let distance =
            |at: Option<u32>| at.map_or(f64::INFINITY, |at| (order.values[at as usize] - value).abs());
        let take_above = distance(above) <= distance(below);
        let Some(position) = (if take_above { above } else { below }) else { break };
        if take_above {
            above = order.after(position);
        } else {
            below = order.before(position);
        }
        let candidate = order.ticket(position);
        context.pass.work += 1;
        let other = pool.entry(candidate);
        let count = other.players.len() as u32;
        let own_stage = rule_set.stage_at(context.now_ms.saturating_sub(other.created_at_ms));
        let too_young = !rule_set.algorithm.oldest_expands && own_stage < stage;
        if players + count > most || too_young {
            continue;
        }
        if let Some(region) = region.region
            && !passes(rule_set, RuleKind::Latency(None), metrics, || is_near(rule_set, other, region, stage))
        {
            continue;
        }
        if widen(rule_set, &mut ranges, other, stage, metrics) {
            players += count;
            picked.push(candidate);
        }
    }
    picked
}

/// Counts for all rules of a kind whether they hold.
fn passes(
    rule_set: &RuleSet,
    kind: RuleKind,
    metrics: &mut [RuleMetric],
    holds: impl FnOnce() -> bool,
) -> bool {
    let holds = holds();
    for (rule, metric) in rule_set.rules.iter().zip(metrics) {
        if std::mem::discriminant(&rule.kind) == std::mem::discriminant(&kind) {
            if holds {
                metric.passed += 1;
            } else {
                metric.failed += 1;
            }
        }
    }
    holds
}

/// Smallest and largest value, for each rule about a range.
type Ranges = Vec<(usize, usize, usize, f64, f64)>;

fn ranges(rule_set: &RuleSet, entry: &Entry) -> Ranges {
    let rules = rule_set.rules.iter().enumerate();
    rules
        .filter_map(|(index, rule)| match rule.kind {
            RuleKind::BatchDistance(attribute)
                if rule_set.attributes[attribute].kind == AttributeKind::Number =>
            {
                let (column, which) = (rule_set.attributes[attribute].column, rule.aggregation.index());
                let value = entry.numbers[column][which];
                Some((index, column, which, value, value))
            }
            _ => None,
        })
        .collect()
}

/// Widens the ranges by a ticket, if all stay within their bounds.
fn widen(
    rule_set: &RuleSet,
    ranges: &mut Ranges,
    entry: &Entry,
    stage: usize,
    metrics: &mut [RuleMetric],
) -> bool {
    for (rule, column, which, min, max) in ranges.iter() {
        let value = entry.numbers[*column][*which];
        let bound = rule_set.stages[stage].rules[*rule].max.unwrap_or(f64::INFINITY);
        if max.max(value) - min.min(value) > bound {
            metrics[*rule].failed += 1;
            return false;
        }
        metrics[*rule].passed += 1;
    }
    for (_rule, column, which, min, max) in ranges.iter_mut() {
        let value = entry.numbers[*column][*which];
        *min = min.min(value);
        *max = max.max(value);
    }
    true
}

/// Deals tickets to the teams, and returns the match if it is one.
fn deal(
    context: &Context<'_>,
    anchor: u32,
    picked: Vec<u32>,
    metrics: &mut [RuleMetric],
) -> Option<(Draft, usize)> {
    let pool = context.pool;
    let rule_set: &RuleSet = &pool.rule_set;
    let mut tickets = picked;
    if !pool.entry(anchor).backfill {
        tickets.push(anchor);
    }
    let column = balanced_column(rule_set);
    let value = |ticket: &u32| column.map_or(0.0, |column| pool.entry(*ticket).numbers[column][0]);
    let age = |ticket: &u32| (pool.entry(*ticket).created_at_ms, pool.entry(*ticket).sequence);
    tickets.sort_by(|one, other| value(other).total_cmp(&value(one)).then_with(|| age(one).cmp(&age(other))));
    for parties_first in [false, true] {
        if parties_first {
            if tickets.iter().all(|ticket| pool.entry(*ticket).players.len() == 1) {
                break;
            }
            tickets.sort_by_key(|ticket| std::cmp::Reverse(pool.entry(*ticket).players.len()));
        }
        let mut draft = Draft::new(rule_set.teams.len());
        if pool.entry(anchor).backfill {
            draft.add(pool, Member { ticket: anchor, team: OWN_TEAMS });
        }
        let since = |draft: &Draft| {
            if rule_set.algorithm.oldest_expands { draft.oldest_ms } else { draft.newest_ms }
        };
        let stage_of = |draft: &Draft| rule_set.stage_at(context.now_ms.saturating_sub(since(draft)));
        let newest = tickets.iter().chain([&anchor]).map(|ticket| pool.entry(*ticket).created_at_ms);
        let dated = if rule_set.algorithm.oldest_expands { newest.min() } else { newest.max() };
        let expected = rule_set.stage_at(context.now_ms.saturating_sub(dated.unwrap_or(context.now_ms)));
        for ticket in &tickets {
            if let Some(team) =
                team_for(&rule_set.stages[expected], &draft, pool.entry(*ticket).players.len())
            {
                draft.add(pool, Member { ticket: *ticket, team });
            }
        }
        let stage = stage_of(&draft);
        if is_match(rule_set, pool, &draft, anchor, stage, metrics) {
            return Some((draft, stage));
        }
    }
    None
}

/// The team for the next ticket: one with too few players, then the one with most open places.
fn team_for(stage: &Stage, draft: &Draft, players: usize) -> Option<u16> {
    let teams = draft.teams.iter().zip(&stage.teams).enumerate();
    teams
        .filter(|(_index, (team, size))| team.len() + players <= size.max as usize)
        .min_by_key(|(index, (team, size))| {
            let open = size.max as usize - team.len();
            (team.len() >= size.min as usize, std::cmp::Reverse(open), *index)
        })
        .map(|(index, _)| index as u16)
}

fn is_match(
    rule_set: &RuleSet,
    pool: &Pool,
    draft: &Draft,
    anchor: u32,
    stage: usize,
    metrics: &mut [RuleMetric],
) -> bool {
    let sizes = &rule_set.stages[stage].teams;
    let fits = |(team, size): (&Vec<_>, &crate::rule_set::TeamSize)| {
        team.len() >= size.min as usize && team.len() <= size.max as usize
    };
    draft.contains(anchor)
        && draft.members.iter().any(|member| member.team != OWN_TEAMS)
        && draft.teams.iter().zip(sizes).all(fits)
        && {
            let evaluation = Evaluation { rule_set, pool, draft, stage };
            (0..rule_set.rules.len()).all(|rule| evaluation.violation(rule, metrics) == 0.0)
        }
}

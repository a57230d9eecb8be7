//! The order in which candidates are tried: linked lists, so that a ticket that has its match costs the next ones nothing.

use crate::pool::{Entry, Pool};
use crate::rule_set::{AttributeKind, MapKey, PartyAggregation, RuleKind, RuleSet, SortRule};

/// Tickets in an order, of which those that have a match are skipped.
pub(crate) struct Order {
    tickets: Vec<u32>,
    /// The value of each, where the order is that of a number.
    pub values: Vec<f64>,
    next: Vec<u32>,
    previous: Vec<u32>,
    removed: Vec<bool>,
}

/// The position before the first and after the last.
const END: u32 = u32::MAX;

impl Order {
    pub fn new(tickets: Vec<u32>, values: Vec<f64>) -> Self {
        let count = tickets.len() as u32;
        let next = (1..=count).map(|next| if next == count { END } else { next }).collect();
        let previous = (0..count).map(|index| index.checked_sub(1).unwrap_or(END)).collect();
        Self { removed: vec![false; tickets.len()], tickets, values, next, previous }
    }

    /// How many tickets were there at first.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    pub fn remove(&mut self, position: u32) {
        self.removed[position as usize] = true;
        let (next, previous) = (self.next[position as usize], self.previous[position as usize]);
        if next != END {
            self.previous[next as usize] = previous;
        }
        if previous != END {
            self.next[previous as usize] = next;
        }
    }

    /// Up to `limit` tickets, nearest in value to `position` first, none farther than `farthest`. Returns whether some
    /// were left out because they are farther.
    pub fn nearest(&self, position: u32, farthest: f64, limit: usize, found: &mut Vec<u32>) -> bool {
        let origin = self.values[position as usize];
        let (mut below, mut above) = (self.previous[position as usize], self.next[position as usize]);
        let distance = |at: u32| {
            if at == END { f64::INFINITY } else { (self.values[at as usize] - origin).abs() }
        };
        while found.len() < limit {
            let (down, up) = (distance(below), distance(above));
            let nearest = if up <= down { above } else { below };
            if nearest == END {
                return false;
            }
            if down.min(up) > farthest {
                return true;
            }
            found.push(self.tickets[nearest as usize]);
            if up <= down {
                above = self.next[above as usize];
            } else {
                below = self.previous[below as usize];
            }
        }
        false
    }

    /// Up to `limit` tickets around `position`: a half of those before it, first in the order first, and those after it.
    pub fn around(&self, position: u32, first: u32, limit: usize, found: &mut Vec<u32>) {
        let mut at = first;
        while at != END && found.len() < limit / 2 && at < position {
            found.push(self.tickets[at as usize]);
            at = self.next[at as usize];
        }
        let mut at = self.next[position as usize];
        while at != END && found.len() < limit {
            found.push(self.tickets[at as usize]);
            at = self.next[at as usize];
        }
    }

    /// The last ticket below a value, and the first that is not.
    pub fn neighbours(&self, value: f64) -> (Option<u32>, Option<u32>) {
        let at = self.values.partition_point(|other| *other < value) as u32;
        let left = |position: &u32| !self.removed[*position as usize];
        ((0..at).rev().find(left), (at..self.tickets.len() as u32).find(left))
    }

    pub fn after(&self, position: u32) -> Option<u32> {
        let next = self.next[position as usize];
        (next != END).then_some(next)
    }

    pub fn before(&self, position: u32) -> Option<u32> {
        let previous = self.previous[position as usize];
        (previous != END).then_some(previous)
    }

    pub fn ticket(&self, position: u32) -> u32 {
        self.tickets[position as usize]
    }
}

/// Sorts candidates as the sort rules want it, relative to the anchor. The earlier rule decides first; ties stay.
pub(crate) fn apply_sort_rules(pool: &Pool, anchor: u32, candidates: &mut Vec<u32>) {
    let rule_set: &RuleSet = &pool.rule_set;
    let sorts: Vec<_> = rule_set
        .rules
        .iter()
        .filter_map(|rule| match &rule.kind {
            RuleKind::AbsoluteSort(sort) => Some((sort, rule.aggregation, false)),
            RuleKind::DistanceSort(sort) => Some((sort, rule.aggregation, true)),
            _ => None,
        })
        .collect();
    if sorts.is_empty() {
        return;
    }
    let anchor = pool.entry(anchor);
    let mut keyed: Vec<(Vec<f64>, u32)> = candidates
        .iter()
        .map(|candidate| {
            let entry = pool.entry(*candidate);
            let keys = sorts.iter().map(|(sort, aggregation, by_distance)| {
                sort_key(rule_set, sort, *aggregation, *by_distance, anchor, entry)
            });
            (keys.collect(), *candidate)
        })
        .collect();
    keyed.sort_by(|(one, _), (other, _)| {
        one.iter()
            .zip(other)
            .map(|(one, other)| one.total_cmp(other))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    candidates.clear();
    candidates.extend(keyed.into_iter().map(|(_keys, candidate)| candidate));
}

/// A number by which candidates are in ascending order; those without a value come last.
fn sort_key(
    rule_set: &RuleSet,
    sort: &SortRule,
    aggregation: PartyAggregation,
    by_distance: bool,
    anchor: &Entry,
    entry: &Entry,
) -> f64 {
    let attribute = &rule_set.attributes[sort.attribute];
    let column = attribute.column;
    let which = aggregation.index();
    let value = match attribute.kind {
        AttributeKind::Number => Some((entry.numbers[column][which], anchor.numbers[column][which])),
        // Equal to the anchor's first.
        AttributeKind::Text => {
            let same = entry.texts[column].is_some() && entry.texts[column] == anchor.texts[column];
            return if same == sort.descending { 1.0 } else { 0.0 };
        }
        AttributeKind::TextList => None,
        AttributeKind::NumberMap => {
            let anchors = anchor.maps[column].iter();
            let key = match sort.map_key {
                MapKey::MinValue => anchors.min_by(|one, other| one.1[which].total_cmp(&other.1[which])),
                // The first of several.
                MapKey::MaxValue => {
                    anchors.rev().max_by(|one, other| one.1[which].total_cmp(&other.1[which]))
                }
            };
            key.and_then(|(key, anchors)| {
                let own = entry.maps[column].iter().find(|(own, _numbers)| own == key);
                own.map(|(_key, numbers)| (numbers[which], anchors[which]))
            })
        }
    };
    let Some((own, anchors)) = value else { return f64::INFINITY };
    let key = if by_distance { (own - anchors).abs() } else { own };
    if sort.descending { -key } else { key }
}

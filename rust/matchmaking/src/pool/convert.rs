//! A ticket, checked and converted.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{Aggregated, Entry, Latency, NumberMap, PlayerEntry, Texts};
use crate::rule_set::{AttributeKind, RuleSet};
use crate::ticket::{
    AttributeValue, MAX_LATENCY_MS, MAX_PLAYERS_PER_TICKET, MAX_REGIONS_PER_PLAYER, MAX_TEXT,
    MAX_VALUES_PER_ATTRIBUTE, Player, Ticket, TicketError,
};

/// The values of one player.
struct Values {
    numbers: Vec<f64>,
    texts: Vec<u32>,
    lists: Vec<Vec<u32>>,
    maps: Vec<BTreeMap<u32, f64>>,
    team: u16,
}

pub fn entry(rule_set: &RuleSet, texts: &mut Texts, ticket: &Ticket) -> Result<Entry, TicketError> {
    check_players(rule_set, ticket)?;
    let mut players = Vec::with_capacity(ticket.players.len());
    for (index, player) in ticket.players.iter().enumerate() {
        players.push(values(rule_set, texts, index, player, ticket.backfill)?);
    }
    let all: Vec<&Values> = players.iter().collect();
    let party = Party::of(rule_set, &all);
    let entries = ticket.players.iter().zip(&players).map(|(player, values)| {
        // The players of a running game are no party.
        let own = ticket.backfill.then(|| Party::of(rule_set, &[values]));
        let party = own.as_ref().unwrap_or(&party);
        PlayerEntry {
            id: player.id.as_str().into(),
            id_text: texts.number(&player.id),
            numbers: party.numbers.clone().into(),
            texts: values.texts.clone().into(),
            lists: party.lists.clone().into(),
            team: values.team,
        }
    });
    let entries: Box<[PlayerEntry]> = entries.collect();
    let same_text = |column: usize| {
        let first = players[0].texts[column];
        players.iter().all(|player| player.texts[column] == first).then_some(first)
    };
    Ok(Entry {
        id: ticket.id.as_str().into(),
        created_at_ms: ticket.created_at_ms,
        sequence: 0,
        backfill: ticket.backfill,
        players: entries,
        numbers: party.numbers.into(),
        texts: (0..rule_set.columns(AttributeKind::Text)).map(same_text).collect(),
        maps: (0..rule_set.columns(AttributeKind::NumberMap))
            .map(|column| map_of(&players, column))
            .collect(),
        latencies: latencies(texts, &ticket.players),
    })
}

fn check_players(rule_set: &RuleSet, ticket: &Ticket) -> Result<(), TicketError> {
    let count = ticket.players.len();
    if count == 0 || count > MAX_PLAYERS_PER_TICKET {
        return Err(TicketError::new(
            "players",
            format!("has to have 1 to {MAX_PLAYERS_PER_TICKET} players"),
        ));
    }
    let sizes = rule_set.stages.iter().flat_map(|stage| &stage.teams);
    let most = sizes.map(|team| team.max).max().unwrap_or(0);
    if !ticket.backfill && count > most as usize {
        let problem = format!("has {count} players, and the largest team of the rule set has {most}");
        return Err(TicketError::new("players", problem));
    }
    let mut ids = HashSet::new();
    for (index, player) in ticket.players.iter().enumerate() {
        if !ids.insert(player.id.as_str()) {
            return Err(TicketError::new(
                format!("players[{index}]"),
                format!("`{}` is there twice", player.id),
            ));
        }
        let field = format!("players[{index}].latency_ms");
        if player.latency_ms.len() > MAX_REGIONS_PER_PLAYER {
            return Err(TicketError::new(field, format!("may have {MAX_REGIONS_PER_PLAYER} regions")));
        }
        if let Some((region, _ms)) = player.latency_ms.iter().find(|(region, ms)| {
            **ms > MAX_LATENCY_MS || region.is_empty() || region.chars().count() > MAX_TEXT
        }) {
            let region: String = region.chars().take(MAX_TEXT).collect();
            let problem = format!(
                "region `{region}`: has to have a name of 1 to {MAX_TEXT} characters and at most {MAX_LATENCY_MS} ms"
            );
            return Err(TicketError::new(field, problem));
        }
    }
    Ok(())
}

fn values(
    rule_set: &RuleSet,
    texts: &mut Texts,
    index: usize,
    player: &Player,
    backfill: bool,
) -> Result<Values, TicketError> {
    let mut values = Values {
        numbers: Vec::new(),
        texts: Vec::new(),
        lists: Vec::new(),
        maps: Vec::new(),
        team: u16::MAX,
    };
    match (&player.team, backfill) {
        (None, false) => {}
        (Some(team), true) => match rule_set.teams.iter().position(|known| known.name == *team) {
            Some(position) => values.team = position as u16,
            None => {
                let problem =
                    format!("there is no team `{}`", team.chars().take(MAX_TEXT).collect::<String>());
                return Err(TicketError::new(format!("players[{index}].team"), problem));
            }
        },
        (None, true) => {
            return Err(TicketError::new(format!("players[{index}].team"), "is missing; backfill needs it"));
        }
        (Some(_), false) => {
            return Err(TicketError::new(format!("players[{index}].team"), "is possible with backfill only"));
        }
    }
    for attribute in &rule_set.attributes {
        let error = |problem: String| {
            TicketError::new(format!("players[{index}].attributes[{}]", attribute.name), problem)
        };
        let Some(value) = player.attributes.get(&attribute.name).or(attribute.default.as_ref()) else {
            return Err(error("is missing, and the rule set has no default for it".to_owned()));
        };
        match (attribute.kind, value) {
            (AttributeKind::Number, AttributeValue::Number(number)) if number.is_finite() => {
                values.numbers.push(*number);
            }
            (AttributeKind::Text, AttributeValue::Text(text)) => {
                values.texts.push(text_number(texts, text).map_err(error)?);
            }
            (AttributeKind::TextList, AttributeValue::TextList(list)) => {
                if list.len() > MAX_VALUES_PER_ATTRIBUTE {
                    return Err(error(format!("may have {MAX_VALUES_PER_ATTRIBUTE} elements")));
                }
                let mut numbers = Vec::with_capacity(list.len());
                for text in list {
                    numbers.push(text_number(texts, text).map_err(error)?);
                }
                numbers.sort_unstable();
                numbers.dedup();
                values.lists.push(numbers);
            }
            (AttributeKind::NumberMap, AttributeValue::NumberMap(map)) => {
                if map.len() > MAX_VALUES_PER_ATTRIBUTE || map.values().any(|number| !number.is_finite()) {
                    return Err(error(format!("may have {MAX_VALUES_PER_ATTRIBUTE} finite numbers")));
                }
                let mut numbers = BTreeMap::new();
                for (key, number) in map {
                    numbers.insert(text_number(texts, key).map_err(error)?, *number);
                }
                values.maps.push(numbers);
            }
            (kind, _) => {
                let kind = match kind {
                    AttributeKind::Number => "a finite number: {\"N\": 5}",
                    AttributeKind::Text => "a string: {\"S\": \"text\"}",
                    AttributeKind::TextList => "a list of strings: {\"SL\": [\"text\"]}",
                    AttributeKind::NumberMap => "numbers by name: {\"SDM\": {\"name\": 5}}",
                };
                return Err(error(format!("has to be {kind}")));
            }
        }
    }
    Ok(values)
}

fn text_number(texts: &mut Texts, text: &str) -> Result<u32, String> {
    if text.chars().count() > MAX_TEXT {
        return Err(format!("may have {MAX_TEXT} characters"));
    }
    Ok(texts.number(text))
}

/// The values of a party.
struct Party {
    numbers: Vec<Aggregated>,
    lists: Vec<[Arc<[u32]>; 2]>,
}

impl Party {
    fn of(rule_set: &RuleSet, players: &[&Values]) -> Self {
        let numbers = (0..rule_set.columns(AttributeKind::Number))
            .map(|column| aggregate(players.iter().map(|player| player.numbers[column])))
            .collect();
        let lists = (0..rule_set.columns(AttributeKind::TextList))
            .map(|column| {
                let mut union: Vec<u32> =
                    players.iter().flat_map(|player| &player.lists[column]).copied().collect();
                union.sort_unstable();
                union.dedup();
                let in_all = |text: &u32| players.iter().all(|player| player.lists[column].contains(text));
                let intersection: Vec<u32> = union.iter().copied().filter(in_all).collect();
                [Arc::from(union), Arc::from(intersection)]
            })
            .collect();
        Self { numbers, lists }
    }
}

fn aggregate(numbers: impl Iterator<Item = f64>) -> Aggregated {
    let (mut sum, mut count, mut min, mut max) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for number in numbers {
        sum += number;
        count += 1.0;
        min = min.min(number);
        max = max.max(number);
    }
    // The mean of equal numbers is that number, without an error of rounding.
    let mean = if min.to_bits() == max.to_bits() { min } else { sum / count };
    [mean, min, max]
}

/// The numbers of each key, over the players who have it.
fn map_of(players: &[Values], column: usize) -> NumberMap {
    let mut keys: Vec<u32> = players.iter().flat_map(|player| player.maps[column].keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|key| {
            (key, aggregate(players.iter().filter_map(|player| player.maps[column].get(&key).copied())))
        })
        .collect()
}

/// Latencies to the regions that all players have one to.
fn latencies(texts: &mut Texts, players: &[Player]) -> Box<[Latency]> {
    let mut latencies: Vec<Latency> = players[0]
        .latency_ms
        .keys()
        .filter_map(|region| {
            let all: Option<Vec<f64>> =
                players.iter().map(|player| player.latency_ms.get(region).map(|ms| f64::from(*ms))).collect();
            all.map(|all| Latency { region: texts.number(region), of_party: aggregate(all.into_iter()) })
        })
        .collect();
    latencies.sort_unstable_by_key(|latency| latency.region);
    latencies.into()
}

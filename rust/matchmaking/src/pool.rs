//! The pool of tickets, in the form that rules are evaluated on.

mod convert;

use std::collections::HashMap;
use std::sync::Arc;

use crate::rule_set::RuleSet;
use crate::ticket::{Ticket, TicketError};

/// Texts by number, so that equal texts are equal numbers.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    pub fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }
}

/// Numbers of a party: mean, smallest, largest.
pub(crate) type Aggregated = [f64; 3];

/// Numbers of a party by the number of their key.
pub(crate) type NumberMap = Box<[(u32, Aggregated)]>;

/// A player. Values are those of the party, by the way of aggregation.
#[derive(Debug)]
pub(crate) struct PlayerEntry {
    pub id: Box<str>,
    pub id_text: u32,
    pub numbers: Box<[Aggregated]>,
    pub texts: Box<[u32]>,
    /// Sorted, each text once: those of any player of the party, and those of all.
    pub lists: Box<[[Arc<[u32]>; 2]]>,
    /// Of a backfill ticket.
    pub team: u16,
}

/// The latency of a party to a region that all its players have one to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub region: u32,
    pub of_party: Aggregated,
}

/// A ticket.
#[derive(Debug)]
pub(crate) struct Entry {
    pub id: Box<str>,
    pub created_at_ms: i64,
    /// Its place in the order in which tickets were added.
    pub sequence: u64,
    pub backfill: bool,
    pub players: Box<[PlayerEntry]>,
    pub numbers: Box<[Aggregated]>,
    /// The text that all players have, if they have the same.
    pub texts: Box<[Option<u32>]>,
    pub maps: Box<[NumberMap]>,
    /// Sorted by region.
    pub latencies: Box<[Latency]>,
}

/// Tickets that wait for a match by one rule set.
#[derive(Debug)]
pub struct Pool {
    pub(crate) rule_set: Arc<RuleSet>,
    pub(crate) texts: Texts,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: HashMap<Box<str>, u32>,
    sequence: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(rule_set: Arc<RuleSet>) -> Self {
        let mut texts = Texts::default();
        for text in &rule_set.texts {
            texts.number(text);
        }
        Self { rule_set, texts, entries: Vec::new(), free: Vec::new(), by_id: HashMap::new(), sequence: 0 }
    }

    /// The rule set.
    pub fn rule_set(&self) -> &RuleSet {
        &self.rule_set
    }

    /// Adds a ticket.
    pub fn add(&mut self, ticket: &Ticket) -> Result<(), TicketError> {
        if self.by_id.contains_key(ticket.id.as_str()) {
            return Err(TicketError::new("id", format!("ticket `{}` is in the pool already", ticket.id)));
        }
        let rule_set = Arc::clone(&self.rule_set);
        let mut entry = convert::entry(&rule_set, &mut self.texts, ticket)?;
        entry.sequence = self.sequence;
        self.sequence += 1;
        let place = if let Some(place) = self.free.pop() {
            self.entries[place as usize] = Some(entry);
            place
        } else {
            self.entries.push(Some(entry));
            self.entries.len() as u32 - 1
        };
        self.by_id.insert(ticket.id.as_str().into(), place);
        Ok(())
    }

    /// Checks a ticket as `add` does.
    pub fn check(rule_set: &RuleSet, ticket: &Ticket) -> Result<(), TicketError> {
        let mut texts = Texts::default();
        convert::entry(rule_set, &mut texts, ticket).map(|_entry| ())
    }

    /// Removes a ticket; returns whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(place) = self.by_id.remove(id) else { return false };
        self.entries[place as usize] = None;
        self.free.push(place);
        true
    }

    /// Whether a ticket is in the pool.
    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// The number of tickets.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no ticket.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The ids of all tickets, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(|id| &**id)
    }

    /// The number of different texts that were ever added. They stay until a new pool is made.
    pub fn text_count(&self) -> usize {
        self.texts.texts.len()
    }

    pub(crate) fn places(&self) -> Vec<u32> {
        (0..self.entries.len() as u32).filter(|place| self.entries[*place as usize].is_some()).collect()
    }

    /// The entry of a place that `places` returned.
    pub(crate) fn entry(&self, place: u32) -> &Entry {
        self.entries[place as usize].as_ref().expect("places of entries that are there only")
    }
}

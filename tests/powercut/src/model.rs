//! What a journal has to hold, by what its writers said, and whether it does.

use std::collections::HashMap;

use anyhow::Result;
use backend_client::journal::Record;

use crate::protocol::{Line, Name, hash, number_of};

/// Everything known about the documents of one folder.
#[derive(Default)]
pub struct Model(HashMap<Name, Known>);

#[derive(Default)]
struct Known {
    /// Contents that may be there: number → hash.
    tried: HashMap<u64, String>,
    /// Which content a sequence stands for, of those that were acknowledged at any time.
    numbers: HashMap<i64, u64>,
    /// The largest sequence acknowledged in time.
    acknowledged: Option<i64>,
    /// The largest sequence that the backend has.
    settled: i64,
}

/// What is wrong.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There, and never written in this form; or not readable.
    pub damaged: Vec<String>,
    /// Why nothing could be opened. What is there is unknown then, and nothing counts as lost.
    pub unopened: Vec<String>,
}

impl Complaints {
    /// All of them, each with its kind.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let kinds = [("lost", &self.lost), ("damaged", &self.damaged), ("not opened", &self.unopened)];
        kinds.into_iter().flat_map(|(kind, complaints)| complaints.iter().map(move |what| (kind, what)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }
}

impl Model {
    /// Takes in what a writer said. Acknowledgements from `cut` on do not count: they were given while the power went.
    /// Returns how many did.
    pub fn learn(&mut self, lines: &[Line], cut: u64) -> u64 {
        let mut counted = 0;
        for line in lines.iter().cloned() {
            match line {
                Line::Opening => {}
                Line::Try { name, number, hash } => {
                    self.0.entry(name).or_default().tried.insert(number, hash);
                }
                Line::Acknowledged { at, name, sequence, number } => {
                    let known = self.0.entry(name).or_default();
                    known.numbers.insert(sequence, number);
                    if at < cut {
                        known.acknowledged = known.acknowledged.max(Some(sequence));
                        counted += 1;
                    }
                }
                Line::Settled { name, sequence } => {
                    let known = self.0.entry(name).or_default();
                    known.settled = known.settled.max(sequence);
                }
            }
        }
        counted
    }

    /// Holds what was found in the folder against what is known, and goes on from there: what is there now has to stay.
    pub fn judge(&mut self, found: &HashMap<Name, Record>) -> Result<Complaints> {
        let mut complaints = Complaints::default();
        for (name, known) in &self.0 {
            let there = found.get(name).map_or(0, |record| record.sequence);
            if let Some(acknowledged) = known.acknowledged.filter(|sequence| *sequence > known.settled)
                && there < acknowledged
            {
                complaints.lost.push(format!("{name}: {acknowledged} was acknowledged, {there} is there"));
            }
        }
        let mut next = HashMap::new();
        for (name, record) in found {
            let (number, hash) = identity(record)?;
            let known = self.0.get(name);
            if known.and_then(|known| known.tried.get(&number)) != Some(&hash) {
                complaints.damaged.push(format!("{name}: content {number} ({hash}) was never written"));
            }
            if let Some(known) = known {
                complaints.damaged.extend(known.out_of_order(name, record.sequence, number));
            }
            next.insert(
                name.clone(),
                Known {
                    tried: HashMap::from([(number, hash)]),
                    numbers: HashMap::from([(record.sequence, number)]),
                    acknowledged: Some(record.sequence),
                    settled: 0,
                },
            );
        }
        self.0 = next;
        Ok(complaints)
    }
}

impl Known {
    /// Later numbers stand for later contents, and each for one.
    fn out_of_order(&self, name: &Name, sequence: i64, number: u64) -> Option<String> {
        let wrong = |(known_sequence, known_number): (&i64, &u64)| {
            sequence.cmp(known_sequence) != number.cmp(known_number)
        };
        let (known_sequence, known_number) = self.numbers.iter().find(|known| wrong(*known))?;
        Some(format!(
            "{name}: {sequence} stands for content {number}, but {known_sequence} for {known_number}"
        ))
    }
}

/// Number and hash of a content.
fn identity(record: &Record) -> Result<(u64, String)> {
    let content = record.value.content();
    Ok((number_of(&content), hash(&content)?))
}

#[cfg(test)]
mod tests;

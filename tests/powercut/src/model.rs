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
mod tests {
    use backend_client::player_store::RawJson;
    use serde_json::json;

    use super::*;

    fn name() -> Name {
        Name { player: "ada".into(), key: "progress".into(), epoch: 3 }
    }

    fn record(sequence: i64, number: u64) -> Record {
        let Name { player, key, epoch } = name();
        let value = json!({ "number": number }).as_object().cloned().unwrap_or_default();
        Record { player_id: player, key, epoch, sequence, value: RawJson::from(&value) }
    }

    fn wrote(number: u64) -> Line {
        let hash = identity(&record(1, number)).expect("a hash").1;
        Line::Try { name: name(), number, hash }
    }

    fn acknowledged(at: u64, sequence: i64, number: u64) -> Line {
        Line::Acknowledged { at, name: name(), sequence, number }
    }

    fn judged(lines: &[Line], found: Option<Record>) -> (usize, usize) {
        let mut model = Model::default();
        model.learn(lines, 100);
        let found = found.map(|record| (name(), record)).into_iter().collect();
        let complaints = model.judge(&found).expect("judged");
        (complaints.lost.len(), complaints.damaged.len())
    }

    #[test]
    fn what_was_acknowledged_in_time_is_there_or_covered() {
        let lines = [wrote(1), acknowledged(50, 7, 1), wrote(2), acknowledged(100, 8, 2)];
        assert_eq!(judged(&lines, Some(record(7, 1))), (0, 0));
        assert_eq!(judged(&lines, Some(record(8, 2))), (0, 0));
        assert_eq!(judged(&lines, None), (1, 0));
        assert_eq!(judged(&lines[2..], None), (0, 0), "given while the power went");
    }

    #[test]
    fn what_the_backend_has_may_be_forgotten() {
        let settled = |sequence| Line::Settled { name: name(), sequence };
        let lines = [wrote(1), acknowledged(1, 7, 1), settled(7)];
        assert_eq!(judged(&lines, None), (0, 0));
        let lines = [wrote(1), acknowledged(1, 7, 1), settled(6)];
        assert_eq!(judged(&lines, None), (1, 0));
    }

    #[test]
    fn nothing_comes_out_that_was_not_put_in() {
        let lines = [wrote(1), acknowledged(1, 7, 1), wrote(2)];
        assert_eq!(judged(&lines, Some(record(8, 2))), (0, 0), "written, not acknowledged");
        assert_eq!(judged(&lines, Some(record(8, 3))), (0, 1), "another content");
        assert_eq!(judged(&lines, Some(record(7, 2))), (0, 1), "one number for two contents");
        assert_eq!(judged(&lines, Some(record(8, 1))), (0, 1), "two numbers for one content");
    }

    #[test]
    fn what_is_there_has_to_stay() {
        let mut model = Model::default();
        model.learn(&[wrote(1)], 100);
        let found = HashMap::from([(name(), record(1, 1))]);
        assert!(model.judge(&found).expect("judged").is_empty());
        assert!(model.judge(&found).expect("judged").is_empty());
        assert_eq!(model.judge(&HashMap::new()).expect("judged").lost.len(), 1);
    }
}

use backend_client::player_store::RawJson;
use serde_json::json;

use super::*;

fn name() -> Name {
    Name { player: "ada".into(), key: "progress".into(), epoch: 3 }
}

fn record(sequence: i64, number: u64) -> Record {
    let Name { player, key, epoch } = name();
    let value = json!({ "number": number }).as_object().cloned().unwrap_or_default();
    Record { player_id: player, key, epoch, sequence, value: RawJson::from(&value), loaded_version: None }
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

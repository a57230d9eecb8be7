//! Journals on real files.

mod contradictions;
mod damage;
mod identity;
mod others_damage;
mod size;
mod takeover;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Document and epoch, by numbers.
type Name = (u8, i64);

/// What a transaction does: names with their sequences.
type Step = (Vec<(Name, i64)>, Vec<(Name, i64)>);

fn record(&((document, epoch), sequence): &(Name, i64)) -> Record {
    let value = json!({ "n": sequence }).as_object().cloned().expect("an object");
    let loaded_version = (sequence % 3 == 0).then_some(sequence + 4);
    let (player_id, key) = (format!("player {}", document / 4), format!("document {}", document % 4));
    Record { player_id, key, epoch, sequence, value: RawJson::from(&value), loaded_version }
}

fn settled(save: &(Name, i64)) -> Settled {
    let Record { player_id, key, epoch, sequence, .. } = record(save);
    Settled { player_id, key, epoch, sequence }
}

/// Writes the steps, one transaction each, and opens the journal again.
async fn written(steps: &[Step]) -> Vec<Record> {
    let folder = tempfile::tempdir().expect("a folder");
    let source = JournalFolder::new(folder.path());
    let (mut journal, _) = source.open(None).await.expect("opened");
    for (saves, forgotten) in steps {
        let changes = Changes {
            saves: saves.iter().map(record).collect(),
            settled: forgotten.iter().map(settled).collect(),
            ..Changes::default()
        };
        journal.write(&changes).await.expect("written");
    }
    journal.close().await;
    let (journal, recovered) = source.open(None).await.expect("opened again");
    journal.close().await;
    recovered.saves
}

/// What has to be there.
fn kept(steps: &[Step]) -> Vec<Record> {
    let mut newest: BTreeMap<Name, i64> = BTreeMap::new();
    for (saves, forgotten) in steps {
        for (name, sequence) in saves {
            let known = newest.entry(*name).or_insert(*sequence);
            *known = (*known).max(*sequence);
        }
        for (name, sequence) in forgotten {
            if newest.get(name).is_some_and(|known| known <= sequence) {
                newest.remove(name);
            }
        }
    }
    newest.iter().map(|(name, sequence)| record(&(*name, *sequence))).collect()
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|one, other| {
        let name = |record: &Record| (record.player_id.clone(), record.key.clone(), record.epoch);
        name(one).cmp(&name(other))
    });
    records
}

fn names(most: usize) -> impl Strategy<Value = Vec<(Name, i64)>> {
    vec(((any::<u8>(), 1i64..3), 1i64..6), 0..most)
}

proptest! {
    // Each case is several synced transactions.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_newest_that_is_not_settled_is_there(steps in vec((names(200), names(200)), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = runtime.block_on(written(&steps));
        prop_assert_eq!(sorted(found), sorted(kept(&steps)));
    }
}

#[tokio::test]
async fn a_thousand_documents_are_one_transaction() {
    let all: Vec<(Name, i64)> =
        (0..=u8::MAX).flat_map(|document| (1..=4).map(move |epoch| ((document, epoch), 7))).collect();
    assert_eq!(all.len(), 1_024);
    assert_eq!(
        sorted(written(&[(all.clone(), Vec::new())]).await),
        sorted(kept(&[(all.clone(), Vec::new())]))
    );
    let older = all.iter().map(|(name, _)| (*name, 6)).collect();
    assert_eq!(written(&[(all.clone(), older)]).await.len(), 1_024, "older ones are settled");
    assert_eq!(written(&[(all.clone(), all)]).await, [], "they are settled");
}

use clap::ValueEnum as _;

use super::*;
use crate::plan::kind_of;

#[test]
fn a_seed_decides_the_plan_and_the_plan_survives_its_file() {
    for index in 0..200 {
        let seed = trial_seed(7, index);
        let kind = kind_of(index, None);
        let plan = draw(seed, kind, index % 2 == 0);
        assert_eq!(plan, draw(seed, kind, index % 2 == 0));
        let text = serde_json::to_string(&plan).expect("serializes");
        assert_eq!(plan, serde_json::from_str::<Plan>(&text).expect("parses"));
    }
    assert_ne!(
        draw(trial_seed(7, 0), TrialKind::Mixed, false),
        draw(trial_seed(7, 1), TrialKind::Mixed, false)
    );
}

#[test]
fn operations_are_unique() {
    for kind in TrialKind::value_variants() {
        check_operations(&draw(trial_seed(3, 3), *kind, false));
    }
}

#[test]
fn every_kind_has_its_turn() {
    let drawn: Vec<_> =
        (0..100).map(|index| kind_of(index, index.is_multiple_of(20).then_some(index / 20))).collect();
    for kind in TrialKind::value_variants() {
        assert!(drawn.contains(kind), "{kind:?} is never played");
    }
}

fn check_operations(plan: &Plan) {
    let sessions = plan.players.iter().flat_map(|script| &script.sessions);
    let mut ops: Vec<i64> = sessions
        .flat_map(|session| session.saves.iter().chain(&session.late_saves))
        .map(|save| save.op)
        .chain(plan.worlds.iter().flatten().map(|put| put.op))
        .collect();
    let count = ops.len();
    ops.sort_unstable();
    ops.dedup();
    assert_eq!(ops.len(), count);
}

use backend_matchmaking::{AttributeValue, Player, Pool, RuleSet, Ticket, Work};

use super::*;

fn rules() -> MatchRules {
    MatchRules {
        teams: 2,
        min_team_size: 1,
        max_team_size: 4,
        skill_attribute: "skill".into(),
        default_skill: 1_000.0,
        max_gap: 100.0,
        widen_after_seconds: 5,
        widen_by: 50.0,
        widest_gap: 220.0,
        max_latency_ms: 0,
        same_attribute: String::new(),
    }
}

fn ticket(id: &str, skill: f64) -> Ticket {
    let attributes = [("skill".to_owned(), AttributeValue::Number(skill))].into();
    let player = Player { id: id.into(), attributes, latency_ms: [].into(), team: None };
    Ticket { id: id.into(), created_at_ms: 0, players: vec![player], backfill: false }
}

/// How many players a match at this age has.
fn matched(rules: &MatchRules, skills: &[f64], age_ms: i64) -> usize {
    let rule_set = RuleSet::parse(&rules.to_json().expect("rules")).expect("a rule set");
    let mut pool = Pool::new(rule_set.into());
    for (index, skill) in skills.iter().enumerate() {
        pool.add(&ticket(&index.to_string(), *skill)).expect("a ticket");
    }
    let pass = pool.form_matches(age_ms, 1, Work::default());
    pass.matches.first().map_or(0, |formed| formed.players.len())
}

#[test]
fn the_gap_holds_and_widens_as_it_says() {
    assert_eq!(matched(&rules(), &[1_000.0, 1_100.0], 0), 2);
    assert_eq!(matched(&rules(), &[1_000.0, 1_101.0], 0), 0);
    assert_eq!(matched(&rules(), &[1_000.0, 1_150.0], 4_999), 0);
    assert_eq!(matched(&rules(), &[1_000.0, 1_150.0], 5_000), 2);
    assert_eq!(matched(&rules(), &[1_000.0, 1_220.0], 15_000), 2);
    assert_eq!(matched(&rules(), &[1_000.0, 1_221.0], 1_000_000), 0);
    // Teams are of one size.
    assert_eq!(matched(&rules(), &[1_000.0, 1_000.0, 1_000.0], 0), 2);
    assert_eq!(matched(&rules(), &[1_000.0; 8], 0), 8);
}

#[test]
fn every_member_is_one_that_rule_sets_have() {
    let full = MatchRules { max_latency_ms: 80, same_attribute: "mode".into(), ..rules() };
    let rule_set = RuleSet::parse(&full.to_json().expect("rules")).expect("a rule set");
    assert_eq!((rule_set.teams.len(), rule_set.max_players(), rule_set.rules.len()), (2, 8, 4));
    let plain = MatchRules { skill_attribute: String::new(), teams: 1, ..rules() };
    assert_eq!(RuleSet::parse(&plain.to_json().expect("rules")).expect("a rule set").rules.len(), 0);
}

#[test]
fn bad_numbers_are_named() {
    for (rules, field) in [
        (MatchRules { teams: 0, ..rules() }, "teams"),
        (MatchRules { min_team_size: 0, ..rules() }, "min_team_size"),
        (MatchRules { max_team_size: 0, ..rules() }, "max_team_size"),
        (MatchRules { max_team_size: 101, ..rules() }, "max_team_size"),
        (MatchRules { teams: u32::MAX, max_team_size: u32::MAX, ..rules() }, "max_team_size"),
        (MatchRules { same_attribute: "skill".into(), ..rules() }, "same_attribute"),
        (MatchRules { default_skill: f64::NAN, ..rules() }, "default_skill"),
        (MatchRules { max_gap: -1.0, ..rules() }, "max_gap"),
        (MatchRules { widen_after_seconds: 3_601, ..rules() }, "widen_after_seconds"),
        (MatchRules { widen_by: 0.0, ..rules() }, "widen_by"),
        (MatchRules { widen_by: 1.0, ..rules() }, "widen_by"),
        (MatchRules { widest_gap: 99.0, ..rules() }, "widest_gap"),
    ] {
        let error = rules.to_json().expect_err(field);
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }
}

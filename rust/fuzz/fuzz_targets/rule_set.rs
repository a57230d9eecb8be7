//! Matchmaking rule sets: rejected with the member that is wrong, or usable: random players get matches in bounded time.
#![no_main]

use std::sync::Arc;

use backend_matchmaking::simulation::Generator;
use backend_matchmaking::simulation::Settings;
use backend_matchmaking::{Pool, RuleSet, Work};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rule_set = match RuleSet::parse(text) {
        Ok(rule_set) => Arc::new(rule_set),
        Err(error) => {
            assert!(!error.problem.is_empty());
            return;
        }
    };
    let settings = Settings::default();
    let mut generator = Generator::new(&rule_set, &settings);
    let mut pool = Pool::new(Arc::clone(&rule_set));
    for second in 0..40 {
        // A default of the rule set may be what another rule does not take.
        let _rejected = pool.add(&generator.ticket(second * 1_000));
    }
    let work = Work { per_ticket: 1, least: 500 };
    let pass = pool.form_matches(60_000, data.len() as u64, work);
    let most = rule_set.max_players() as usize;
    assert!(pass.matches.iter().all(|formed| !formed.players.is_empty() && formed.players.len() <= most));
});

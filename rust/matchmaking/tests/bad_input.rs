//! Rule sets that cannot be used, and those that would take too much work.

use std::fmt::Write as _;
use std::sync::Arc;

use backend_matchmaking::simulation::Settings;
use backend_matchmaking::{RuleSet, simulation};

/// A usable rule set with other members.
fn with(members: &str) -> String {
    format!(
        r#"{{ "ruleLanguageVersion": "1.0",
            "playerAttributes": [{{ "name": "skill", "type": "number" }}, {{ "name": "maps", "type": "string_list" }}],
            "teams": [{{ "name": "red", "minPlayers": 1, "maxPlayers": 2 }}, {{ "name": "blue", "minPlayers": 1, "maxPlayers": 2 }}]
            {members} }}"#
    )
}

#[test]
fn what_is_wrong_is_named() {
    let rule = |members: &str| with(&format!(r#", "rules": [{{ "name": "R", {members} }}]"#));
    let skill = "teams[*].players.attributes[skill]";
    for (text, path, problem) in [
        ("{".to_owned(), "the rule set", "is not JSON"),
        ("[]".to_owned(), "", "has to be an object"),
        ("{}".to_owned(), "ruleLanguageVersion", "is missing"),
        (r#"{"ruleLanguageVersion": "2.0"}"#.to_owned(), "ruleLanguageVersion", "has to be \"1.0\""),
        (r#"{"ruleLanguageVersion": "1.0"}"#.to_owned(), "teams", "missing or empty"),
        (with(r#", "matchSpeed": 3"#), "matchSpeed", "is not supported"),
        (with(r#", "algorithm": { "strategy": "greedy" }"#), "algorithm.strategy", "can be exhaustiveSearch, balanced"),
        (with(r#", "algorithm": { "batchingPreference": "sorted" }"#), "algorithm.sortByAttributes", "needs it"),
        (rule(r#""type": "median""#), "rules[0].type", "batchDistance, comparison"),
        (rule(r#""type": "latency", "maxLatency": "fast""#), "rules[0].maxLatency", "has to be a number"),
        (rule(r#""type": "latency", "maxLatency": 5, "weight": 2"#), "rules[0].weight", "is not supported"),
        (
            rule(r#""type": "distance", "measurements": ["teams[green].players.attributes[skill]"], "maxDistance": 1"#),
            "rules[0].measurements[0]",
            "there is no team `green`",
        ),
        (
            rule(&format!(r#""type": "distance", "measurements": "{skill}", "maxDistance": 1, "referenceValue": "{skill}""#)),
            "rules[0].referenceValue",
            "has to be a number, not a List<List<number>>",
        ),
        (
            rule(&format!(r#""type": "collection", "measurements": "{skill}", "operation": "contains", "maxCount": 1"#)),
            "rules[0].measurements",
            "has to be lists of strings",
        ),
        (rule(r#""type": "compound", "statement": "and(A, B)""#), "rules[0].statement", "no rule `A` before"),
        (rule(r#""type": "batchDistance", "batchAttribute": "skill""#), "rules[0].maxDistance", "is missing"),
        (
            with(r#", "rules": [{ "name": "R", "type": "latency", "maxLatency": 5 }], "expansions": [{ "target": "rules[R].minLatency", "steps": [] }]"#),
            "expansions[0].target",
            "`minLatency` of rule `R` cannot be expanded; maxLatency can",
        ),
        (
            with(r#", "expansions": [{ "target": "teams[red].minPlayers", "steps": [{ "waitTimeSeconds": 5, "value": 3 }] }]"#),
            "teams[red]",
            "minPlayers 3 and maxPlayers 2 after 5 s",
        ),
        (
            r#"{ "ruleLanguageVersion": "1.0", "teams": { "name": "a", "minPlayers": 1, "maxPlayers": 100, "quantity": 3 } }"#.to_owned(),
            "teams",
            "may have 200 players, this one has 300",
        ),
        (
            r#"{ "ruleLanguageVersion": "1.0", "teams": { "name": "a", "minPlayers": 1, "maxPlayers": 50 },
                "playerAttributes": { "name": "x", "type": "number" },
                "rules": { "name": "R", "type": "comparison", "measurements": "teams[a].players.attributes[x]", "operation": "=" } }"#.to_owned(),
            "rules[R]",
            "a large match",
        ),
        (" ".repeat(65_536), "the rule set", "may have 65535 bytes"),
        ("[".repeat(65_000), "the rule set", "is not JSON"),
        (
            rule(&format!(
                r#""type": "distance", "measurements": ["{}{skill}{}"], "maxDistance": 1"#,
                "avg(".repeat(100),
                ")".repeat(100)
            )),
            "rules[0].measurements[0]",
            "functions may be nested 8 deep",
        ),
        (
            rule(&format!(r#""type": "compound", "statement": "{}R{}""#, "not(".repeat(100), ")".repeat(100))),
            "rules[0].statement",
            "operators may be nested 16 deep",
        ),
        (
            with(&format!(r#", "rules": [{}]"#, vec![r#"{ "name": "R", "type": "latency", "maxLatency": 5 }"#; 65].join(","))),
            "rules",
            "64",
        ),
    ] {
        let error = RuleSet::parse(&text).expect_err(&text);
        assert_eq!(error.path, path, "{error}\n{text}");
        assert!(error.problem.contains(problem), "{error}\n{text}");
    }
}

/// Averages that nobody can reach, over teams that can be put together in more ways than there are atoms.
#[test]
fn a_search_without_end_ends() {
    let mut rules = String::new();
    for number in 0..40 {
        write!(
            rules,
            r#"{}{{ "name": "R{number}", "type": "distance", "measurements": ["stddev(teams[*].players.attributes[skill])"],
                "referenceValue": {number}.5, "maxDistance": 0.001 }}"#,
            if number == 0 { "" } else { "," }
        )
        .expect("writing to a String");
    }
    let text = format!(
        r#"{{ "ruleLanguageVersion": "1.0", "playerAttributes": [{{ "name": "skill", "type": "number" }}],
            "teams": [{{ "name": "t", "minPlayers": 1, "maxPlayers": 4, "quantity": 10 }}], "rules": [{rules}] }}"#
    );
    let rule_set = Arc::new(RuleSet::parse(&text).expect("rule set"));
    let settings = Settings { tickets: 300, per_second: 0.0, timeout_ms: 1_000, ..Settings::default() };
    let report = simulation::run(&rule_set, &settings, |_now, _match, _tickets| {}).expect("simulation");
    assert_eq!((report.matches, report.timed_out), (0, 300));
    let evaluated: u64 = report.rules.iter().map(|(_name, metric)| metric.passed + metric.failed).sum();
    // 20,000 steps a pass, and all rules at most in each.
    assert!(evaluated <= 2 * 21_000 * 40, "{evaluated} rules evaluated in {} passes", report.passes);
}

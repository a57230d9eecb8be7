//! Every match of random tickets, judged by `check_matches.py`; and that judge, judged by matches that were spoilt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use backend_matchmaking::random::Random;
use backend_matchmaking::simulation::{Distribution, Settings};
use backend_matchmaking::{Match, Pool, RuleSet, Ticket, Work, simulation};
use serde_json::{Value, json};

/// Games with other numbers of tickets and other times between them.
const ROUNDS: u64 = 3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn rule_sets() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder().join("rule_sets"))
        .expect("folder of rule sets")
        .map(|file| file.expect("file").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file.file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&file).expect("rule set"))
        })
        .collect()
}

fn settings(name: &str, round: u64) -> Settings {
    let choice = |texts: &str| Distribution::Choice(texts.split(',').map(str::to_owned).collect());
    let attributes = [
        ("wants_dragon", choice("0,0,0,0,1")),
        ("strongest_dragon", Distribution::Uniform(20.0, 70.0)),
        ("role", choice("soldier,healer,scout")),
        ("modes", choice("race,duel,hunt")),
        ("accepted_maps", choice("harbour,forest,moor")),
        ("maps", choice("harbour,forest,moor")),
        ("fighter", choice("rook,heron,crow,wren")),
        ("wanted_opponents", choice("rook,heron,crow,wren")),
        ("mode", choice("ranked,casual")),
        ("map", choice("harbour,forest")),
        ("league", Distribution::Uniform(0.0, 5.0)),
        ("blocked", choice("player-1,player-5,player-7,player-11,player-20,player-31,player-60,player-90")),
    ];
    let large = ["07", "08", "09"].iter().any(|number| name.starts_with(number));
    Settings {
        tickets: if large { 1_000 } else { 150 },
        per_second: [0.0, 5.0, 40.0][round as usize % 3] * if large { 10.0 } else { 1.0 },
        seed: 71 + round,
        parties: [0.3, 0.0, 0.6][round as usize % 3],
        timeout_ms: 36_000,
        interval_ms: 2_000,
        attributes: attributes.map(|(name, values)| (name.to_owned(), values)).into_iter().collect(),
        ..Settings::default()
    }
}

fn line(now_ms: i64, formed: &Match, tickets: &[&Ticket]) -> Value {
    json!({ "now_ms": now_ms, "match": formed, "tickets": tickets })
}

fn check(file: &Path) -> Output {
    // An interpreter of another version is as good; its standard library suffices.
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    Command::new(python)
        .arg(folder().join("check_matches.py"))
        .arg(file)
        .output()
        .expect("Python runs the checker; install Python, or name it in PYTHON")
}

fn write(file: &Path, rule_set: &str, lines: &[Value]) {
    let mut text = json!({ "rule_set": rule_set }).to_string();
    for line in lines {
        write!(text, "\n{line}").expect("writing to a String");
    }
    std::fs::write(file, text).expect("file for the checker");
}

fn simulated(name: &str, text: &str, round: u64) -> Vec<Value> {
    let rule_set = Arc::new(RuleSet::parse(text).unwrap_or_else(|error| panic!("{name}: {error}")));
    let mut lines = Vec::new();
    simulation::run(&rule_set, &settings(name, round), |now_ms, formed, tickets| {
        lines.push(line(now_ms, formed, tickets));
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    lines
}

#[test]
fn every_match_of_random_tickets_satisfies_its_rule_set() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, text) in rule_sets() {
        for round in 0..ROUNDS {
            let lines = simulated(&name, &text, round);
            assert!(!lines.is_empty(), "{name}: no match in round {round}");
            let file = folder.path().join(format!("{name}-{round}.jsonl"));
            write(&file, &text, &lines);
            let output = check(&file);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Running games that look for players, with random tickets.
#[test]
fn every_backfill_satisfies_its_rule_set() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (name, text) = rule_sets().remove(0);
    let rule_set = Arc::new(RuleSet::parse(&text).expect("rule set"));
    let settings = settings(&name, 0);
    let mut lines = Vec::new();
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut generator = simulation::Generator::new(&rule_set, &settings);
        let mut pool = Pool::new(Arc::clone(&rule_set));
        let mut tickets = Vec::new();
        for number in 0..40 {
            let mut ticket = generator.ticket(-1_000 * random.below(20) as i64);
            ticket.id = format!("{seed}-{number}");
            if number % 8 == 0 {
                ticket.backfill = true;
                for (index, player) in ticket.players.iter_mut().enumerate() {
                    player.team = Some(["north", "south"][index % 2].to_owned());
                }
            }
            pool.add(&ticket).expect("ticket");
            tickets.push(ticket);
        }
        for formed in pool.form_matches(0, seed, Work::default()).matches {
            let of_match: Vec<&Ticket> = formed
                .tickets
                .iter()
                .map(|id| tickets.iter().find(|ticket| ticket.id == *id).expect("ticket of the pool"))
                .collect();
            lines.push(line(0, &formed, &of_match));
        }
    }
    let backfills = lines.iter().filter(|line| !line["match"]["backfill"].is_null()).count();
    assert!(backfills > 10, "{backfills} backfills of {} matches", lines.len());
    let file = folder.path().join("backfill.jsonl");
    write(&file, &text, &lines);
    let output = check(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A change to a match that makes it wrong, and what the checker has to say.
struct Spoilt {
    rule_set: &'static str,
    change: fn(&mut Value),
    found: &'static str,
}

fn set_attribute(line: &mut Value, name: &str, value: Value) {
    line["tickets"][0]["players"][0]["attributes"][name] = value;
}

const SPOILT: &[Spoilt] = &[
    Spoilt {
        rule_set: "01",
        change: |line| set_attribute(line, "skill", json!({ "N": 9_000 })),
        found: "rule FairSkill",
    },
    Spoilt {
        rule_set: "01",
        change: |line| {
            let removed = line["match"]["players"].as_array_mut().and_then(Vec::pop);
            assert!(removed.is_some());
        },
        found: "has no team",
    },
    Spoilt {
        rule_set: "01",
        change: |line| {
            for player in line["match"]["players"].as_array_mut().expect("players") {
                player["team"] = json!("north");
            }
        },
        found: "players of 4..8",
    },
    Spoilt {
        rule_set: "02",
        change: |line| {
            for player in line["tickets"].as_array_mut().expect("tickets") {
                player["players"][0]["attributes"]["wants_dragon"] = json!({ "N": 1 });
            }
        },
        found: "rule KnightByChoice",
    },
    Spoilt {
        rule_set: "02",
        change: |line| {
            for ticket in line["tickets"].as_array_mut().expect("tickets") {
                for player in ticket["players"].as_array_mut().expect("players") {
                    player["attributes"]["strongest_dragon"] = json!({ "N": 500 });
                }
            }
        },
        found: "rule DragonStrongEnough",
    },
    Spoilt {
        rule_set: "03",
        change: |line| {
            for ticket in line["tickets"].as_array_mut().expect("tickets") {
                for player in ticket["players"].as_array_mut().expect("players") {
                    player["attributes"]["role"] = json!({ "SL": ["healer"] });
                }
            }
        },
        found: "rule FewHealers",
    },
    Spoilt {
        rule_set: "03",
        change: |line| line["tickets"][0]["players"][0]["latency_ms"] = json!({ "moon": 2_600 }),
        found: "rule Near",
    },
    Spoilt {
        rule_set: "03",
        change: |line| line["match"]["regions"] = json!(["moon"]),
        found: "regions ['moon']",
    },
    Spoilt {
        rule_set: "04",
        change: |line| set_attribute(line, "modes", json!({ "SL": ["chess"] })),
        found: "rule CommonMode",
    },
    Spoilt {
        rule_set: "05",
        change: |line| {
            line["now_ms"] = line["tickets"][0]["created_at_ms"].clone();
            set_attribute(line, "fighter", json!({ "SL": ["ghost"] }));
        },
        found: "rule WantedByAll",
    },
    Spoilt {
        rule_set: "06",
        change: |line| set_attribute(line, "map", json!({ "S": "abyss" })),
        found: "rule SameMap",
    },
    Spoilt {
        rule_set: "06",
        change: |line| {
            let fighter = line["tickets"][1]["players"][0]["attributes"]["fighter"].clone();
            set_attribute(line, "fighter", fighter);
        },
        found: "rule OtherFighter",
    },
    Spoilt {
        rule_set: "07",
        change: |line| {
            let tickets = line["tickets"].as_array_mut().expect("tickets");
            tickets.truncate(40);
            let ids: Vec<Value> = tickets.iter().map(|ticket| ticket["id"].clone()).collect();
            let players = line["match"]["players"].as_array_mut().expect("players");
            players.retain(|player| ids.contains(&player["ticket_id"]));
            line["match"]["tickets"] = json!(ids);
        },
        found: "everybody has",
    },
    Spoilt {
        rule_set: "08",
        change: |line| line["tickets"][3]["players"][0]["latency_ms"] = json!({}),
        found: "rule Near",
    },
    Spoilt {
        rule_set: "09",
        change: |line| set_attribute(line, "league", json!({ "N": 77 })),
        found: "rule LikeLeague",
    },
    Spoilt {
        rule_set: "10",
        change: |line| set_attribute(line, "skill", json!({ "N": 7_000 })),
        found: "rule EitherWay",
    },
    Spoilt {
        rule_set: "11",
        change: |line| {
            let other = line["tickets"][1]["players"][0]["id"].clone();
            set_attribute(line, "blocked", json!({ "SL": [other] }));
        },
        found: "rule NobodyBlocked",
    },
];

#[test]
fn the_checker_finds_matches_that_are_wrong() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let rule_sets = rule_sets();
    for (number, spoilt) in SPOILT.iter().enumerate() {
        let (name, text) =
            rule_sets.iter().find(|(name, _text)| name.starts_with(spoilt.rule_set)).expect("rule set");
        let mut lines = simulated(name, text, 0);
        (spoilt.change)(&mut lines[0]);
        let file = folder.path().join(format!("{number}.jsonl"));
        write(&file, text, &lines);
        let output = check(&file);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}, change {number}: not found");
        assert!(said.contains(spoilt.found), "{name}, change {number}: {said}");
    }
    let (name, text) = &rule_sets[0];
    let mut lines = simulated(name, text, 0);
    lines.push(lines[0].clone());
    let file = folder.path().join("twice.jsonl");
    write(&file, text, &lines);
    let output = check(&file);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("has a match already"),
        "a ticket in two matches"
    );
}

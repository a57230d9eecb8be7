//! The shapes of FlexMatch's eleven examples, written anew: which match is formed, when, and which tickets are left.

use std::collections::BTreeMap;
use std::sync::Arc;

use backend_matchmaking::{AttributeValue, Match, Player, Pool, RuleSet, Ticket, Work};

fn number(value: f64) -> AttributeValue {
    AttributeValue::Number(value)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::Text(value.to_owned())
}

fn list(values: &[&str]) -> AttributeValue {
    AttributeValue::TextList(values.iter().map(|value| (*value).to_owned()).collect())
}

fn player(id: &str, attributes: &[(&str, AttributeValue)], latency_ms: &[(&str, u32)]) -> Player {
    Player {
        id: id.to_owned(),
        attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        latency_ms: latency_ms.iter().map(|(region, ms)| ((*region).to_owned(), *ms)).collect(),
        team: None,
    }
}

fn solo(id: &str, attributes: &[(&str, AttributeValue)]) -> Ticket {
    near(id, attributes, &[])
}

fn near(id: &str, attributes: &[(&str, AttributeValue)], latency_ms: &[(&str, u32)]) -> Ticket {
    Ticket {
        id: id.to_owned(),
        created_at_ms: 0,
        players: vec![player(id, attributes, latency_ms)],
        backfill: false,
    }
}

/// The pool of an example, asked once a second.
struct Game {
    pool: Pool,
    second: i64,
}

impl Game {
    fn new(rule_set: &str, tickets: &[Ticket]) -> Self {
        let rule_set = RuleSet::parse(rule_set).unwrap_or_else(|error| panic!("{error}"));
        let mut pool = Pool::new(Arc::new(rule_set));
        for ticket in tickets {
            pool.add(ticket).unwrap_or_else(|error| panic!("{}: {error}", ticket.id));
        }
        Self { pool, second: 0 }
    }

    /// Passes until there is a match, at most to second 100: the second and the match.
    fn next(&mut self) -> Option<(i64, Match)> {
        while self.second <= 100 {
            let mut matches = self.pool.form_matches(self.second * 1_000, 1, Work::default()).matches;
            if !matches.is_empty() {
                let formed = matches.remove(0);
                for ticket in &formed.tickets {
                    assert!(self.pool.remove(ticket), "{ticket} was not in the pool");
                }
                return Some((self.second, formed));
            }
            self.second += 1;
        }
        None
    }

    fn left(&self) -> Vec<&str> {
        let mut left: Vec<&str> = self.pool.ids().collect();
        left.sort_unstable();
        left
    }
}

fn sizes(formed: &Match) -> BTreeMap<&str, usize> {
    let mut sizes = BTreeMap::new();
    for player in &formed.players {
        *sizes.entry(player.team.as_str()).or_insert(0) += 1;
    }
    sizes
}

fn team_of<'a>(formed: &'a Match, id: &str) -> &'a str {
    let player = formed.players.iter().find(|player| player.player_id == id);
    &player.unwrap_or_else(|| panic!("{id} is not in the match")).team
}

fn sorted(mut tickets: Vec<String>) -> Vec<String> {
    tickets.sort();
    tickets
}

fn skilled(count: usize, skill: impl Fn(usize) -> f64) -> Vec<Ticket> {
    (0..count).map(|index| solo(&format!("t{index:03}"), &[("skill", number(skill(index)))])).collect()
}

#[test]
fn one_even_teams() {
    let rule_set = include_str!("rule_sets/01_even_teams.json");
    // Nine of one skill: eight play, as teams have to be equal.
    let mut game = Game::new(rule_set, &skilled(9, |_| 20.0));
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, sizes(&formed)), (0, BTreeMap::from([("north", 4), ("south", 4)])));
    assert_eq!(game.left(), ["t008"]);
    assert!(game.next().is_none());
    // Seven of 0 and one of 80: 0 against 20 at best, both 10 from the mean of 10.
    let mut game = Game::new(rule_set, &skilled(8, |index| if index == 7 { 80.0 } else { 0.0 }));
    assert_eq!(game.next().map(|(second, _)| second), Some(0));
    // One of 200 makes it 25 from the mean, which is allowed at 5 s; one of 720 makes it 90, at 15 s.
    for (strongest, expected) in [(200.0, 5), (720.0, 15)] {
        let mut game = Game::new(rule_set, &skilled(8, |index| if index == 7 { strongest } else { 0.0 }));
        assert_eq!(game.next().map(|(second, _)| second), Some(expected), "{strongest}");
        assert!(game.left().is_empty());
    }
    let mut game = Game::new(rule_set, &skilled(8, |index| if index == 7 { 2_000.0 } else { 0.0 }));
    assert!(game.next().is_none(), "no expansion allows 250");
}

#[test]
fn two_one_against_many() {
    let rule_set = include_str!("rule_sets/02_one_against_many.json");
    let knight = |index: usize| solo(&format!("knight{index}"), &[("strongest_dragon", number(30.0))]);
    let dragon = |id: &str, skill: f64| solo(id, &[("wants_dragon", number(1.0)), ("skill", number(skill))]);
    // The dragon that came first is weaker than the knights want.
    let mut tickets = vec![dragon("weak", 20.0)];
    tickets.extend((0..5).map(knight));
    tickets.push(dragon("strong", 40.0));
    let mut game = Game::new(rule_set, &tickets);
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, team_of(&formed, "strong"), formed.players.len()), (0, "dragon", 6));
    assert_eq!(game.left(), ["weak"]);
    for (knights, expected) in [(4, Some(30)), (3, Some(60)), (2, None)] {
        let mut tickets: Vec<Ticket> = (0..knights).map(knight).collect();
        tickets.push(dragon("strong", 40.0));
        assert_eq!(
            Game::new(rule_set, &tickets).next().map(|(second, _)| second),
            expected,
            "{knights} knights"
        );
    }
}

#[test]
fn three_team_limits_and_latency() {
    let rule_set = include_str!("rule_sets/03_team_limits_and_latency.json");
    let soldiers = |count: usize, role: &str, ms: u32| -> Vec<Ticket> {
        (0..count)
            .map(|index| near(&format!("{role}{index:02}"), &[("role", list(&[role]))], &[("eu", ms)]))
            .collect()
    };
    for (ms, expected) in [(50, Some(0)), (51, Some(10)), (150, Some(20)), (151, None)] {
        let mut game = Game::new(rule_set, &soldiers(10, "soldier", ms));
        let formed = game.next();
        assert_eq!(formed.as_ref().map(|(second, _)| *second), expected, "{ms} ms");
        if let Some((_second, formed)) = formed {
            assert_eq!(sizes(&formed), BTreeMap::from([("squad_1", 4), ("squad_2", 3), ("squad_3", 3)]));
            assert_eq!(formed.regions, ["eu"]);
        }
    }
    let mut tickets = soldiers(7, "healer", 40);
    tickets.extend(soldiers(5, "soldier", 40));
    let mut game = Game::new(rule_set, &tickets);
    let (_second, formed) = game.next().expect("match");
    assert_eq!(formed.players.len(), 10);
    assert_eq!(game.left(), ["healer05", "healer06"], "five healers at most");
}

#[test]
fn four_sorted_candidates() {
    let rule_set = include_str!("rule_sets/04_sorted_candidates.json");
    let maps = |harbour: f64, forest: f64| {
        let map = [("harbour", harbour), ("forest", forest)];
        AttributeValue::NumberMap(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let everybody = [("modes", list(&["race", "duel"])), ("accepted_maps", list(&["harbour", "forest"]))];
    let ticket = |id: &str, favourite: AttributeValue, experience: f64| {
        let mut attributes = everybody.to_vec();
        attributes.push(("maps", favourite));
        attributes.push(("experience", number(experience)));
        solo(id, &attributes)
    };
    // The oldest likes the forest most. Those who like it better come first; of equal ones, those of like experience.
    let mut tickets = vec![ticket("oldest", maps(10.0, 90.0), 50.0)];
    tickets.extend((0..4).map(|index| ticket(&format!("harbour{index}"), maps(100.0, 0.0), 50.0)));
    tickets.extend(
        (0..5).map(|index| ticket(&format!("far{index}"), maps(0.0, 80.0), 500.0 + f64::from(index))),
    );
    tickets.extend((0..3).map(|index| ticket(&format!("like{index}"), maps(0.0, 80.0), 51.0)));
    let mut other_mode = ticket("other_mode", maps(0.0, 100.0), 50.0);
    other_mode.players[0].attributes.insert("modes".to_owned(), list(&["chess"]));
    tickets.push(other_mode);
    let mut game = Game::new(rule_set, &tickets);
    let (second, formed) = game.next().expect("match");
    assert_eq!(second, 0);
    assert_eq!(sorted(formed.tickets), ["far0", "far1", "far2", "far3", "like0", "like1", "like2", "oldest"]);
    assert_eq!(game.left(), ["far4", "harbour0", "harbour1", "harbour2", "harbour3", "other_mode"]);
}

#[test]
fn five_preferred_opponents() {
    let rule_set = include_str!("rule_sets/05_preferred_opponents.json");
    let ticket = |id: &str, own: &str, wanted: &[&str]| {
        solo(id, &[("fighter", list(&[own])), ("wanted_opponents", list(wanted))])
    };
    let mut game = Game::new(
        rule_set,
        &[
            ticket("a", "rook", &["rook", "crow"]),
            ticket("b", "heron", &["rook", "heron"]),
            ticket("c", "crow", &["rook", "crow", "heron"]),
        ],
    );
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, sorted(formed.tickets)), (0, vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!(game.left(), ["b"]);
    let nobody = [ticket("a", "rook", &["wren"]), ticket("b", "crow", &["wren"])];
    assert_eq!(Game::new(rule_set, &nobody).next().map(|(second, _)| second), Some(15));
    let missing = solo("d", &[("fighter", list(&["rook"]))]);
    let mut pool = Pool::new(Arc::new(RuleSet::parse(rule_set).expect("rule set")));
    let error = pool.add(&missing).expect_err("a mandatory attribute is missing");
    assert_eq!(error.field, "players[0].attributes[wanted_opponents]");
}

#[test]
fn six_alike_and_different() {
    let rule_set = include_str!("rule_sets/06_alike_and_different.json");
    let ticket = |id: &str, mode: &str, map: &str, fighter: &str| {
        solo(id, &[("mode", text(mode)), ("map", text(map)), ("fighter", text(fighter))])
    };
    let mut game = Game::new(
        rule_set,
        &[
            ticket("a", "duel", "harbour", "rook"),
            ticket("b", "duel", "harbour", "rook"),
            ticket("c", "duel", "forest", "crow"),
            ticket("d", "hunt", "harbour", "crow"),
            ticket("e", "duel", "harbour", "crow"),
        ],
    );
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, sorted(formed.tickets.clone())), (0, vec!["a".to_owned(), "e".to_owned()]));
    assert_eq!(sizes(&formed), BTreeMap::from([("corner_1", 1), ("corner_2", 1)]));
    assert!(game.next().is_none());
    assert_eq!(game.left(), ["b", "c", "d"]);
}

fn crowd(count: usize, latency_ms: &[(&str, u32)], attributes: &[(&str, AttributeValue)]) -> Vec<Ticket> {
    (0..count).map(|index| near(&format!("t{index:03}"), attributes, latency_ms)).collect()
}

#[test]
fn seven_large_free_for_all() {
    let rule_set = include_str!("rule_sets/07_large_free_for_all.json");
    let (near, far) = ([("eu", 100)], [("eu", 180)]);
    for (count, latency, second, players) in [
        (210, near, Some(0), 200),
        (175, near, Some(0), 175),
        (150, near, Some(10), 150),
        (150, far, Some(12), 150),
        (100, near, Some(15), 100),
        (99, near, None, 0),
    ] {
        let mut game = Game::new(rule_set, &crowd(count, &latency, &[]));
        let formed = game.next();
        assert_eq!(formed.as_ref().map(|(second, _)| *second), second, "{count} players at {latency:?}");
        assert_eq!(formed.map_or(0, |(_second, formed)| formed.players.len()), players);
        assert_eq!(game.left().len(), count - players);
    }
}

#[test]
fn eight_large_teams() {
    let rule_set = include_str!("rule_sets/08_large_teams.json");
    for (count, expected, knights) in
        [(125, Some(0), 12), (105, Some(15), 10), (85, Some(20), 8), (84, None, 0)]
    {
        let mut game = Game::new(rule_set, &crowd(count, &[("eu", 100), ("us", 120)], &[]));
        let formed = game.next();
        assert_eq!(formed.as_ref().map(|(second, _)| *second), expected, "{count} players");
        let Some((_second, formed)) = formed else { continue };
        let mut expected = BTreeMap::from([("dragons", 5)]);
        let names: Vec<String> = (1..=10).map(|copy| format!("knights_{copy}")).collect();
        expected.extend(names.iter().map(|name| (name.as_str(), knights)));
        assert_eq!(sizes(&formed), expected);
        assert_eq!(formed.regions, ["eu", "us"]);
    }
    // 145 players: teams are filled to their minimum, and the rest goes round.
    let mut game = Game::new(rule_set, &crowd(145, &[("eu", 100)], &[]));
    let (_second, formed) = game.next().expect("match");
    assert!(
        sizes(&formed).iter().all(|(team, size)| *team == "dragons" || *size == 14),
        "{:?}",
        sizes(&formed)
    );
}

/// FlexMatch's own worked sequence of how teams are filled.
#[test]
fn large_teams_are_filled_by_need_then_by_open_places() {
    let rule_set = r#"{
        "ruleLanguageVersion": "1.0", "algorithm": { "strategy": "balanced" },
        "teams": [{ "name": "red", "minPlayers": 5, "maxPlayers": 10 }, { "name": "blue", "minPlayers": 5, "maxPlayers": 10 },
                  { "name": "green", "minPlayers": 2, "maxPlayers": 3 }]
    }"#;
    for (count, expected) in [(12, [5, 5, 2]), (14, [6, 6, 2]), (20, [9, 9, 2]), (23, [10, 10, 3])] {
        let (_second, formed) = Game::new(rule_set, &crowd(count, &[], &[])).next().expect("match");
        let sizes = sizes(&formed);
        assert_eq!([sizes["red"], sizes["blue"], sizes["green"]], expected, "{count} players");
    }
}

#[test]
fn nine_large_alike() {
    let rule_set = include_str!("rule_sets/09_large_alike.json");
    let attributes = |league: f64, skill: f64, map: &str| {
        [("league", number(league)), ("skill", number(skill)), ("map", text(map))]
    };
    let group = |name: &str, count: usize, of: &[(&str, AttributeValue)]| -> Vec<Ticket> {
        (0..count).map(|index| solo(&format!("{name}{index:02}"), of)).collect()
    };
    let mut tickets = group("harbour", 60, &attributes(1.0, 50.0, "harbour"));
    tickets.extend(group("forest", 30, &attributes(1.0, 50.0, "forest")));
    tickets.extend(group("champion", 10, &attributes(9.0, 50.0, "harbour")));
    let mut game = Game::new(rule_set, &tickets);
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, formed.players.len()), (0, 60));
    assert!(formed.tickets.iter().all(|ticket| ticket.starts_with("harbour")));
    assert_eq!(game.left().len(), 40);
    // Skills 30 apart are allowed at 10 s.
    let mut tickets = group("weak", 25, &attributes(1.0, 50.0, "harbour"));
    tickets.extend(group("strong", 25, &attributes(1.0, 80.0, "harbour")));
    assert_eq!(Game::new(rule_set, &tickets).next().map(|(second, _)| second), Some(10));
}

#[test]
fn ten_serious_or_casual() {
    let rule_set = include_str!("rule_sets/10_serious_or_casual.json");
    let ticket =
        |id: &str, mode: &str, skill: f64| solo(id, &[("mode", text(mode)), ("skill", number(skill))]);
    let mut game = Game::new(
        rule_set,
        &[
            ticket("r1", "ranked", 50.0),
            ticket("c1", "casual", 20.0),
            ticket("r2", "ranked", 80.0),
            ticket("c2", "casual", 65.0),
            ticket("r3", "ranked", 55.0),
            ticket("c3", "casual", 40.0),
            ticket("r4", "ranked", 58.0),
            ticket("c4", "casual", 70.0),
            ticket("r5", "ranked", 60.0),
        ],
    );
    let (second, formed) = game.next().expect("ranked match");
    assert_eq!((second, sorted(formed.tickets).join(" ")), (0, "r1 r3 r4 r5".to_owned()));
    let (second, formed) = game.next().expect("casual match");
    assert_eq!((second, sorted(formed.tickets).join(" ")), (0, "c1 c2 c3 c4".to_owned()));
    assert_eq!(game.left(), ["r2"]);
}

#[test]
fn eleven_block_list() {
    let rule_set = include_str!("rule_sets/11_block_list.json");
    let ticket = |id: &str, blocked: &[&str]| solo(id, &[("blocked", list(blocked))]);
    let mut game = Game::new(
        rule_set,
        &[ticket("a", &["b"]), ticket("b", &[]), ticket("c", &[]), ticket("d", &["b"]), ticket("e", &[])],
    );
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, sorted(formed.tickets).join(" ")), (0, "a c d e".to_owned()));
    assert_eq!(game.left(), ["b"]);
}

#[test]
fn a_party_stays_in_one_team_and_a_running_game_takes_what_fits() {
    let rule_set = include_str!("rule_sets/01_even_teams.json");
    let party = |id: &str, count: usize| Ticket {
        players: (0..count)
            .map(|index| player(&format!("{id}{index}"), &[("skill", number(20.0))], &[]))
            .collect(),
        ..solo(id, &[])
    };
    let mut game =
        Game::new(rule_set, &[party("trio", 3), party("pair", 2), party("duo", 2), party("one", 1)]);
    let (_second, formed) = game.next().expect("match");
    assert_eq!(sizes(&formed), BTreeMap::from([("north", 4), ("south", 4)]));
    for team in [["trio0", "trio1", "trio2", "one0"], ["pair0", "pair1", "duo0", "duo1"]] {
        assert!(team.iter().all(|id| team_of(&formed, id) == team_of(&formed, team[0])));
    }
    let running = |id: &str| {
        let mut ticket = party(id, 7);
        ticket.backfill = true;
        for (index, player) in ticket.players.iter_mut().enumerate() {
            player.team = Some(if index < 4 { "north" } else { "south" }.to_owned());
        }
        ticket
    };
    let mut game = Game::new(rule_set, &[running("first"), running("second"), party("late", 1)]);
    let (second, formed) = game.next().expect("match");
    assert_eq!((second, formed.backfill.as_deref(), team_of(&formed, "late0")), (0, Some("first"), "south"));
    assert_eq!(game.left(), ["second"], "two running games are never one");
}

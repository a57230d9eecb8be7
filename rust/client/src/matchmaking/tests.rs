use backend_protocol::matchmaking::{MatchmakingPlayer, PlacedMatch};

use super::*;

fn placed(match_id: &str, players: &[(&str, &str)]) -> PlacedMatch {
    let player = |(id, team): &(&str, &str)| MatchmakingPlayer {
        player_id: Some((*id).to_owned()),
        team: Some((*team).to_owned()),
        ..MatchmakingPlayer::default()
    };
    let players = players.iter().map(player).collect();
    PlacedMatch { match_id: match_id.into(), matchmaker: "duel".into(), players, bots: Vec::new() }
}

#[test]
fn a_running_game_names_the_players_who_are_left_with_their_newest_teams() {
    let placed = [placed("1", &[("ada", "red"), ("bob", "blue")]), placed("2", &[("ada", "blue")])];
    let players = backfill_players(&placed, &["ada".into(), "bob".into()]).expect("known");
    let teams: Vec<_> = players.iter().filter_map(|player| player.team.as_deref()).collect();
    assert_eq!(teams, ["blue", "blue"]);
    let error = backfill_players(&placed, &["cy".into()]).expect_err("unknown");
    assert_eq!((error.code(), error.field.as_deref()), ("invalid_field", Some("player_ids")));
    assert!(error.message.contains("cy"), "{error}");
}

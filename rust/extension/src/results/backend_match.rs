//! `BackendMatch`: a match that was proposed, or that has its room.

use std::collections::BTreeMap;

use backend_client::matchmaking::ReadyMatch;
use backend_client::protocol::matchmaking::PlacedMatch;
use godot::prelude::*;

use crate::results::backend_room::BackendJoinTicket;
use crate::results::result_class::result_class;
use crate::variant_json::gstring;

result_class! {
    /// A match of players in teams and, once it has a room, the ticket to it.
    ///
    /// ```gdscript
    /// var found: BackendMatch = await $BackendMatchmaker.find_match().wait()
    /// if found.ok():
    ///     peer_auth.use_ticket(found.ticket)
    ///     peer.create_client(found.ticket.address, found.ticket.port)
    /// ```
    BackendMatch(ReadyMatch) {
        /// Id of the match.
        match_id (get_match_id): GString = |ready| gstring(&ready.formed.match_id);
        /// Id of the room, or empty while it has none.
        room_id (get_room_id): GString = |ready| ready.formed.room_id.as_ref().map(gstring).unwrap_or_default();
        /// Ticket to the room, or [code]null[/code] while there is none.
        ticket (get_ticket): Option<Gd<BackendJoinTicket>> =
            |ready| ready.ticket.clone().map(|ticket| BackendJoinTicket::object(Ok(ticket)));
        /// Ids of all players, bots included.
        player_ids (get_player_ids): PackedStringArray =
            |ready| ready.formed.players.iter().map(|player| gstring(&player.player_id)).collect();
        /// Ids of the bots, which the game plays itself. Only matchmakers with [code]bots_after_seconds[/code] have any.
        bot_ids (get_bot_ids): PackedStringArray = |ready| {
            let bots = ready.formed.players.iter().filter(|player| player.is_bot);
            bots.map(|player| gstring(&player.player_id)).collect()
        };
        /// Regions that are near to all players, nearest first. Empty if the rule set has no [code]latency[/code] rule.
        regions (get_regions): PackedStringArray = |ready| ready.formed.regions.iter().map(gstring).collect();
        /// Number of players who have accepted the match, while it is a proposal.
        accepted (get_accepted): i64 = |ready| ready.formed.accepted.map_or(0, i64::from);
    }
    methods {
        /// Returns the team of a player, or an empty text if the player is not in the match.
        #[func]
        fn get_team(&self, player_id: GString) -> GString {
            let (Ok(ready), id) = (&self.outcome, player_id.to_string()) else { return GString::new() };
            let player = ready.formed.players.iter().find(|player| player.player_id == id);
            player.map(|player| gstring(&player.team)).unwrap_or_default()
        }
    }
}

result_class! {
    /// The matches that were placed on a game server, with the teams of their players.
    BackendPlacedMatches(Vec<PlacedMatch>) {
        /// Ids of the matches, the oldest first.
        match_ids (get_match_ids): PackedStringArray =
            |matches| matches.iter().map(|one| gstring(&one.match_id)).collect();
    }
    methods {
        /// Returns the teams of a match. Each key is the name of a team, each value the ids of its players, bots included, as a
        /// [PackedStringArray].
        #[func]
        fn get_teams(&self, match_id: GString) -> VarDictionary {
            let mut teams: BTreeMap<&str, PackedStringArray> = BTreeMap::new();
            let (Ok(matches), id) = (&self.outcome, match_id.to_string()) else { return VarDictionary::new() };
            for one in matches.iter().filter(|one| one.match_id == id) {
                for player in &one.players {
                    let (team, id) = (player.team.as_deref(), player.player_id.as_deref());
                    teams.entry(team.unwrap_or_default()).or_default().push(&gstring(id.unwrap_or_default()));
                }
                for bot in &one.bots {
                    teams.entry(&bot.team).or_default().push(&gstring(&bot.player_id));
                }
            }
            let mut dictionary = VarDictionary::new();
            for (team, players) in teams {
                dictionary.set(&gstring(team), &players);
            }
            dictionary
        }

        /// Returns the team of a player in the newest match, or an empty text if the player is in none.
        #[func]
        fn get_team(&self, player_id: GString) -> GString {
            let (Ok(matches), id) = (&self.outcome, player_id.to_string()) else { return GString::new() };
            let mut players = matches.iter().rev().flat_map(|one| &one.players);
            let player = players.find(|player| player.player_id.as_deref() == Some(id.as_str()));
            player.and_then(|player| player.team.as_ref()).map(gstring).unwrap_or_default()
        }
    }
}

//! What a server publishes about itself.

use backend_protocol::limits;
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::Room;
use tokio::time::Instant;

use crate::registration::ServerDescription;

/// Most players of an answer: A2S_PLAYER counts in a byte.
pub(super) const MAX_PARTICIPANTS: usize = 255;

/// A player as A2S_PLAYER lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Name, or empty if the game does not publish names.
    pub name: String,
    /// When the player joined.
    pub joined: Instant,
}

/// What a server publishes about itself; the last snapshot counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Random number of the process that answers, set when the facts are published.
    pub instance: u64,
    /// Name, map and whatever else the room list shows.
    pub description: ServerDescription,
    /// Name of the game.
    pub game: String,
    /// Id under which the backend lists the server.
    pub room_id: Option<String>,
    /// Players now.
    pub players: u32,
    /// Whether the server takes no more players.
    pub draining: bool,
    /// The players of whom more than the number is known.
    pub participants: Vec<Participant>,
}

impl Facts {
    /// Whether strangers may find the room.
    pub(super) fn is_public(&self) -> bool {
        self.description.visibility.is_public()
    }

    /// The room's id, or empty: the id of a room that is not public lets in whoever knows it.
    pub(super) fn public_room_id(&self) -> &str {
        self.room_id.as_deref().filter(|_| self.is_public()).unwrap_or_default()
    }

    /// The same with texts cut to the limits of the room list: a game that sets longer ones must not make answers longer.
    pub(super) fn within_limits(mut self) -> Self {
        let cut = |text: &mut String| {
            if let Some((end, _)) = text.char_indices().nth(limits::MAX_LABEL) {
                text.truncate(end);
            }
        };
        let described = &mut self.description;
        described.tags.truncate(limits::MAX_TAGS);
        self.participants.truncate(MAX_PARTICIPANTS);
        let labels = [&mut described.map, &mut described.mode, &mut described.region, &mut described.version];
        labels.into_iter().chain([&mut described.name, &mut self.game]).for_each(cut);
        described.tags.iter_mut().for_each(cut);
        self.participants.iter_mut().map(|one| &mut one.name).for_each(cut);
        self
    }
}

/// Facts together with what is only known when they are asked for.
#[derive(Debug, Clone, Copy)]
pub struct ServedFacts<'a> {
    /// The last snapshot.
    pub facts: &'a Facts,
    /// Status of the server.
    pub status: ServerStatus,
    /// The time to which players have been there.
    pub now: Instant,
}

impl ServedFacts<'_> {
    /// The server as a room. Without an address: whoever receives it knows where it came from.
    pub(super) fn room(&self) -> Room {
        let described = &self.facts.description;
        Room {
            room_id: self.facts.public_room_id().to_owned(),
            name: described.name.clone(),
            address: String::new(),
            port: described.port,
            query_port: described.query_port,
            map: described.map.clone(),
            mode: described.mode.clone(),
            region: described.region.clone(),
            version: described.version.clone(),
            tags: described.tags.clone(),
            players: self.facts.players,
            reserved: 0,
            max_players: described.max_players,
            status: self.status,
            created_at: String::new(),
            visibility: described.visibility,
            has_password: !described.password.is_empty(),
            attributes: described.attributes.clone(),
        }
    }

    /// The stable word for the status.
    pub(super) const fn status_word(&self) -> &'static str {
        match self.status {
            ServerStatus::Ready => "ready",
            ServerStatus::Draining => "draining",
            ServerStatus::Unhealthy => "unhealthy",
        }
    }
}

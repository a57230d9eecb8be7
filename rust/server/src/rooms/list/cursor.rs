//! Where a page ended. Bound to the query it continues.

use backend_protocol::rooms::{Room, RoomQuery, RoomSort};
use backend_protocol::{Code, Problem, limits};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::rooms::growing_statement::Bind;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    query: String,
    /// Of an order by a label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    text: String,
    number: i64,
    room_id: String,
}

impl Cursor {
    fn fingerprint(query: &RoomQuery) -> ApiResult<String> {
        let whole = RoomQuery { cursor: None, limit: None, fields: None, ..query.clone() };
        let bytes = serde_json::to_vec(&whole).map_err(anyhow::Error::from)?;
        Ok(sha256(&bytes)[..16].to_owned())
    }

    /// The cursor of the page after `room`.
    pub fn after(room: &Room, created_at: i64, query: &RoomQuery) -> ApiResult<String> {
        let name = || room.name.clone();
        let (label, text, number) = match query.sort {
            RoomSort::Name => (String::new(), name(), 0),
            RoomSort::Players => (String::new(), String::new(), room.players.into()),
            RoomSort::Created => (String::new(), String::new(), created_at),
            RoomSort::MaxPlayers => (String::new(), String::new(), room.max_players.into()),
            RoomSort::Map => (room.map.clone(), name(), 0),
            RoomSort::Mode => (room.mode.clone(), name(), 0),
            RoomSort::Region => (room.region.clone(), name(), 0),
            RoomSort::Version => (room.version.clone(), name(), 0),
        };
        let query = Self::fingerprint(query)?;
        let cursor = Self { query, label, text, number, room_id: room.room_id.clone() };
        let bytes = serde_json::to_vec(&cursor).map_err(anyhow::Error::from)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn read(text: &str, query: &RoomQuery) -> ApiResult<Self> {
        let invalid = || {
            let mut problem = Problem::new(Code::InvalidCursor, "cursor: not one this list handed out");
            problem.field = Some("cursor".into());
            ApiError::from(problem)
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if cursor.query != Self::fingerprint(query)?
            || limits::identifier("room_id", &cursor.room_id, 64).is_err()
            // A room's name: one with a NUL is none, and PostgreSQL takes no such text.
            || limits::text("name", &cursor.text, 0, limits::MAX_SERVER_NAME).is_err()
            || limits::text("label", &cursor.label, 0, limits::MAX_LABEL).is_err()
        {
            return Err(invalid());
        }
        Ok(cursor)
    }

    /// A value for each column of the order.
    pub fn values(self, sort: RoomSort) -> Vec<Bind> {
        let id = Bind::Text(self.room_id);
        match sort {
            RoomSort::Name => vec![Bind::Text(self.text), id],
            RoomSort::Players | RoomSort::Created | RoomSort::MaxPlayers => {
                vec![Bind::Number(self.number), id]
            }
            RoomSort::Map | RoomSort::Mode | RoomSort::Region | RoomSort::Version => {
                vec![Bind::Text(self.label), Bind::Text(self.text), id]
            }
        }
    }
}

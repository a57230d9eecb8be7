//! Filter and order of rooms that are here already, by the rules of the backend's own list.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use backend_protocol::limits::Check;
use backend_protocol::rooms::{Room, RoomFilter, RoomQuery, RoomSort};

use super::ping::RoomPing;
use crate::error::ClientError;

/// Which of `rooms`, and in which order: indices. `among` says which are looked at; `limit` and `cursor` of the query do
/// not count.
pub fn select<R: Borrow<Room>>(
    rooms: &[R],
    among: impl IntoIterator<Item = usize>,
    query: &RoomQuery,
) -> Result<Vec<usize>, ClientError> {
    RoomQuery { limit: None, cursor: None, ..query.clone() }.check()?;
    let filter = RoomFilter::new(query, str::to_lowercase)?;
    let mut selected: Vec<(usize, &Room)> = among
        .into_iter()
        .filter_map(|index| Some((index, rooms.get(index)?.borrow())))
        .filter(|(_, room)| filter.keeps(room))
        .collect();
    selected.sort_by(|(_, a), (_, b)| order(query, a, b));
    Ok(selected.into_iter().map(|(index, _)| index).collect())
}

/// Sorts indices of `rooms` by the measured latency, the shortest or the longest first. Rooms that were not measured come last, and
/// they, like those of the same latency, stay in the order in which they are.
pub fn sort_by_ping<R: Borrow<Room>>(rooms: &[R], order: &mut [usize], pings: &[RoomPing], descending: bool) {
    let measured = pings.iter().filter_map(|ping| {
        let measured = ping.measured.as_ref().ok()?;
        Some((ping.room_id.as_str(), measured.latency))
    });
    let measured: HashMap<&str, Duration> = measured.collect();
    let latency = |index: &usize| measured.get(rooms.get(*index)?.borrow().room_id.as_str()).copied();
    order.sort_by_cached_key(|index| match latency(index) {
        Some(latency) if descending => (false, Duration::MAX.saturating_sub(latency)),
        Some(latency) => (false, latency),
        None => (true, Duration::ZERO),
    });
}

/// Which of two rooms comes first on the list of `query`.
pub fn order(query: &RoomQuery, a: &Room, b: &Room) -> Ordering {
    let order = by(query.sort, a, b).then_with(|| a.room_id.cmp(&b.room_id));
    if query.descending { order.reverse() } else { order }
}

fn by(sort: RoomSort, a: &Room, b: &Room) -> Ordering {
    match sort {
        RoomSort::Name => a.name.cmp(&b.name),
        RoomSort::Players => a.players.cmp(&b.players),
        RoomSort::MaxPlayers => a.max_players.cmp(&b.max_players),
        RoomSort::Map => a.map.cmp(&b.map).then_with(|| a.name.cmp(&b.name)),
        RoomSort::Mode => a.mode.cmp(&b.mode).then_with(|| a.name.cmp(&b.name)),
        RoomSort::Region => a.region.cmp(&b.region).then_with(|| a.name.cmp(&b.name)),
        RoomSort::Version => a.version.cmp(&b.version).then_with(|| a.name.cmp(&b.name)),
        // RFC 3339 in UTC is ordered as text, up to the `Z`: a fraction of a second may be missing.
        RoomSort::Created => a.created_at.trim_end_matches('Z').cmp(b.created_at.trim_end_matches('Z')),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use backend_protocol::registration::ServerStatus;
    use backend_protocol::rooms::{Attributes, RoomVisibility};

    use super::*;
    use crate::rooms::ping::Measurement;

    pub fn room(id: &str, name: &str, players: u32, created_at: &str) -> Room {
        Room {
            room_id: id.into(),
            name: name.into(),
            address: "192.0.2.1".into(),
            port: 1,
            query_port: None,
            map: "lily".into(),
            mode: String::new(),
            region: String::new(),
            version: String::new(),
            tags: vec!["calm".into(), "ranked".into()],
            players,
            reserved: 0,
            max_players: 4,
            status: ServerStatus::Ready,
            created_at: created_at.into(),
            visibility: RoomVisibility::Public,
            has_password: false,
            attributes: Attributes::new(),
        }
    }

    fn rooms() -> Vec<Room> {
        vec![
            room("c", "Reed", 4, "2026-01-01T00:00:00.5Z"),
            room("b", "Älv", 0, "2026-01-01T00:00:00Z"),
            room("a", "Reed", 2, "2026-01-01T00:00:00.49Z"),
        ]
    }

    fn selected(query: &RoomQuery) -> Vec<usize> {
        select(&rooms(), 0..3, query).expect("a good query")
    }

    #[test]
    fn orders_are_the_backends_and_ties_are_broken_by_id() {
        let by = |sort, descending| RoomQuery { sort, descending, ..RoomQuery::default() };
        assert_eq!(selected(&by(RoomSort::Name, false)), [2, 0, 1]);
        assert_eq!(selected(&by(RoomSort::Name, true)), [1, 0, 2]);
        assert_eq!(selected(&by(RoomSort::Players, false)), [1, 2, 0]);
        assert_eq!(selected(&by(RoomSort::Created, false)), [1, 2, 0]);
        assert_eq!(selected(&by(RoomSort::Created, true)), [0, 2, 1]);
    }

    #[test]
    fn rooms_without_a_ping_come_last_in_either_direction() {
        let measured = |room_id: &str, milliseconds: u64| RoomPing {
            room_id: room_id.into(),
            measured: Ok(Measurement {
                latency: Duration::from_millis(milliseconds),
                jitter: Duration::ZERO,
                loss: 0.0,
                status: ServerStatus::Ready,
                players: 0,
                max_players: 4,
            }),
        };
        let lost = RoomPing {
            room_id: "d".into(),
            measured: Err(ClientError::field("query_port", "the server answers no pings")),
        };
        let rooms = ["a", "b", "c", "d", "e", "f"].map(|id| room(id, id, 0, "2026-01-01T00:00:00Z"));
        let pings = [measured("f", 20), measured("a", 80), measured("c", 20), lost];
        let sorted = |descending| {
            let mut order = [4, 3, 2, 1, 0, 5];
            sort_by_ping(&rooms, &mut order, &pings, descending);
            order
        };
        assert_eq!(sorted(false), [2, 5, 0, 4, 3, 1]);
        assert_eq!(sorted(true), [0, 2, 5, 4, 3, 1]);
    }

    #[test]
    fn filters_keep_what_matches() {
        let with = |change: fn(&mut RoomQuery)| {
            let mut query = RoomQuery::default();
            change(&mut query);
            let mut selected = selected(&query);
            selected.sort_unstable();
            selected
        };
        assert_eq!(with(|query| query.search = Some("älv".into())), [1]);
        assert_eq!(with(|query| query.search = Some("EE".into())), [0, 2]);
        assert_eq!(with(|query| query.map = Some("lily".into())), [0, 1, 2]);
        assert!(with(|query| query.map = Some("lil".into())).is_empty());
        assert_eq!(with(|query| query.not_full = true), [1, 2]);
        assert_eq!(with(|query| query.not_empty = true), [0, 2]);
        assert_eq!(with(|query| query.tags = Some("ranked,calm".into())), [0, 1, 2]);
        assert!(with(|query| query.tags = Some("ranked,new".into())).is_empty());
    }

    #[test]
    fn only_what_is_asked_about_is_looked_at() {
        let all = select(&rooms(), [2, 9], &RoomQuery::default()).expect("a good query");
        assert_eq!(all, [2]);
        let bad = RoomQuery { search: Some("x".repeat(65)), ..RoomQuery::default() };
        assert_eq!(select(&rooms(), 0..3, &bad).expect_err("too long").field.as_deref(), Some("search"));
    }

    #[test]
    fn rooms_that_take_nobody_are_left_out() {
        let mut rooms = rooms();
        rooms[0].status = ServerStatus::Draining;
        rooms[1].status = ServerStatus::Unhealthy;
        let of = |query: &RoomQuery| select(&rooms, 0..3, query).expect("a good query");
        assert_eq!(of(&RoomQuery::default()), [2]);
        assert_eq!(of(&RoomQuery { include_draining: true, ..RoomQuery::default() }), [2, 0]);
    }
}

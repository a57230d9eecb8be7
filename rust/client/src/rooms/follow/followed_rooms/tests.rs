use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::rooms::filter::tests::room;

fn with_players(id: &str, players: u32) -> Room {
    room(id, "Reed", players, "2026-01-01T00:00:00Z")
}

#[test]
fn updates_of_a_room_become_one() {
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let rooms = FollowedRooms::new(RoomQuery::default(), move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    rooms.apply(vec![with_players("a", 0), with_players("b", 0)], []);
    rooms.apply(vec![with_players("a", 1)], ["b".to_owned(), "unknown".to_owned()]);
    assert_eq!(rooms.take_updates(9).0, [RoomUpdate::Added(Arc::new(with_players("a", 1)))]);
    rooms.apply(vec![with_players("a", 2)], []);
    rooms.apply(vec![with_players("a", 1)], []);
    assert!(rooms.take_updates(9).0.is_empty(), "it has changed back");
    rooms.apply(vec![with_players("a", 1)], []);
    let before = told.load(Ordering::Relaxed);
    rooms.replace_all(vec![with_players("a", 1)]);
    assert_eq!(told.load(Ordering::Relaxed), before, "nothing to tell");
    rooms.replace_all(Vec::new());
    assert_eq!(rooms.take_updates(9).0, [RoomUpdate::Removed(Arc::new(with_players("a", 1)))]);
}

#[test]
fn updates_that_cancel_out_are_counted() {
    let rooms = FollowedRooms::new(RoomQuery::default(), || {});
    for id in ["a", "b", "c"] {
        rooms.apply(vec![with_players(id, 0)], []);
        rooms.apply(Vec::new(), [id.to_owned()]);
    }
    rooms.apply(vec![with_players("d", 0)], []);
    assert_eq!(rooms.take_updates(2), (Vec::new(), true));
    let added = RoomUpdate::Added(Arc::new(with_players("d", 0)));
    assert_eq!(rooms.take_updates(2), (vec![added], false));
}

#[test]
fn a_state_is_told_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let rooms = FollowedRooms::new(RoomQuery::default(), move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    rooms.enter(FollowState::Loading);
    rooms.enter(FollowState::Live);
    rooms.enter(FollowState::Live);
    assert_eq!((told.load(Ordering::Relaxed), rooms.state()), (1, FollowState::Live));
}

proptest! {
    /// Whoever takes the updates, in whatever portions, has the list.
    #[test]
    fn the_updates_lead_to_the_list(
        steps in prop::collection::vec((0u8..6, 0u32..4, 0usize..4, any::<bool>()), 0..60)
    ) {
        let rooms = FollowedRooms::new(RoomQuery { descending: true, ..RoomQuery::default() }, || {});
        let mut told: HashMap<String, Arc<Room>> = HashMap::new();
        let mut take = |most: usize| -> Result<(), TestCaseError> {
            let (updates, has_more) = rooms.take_updates(most);
            prop_assert!(updates.len() <= most && !(has_more && most == usize::MAX));
            for update in updates {
                match update {
                    RoomUpdate::Added(room) => prop_assert!(told.insert(room.room_id.clone(), room).is_none()),
                    RoomUpdate::Changed(room) => {
                        let old = told.insert(room.room_id.clone(), Arc::clone(&room));
                        prop_assert!(old.is_some_and(|old| old != room));
                    }
                    RoomUpdate::Removed(room) => prop_assert_eq!(told.remove(&room.room_id), Some(room)),
                }
            }
            Ok(())
        };
        for (id, players, most, is_removal) in steps {
            let id = id.to_string();
            if is_removal {
                rooms.apply(Vec::new(), [id]);
            } else {
                rooms.apply(vec![with_players(&id, players)], []);
            }
            take(most)?;
        }
        take(usize::MAX)?;
        let mut expected: Vec<Arc<Room>> = told.into_values().collect();
        expected.sort_by(|a, b| b.room_id.cmp(&a.room_id));
        prop_assert_eq!(rooms.rooms(), expected);
    }
}

//! What a follower that goes on at another replica is sent, in each order of readings and commits that could leave a gap.
//!
//! Nobody has a place, so that the tasks of the replicas read nothing: each reading is made here.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use backend_protocol::rooms::{EVENT_RESET, RoomChanges, RoomQuery};
use sqlx::AssertSqlSafe;
use test_database::TestDatabase;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::event_stream::EventStream;
use super::super::group::GroupKey;
use super::*;
use crate::config::Config;
use crate::server::{Running, start};

/// Two replicas, and a room of each name on their list.
struct Replicas {
    first: Running,
    second: Running,
    _at: TestDatabase,
}

impl Replicas {
    async fn new(at: TestDatabase, rooms: &[&str]) -> Self {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            database: at.location().to_owned(),
            world_storage: Some(at.folder().join("worlds").display().to_string()),
            ..Config::default()
        };
        let first = start(config.clone()).await.expect("started");
        let second = start(config).await.expect("started");
        let replicas = Self { first, second, _at: at };
        for id in rooms {
            let sql = format!(
                "INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, tags, \
                 players, max_players, status, heartbeat_sequence, created_at, lease_until, visibility, attributes) \
                 SELECT '{id}', key_hash, '{id}', '{id}', 'a', 1, '', '', '', '', '', 0, 9, 'ready', 0, 0, 4102444800000, 'public', '{{}}' \
                 FROM server_keys LIMIT 1"
            );
            replicas.change(id, &sql).await;
        }
        replicas
    }

    fn first(&self) -> &AppState {
        self.first.state()
    }

    fn second(&self) -> &AppState {
        self.second.state()
    }

    /// A transaction that changes a room.
    async fn change(&self, id: &str, sql: &str) {
        let database = &self.first().database;
        let mut tx = database.begin().await.expect("begun");
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut *tx.conn).await.expect("changed");
        changes::record(database, &mut tx, &[id.to_owned()]).await.expect("recorded");
        tx.commit().await.expect("committed");
    }

    async fn set_players(&self, id: &str, players: u32) {
        self.change(id, &format!("UPDATE servers SET players = {players} WHERE server_id = '{id}'")).await;
    }

    /// Without a record: time passes.
    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.first().database.pool()).await.expect("executed");
    }

    /// Reads everything at both replicas.
    async fn read_all(&self) {
        for state in [self.first(), self.second()] {
            load(state).await.expect("read");
            read_settled(state).await;
        }
    }

    async fn stop(self) {
        self.first.stop().await.expect("stopped");
        self.second.stop().await.expect("stopped");
    }
}

/// Reads what has changed once no position that is read is older than that: on PostgreSQL, the transactions of other databases
/// count as well.
async fn read_settled(state: &AppState) {
    loop {
        let position = changes::position(&state.database).await.expect("a position");
        if changes::since(state, position).await.expect("read").is_empty() {
            break;
        }
    }
    read(state).await.expect("read");
}

/// Begins a reading of what has changed, with an older position if there is one.
async fn begin_reading(state: &AppState, position: Option<Position>) -> Reading {
    let reading = Reading::of_changes(state).await.expect("read").expect("rooms are read");
    let position = position.unwrap_or_else(|| reading.position.clone());
    Reading { position, ..reading }
}

/// The list of a follower of all rooms.
#[derive(Default)]
struct Followed {
    /// Players and reserved seats by the room's id.
    rooms: BTreeMap<String, (u32, u32)>,
    id: String,
    /// Players of each room that was sent.
    sent: Vec<u32>,
    stream: Option<EventStream>,
}

impl Followed {
    fn key() -> GroupKey {
        GroupKey::new(&RoomQuery::default()).expect("a query")
    }

    async fn begin(state: &AppState) -> Self {
        let stream = state.rooms.followers.join(Self::key(), None).await.expect("followed");
        let mut followed = Self { stream: Some(stream), ..Self::default() };
        followed.receive();
        followed
    }

    /// Asks another replica to go on. It has asked when this returns.
    async fn ask(&self, state: &AppState) -> JoinHandle<ApiResult<EventStream>> {
        let known = Position::parse(&self.id, state.database.backend_id());
        let followers = state.rooms.followers.clone();
        let (asked, has_asked) = oneshot::channel();
        let joined = tokio::spawn(async move {
            let mut join = pin!(followers.join(Self::key(), known));
            let first = poll_fn(|context| Poll::Ready(join.as_mut().poll(context))).await;
            asked.send(()).expect("awaited");
            match first {
                Poll::Ready(stream) => stream,
                Poll::Pending => join.await,
            }
        });
        has_asked.await.expect("asked");
        joined
    }

    async fn go_on(&mut self, joined: JoinHandle<ApiResult<EventStream>>) {
        self.stream = Some(joined.await.expect("no panic").expect("followed"));
        self.receive();
    }

    /// Takes the events that are there.
    fn receive(&mut self) {
        let EventStream { first, later } = self.stream.as_mut().expect("followed");
        let mut events: Vec<_> = first.collect();
        events.extend(std::iter::from_fn(|| later.try_recv().ok()));
        for event in events {
            let text = String::from_utf8(event.to_vec()).expect("text");
            for line in text.lines() {
                if line.strip_prefix("event: ") == Some(EVENT_RESET) {
                    self.rooms.clear();
                } else if let Some(id) = line.strip_prefix("id: ") {
                    id.clone_into(&mut self.id);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    let changes: RoomChanges = serde_json::from_str(data).expect("JSON");
                    for room in changes.rooms {
                        self.sent.push(room.players);
                        self.rooms.insert(room.room_id, (room.players, room.reserved));
                    }
                    for id in changes.removed {
                        self.rooms.remove(&id);
                    }
                }
            }
        }
    }

    fn shows(&self, expected: &[(&str, u32, u32)]) {
        let expected: BTreeMap<String, (u32, u32)> = expected
            .iter()
            .map(|(id, players, reserved)| ((*id).to_owned(), (*players, *reserved)))
            .collect();
        assert_eq!(self.rooms, expected, "after {}", self.id);
    }
}

/// Declares each test twice.
macro_rules! on_both_databases {
    ($($(#[$doc:meta])* async fn $name:ident($at:ident) $body:block)+) => {
        $($(#[$doc])* mod $name {
            use super::*;

            async fn run($at: TestDatabase) $body

            #[tokio::test]
            async fn sqlite() {
                run(TestDatabase::sqlite().expect("SQLite")).await;
            }

            #[tokio::test]
            async fn postgres() {
                run(TestDatabase::postgres().expect("PostgreSQL")).await;
            }
        })+
    };
}

on_both_databases! {
    /// A position is older than the changes that are read after it. A replica that has read up to the same position need not have
    /// read these.
    async fn who_was_sent_more_than_another_replica_has_read_misses_nothing(at) {
        let replicas = Replicas::new(at, &["stays", "comes", "goes"]).await;
        replicas.change("comes", "UPDATE servers SET visibility = 'private' WHERE server_id = 'comes'").await;
        replicas.read_all().await;
        // Changes are committed between the position and what is read after it.
        let position = read_position(replicas.first()).await.expect("a position");
        replicas.set_players("stays", 1).await;
        replicas.change("comes", "UPDATE servers SET visibility = 'public' WHERE server_id = 'comes'").await;
        replicas.change("goes", "UPDATE servers SET status = 'unhealthy' WHERE server_id = 'goes'").await;
        begin_reading(replicas.first(), Some(position)).await.finish(replicas.first()).await.expect("read");
        let mut follower = Followed::begin(replicas.first()).await;
        follower.shows(&[("stays", 1, 0), ("comes", 0, 0)]);

        let joined = follower.ask(replicas.second()).await;
        // All is as it was before the other replica reads again.
        replicas.set_players("stays", 0).await;
        replicas.change("comes", "UPDATE servers SET visibility = 'private' WHERE server_id = 'comes'").await;
        replicas.change("goes", "UPDATE servers SET status = 'ready' WHERE server_id = 'goes'").await;
        read(replicas.second()).await.expect("read");
        follower.go_on(joined).await;
        follower.shows(&[("stays", 0, 0), ("goes", 0, 0)]);
        replicas.stop().await;
    }

    /// The same without a way back: the other replica must not send the list as it was before.
    async fn who_was_sent_more_than_another_replica_has_read_does_not_go_back(at) {
        let replicas = Replicas::new(at, &["pond"]).await;
        replicas.read_all().await;
        let position = read_position(replicas.first()).await.expect("a position");
        replicas.set_players("pond", 1).await;
        read(replicas.second()).await.expect("read");
        let begun = begin_reading(replicas.second(), None).await;
        replicas.set_players("pond", 2).await;
        begin_reading(replicas.first(), Some(position)).await.finish(replicas.first()).await.expect("read");
        let mut follower = Followed::begin(replicas.first()).await;

        // Nor what a reading finds that had begun before.
        let joined = follower.ask(replicas.second()).await;
        begun.finish(replicas.second()).await.expect("read");
        read(replicas.second()).await.expect("read");
        follower.go_on(joined).await;
        assert!(follower.sent.iter().all(|players| *players == 2), "{:?}", follower.sent);
        follower.shows(&[("pond", 2, 0)]);
        replicas.stop().await;
    }

    /// A room that is newer than the change that a reading found: whoever knows that change still gets the newer one.
    async fn a_change_that_is_committed_while_rooms_are_read_is_not_missed(at) {
        let replicas = Replicas::new(at, &["pond"]).await;
        replicas.read_all().await;
        let mut follower = Followed::begin(replicas.first()).await;
        for is_whole in [true, false] {
            // The other replica has not read what the follower knows.
            replicas.set_players("pond", 1).await;
            let joined = follower.ask(replicas.first()).await;
            read_settled(replicas.first()).await;
            follower.go_on(joined).await;
            follower.shows(&[("pond", 1, 0)]);

            let joined = follower.ask(replicas.second()).await;
            let reading = if is_whole {
                Reading::of_all(replicas.second()).await.expect("read")
            } else {
                begin_reading(replicas.second(), None).await
            };
            replicas.set_players("pond", 2).await;
            reading.finish(replicas.second()).await.expect("read");
            follower.go_on(joined).await;
            read(replicas.second()).await.expect("read");
            follower.receive();
            follower.shows(&[("pond", 2, 0)]);
        }
        replicas.stop().await;
    }

    /// Leases and seats that end by themselves are changes once they are recorded, and not before.
    async fn what_ends_by_itself_while_rooms_are_read_is_not_missed(at) {
        let replicas = Replicas::new(at, &["pond", "reed"]).await;
        replicas
            .change("reed", "INSERT INTO seats (seat_id, server_id, player_id, expires_at) VALUES ('s', 'reed', NULL, 4102444800000)")
            .await;
        replicas.read_all().await;
        let mut follower = Followed::begin(replicas.first()).await;
        follower.shows(&[("pond", 0, 0), ("reed", 0, 1)]);

        let joined = follower.ask(replicas.second()).await;
        let reading = Reading::of_all(replicas.second()).await.expect("read");
        replicas.execute("UPDATE servers SET lease_until = 1 WHERE server_id = 'pond'").await;
        replicas.execute("UPDATE seats SET expires_at = 1").await;
        reading.finish(replicas.second()).await.expect("read");
        follower.go_on(joined).await;
        changes::record_expired(&replicas.second().database).await.expect("recorded");
        read(replicas.second()).await.expect("read");
        follower.receive();
        follower.shows(&[("reed", 0, 0)]);
        replicas.stop().await;
    }
}

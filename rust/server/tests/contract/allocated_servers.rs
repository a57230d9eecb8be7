//! Servers that register for what they were started for. The test is the server: what the backend starts only waits.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::harness::{Answer, Backend, on_both_databases, text};
use crate::rooms_on_demand::{HANGING, cancel, with_servers};

const QUICK_PLAY: &str = "/v1/rooms/quick-play";

fn servers(config: &mut backend_server::Config) {
    with_servers(config, HANGING, &json!({"start_timeout_seconds": 120, "empty_timeout_seconds": 0}));
}

struct Player {
    id: String,
    token: String,
}

async fn player(backend: &Backend) -> Player {
    let guest = backend.guest("Ada").await;
    Player { id: text(&guest["player_id"]), token: text(&guest["access_token"]) }
}

async fn until(backend: &Backend, count: i64, sql: &'static str) {
    while backend.count(sql).await != count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the one allocation is started, and gives its id.
async fn starting(backend: &Backend) -> String {
    until(backend, 1, "SELECT COUNT(*) FROM allocations WHERE status = 'starting'").await;
    backend.text("SELECT allocation_id FROM allocations WHERE status = 'starting'").await
}

async fn create(backend: &Backend, player: &Player, room: Value) -> String {
    let body = json!({"request_id": "one", "room": room, "wait_seconds": 0});
    backend.post("/v1/rooms", &player.token, &body).await.expect(200);
    starting(backend).await
}

/// Quick play into a room that has yet to start, so that no seat elsewhere will do.
async fn play(backend: &Backend, player: &Player) -> Answer {
    let room = json!({"map": "swamp", "max_players": 2});
    let body = json!({"request_id": "play", "query": {"map": "swamp"}, "room": room, "wait_seconds": 0});
    backend.post(QUICK_PLAY, &player.token, &body).await
}

/// As if the player's request had not been repeated for long.
async fn is_gone(backend: &Backend, player: &Player) {
    backend.execute_with("UPDATE room_requests SET polled_at = 1 WHERE player_id = $1", &player.id).await;
}

async fn register(backend: &Backend, allocation: &str, instance: &str, change: Value) -> Answer {
    let mut body = json!({"instance_id": instance, "allocation_id": allocation, "name": "Own", "address": "127.0.0.1",
        "port": 7777, "max_players": 2});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    backend.serve("/v1/servers", &body).await
}

fn id_of(registered: Answer) -> String {
    text(&registered.expect(201)["server_id"])
}

/// A room of another server, with a seat for each of the players.
async fn pond(backend: &Backend, players: &[&Player]) -> String {
    let pond = backend.server("Pond", json!({"max_players": 8})).await;
    for player in players {
        backend.post(&format!("/v1/rooms/{pond}/ticket"), &player.token, &json!({})).await.expect(200);
    }
    pond
}

async fn reserved(backend: &Backend, room: &str) -> Value {
    backend.get(&format!("/v1/rooms/{room}"), &backend.key).await.expect(200)["reserved"].clone()
}

on_both_databases! {
    async fn a_room_has_one_server(backend, servers) {
        let ada = player(backend).await;
        let allocation = create(backend, &ada, json!({})).await;
        let server = id_of(register(backend, &allocation, "first", json!({})).await);
        register(backend, &allocation, "second", json!({})).await.refused(409, "allocation_ended");
        assert_eq!(id_of(register(backend, &allocation, "first", json!({})).await), server);
        assert_eq!(backend.count("SELECT COUNT(*) FROM servers").await, 1);
        assert_eq!(backend.text("SELECT server_id FROM allocations").await, server);
    }

    async fn a_password_that_was_removed_stays_so(backend, servers) {
        let ada = player(backend).await;
        let allocation = create(backend, &ada, json!({"password": "frog"})).await;
        let server = id_of(register(backend, &allocation, "one", json!({})).await);
        let has_password = async || backend.get(&format!("/v1/rooms/{server}"), &ada.token).await.expect(200)["has_password"] == true;
        assert!(has_password().await);
        // Before it has taken the room over, it registers again without.
        id_of(register(backend, &allocation, "one", json!({})).await);
        assert!(has_password().await);
        let path = format!("/v1/servers/{server}/heartbeat");
        backend.serve(&path, &json!({"sequence": 1, "players": 0, "room_taken_over": true})).await.expect(200);
        assert!(has_password().await);
        backend.serve(&path, &json!({"sequence": 2, "players": 0, "password": ""})).await.expect(200);
        assert!(!has_password().await);
        id_of(register(backend, &allocation, "one", json!({})).await);
        assert!(!has_password().await);
    }

    async fn who_is_gone_takes_no_seat_and_keeps_the_one_elsewhere(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        let pond = pond(backend, &[&ada, &bob]).await;
        play(backend, &ada).await.expect(200);
        play(backend, &bob).await.expect(200);
        is_gone(backend, &bob).await;
        let allocation = starting(backend).await;
        let server = id_of(register(backend, &allocation, "one", json!({})).await);
        assert_eq!((reserved(backend, &server).await, reserved(backend, &pond).await), (json!(1), json!(1)));
        assert_eq!(play(backend, &ada).await.expect(200)["status"], "ready");
    }

    async fn others_come_in_place_of_who_is_gone(backend, servers) {
        let (ada, bob, eve) = (player(backend).await, player(backend).await, player(backend).await);
        play(backend, &ada).await.expect(200);
        play(backend, &bob).await.expect(200);
        is_gone(backend, &bob).await;
        play(backend, &eve).await.expect(200);
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 1);
        let allocation = starting(backend).await;
        id_of(register(backend, &allocation, "one", json!({})).await);
        for player in [&ada, &eve] {
            assert_eq!(play(backend, player).await.expect(200)["status"], "ready");
        }
    }

    async fn who_finds_a_full_room_keeps_the_seat_elsewhere(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        let pond = pond(backend, &[&ada, &bob]).await;
        play(backend, &ada).await.expect(200);
        play(backend, &bob).await.expect(200);
        let allocation = starting(backend).await;
        // One place is taken already.
        let server = id_of(register(backend, &allocation, "one", json!({"players": 1})).await);
        assert_eq!((reserved(backend, &server).await, reserved(backend, &pond).await), (json!(1), json!(1)));
    }

    async fn a_late_cancellation_leaves_the_seat_of_the_next_request(backend, servers) {
        let ada = player(backend).await;
        play(backend, &ada).await.expect(200);
        let allocation = starting(backend).await;
        let server = id_of(register(backend, &allocation, "one", json!({})).await);
        let next = json!({"request_id": "next", "query": {"map": "swamp"}, "room": {"map": "swamp"}, "wait_seconds": 0});
        assert_eq!(backend.post(QUICK_PLAY, &ada.token, &next).await.expect(200)["status"], "ready");
        cancel(backend, &ada.token, "play").await;
        assert_eq!(reserved(backend, &server).await, 1);
        assert_eq!(backend.text("SELECT status FROM allocations").await, "ready");
        // Its own cancellation gives back all of its seats.
        let allocation = create(backend, &ada, json!({})).await;
        id_of(register(backend, &allocation, "two", json!({})).await);
        cancel(backend, &ada.token, "one").await;
        assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 0);
        assert_eq!(backend.text("SELECT status FROM allocations ORDER BY created_at DESC, allocation_id DESC LIMIT 1").await, "ended");
    }

    async fn many_requests_of_a_player_need_one_place_of_a_room_that_starts(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        for request in 0..4 {
            let body = json!({"request_id": request.to_string(), "query": {"map": "swamp"}, "room": {"map": "swamp", "max_players": 2}, "wait_seconds": 0});
            backend.post(QUICK_PLAY, &ada.token, &body).await.expect(200);
        }
        play(backend, &bob).await.expect(200);
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 1);
        let allocation = starting(backend).await;
        let server = id_of(register(backend, &allocation, "one", json!({})).await);
        assert_eq!(reserved(backend, &server).await, 2);
        // Each of the two has a ticket for the seat, one by one request only.
        assert_eq!(backend.count("SELECT COUNT(*) FROM room_requests JOIN seats ON seat_id = ticket_id").await, 2);
        assert_eq!(backend.count("SELECT COUNT(*) FROM room_requests WHERE ticket_id IS NOT NULL").await, 2);
    }

    /// While the database is not there, no heartbeat is stored.
    async fn an_outage_of_the_database_ends_no_room(backend, |config| {
        servers(config);
        (config.lease_seconds, config.heartbeat_seconds) = (5, 1);
    }) {
        let (ada, bob, eve) = (player(backend).await, player(backend).await, player(backend).await);
        let mut rooms = Vec::new();
        for (player, instance) in [(&ada, "one"), (&bob, "two")] {
            let allocation = create(backend, player, json!({})).await;
            rooms.push(id_of(register(backend, &allocation, instance, json!({})).await));
        }
        backend.execute("ALTER TABLE room_requests RENAME TO room_requests_away").await;
        let database = backend_server::database::Database::open(backend.database()).await.expect("opens");
        let living = format!("SELECT COUNT(*) FROM servers WHERE lease_until > {}", database.clock());
        database.close().await;
        until(backend, 0, living.leak()).await;
        backend.execute("ALTER TABLE room_requests_away RENAME TO room_requests").await;
        // It is looked at again.
        create(backend, &eve, json!({})).await;
        // A server whose lease has expired registers again.
        let allocation = backend.text("SELECT allocation_id FROM allocations WHERE status = 'ready' ORDER BY created_at LIMIT 1").await;
        let here = async || id_of(register(backend, &allocation, "one", json!({})).await);
        assert_eq!(here().await, rooms[0]);
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ready'").await, 2);
        // The one that does not ends all the same.
        while backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ended'").await == 0 {
            here().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let left = backend.text("SELECT server_id FROM allocations WHERE status = 'ready'").await;
        assert_eq!(left, rooms[0]);
    }
}

/// Runs `request` while a transaction holds the rows that `first` locks, as another replica would. Once the request waits for it, the
/// transaction does `then` as well, which PostgreSQL refuses where both wait for each other.
async fn beside<T: std::fmt::Debug>(
    backend: &Backend,
    first: String,
    then: &[String],
    request: impl Future<Output = T>,
) -> T {
    let database = backend_server::database::Database::open(backend.database()).await.expect("opens");
    let mut held = database.pool().begin().await.expect("begun");
    sqlx::query(AssertSqlSafe(first)).execute(&mut *held).await.expect("locked");
    let waits = async {
        let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        loop {
            let row = sqlx::query(sql).fetch_one(database.pool()).await.expect("read");
            if row.try_get::<i64, _>(0).expect("a number") > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut request = std::pin::pin!(request);
    tokio::select! { biased; early = &mut request => panic!("it does not wait: {early:?}"), () = waits => {} }
    let goes_on = async {
        for sql in then {
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut *held).await.expect("no deadlock");
        }
        held.commit().await.expect("committed");
    };
    let (answer, ()) = tokio::join!(request, goes_on);
    database.close().await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_a_room_and_its_heartbeat_take_turns_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    let ada = player(&backend).await;
    let allocation = create(&backend, &ada, json!({})).await;
    let server = id_of(register(&backend, &allocation, "one", json!({})).await);
    let heartbeat = format!("UPDATE servers SET players = 1 WHERE server_id = '{server}'");
    let counts_its_player = format!("DELETE FROM seats WHERE server_id = '{server}'");
    beside(&backend, heartbeat, &[counts_its_player], cancel(&backend, &ada.token, "one")).await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_and_a_heartbeat_of_a_room_that_is_left_take_turns_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    let (ada, bob) = (player(&backend).await, player(&backend).await);
    let pond = pond(&backend, &[&ada, &bob]).await;
    play(&backend, &ada).await.expect(200);
    play(&backend, &bob).await.expect(200);
    // Ada leaves the pond first.
    backend
        .execute_with("UPDATE room_requests SET polled_at = polled_at + 1000 WHERE player_id = $1", &ada.id)
        .await;
    let allocation = starting(&backend).await;
    let heartbeat = format!("DELETE FROM seats WHERE player_id = '{}'", bob.id);
    let records = format!("UPDATE room_changes SET changed_at = changed_at WHERE room_id = '{pond}'");
    let registration = register(&backend, &allocation, "one", json!({}));
    beside(&backend, heartbeat, &[records], registration).await.expect(201);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_joins_a_start_that_fails_in_this_moment_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    let (ada, bob) = (player(&backend).await, player(&backend).await);
    play(&backend, &ada).await.expect(200);
    let allocation = starting(&backend).await;
    let held = format!("SELECT 1 FROM allocations WHERE allocation_id = '{allocation}' FOR UPDATE");
    let fails = format!(
        "UPDATE allocations SET status = 'failed', ended_at = 1 WHERE allocation_id = '{allocation}'"
    );
    let joined = beside(&backend, held, &[fails], play(&backend, &bob)).await.expect(200);
    assert_eq!(joined["status"], "requested");
    backend.stop().await;
}

/// The pass that gives up what nobody waits for must not wait for whoever joins at this moment: it would not see them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_joins_in_this_moment_is_not_given_up_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    let (ada, bob, eve) = (player(&backend).await, player(&backend).await, player(&backend).await);
    let allocation = create(&backend, &ada, json!({})).await;
    let database = backend_server::database::Database::open(backend.database()).await.expect("opens");
    let mut held = database.pool().begin().await.expect("begun");
    sqlx::query("SELECT 1 FROM allocations FOR UPDATE").execute(&mut *held).await.expect("locked");
    is_gone(&backend, &ada).await;
    // It is looked at while the row is held.
    let body = json!({"request_id": "one", "room": {}, "wait_seconds": 0});
    backend.post("/v1/rooms", &bob.token, &body).await.expect(200);
    let looked_at = "SELECT (SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') \
        + (SELECT COUNT(*) FROM allocations WHERE status = 'starting') - 1";
    until(&backend, 1, looked_at).await;
    let joins =
        "UPDATE room_requests SET polled_at = (SELECT MAX(polled_at) FROM room_requests) WHERE polled_at = 1";
    sqlx::query(joins).execute(&mut *held).await.expect("joined");
    held.commit().await.expect("committed");
    // It is looked at again.
    backend.post("/v1/rooms", &eve.token, &body).await.expect(200);
    until(&backend, 0, "SELECT COUNT(*) FROM allocations WHERE status = 'requested'").await;
    let status = sqlx::query("SELECT status FROM allocations WHERE allocation_id = $1").bind(allocation);
    let row = status.fetch_one(database.pool()).await.expect("read");
    assert_eq!(row.try_get::<String, _>(0).expect("a text"), "starting");
    database.close().await;
    backend.stop().await;
}

/// Names the players' seats so that Ada's comes after Bob's in the order of ids, and before it in the order of requests.
async fn against_the_order(backend: &Backend, ada: &Player, bob: &Player) {
    for (sql, player) in [
        ("UPDATE seats SET seat_id = 'second' WHERE player_id = $1", ada),
        ("UPDATE seats SET seat_id = 'first' WHERE player_id = $1", bob),
        ("UPDATE room_requests SET polled_at = polled_at + 1000 WHERE player_id = $1", ada),
    ] {
        backend.execute_with(sql, &player.id).await;
    }
}

fn locks(seat: &str) -> String {
    format!("SELECT 1 FROM seats WHERE seat_id = '{seat}' FOR UPDATE")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_are_locked_in_the_order_of_their_ids_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    let (ada, bob) = (player(&backend).await, player(&backend).await);
    let pond = pond(&backend, &[&ada, &bob]).await;
    play(&backend, &ada).await.expect(200);
    play(&backend, &bob).await.expect(200);
    against_the_order(&backend, &ada, &bob).await;
    let beat = json!({"sequence": 1, "players": 2, "used_tickets": ["second", "first"]});
    let path = format!("/v1/servers/{pond}/heartbeat");
    let keeps = "UPDATE seats SET expires_at = expires_at + 1 WHERE seat_id = 'second'".to_owned();
    beside(&backend, locks("first"), &[keeps], backend.serve(&path, &beat)).await.expect(200);
    backend.stop().await;

    let backend = Backend::on_postgres_with(servers).await;
    let (ada, bob) = (player(&backend).await, player(&backend).await);
    self::pond(&backend, &[&ada, &bob]).await;
    play(&backend, &ada).await.expect(200);
    play(&backend, &bob).await.expect(200);
    against_the_order(&backend, &ada, &bob).await;
    let allocation = starting(&backend).await;
    let registration = register(&backend, &allocation, "one", json!({}));
    beside(&backend, locks("first"), &[locks("second")], registration).await.expect(201);
    // Those that expire are left to whoever holds them.
    backend.execute("UPDATE seats SET expires_at = 1").await;
    let database = backend_server::database::Database::open(backend.database()).await.expect("opens");
    let mut held = database.pool().begin().await.expect("begun");
    sqlx::query("SELECT 1 FROM seats ORDER BY seat_id LIMIT 1 FOR UPDATE")
        .execute(&mut *held)
        .await
        .expect("locked");
    backend.sweep().await;
    assert_eq!(backend.count("SELECT COUNT(*) FROM seats").await, 1);
    held.commit().await.expect("committed");
    database.close().await;
    backend.stop().await;
}

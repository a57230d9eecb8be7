//! What one allocation must not do to the others, and what players do not see of the operator's machine.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection, Row};

use crate::harness::{Backend, on_both_databases, text};
use crate::rooms_on_demand::{
    HANGING, SERVER, cancel, create, kept, player, until_nothing_runs, with_servers,
};

fn servers(config: &mut backend_server::Config) {
    with_servers(config, SERVER, &json!({}));
}

fn servers_that_end_when_empty(config: &mut backend_server::Config) {
    with_servers(config, SERVER, &json!({"empty_timeout_seconds": 1}));
}

/// A server that ends, from one start to the next, until it has been started so many times.
fn registering_at(start: usize) -> String {
    let file = "\"$BACKEND_SERVER_KEY_FILE\".starts";
    let ends =
        format!("echo start >> {file}; [ $(wc -l < {file}) -ge {start} ] || {{ echo no map yet; exit 3; }}");
    format!("{ends}\n{SERVER}")
}

fn starts(backend: &Backend) -> usize {
    std::fs::read_to_string(backend.folder().join("server.key.starts")).unwrap_or_default().lines().count()
}

async fn until_count(backend: &Backend, sql: &'static str, wanted: i64) {
    while backend.count(sql).await != wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The folder of the only server.
async fn folder(backend: &Backend) -> PathBuf {
    backend.folder().join("room-servers").join(backend.text("SELECT allocation_id FROM allocations").await)
}

on_both_databases! {
    async fn a_server_that_ends_before_it_registers_is_started_again(backend, |config| {
        with_servers(config, &registering_at(3), &json!({"start_attempts": 3, "max_servers": 1}));
    }) {
        create(backend, &player(backend).await, "one", json!({})).await.expect(200);
        assert_eq!((starts(backend), kept(&backend.folder().join("room-servers"))), (3, 1));
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 1);
    }

    async fn a_server_is_started_no_more_often_than_set(backend, |config| {
        with_servers(config, &registering_at(100), &json!({"start_attempts": 2}));
    }) {
        let answer = create(backend, &player(backend).await, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        let detail = text(&answer.body["detail"]);
        assert!(detail.contains("exit code 3, at the last of 2 attempts:\nno map yet"), "{detail}");
        until_nothing_runs(backend).await;
        assert_eq!(starts(backend), 2);
    }

    async fn what_is_given_up_is_not_started_again(backend, |config| {
        with_servers(config, &registering_at(100), &json!({"start_attempts": 10}));
    }) {
        let ada = player(backend).await;
        backend.post("/v1/rooms", &ada, &json!({"request_id": "one", "wait_seconds": 0})).await.expect(200);
        while starts(backend) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel(backend, &ada, "one").await;
        until_nothing_runs(backend).await;
        assert!(starts(backend) < 10, "{}", starts(backend));
    }

    async fn one_that_cannot_be_looked_at_holds_up_no_other(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        create(backend, &ada, "one", json!({})).await.expect(200);
        let process = folder(backend).await.join("process.json");
        std::fs::remove_file(&process).expect("removed");
        std::fs::create_dir(&process).expect("made");
        create(backend, &bob, "two", json!({})).await.expect(200);
        // Nor when both are to be stopped.
        cancel(backend, &ada, "one").await;
        cancel(backend, &bob, "two").await;
        let logs = backend.folder().join("room-servers");
        while kept(&logs) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The end of its lease is seen in any case.
        create(backend, &ada, "three", json!({})).await.expect(200);
        let process = backend.text("SELECT allocation_id FROM allocations WHERE status = 'ready'").await;
        let process = logs.join(process).join("process.json");
        std::fs::remove_file(&process).expect("removed");
        std::fs::create_dir(&process).expect("made");
        backend.execute("UPDATE servers SET lease_until = 1").await;
        until_count(backend, "SELECT COUNT(*) FROM allocations WHERE ended_at IS NULL", 0).await;
    }

    async fn a_room_of_a_newer_replica_holds_up_no_other(backend, servers) {
        create(backend, &player(backend).await, "one", json!({})).await.expect(200);
        backend.execute(r#"UPDATE allocations SET room = '{"of_a_later_version": 1}'"#).await;
        create(backend, &player(backend).await, "two", json!({})).await.expect(200);
    }

    async fn an_empty_room_is_ended_by_its_own_host(backend, servers_that_end_when_empty) {
        create(backend, &player(backend).await, "one", json!({})).await.expect(200);
        backend.execute("UPDATE allocations SET host = 'another'").await;
        create(backend, &player(backend).await, "two", json!({})).await.expect(200);
        backend.execute("DELETE FROM seats").await;
        until_count(backend, "SELECT COUNT(*) FROM allocations WHERE host <> 'another' AND status = 'ended'", 1).await;
        assert_eq!(
            backend.count("SELECT COUNT(*) FROM allocations WHERE host = 'another' AND status = 'ready' AND empty_since IS NULL").await,
            1
        );
        // One that is gone ends with the lease of its server.
        backend.execute("UPDATE servers SET lease_until = 1").await;
        until_count(backend, "SELECT COUNT(*) FROM allocations WHERE status = 'ended'", 2).await;
    }

    async fn a_spare_that_registers_and_ends_is_not_started_over_and_over(backend, |config| {
        let script = SERVER.replace("while [ -e \"$BACKEND_SERVER_KEY_FILE\" ]; do sleep 0.1; done", "exit 3");
        with_servers(config, &script, &json!({"spare_servers": 1}));
    }) {
        until_count(backend, "SELECT COUNT(*) FROM (SELECT 1 FROM allocations WHERE spare = 1 AND status = 'ended' LIMIT 1) AS ended", 1).await;
        // The next one comes, later.
        until_count(backend, "SELECT COUNT(*) FROM (SELECT 1 FROM allocations WHERE spare = 1 LIMIT 2) AS spares", 2).await;
        let at_once = "SELECT COUNT(*) FROM allocations ended JOIN allocations next ON next.created_at >= ended.ended_at \
            AND next.created_at < ended.ended_at + 9000 WHERE ended.spare = 1 AND next.spare = 1";
        assert_eq!(backend.count(at_once).await, 0);
    }

    async fn players_see_no_path_unless_it_is_set(backend, |config| {
        with_servers(config, "", &json!({"command": ["/nowhere/server"], "log_in_errors": false}));
    }) {
        let answer = create(backend, &player(backend).await, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        let detail = text(&answer.body["detail"]);
        assert!(detail.contains("cannot be started") && !detail.contains("nowhere"), "{detail}");
    }

    async fn a_clock_that_was_set_back_keeps_no_allocation_alive(backend, |config| {
        with_servers(config, HANGING, &json!({}));
    }) {
        let ada = player(backend).await;
        for request_id in ["one", "two"] {
            backend.post("/v1/rooms", &ada, &json!({"request_id": request_id, "wait_seconds": 0})).await.expect(200);
        }
        cancel(backend, &ada, "two").await;
        backend.sweep().await;
        for moved in [
            "UPDATE allocations SET created_at = created_at + 3600000, deadline = deadline + 3600000, empty_since = created_at + 3600000",
            "UPDATE allocations SET ended_at = ended_at + 3600000 WHERE ended_at IS NOT NULL",
            "UPDATE room_requests SET polled_at = polled_at + 3600000",
            "UPDATE clock_seen SET seen_at = seen_at + 3600000",
        ] {
            backend.execute(moved).await;
        }
        backend.sweep().await;
        for ahead in [
            "SELECT COUNT(*) FROM allocations WHERE created_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM allocations WHERE deadline > (SELECT seen_at FROM clock_seen) + 20000",
            "SELECT COUNT(*) FROM allocations WHERE empty_since > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM allocations WHERE ended_at > (SELECT seen_at FROM clock_seen)",
            "SELECT COUNT(*) FROM room_requests WHERE polled_at > (SELECT seen_at FROM clock_seen)",
        ] {
            assert_eq!(backend.count(ahead).await, 0, "{ahead}");
        }
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 2);
    }
}

async fn locked(backend: &Backend, rows: &'static str) -> PgConnection {
    let mut connection = PgConnection::connect(backend.database()).await.expect("PostgreSQL answers");
    sqlx::query("BEGIN").execute(&mut connection).await.expect("begun");
    sqlx::query(rows).fetch_one(&mut connection).await.expect("locked");
    connection
}

/// SQLite has one writer, which nothing else holds for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_stays_as_it_is_is_looked_at_without_a_lock_on_postgres() {
    let backend = Backend::on_postgres_with(servers).await;
    create(&backend, &player(&backend).await, "one", json!({})).await.expect(200);
    let connection = locked(&backend, "SELECT 1 FROM servers FOR UPDATE").await;
    create(&backend, &player(&backend).await, "two", json!({})).await.expect(200);
    connection.close().await.expect("closed");
    backend.stop().await;
}

/// Everybody else locks the allocation before its server: the other way round, two would wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_room_is_locked_before_its_server_on_postgres() {
    let backend = Backend::on_postgres_with(servers_that_end_when_empty).await;
    create(&backend, &player(&backend).await, "one", json!({})).await.expect(200);
    let mut connection = locked(&backend, "SELECT 1 FROM allocations FOR UPDATE").await;
    backend.execute("DELETE FROM seats").await;
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until_count(&backend, waiting, 1).await;
    let server =
        sqlx::query("SELECT server_id FROM servers FOR UPDATE NOWAIT").fetch_one(&mut connection).await;
    assert!(server.expect("nobody holds it").try_get::<String, _>(0).is_ok());
    connection.close().await.expect("closed");
    until_count(&backend, "SELECT COUNT(*) FROM allocations WHERE status = 'ended'", 1).await;
    backend.stop().await;
}

//! Databases of earlier builds open, with what they hold.

use std::fmt::Write as _;

use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection, Row};
use test_database::TestDatabase;

use super::MIGRATIONS;
use crate::database::{Database, location};

/// The beginnings of the migrations' checksums. Databases remember them, and are refused when one differs: what has been
/// released is not edited, a further migration is added, and its line here.
const RELEASED: [(i64, &str); 31] = [
    (1, "8f5381298684162c"),
    (2, "d0d0af4979ecc429"),
    (3, "11bae7c1c92fc935"),
    (4, "2b5582c8636f6391"),
    (5, "0cd8fd164d35c303"),
    (6, "c25308836af0f83e"),
    (7, "d9eabc78634cdda6"),
    (8, "c9053afd0395a0e7"),
    (10, "1a6774ac2a13ae71"),
    (11, "5943754f949792a6"),
    (12, "1c26d7e4238920e2"),
    (13, "b10dd950461dfb16"),
    (14, "d278e29b3985a4b6"),
    (15, "9a0790952534d51e"),
    (17, "cbdd05e21892325f"),
    (18, "5a878bb49a653d59"),
    (19, "a97609f7602cd56f"),
    (20, "8505ab103690dbc2"),
    (21, "22df1703dd8b970f"),
    (22, "faa04f1be30b2332"),
    (23, "7dd7a884bc2be427"),
    (24, "a92e04f0f5b04f07"),
    (25, "4a1da646cead183d"),
    (26, "5d6b6895a4b6597d"),
    (27, "36068e68f9d3e2b5"),
    (29, "4728e5e2281dbfe6"),
    (30, "ddee0546a59048a1"),
    (31, "27da8cbb7d9f898b"),
    (32, "0839cc1952f38d7a"),
    (33, "3b75839dc87a0d6b"),
    (34, "03b2525ee11ae84f"),
];

/// The last migration of the earlier build.
const EARLIER: i64 = 12;

#[test]
fn migrations_stay_as_they_were_released() {
    let beginning = |checksum: &[u8]| {
        checksum.iter().take(8).fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        })
    };
    let found: Vec<(i64, String)> =
        MIGRATIONS.iter().map(|one| (one.version, beginning(&one.checksum))).collect();
    let released: Vec<(i64, String)> =
        RELEASED.iter().map(|(version, checksum)| (*version, (*checksum).to_owned())).collect();
    assert_eq!(found, released);
}

async fn of_an_earlier_build_opens(at: TestDatabase) {
    sqlx::any::install_default_drivers();
    let url = location::url(at.location());
    let mut earlier = AnyConnection::connect(&url).await.expect("connects");
    let first = MIGRATIONS.iter().filter(|one| one.version <= EARLIER).cloned().collect();
    Migrator::with_migrations(first).run(&mut earlier).await.expect("migrates");
    for sql in [
        "INSERT INTO players (player_id, display_name, created_at) VALUES ('ada', 'Ada', 1)",
        "INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) \
         VALUES ('ada', 'save', 3, '{\"level\":7}', 1, 3, 1)",
        "INSERT INTO player_leases (player_id, server_id, epoch, lease_until) VALUES ('ada', 's1', 1, 5)",
        "INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, tags, \
         players, max_players, status, heartbeat_sequence, created_at, lease_until) \
         VALUES ('s1', 'k', 'i', 'n', 'a', 1, 'm', 'm', 'r', 'v', '[]', 7, 16, 'ready', 0, 1, 5)",
    ] {
        sqlx::query(sql).execute(&mut earlier).await.expect("written");
    }
    earlier.close().await.expect("closes");
    // Twice: what is done only once must not be in the way of the next start.
    for _ in 0..2 {
        let database = Database::open(at.location()).await.expect("opens");
        let row = sqlx::query(
            "SELECT d.value, d.version, l.epoch, p.player_count FROM documents d \
             JOIN player_leases l ON l.player_id = d.player_id JOIN server_players p ON p.listed_id = l.server_id",
        );
        let row = row.fetch_one(database.pool()).await.expect("everything is there");
        assert_eq!(row.try_get::<String, _>("value").expect("text"), "{\"level\":7}");
        let numbers =
            ["version", "epoch", "player_count"].map(|name| row.try_get::<i64, _>(name).expect("a number"));
        assert_eq!(numbers, [3, 1, 7]);
        database.close().await;
    }
}

#[tokio::test]
async fn a_sqlite_database_of_an_earlier_build_opens() {
    of_an_earlier_build_opens(TestDatabase::sqlite().expect("SQLite")).await;
}

#[tokio::test]
async fn a_postgres_database_of_an_earlier_build_opens() {
    of_an_earlier_build_opens(TestDatabase::postgres().expect("PostgreSQL")).await;
}

//! TLS to PostgreSQL, with certificate authorities of the test's own.

use std::path::Path;
use std::time::Duration;

use backend_server::database::Database;
use backend_server::{Config, MailTarget, Running, start};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use test_database::TestDatabase;

const WAIT: Duration = Duration::from_secs(30);

/// A certificate authority, and its certificate as PEM.
fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("signed").pem();
    (Issuer::new(params, key), certificate)
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.expect("executed");
}

/// Writes a file that PostgreSQL reads, as its user and for that alone.
async fn write(connection: &mut PgConnection, path: &str, text: &str) {
    let text = STANDARD.encode(text);
    run(connection, format!("COPY (SELECT '{text}') TO PROGRAM 'umask 077; base64 -d > \"{path}\"'")).await;
}

/// Turns TLS of the tests' PostgreSQL on, with a certificate of `issuer` for `localhost`, or off.
async fn set_tls(connection: &mut PgConnection, issuer: Option<&Issuer<'static, KeyPair>>) {
    if let Some(issuer) = issuer {
        let data: String = sqlx::query("SELECT current_setting('data_directory')")
            .fetch_one(&mut *connection)
            .await
            .expect("answered")
            .get(0);
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, issuer).expect("signed").pem();
        for (setting, name, text) in
            [("ssl_cert_file", "tls.pem", certificate), ("ssl_key_file", "tls.key", key.serialize_pem())]
        {
            write(connection, &format!("{data}/{name}"), &text).await;
            run(connection, format!("ALTER SYSTEM SET {setting} = '{data}/{name}'")).await;
        }
        run(connection, "ALTER SYSTEM SET ssl = on".to_owned()).await;
    } else {
        run(connection, "ALTER SYSTEM RESET ssl".to_owned()).await;
    }
    run(connection, "SELECT pg_reload_conf()".to_owned()).await;
}

/// How many connections to `database` have TLS, how many have none, and how many listen with it.
async fn connections(connection: &mut PgConnection, database: &str) -> (i64, i64, i64) {
    let row = sqlx::query(
        "SELECT COUNT(*) FILTER (WHERE ssl), COUNT(*) FILTER (WHERE NOT ssl), \
         COUNT(*) FILTER (WHERE ssl AND query LIKE 'LISTEN %') \
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = $1",
    )
    .bind(database)
    .fetch_one(connection)
    .await
    .expect("answered");
    (row.get(0), row.get(1), row.get(2))
}

async fn backend(folder: &Path, database: &str) -> anyhow::Result<Running> {
    start(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database: database.to_owned(),
        server_key_file: Some(folder.join("server.key")),
        mail: MailTarget::Folder(folder.join("mails")),
        world_storage: Some(folder.join("worlds").display().to_string()),
        ..Config::default()
    })
    .await
}

/// What is said about a database that does not open; nothing about one that does.
async fn refused(url: &str) -> Option<String> {
    match Database::open(url).await {
        Ok(database) => {
            database.close().await;
            None
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Two replicas that start at once: the lock for migrations, the pools, and the connections that listen.
async fn two_replicas(admin: &mut PgConnection, folder: &Path, url: &str, name: &str) {
    let folders = ["one", "two"].map(|name| folder.join(name));
    for folder in &folders {
        std::fs::create_dir(folder).expect("made");
    }
    let (first, second) = tokio::join!(backend(&folders[0], url), backend(&folders[1], url));
    let replicas = [first.expect("the first starts"), second.expect("the second starts")];
    let mut following = Vec::new();
    for (replica, folder) in replicas.iter().zip(&folders) {
        let key = std::fs::read_to_string(folder.join("server.key")).expect("key");
        let events = reqwest::Client::new()
            .get(format!("http://{}/v1/rooms/events", replica.address))
            .bearer_auth(key.trim())
            .send()
            .await
            .expect("a reply");
        assert_eq!(events.status(), 200);
        following.push(events);
    }
    let listening = async {
        loop {
            let (with, without, listening) = connections(admin, name).await;
            assert_eq!(without, 0, "{with} connections have TLS");
            if listening == 2 && with > 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, listening).await.expect("both listen through TLS");
    drop(following);
    for replica in replicas {
        replica.stop().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_reached_through_tls() {
    let database = TestDatabase::postgres().expect("PostgreSQL");
    let (base, name) = database.location().rsplit_once('/').expect("URL with a database");
    // In another database, for the connections of this one are counted.
    let mut admin =
        PgConnection::connect(&format!("{base}/postgres?sslmode=disable")).await.expect("PostgreSQL answers");
    let (user, address) = base.rsplit_once('@').expect("a user");
    let (_, port) = address.rsplit_once(':').expect("a port");
    let at = |host: &str, parameters: &str| format!("{user}@{host}:{port}/{name}?{parameters}");

    let said = refused(&at("localhost", "sslmode=require")).await.expect("PostgreSQL has no TLS yet");
    assert!(said.contains("server does not support TLS"), "{said}");

    let folder = tempfile::tempdir().expect("folder");
    let ((ours, our_certificate), (_, other_certificate)) = (authority("Ours"), authority("Another"));
    let files = ["ours.pem", "other.pem", "missing.pem", "empty.pem"];
    let [root, other, missing, empty] = files.map(|name| folder.path().join(name));
    std::fs::write(&root, our_certificate).expect("written");
    std::fs::write(&other, other_certificate).expect("written");
    std::fs::write(&empty, "").expect("written");
    let [root, other, missing, empty] = [root, other, missing, empty].map(|path| path.display().to_string());
    set_tls(&mut admin, Some(&ours)).await;
    let required = async {
        while refused(&at("localhost", "sslmode=require")).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, required).await.expect("PostgreSQL speaks TLS");

    let full = at("localhost", &format!("sslmode=verify-full&sslrootcert={root}"));
    two_replicas(&mut admin, folder.path(), &full, name).await;

    // By its address it is not who its certificate names.
    for (host, parameters, says) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}"), None),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={root}"), None),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={root}"), None),
        ("127.0.0.1", "sslmode=require".to_owned(), None),
        ("127.0.0.1", "sslmode=prefer".to_owned(), None),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={root}"), Some("not valid for name")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), Some("UnknownIssuer")),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), Some("UnknownIssuer")),
        ("localhost", "sslmode=verify-full".to_owned(), Some("UnknownIssuer")),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={missing}"),
            Some("missing.pem cannot be read"),
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={empty}"),
            Some("empty.pem holds no certificate"),
        ),
    ] {
        let said = refused(&at(host, &parameters)).await;
        match (&said, says) {
            (None, None) => {}
            (Some(said), Some(says)) => assert!(said.contains(says), "{host} {parameters}: {said}"),
            _ => panic!("{host} {parameters}: {said:?}"),
        }
    }

    set_tls(&mut admin, None).await;
}

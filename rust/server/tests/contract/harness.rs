//! A running backend with a database of its own, and a client that says what it expects.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use backend_server::{Config, Running, start};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;
use test_database::TestDatabase;
use uuid::Uuid;

/// Declares each `async fn name(backend: Backend)` as two tests: `name::sqlite` and `name::postgres`. A second argument
/// changes the settings: `|config| config.lease_seconds = 1`.
macro_rules! on_both_databases {
    (@change) => { |_| {} };
    (@change $change:expr) => { $change };
    ($($(#[$doc:meta])* async fn $name:ident($backend:ident $(, $change:expr)?) $body:block)+) => {
        $($(#[$doc])* mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($backend: &$crate::harness::Backend) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let backend = $crate::harness::Backend::on_sqlite_with($crate::harness::on_both_databases!(@change $($change)?)).await;
                run(&backend).await;
                backend.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let backend = $crate::harness::Backend::on_postgres_with($crate::harness::on_both_databases!(@change $($change)?)).await;
                run(&backend).await;
                backend.stop().await;
            }
        })+
    };
}
pub(crate) use on_both_databases;

pub struct Backend {
    running: Running,
    config: Config,
    pub http: Client,
    pub key: String,
    /// Gone with the backend.
    folder: Files,
    /// The epochs that each player's leases, and the world's, were given, in order.
    epochs: Mutex<HashMap<String, Vec<i64>>>,
}

/// Where a backend has its files.
enum Files {
    /// With its database.
    OfDatabase(TestDatabase),
    /// In a folder of its own, because the database is another backend's.
    Beside(TempDir),
}

impl Files {
    fn path(&self) -> &Path {
        match self {
            Self::OfDatabase(database) => database.folder(),
            Self::Beside(folder) => folder.path(),
        }
    }
}

/// A reply, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn field(&self) -> &str {
        self.body["field"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["request_id"], self.headers["x-request-id"].to_str().expect("text"));
    }
}

impl Backend {
    pub async fn on_sqlite() -> Self {
        Self::on_sqlite_with(|_| {}).await
    }

    pub async fn on_sqlite_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(TestDatabase::sqlite().expect("SQLite"), change).await
    }

    pub async fn on_postgres_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(TestDatabase::postgres().expect("PostgreSQL"), change).await
    }

    async fn on(database: TestDatabase, change: impl FnOnce(&mut Config)) -> Self {
        Self::begin(database.location().to_owned(), Files::OfDatabase(database), change).await
    }

    async fn begin(database: String, folder: Files, change: impl FnOnce(&mut Config)) -> Self {
        let key_file = folder.path().join("server.key");
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            database,
            server_key_file: Some(key_file.clone()),
            mail: backend_server::MailTarget::Folder(folder.path().join("mails")),
            world_storage: Some(folder.path().join("worlds").display().to_string()),
            ..Config::default()
        };
        change(&mut config);
        let running = start(config.clone()).await.expect("backend starts");
        let key = std::fs::read_to_string(key_file).expect("key").trim().to_owned();
        Self { running, config, http: Client::new(), key, folder, epochs: Mutex::default() }
    }

    /// Runs a statement on the backend's database, behind its back.
    pub async fn execute(&self, sql: &'static str) {
        let database = backend_server::database::Database::open(&self.config.database).await.expect("opens");
        sqlx::query(sql).execute(database.pool()).await.expect("executed");
        database.close().await;
    }

    /// The number that a statement gives on the backend's database, behind its back.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let database = backend_server::database::Database::open(&self.config.database).await.expect("opens");
        let row = sqlx::query(sql).fetch_one(database.pool()).await.expect("executed");
        database.close().await;
        row.try_get(0).expect("a number")
    }

    /// The text that a statement gives on the backend's database, behind its back.
    pub async fn text(&self, sql: &'static str) -> String {
        let database = backend_server::database::Database::open(&self.config.database).await.expect("opens");
        let row = sqlx::query(sql).fetch_one(database.pool()).await.expect("executed");
        database.close().await;
        row.try_get(0).expect("a text")
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same with one value, `$1`.
    pub async fn execute_with(&self, sql: &'static str, value: &str) {
        let database = backend_server::database::Database::open(&self.config.database).await.expect("opens");
        sqlx::query(sql).bind(value).execute(database.pool()).await.expect("executed");
        database.close().await;
    }

    /// Where the database is, as `--database` takes it.
    pub fn database(&self) -> &str {
        &self.config.database
    }

    /// A second backend on the same database, with other settings and a key file of its own.
    pub async fn beside(&self, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Files::Beside(tempfile::tempdir().expect("folder"));
        Self::begin(self.config.database.clone(), folder, change).await
    }

    /// Which of the epochs that were given for `subject` this is, from 1. They are larger each time.
    pub fn ordinal(&self, subject: &str, epoch: i64) -> i64 {
        let mut epochs = self.epochs.lock().expect("not poisoned");
        let given = epochs.entry(subject.to_owned()).or_default();
        if !given.contains(&epoch) {
            assert!(given.last().is_none_or(|last| *last < epoch), "{epoch} after {given:?}");
            given.push(epoch);
        }
        let index = given.iter().position(|one| *one == epoch).expect("it is there");
        i64::try_from(index + 1).expect("few")
    }

    /// The epoch of this number, from 1; the number itself when that many were not given.
    pub fn epoch(&self, subject: &str, ordinal: i64) -> i64 {
        let epochs = self.epochs.lock().expect("not poisoned");
        let given =
            epochs.get(subject).and_then(|given| given.get(usize::try_from(ordinal).ok()?.checked_sub(1)?));
        given.copied().unwrap_or(ordinal)
    }

    /// Writes `bytes` over every object of worlds.
    pub fn spoil_objects(&self, bytes: &[u8]) {
        let mut folders = vec![self.folder.path().join("worlds")];
        let mut spoilt = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    std::fs::write(path, bytes).expect("written");
                    spoilt += 1;
                }
            }
        }
        assert!(spoilt > 0, "there are no objects");
    }

    pub async fn sweep(&self) {
        self.running.remove_expired().await.expect("swept");
    }

    pub async fn sweep_worlds(&self) {
        self.running.remove_unreferenced_objects().await.expect("swept");
    }

    pub async fn stop(self) {
        self.running.stop().await.expect("stops cleanly");
    }

    /// Stops and starts again on the same database.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// Stops, lets the leases end right after that, as in a longer pause, and starts again on the same database.
    pub async fn restart_after_leases(self) -> Self {
        let Self { running, config, http, key, folder, epochs } = self;
        running.stop().await.expect("stops cleanly");
        let database = backend_server::database::Database::open(&config.database).await.expect("opens");
        for table in ["servers", "player_leases", "worlds"] {
            let sql = format!(
                "UPDATE {table} SET lease_until = (SELECT served_at + 1 FROM backend_served) \
                 WHERE lease_until > (SELECT served_at FROM backend_served)"
            );
            sqlx::query(AssertSqlSafe(sql)).execute(database.pool()).await.expect("executed");
        }
        database.close().await;
        let running = start(config.clone()).await.expect("backend starts again");
        Self { running, config, http, key, folder, epochs }
    }

    /// Stops and starts again on the same database with other settings.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { running, mut config, http, key, folder, epochs } = self;
        change(&mut config);
        running.stop().await.expect("stops cleanly");
        let running = start(config.clone()).await.expect("backend starts again");
        Self { running, config, http, key, folder, epochs }
    }

    /// A copy of the SQLite file as it is now.
    pub fn copy_database(&self) -> std::path::PathBuf {
        let copy = self.folder.path().join("copy.db");
        for ending in ["", "-wal"] {
            let of = |path: &str| format!("{path}{ending}");
            let log = Path::new(&of(&self.config.database)).exists();
            if log {
                std::fs::copy(of(&self.config.database), of(&copy.display().to_string())).expect("copied");
            }
        }
        copy
    }

    /// Stops, puts an older copy of the SQLite file in place of it, and starts again.
    pub async fn restart_on(self, copy: &Path) -> Self {
        let Self { running, config, http, key, folder, epochs } = self;
        running.stop().await.expect("stops cleanly");
        for ending in ["", "-wal", "-shm"] {
            let (from, to) = (format!("{}{ending}", copy.display()), format!("{}{ending}", config.database));
            let _absent = std::fs::remove_file(&to);
            if Path::new(&from).exists() {
                std::fs::copy(from, to).expect("copied");
            }
        }
        let running = start(config.clone()).await.expect("backend starts again");
        Self { running, config, http, key, folder, epochs }
    }

    /// Every mail written so far, the oldest first.
    pub fn mails(&self) -> Vec<String> {
        let mut files: Vec<_> = std::fs::read_dir(self.folder.path().join("mails"))
            .expect("mails")
            .map(|entry| entry.expect("mail").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        files.sort();
        files.iter().map(|path| std::fs::read_to_string(path).expect("mail")).collect()
    }

    /// Waits for mail number `number`, from 1, and gives it.
    pub async fn mail(&self, number: usize) -> String {
        loop {
            if let Some(mail) = self.mails().get(number - 1) {
                return mail.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.running.address
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.running.address))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("a reply");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.expect("a whole reply");
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status, headers, body }
    }

    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Answer {
        let mut request = self.request(Method::POST, path).json(body);
        if !bearer.is_empty() {
            request = request.bearer_auth(bearer);
        }
        self.send(request).await
    }

    pub async fn get(&self, path: &str, bearer: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(bearer)).await
    }

    /// Posts with the server key.
    pub async fn serve(&self, path: &str, body: &Value) -> Answer {
        self.post(path, &self.key, body).await
    }

    pub async fn guest(&self, name: &str) -> Value {
        self.post("/v1/auth/anonymous", "", &json!({"display_name": name})).await.expect(200)
    }

    /// Registers a server and gives its id.
    pub async fn server(&self, name: &str, change: Value) -> String {
        let mut body = json!({"instance_id": Uuid::new_v4(), "name": name, "address": "127.0.0.1", "port": 7777,
            "max_players": 2});
        for (member, value) in change.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        text(&self.serve("/v1/servers", &body).await.expect(201)["server_id"])
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// Runs all at once and gives the results in order.
pub async fn at_once<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in &mut running {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if running.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}

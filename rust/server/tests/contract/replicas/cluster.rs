//! Two processes of the backend on one PostgreSQL behind a proxy, and a client that repeats what broke, as a game does.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use backend_server::database::Database;
use reqwest::{Client, Method, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use test_database::TestDatabase;
use test_harness::round_robin::RoundRobin;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::harness::{Answer, text};
use crate::room_follower::Target;

/// How often a condition is looked at, and a request repeated that did not arrive.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Starts of a replica in a row.
const MAX_STARTS: usize = 5;
/// How long anything may take on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// A replica: its process, while it runs, and what is its own.
struct Replica {
    folder: TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    process: Option<Child>,
    starts: usize,
}

pub struct Cluster {
    replicas: [Mutex<Replica>; 2],
    folders: [PathBuf; 2],
    pub proxy: RoundRobin,
    database: Database,
    http: Client,
    key: String,
    /// Steps of the work that is done, which the disturbance goes by.
    pub done: AtomicUsize,
    /// Dropped last, when nobody uses it.
    _own_database: TestDatabase,
}

/// A port that outgoing connections are not given, so that a replica that starts again finds it free.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(131);
    for _ in 0..8_000 {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000;
        let port = u16::try_from(10_000 + offset).expect("below 18,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

impl Replica {
    fn new(database: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let arguments = [
            ("--listen", address.to_string()),
            ("--database", database.to_owned()),
            ("--server-key-file", path("server.key")),
            ("--world-storage", path("worlds")),
            // Servers whose heartbeats are late on a busy machine stay on the list.
            ("--lease-seconds", "3600".to_owned()),
            ("--logins-per-minute", "0".to_owned()),
            ("--requests-per-minute", "0".to_owned()),
            ("--player-requests-per-minute", "0".to_owned()),
            ("--trusted-proxy", "127.0.0.1".to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        Self { folder, address, arguments, process: None, starts: 0 }
    }

    /// Starts it, again if it does not come up, as a service manager does: on a busy machine, the database may answer too late.
    async fn start(&mut self) {
        for _ in 0..MAX_STARTS {
            if tokio::time::timeout(TIMEOUT, self.try_start()).await.expect("a replica listens or ends") {
                return;
            }
        }
        panic!("a replica does not start: {}", self.logs());
    }

    /// False: it has ended before it listened.
    async fn try_start(&mut self) -> bool {
        assert!(self.process.is_none(), "it runs");
        self.starts += 1;
        let log = File::create(self.folder.path().join(format!("{}.log", self.starts))).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_backend-server"));
        command
            .current_dir(self.folder.path())
            .arg("serve")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BACKEND_")) {
            command.env_remove(name);
        }
        let mut process = command.spawn().expect("it starts");
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            if process.try_wait().expect("a status").is_some() {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.process = Some(process);
        true
    }

    /// Without warning, as the kernel does when memory is short. Its room servers are other processes.
    async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().await.expect("killed");
    }

    /// In good order, as an operator does.
    async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let id = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.expect("an id"), Signal::TERM).expect("signalled");
        let status = tokio::time::timeout(TIMEOUT, process.wait()).await.expect("it ends").expect("a status");
        assert_eq!(status.code(), Some(0), "a replica did not end well");
    }

    fn logs(&self) -> String {
        let read = |number| std::fs::read_to_string(self.folder.path().join(format!("{number}.log")));
        (1..=self.starts).map(|number| read(number).expect("a log")).collect()
    }
}

impl Cluster {
    /// Starts both, with further arguments for each, which may depend on its folder and the URL of the proxy.
    pub async fn start(more: impl Fn(&Path, &str) -> Vec<String>) -> Arc<Self> {
        let own_database = TestDatabase::postgres().expect("PostgreSQL");
        let url = own_database.location().to_owned();
        let mut replicas = [Replica::new(&url), Replica::new(&url)];
        let folders = replicas.each_ref().map(|replica| replica.folder.path().to_owned());
        let proxy = RoundRobin::start().expect("the proxy listens");
        for replica in &mut replicas {
            proxy.add(replica.address);
            let more = more(replica.folder.path(), &proxy.url());
            replica.arguments.extend(more);
            replica.start().await;
        }
        let key = std::fs::read_to_string(folders[0].join("server.key")).expect("a key").trim().to_owned();
        let database = Database::open(&url).await.expect("opens");
        // One connection for each request: the proxy chooses anew each time.
        let http = Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        let replicas = replicas.map(Mutex::new);
        let done = AtomicUsize::new(0);
        Arc::new(Self { replicas, folders, proxy, database, http, key, done, _own_database: own_database })
    }

    pub fn folders(&self) -> &[PathBuf; 2] {
        &self.folders
    }

    /// Kills one replica when a quarter of the work is done, starts it when half is done, and restarts the other one then.
    pub async fn disturb(self: Arc<Self>, work: usize) {
        self.until_done(work / 4).await;
        self.replicas[0].lock().await.kill().await;
        self.until_done(work / 2).await;
        self.replicas[0].lock().await.start().await;
        self.until_done(work * 3 / 4).await;
        let mut second = self.replicas[1].lock().await;
        second.stop().await;
        second.start().await;
    }

    async fn until_done(&self, steps: usize) {
        while self.done.load(Ordering::Relaxed) < steps {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub fn note_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Stops both in good order; neither may have reported anything that is a fault of its own.
    pub async fn stop(&self) {
        for replica in &self.replicas {
            let mut replica = replica.lock().await;
            replica.stop().await;
            let logs = replica.logs();
            for sign in ["panicked", " ERROR "] {
                let line = logs.lines().find(|line| line.contains(sign));
                assert_eq!(line, None, "{logs}");
            }
        }
        let given = self.proxy.given();
        assert!(given.iter().all(|count| *count > 0), "both have worked: {given:?}");
    }

    /// The number that a statement gives, past the replicas.
    pub async fn count(&self, sql: &str) -> i64 {
        use sqlx::Row;
        let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(self.database.pool()).await;
        row.expect("executed").try_get(0).expect("a number")
    }

    /// Sends a request as often as it takes until there is a reply of a replica that serves.
    pub async fn send(&self, method: Method, path: &str, bearer: &str, body: Option<&Value>) -> Answer {
        let idempotency_key = Uuid::new_v4().to_string();
        loop {
            let mut request = self.request(method.clone(), path).header("idempotency-key", &idempotency_key);
            if !bearer.is_empty() {
                request = request.bearer_auth(bearer);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(answer) = whole(request).await
                && answer.status.as_u16() != 503
            {
                return answer;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, bearer, Some(body)).await
    }

    pub async fn get(&self, path: &str, bearer: &str) -> Answer {
        self.send(Method::GET, path, bearer, None).await
    }

    /// Posts with the server key.
    pub async fn serve(&self, path: &str, body: &Value) -> Answer {
        self.post(path, &self.key, body).await
    }

    /// The token and the id of a new player.
    pub async fn guest(&self) -> (String, String) {
        let guest = self.post("/v1/auth/anonymous", "", &json!({"display_name": "Ada"})).await.expect(200);
        (text(&guest["access_token"]), text(&guest["player_id"]))
    }

    pub async fn guests(&self, count: usize) -> Vec<(String, String)> {
        let mut guests = Vec::with_capacity(count);
        for _ in 0..count {
            guests.push(self.guest().await);
        }
        guests
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

/// The reply, if all of it arrives.
async fn whole(request: RequestBuilder) -> Option<Answer> {
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.ok()?;
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Some(Answer { status, headers, body })
}

impl Target for Cluster {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.proxy.url()))
    }

    fn key(&self) -> &str {
        &self.key
    }

    async fn open(&self, request: impl Fn() -> RequestBuilder) -> Response {
        loop {
            match request().send().await {
                Ok(response) if response.status().as_u16() != 503 => return response,
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    async fn read(&self, path: &str) -> Answer {
        self.get(path, &self.key).await
    }
}

//! `backend-server fault-proxy` between a client and a real backend: each fault, and that it ends.

use std::process::Stdio;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::{Backend, text};

struct Proxy {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Proxy {
    async fn start(backend: &Backend) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_backend-server"))
            .args(["fault-proxy", "--listen", "127.0.0.1:0", "--backend"])
            .arg(format!("http://{}", backend.address()))
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let input = process.stdin.take().expect("an input");
        let output = BufReader::new(process.stdout.take().expect("an output")).lines();
        let mut proxy = Self { process, input, output, url: String::new() };
        let line = proxy.line().await;
        line.strip_prefix("listening on ").expect("an address").clone_into(&mut proxy.url);
        proxy
    }

    async fn line(&mut self) -> String {
        self.output.next_line().await.expect("a line").expect("not the end")
    }

    /// Switches the faults, and waits until they are.
    async fn switch(&mut self, faults: Value, words: &str) {
        self.input.write_all(format!("{faults}\n").as_bytes()).await.expect("written");
        assert_eq!(self.line().await, format!("faults: {words}"));
    }

    /// Status and body; `None` without a reply.
    async fn send(&self, method: Method, path: &str, bearer: &str, body: Value) -> Option<(u16, Value)> {
        // No connection of an earlier request is used.
        let request = Client::new().request(method, format!("{}{path}", self.url)).bearer_auth(bearer);
        let reply = request.json(&body).send().await.ok()?;
        let status = reply.status().as_u16();
        let body = reply.bytes().await.ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn post(&self, path: &str, body: Value) -> Option<(u16, Value)> {
        self.send(Method::POST, path, "", body).await
    }
}

fn code(reply: Option<(u16, Value)>) -> (u16, String) {
    let (status, body) = reply.expect("a reply");
    (status, text(&body["code"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_switched_on_and_off() {
    let backend = Backend::on_sqlite().await;
    let mut proxy = Proxy::start(&backend).await;
    let guest = || json!({"display_name": "Ada"});
    let login = "/v1/auth/anonymous";
    let accounts = || backend.count("SELECT COUNT(*) FROM players");

    assert_eq!(proxy.post(login, guest()).await.expect("a reply").0, 200);
    for (name, status) in [("internal", 500), ("rate_limited", 429)] {
        proxy.switch(json!({"error": name}), &status.to_string()).await;
        assert_eq!(code(proxy.post(login, guest()).await), (status, name.to_owned()));
        assert_eq!(proxy.line().await, format!("{name}: POST {login}"));
    }
    assert_eq!(accounts().await, 1, "an error was forwarded");

    proxy.switch(json!({"lost_replies": true}), "lost replies").await;
    assert_eq!(proxy.post(login, guest()).await, None);
    assert_eq!(proxy.line().await, format!("reply lost: POST {login}"));
    assert_eq!(accounts().await, 2, "a request whose reply is lost was not forwarded");

    proxy.switch(json!({"offline": true}), "offline").await;
    assert_eq!(proxy.post(login, guest()).await, None);
    proxy.switch(json!({"latency_ms": 1}), "latency 1 ms").await;
    // The port is listened on again after the line.
    let granted = loop {
        if let Some((status, body)) = proxy.post(login, guest()).await {
            assert_eq!(status, 200, "{body}");
            break body;
        }
    };
    assert_eq!(accounts().await, 3);

    // An access token expires, the refresh token does not, and the next access token is valid.
    let account = "/v1/account";
    let token = text(&granted["access_token"]);
    assert_eq!(proxy.send(Method::GET, account, &token, json!({})).await.expect("a reply").0, 200);
    proxy.switch(json!({"expire_tokens": true}), "access tokens expired").await;
    for _again in 0..2 {
        let refused = code(proxy.send(Method::GET, account, &token, json!({})).await);
        assert_eq!(refused, (401, "token_expired".to_owned()));
        assert_eq!(proxy.line().await, format!("token_expired: GET {account}"));
    }
    let refresh = json!({"refresh_token": granted["refresh_token"]});
    let (status, granted) = proxy.post("/v1/auth/refresh", refresh).await.expect("a reply");
    assert_eq!(status, 200, "{granted}");
    let token = text(&granted["access_token"]);
    assert_eq!(proxy.send(Method::GET, account, &token, json!({})).await.expect("a reply").0, 200);
    // A server's key does not expire.
    let world = json!({"server_id": "none"});
    let (status, refused) =
        proxy.send(Method::POST, "/v1/players/load", &backend.key, world).await.expect("a reply");
    assert_ne!(status, 401, "{refused}");

    drop(proxy.input);
    assert!(proxy.process.wait().await.expect("it ends").success());
    backend.stop().await;
}

#[tokio::test]
async fn it_serves_this_machine_only() {
    for (listen, target, named) in [
        ("0.0.0.0:0", "http://127.0.0.1:8420", "--listen 0.0.0.0:0"),
        ("127.0.0.1:0", "http://192.0.2.1:8420", "--backend http://192.0.2.1:8420"),
        ("127.0.0.1:0", "https://127.0.0.1:8420", "--backend https://127.0.0.1:8420"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_backend-server"))
            .args(["fault-proxy", "--listen", listen, "--backend", target])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("it runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(named), "{words}");
    }
}

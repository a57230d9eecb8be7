//! The program itself: what it says when it cannot start, and who may read what it writes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a program may take that ends by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

fn backend_server(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backend-server"));
    command.current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BACKEND_")) {
        command.env_remove(name);
    }
    // A backtrace has no place in an explanation.
    command.env("RUST_BACKTRACE", "1");
    command
}

/// What cannot be used: arguments, environment, exit code, and what the line says.
struct Refused {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    code: i32,
    says: Vec<String>,
}

impl Refused {
    fn new(code: i32, arguments: &[&str], says: &[&str]) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self { arguments: owned(arguments), environment: Vec::new(), code, says: owned(says) }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    async fn check(&self, folder: &Path) {
        let mut command = backend_server(folder);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let output = timeout(ENDS_WITHIN, command.output()).await.expect("it ends").expect("it runs");
        let (words, shown) = (String::from_utf8_lossy(&output.stderr), (&self.arguments, &self.environment));
        assert_eq!(output.status.code(), Some(self.code), "{shown:?}: {words}");
        let lines: Vec<&str> = words.lines().filter(|line| !line.contains(" INFO ")).collect();
        let [line] = lines[..] else { panic!("{shown:?}: not one line: {words}") };
        assert!(line.starts_with("backend-server: "), "{shown:?}: {line}");
        for said in &self.says {
            assert!(line.contains(said.as_str()), "{shown:?}: {said:?} is not in: {line}");
        }
        for never in ["panicked", "hunter2", "backtrace"] {
            assert!(!words.contains(never), "{shown:?}: {words}");
        }
    }
}

/// Databases, by their value and what is there.
fn databases() -> Vec<Refused> {
    vec![
        Refused::new(
            2,
            &["serve", "--database", ""],
            &["--database", "BACKEND_DATABASE", "must not be empty"],
        ),
        Refused::new(2, &["serve"], &["--database", "BACKEND_DATABASE", "must not be empty"])
            .with("BACKEND_DATABASE", ""),
        Refused::new(2, &["keys", "list", "--database", ""], &["--database", "must not be empty"]),
        Refused::new(
            2,
            &["serve", "--database", "postgress://game:hunter2@host/game"],
            &["--database", "postgress://***@host/game", "begins with postgres://"],
        ),
        Refused::new(2, &["serve"], &["BACKEND_DATABASE", "postgress://***@host/game"])
            .with("BACKEND_DATABASE", "postgress://game:hunter2@host/game"),
        Refused::new(
            2,
            &["serve", "--database", "mysql://host/game"],
            &["mysql://host/game", "neither a file"],
        ),
        Refused::new(
            2,
            &["serve", "--database", "postgres://game:hunter2@host:port/x"],
            &["is not a PostgreSQL URL"],
        ),
        Refused::new(
            2,
            &["serve", "--database", "host=db user=game dbname=game"],
            &["is a list of parameters; write postgres://"],
        ),
        Refused::new(2, &["serve", "--database", ":memory:"], &[":memory:", "keeps nothing"]),
        Refused::new(
            1,
            &["serve", "--database", "missing/backend.db"],
            &["--database missing/backend.db", "no folder missing"],
        ),
        Refused::new(
            1,
            &["serve", "--database", "/proc/backend.db"],
            &["--database /proc/backend.db", "cannot be used"],
        ),
        Refused::new(
            1,
            &["serve", "--database", "garbage.db"],
            &["--database garbage.db", "is no SQLite database"],
        ),
        Refused::new(
            1,
            &["keys", "list", "--database", "garbage.db"],
            &["--database garbage.db", "is no SQLite database"],
        ),
        Refused::new(1, &["serve", "--database", "folder.db"], &["--database folder.db", "it is no file"]),
        Refused::new(1, &["serve", "--database", "new/"], &["--database new/", "new/backend.db"]),
        Refused::new(1, &["serve", "--database", "/dev/null"], &["--database /dev/null", "it is no file"]),
        Refused::new(
            1,
            &["serve", "--database", "postgres://game:hunter2@127.0.0.1:1/game"],
            &["--database postgres://***@127.0.0.1:1/game", "cannot be opened", "Connection refused"],
        ),
        Refused::new(
            1,
            &["serve", "--database", "postgres://game@127.0.0.1:1/game?password=hunter2&sslmode=disable"],
            &["--database postgres://***@127.0.0.1:1/game?password=***&sslmode=disable", "cannot be opened"],
        ),
        Refused::new(
            1,
            &["keys", "list", "--database", "postgres://127.0.0.1:1/game?pass%77ord=hunter2"],
            &["--database postgres://127.0.0.1:1/game?password=***", "cannot be opened"],
        ),
        // What begins like a file's name, because the scheme was forgotten.
        Refused::new(
            1,
            &["serve", "--database", "game:hunter2@127.0.0.1/game"],
            &["--database ***@127.0.0.1/game"],
        ),
    ]
}

/// A parameter that is not used is named in a warning, without its value.
#[tokio::test]
async fn what_a_parameter_holds_is_not_logged() {
    let folder = tempfile::tempdir().expect("folder");
    let url = "postgres://game@127.0.0.1:1/game?sslpassword=hunter2&connect_timeout=5&hunter2=1";
    let output = backend_server(folder.path()).args(["serve", "--database", url]).output();
    let output = timeout(ENDS_WITHIN, output).await.expect("it ends").expect("it runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    for name in ["sslpassword", "connect_timeout"] {
        let told = words.lines().any(|line| line.contains(" WARN ") && line.contains(name));
        assert!(told, "{name}: {words}");
    }
}

/// Nor is what stands in the wrong place, or in the environment while help is shown.
#[tokio::test]
async fn help_and_usage_show_no_password() {
    let folder = tempfile::tempdir().expect("folder");
    let url = "postgres://game:hunter2@host/game?password=hunter2";
    let hook = "steam=https://ada:hunter2@verify.example.org/?code=hunter2";
    for (arguments, code) in [
        (vec!["serve", url], 2),
        (vec![url], 2),
        (vec!["keys", url], 2),
        (vec!["serve", "--databse", url], 2),
        (vec!["serve", "--identity-hook-sercet=hunter2"], 2),
        (vec!["serve", "--listen", url], 2),
        (vec!["serve", "--help"], 0),
    ] {
        let mut command = backend_server(folder.path());
        command.args(&arguments).env("BACKEND_DATABASE", url).env("BACKEND_IDENTITY_PROVIDERS", hook);
        command.env("BACKEND_WORLD_STORAGE", "s3://key:hunter2@bucket");
        command.env("BACKEND_MAIL", "smtps://ada:hunter2@mail.example.org");
        command.env("BACKEND_IDENTITY_HOOK_SECRET", "hunter2");
        let output = timeout(ENDS_WITHIN, command.output()).await.expect("it ends").expect("it runs");
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
        assert!(!words.contains("hunter2"), "{arguments:?}: {words}");
    }
}

/// The other settings; `taken` is an address that somebody listens on.
fn settings(taken: &str) -> Vec<Refused> {
    vec![
        Refused::new(
            2,
            &["serve", "--lease-seconds", "10"],
            &["--lease-seconds 10", "--heartbeat-seconds 30", "make the lease longer"],
        ),
        Refused::new(2, &["serve"], &["--lease-seconds 60", "--heartbeat-seconds 90"])
            .with("BACKEND_HEARTBEAT_SECONDS", "90"),
        Refused::new(
            2,
            &["serve", "--lease-seconds", "0"],
            &["--lease-seconds", "BACKEND_LEASE_SECONDS", "1..=3600"],
        ),
        Refused::new(
            2,
            &["serve", "--refresh-token-seconds", "60"],
            &["--refresh-token-seconds 60", "at least"],
        ),
        Refused::new(
            1,
            &["serve", "--listen", taken],
            &["--listen", taken, "choose another address or port", "in use"],
        ),
        Refused::new(
            2,
            &["serve", "--listen", "localhost"],
            &["--listen", "BACKEND_LISTEN", "\"localhost\""],
        ),
        Refused::new(2, &["serve", "--environment", "Live!"], &["--environment", "\"Live!\"", "a-z, 0-9"]),
        Refused::new(
            2,
            &["serve", "--mail", "smtp://ada:hunter2@mail.example.org"],
            &["--mail", "BACKEND_MAIL", "smtp://***@mail.example.org", "?tls=required"],
        ),
        Refused::new(
            2,
            &["serve", "--mail", "smtps://ada:hunter2@mail.example.org"],
            &["--mail-from", "BACKEND_MAIL_FROM"],
        ),
        Refused::new(1, &["serve", "--mail", "file:/proc/mails"], &["--mail file:/proc/mails"]),
        Refused::new(
            2,
            &["serve", "--mail", "ada:hunter2@mail.example.org"],
            &["--mail", "***@mail.example.org", "smtps://"],
        ),
        Refused::new(
            2,
            &["serve", "--identity-provider", "steam=http://verify.example.org/?code=hunter2"],
            &["--identity-provider", "steam=http://verify.example.org/?***", "must be https"],
        ),
        Refused::new(2, &["serve", "--rooms-on-demand", "secret.json"], &["secret.json: environment"]),
        Refused::new(1, &["serve", "--world-storage", "/proc/worlds"], &["--world-storage /proc/worlds"]),
        Refused::new(
            2,
            &["serve", "--world-storage", "gs://bucket"],
            &["--world-storage gs://bucket", "s3://"],
        ),
        Refused::new(
            1,
            &["serve", "--server-key-file", "garbage.key"],
            &["--server-key-file garbage.key", "does not hold"],
        ),
        Refused::new(
            1,
            &["serve", "--server-key-file", "missing/server.key"],
            &["--server-key-file missing/server.key"],
        ),
        Refused::new(2, &["serve", "--log", "xml"], &["--log", "\"xml\"", "must be one of"]),
        Refused::new(2, &["serve", "--log-level", "loud"], &["--log-level", "\"loud\""]),
    ]
}

/// Nothing where something has to be, as an argument and in the environment.
fn empty() -> Vec<Refused> {
    let mut refused = Vec::new();
    for (option, variable) in [
        ("--issuer", "BACKEND_ISSUER"),
        ("--game", "BACKEND_GAME"),
        ("--environment", "BACKEND_ENVIRONMENT"),
        ("--world-storage", "BACKEND_WORLD_STORAGE"),
        ("--listen", "BACKEND_LISTEN"),
        ("--mail", "BACKEND_MAIL"),
        ("--mail-from", "BACKEND_MAIL_FROM"),
        ("--mail-name", "BACKEND_MAIL_NAME"),
        ("--server-key-file", "BACKEND_SERVER_KEY_FILE"),
        ("--trusted-proxy", "BACKEND_TRUSTED_PROXIES"),
        ("--allowed-origin", "BACKEND_ALLOWED_ORIGINS"),
        ("--identity-provider", "BACKEND_IDENTITY_PROVIDERS"),
        ("--identity-hook-secret", "BACKEND_IDENTITY_HOOK_SECRET"),
        ("--lease-seconds", "BACKEND_LEASE_SECONDS"),
        ("--email-accounts", "BACKEND_EMAIL_ACCOUNTS"),
        ("--log-level", "BACKEND_LOG_LEVEL"),
    ] {
        refused.push(Refused::new(2, &["serve", option, ""], &[option, variable, "\"\"", "leave it out"]));
        refused.push(
            Refused::new(2, &["serve"], &[option, variable, "\"\"", "leave it out"]).with(variable, ""),
        );
    }
    refused
}

#[tokio::test]
async fn what_cannot_be_used_is_explained_in_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("an address");
    std::fs::write(folder.path().join("garbage.db"), "this is a letter, not a database").expect("written");
    std::fs::write(folder.path().join("garbage.key"), "gsk_live_nonsense\n").expect("written");
    std::fs::create_dir(folder.path().join("folder.db")).expect("made");
    let rooms = r#"{"command": ["game"], "ports": "27000-27099", "environment": "TOKEN=hunter2"}"#;
    std::fs::write(folder.path().join("secret.json"), rooms).expect("written");
    for one in databases().into_iter().chain(settings(&taken.1)).chain(empty()) {
        one.check(folder.path()).await;
    }
    let made: Vec<_> =
        std::fs::read_dir(folder.path()).expect("folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!made.iter().any(|name| name == ":memory:"), "{made:?}");
}

/// Starts it with `arguments`; what it wrote to standard output until it listened or ended.
async fn started(folder: &Path, arguments: &[&str]) -> (Child, Vec<String>) {
    let mut command = backend_server(folder);
    command.arg("serve").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut shown = Vec::new();
    while let Some(line) = timeout(ENDS_WITHIN, lines.next_line()).await.expect("in time").expect("text") {
        shown.push(line);
        if shown.last().is_some_and(|line| line.starts_with("listening on ")) {
            break;
        }
    }
    (child, shown)
}

/// The key was made by the start that failed, and shown by none.
#[tokio::test]
async fn a_start_that_fails_leaves_no_key_that_nobody_knows() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for wrong in [
        vec!["--listen", address.as_str()],
        vec!["--listen", "127.0.0.1:0", "--mail", "smtps://mail.example.org"],
        vec!["--listen", "127.0.0.1:0", "--mail", "file:/proc/mails"],
        vec!["--listen", "127.0.0.1:0", "--identity-provider", "a=https://a.org,a=https://b.org"],
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let (mut child, shown) = started(folder.path(), &wrong).await;
        assert_eq!(shown, Vec::<String>::new(), "{wrong:?}");
        assert!(!child.wait().await.expect("it ends").success(), "{wrong:?}");
        let (mut child, shown) = started(folder.path(), &["--listen", "127.0.0.1:0"]).await;
        let [key, listening] = &shown[..] else { panic!("{wrong:?}: {shown:?}") };
        assert!(key.starts_with("server key (shown once): gsk_live_"), "{key}");
        assert!(listening.starts_with("listening on "), "{listening}");
        child.kill().await.expect("killed");
    }
}

#[cfg(unix)]
mod private {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// A backend that was started by a shell with the usual umask.
    struct Program {
        child: Child,
        url: String,
        /// What it logged until it listened.
        log: Vec<String>,
    }

    impl Program {
        async fn start(folder: &Path) -> Self {
            Self::start_after(folder, "umask 0022").await
        }

        async fn start_after(folder: &Path, setting: &str) -> Self {
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(format!("{setting}; exec \"$@\""))
                .arg("sh")
                .arg(env!("CARGO_BIN_EXE_backend-server"));
            command.args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--mail",
                "file:mails",
                "--server-key-file",
                "server.key",
            ]);
            command.current_dir(folder).kill_on_drop(true).stdout(Stdio::piped());
            command.stderr(std::fs::File::create(folder.join("log")).expect("a log"));
            let mut child = command.spawn().expect("it starts");
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            let line = loop {
                match timeout(ENDS_WITHIN, lines.next_line()).await.expect("in time").expect("text") {
                    Some(line) if line.starts_with("listening on ") => break line,
                    Some(_) => {}
                    None => panic!("{}", std::fs::read_to_string(folder.join("log")).expect("log")),
                }
            };
            let url = line.trim_start_matches("listening on ").to_owned();
            let log = std::fs::read_to_string(folder.join("log")).expect("log");
            Self { child, url, log: log.lines().map(str::to_owned).collect() }
        }

        async fn stop(mut self) {
            self.child.kill().await.expect("killed");
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").mode() & 0o777
    }

    /// Every file and folder below `folder` but the log, which the test made.
    fn everything(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(everything(&path));
            }
            if entry.file_name() != "log" {
                found.push(path);
            }
        }
        found
    }

    fn written(folder: &TempDir) -> Vec<std::path::PathBuf> {
        let names = |name: &str| everything(folder.path()).iter().any(|path| path.ends_with(name));
        for name in ["backend.db", "backend.db-wal", "backend.db-shm", "server.key", "worlds", "mails"] {
            assert!(names(name), "{name} is there: {:?}", everything(folder.path()));
        }
        everything(folder.path())
    }

    /// Idle connections took every file that the program may have open, and nobody got in any more.
    #[tokio::test]
    async fn idle_connections_do_not_use_up_the_open_files() {
        let folder = tempfile::tempdir().expect("folder");
        // The program raises the soft limit to the hard one itself.
        let program = Program::start_after(folder.path(), "ulimit -S -n 128; ulimit -H -n 256").await;
        let told =
            program.log.iter().any(|line| line.contains("256 files open") && line.contains("ulimit -n"));
        assert!(told, "{:?}", program.log);
        let address = program.url.trim_start_matches("http://").to_owned();
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(tokio::net::TcpStream::connect(&address).await.expect("connects"));
        }
        // Each of them through a connection of its own.
        for _ in 0..5 {
            let reply = reqwest::get(format!("{}/readyz", program.url)).await.expect("a reply");
            assert_eq!(reply.status(), 200);
        }
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        let http = reqwest::Client::new();
        let reply = http
            .post(format!("{}/v1/auth/register", program.url))
            .json(&account)
            .send()
            .await
            .expect("a reply");
        assert_eq!(reply.status(), 201);
        drop(idle);
        program.stop().await;
    }

    #[tokio::test]
    async fn everything_it_writes_is_its_users_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let program = Program::start(folder.path()).await;
        let http = reqwest::Client::new();
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        let reply = http
            .post(format!("{}/v1/auth/register", program.url))
            .json(&account)
            .send()
            .await
            .expect("a reply");
        assert_eq!(reply.status(), 201);
        while !everything(folder.path()).iter().any(|path| path.extension().is_some_and(|end| end == "eml")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for path in written(&folder) {
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), wanted, "{}", path.display());
        }
        // Killed, so that its log and index stay; then made as an older version would have.
        program.stop().await;
        for path in everything(folder.path()) {
            let loose = if path.is_dir() { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(loose)).expect("changed");
        }
        let program = Program::start(folder.path()).await;
        for path in written(&folder) {
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), wanted, "{}", path.display());
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let told = program.log.iter().any(|line| line.contains(&name) && line.contains("tightened to"));
            assert!(told, "{name}: {:?}", program.log);
        }
        program.stop().await;
    }
}

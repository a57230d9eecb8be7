//! The real backend on a database of its own.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::api::Api;
use crate::process::Process;
use crate::{programs, until};

/// A `backend-server` on a fixed loopback port, a database of its own and a server key file.
pub struct Backend {
    program: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    /// Another database than the file in the folder.
    database_url: Option<String>,
    extra: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// One player as the backend's operator sees them.
#[derive(Debug, Clone, Deserialize)]
pub struct StoredPlayer {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// Documents by key.
    pub documents: Map<String, Value>,
}

impl StoredPlayer {
    /// A whole number of the document `progress`; 0 when there is none.
    pub fn progress(&self, field: &str) -> i64 {
        self.documents.get("progress").and_then(|document| document.get(field)).map_or(0, as_whole)
    }
}

impl Backend {
    /// Starts a backend with default leases.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a backend with further arguments of `backend-server serve`.
    pub fn start_with(extra: &[&str]) -> Result<Self> {
        Self::start_on(None, extra)
    }

    /// Starts a backend on the database at this URL; `None`: a fresh SQLite file.
    pub fn start_on(database_url: Option<String>, extra: &[&str]) -> Result<Self> {
        Self::start_in(&[], database_url, extra)
    }

    /// Starts a backend with these environment variables.
    pub fn start_in(
        environment: &[(&str, &str)],
        database_url: Option<String>,
        extra: &[&str],
    ) -> Result<Self> {
        Self::start_program(&programs::backend_server()?, environment, database_url, extra)
    }

    /// Starts another build of the backend.
    pub fn start_program(
        program: &Path,
        environment: &[(&str, &str)],
        database_url: Option<String>,
        extra: &[&str],
    ) -> Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(owned).collect();
        let folder = tempfile::Builder::new().prefix("backend-").tempdir()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        let program = program.to_owned();
        let mut backend = Self { program, folder, address, database_url, extra, environment, process: None };
        backend.resume()?;
        Ok(backend)
    }

    /// Where it listens, also while it is stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file with its server key.
    pub fn server_key_file(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// The folder with everything it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder in which it keeps the objects of worlds.
    pub fn worlds_folder(&self) -> PathBuf {
        self.folder.path().join("worlds")
    }

    /// A client for the test itself, past any proxy.
    pub fn api(&self) -> Result<Api> {
        let key = fs::read_to_string(self.server_key_file()).context("the backend wrote no server key")?;
        Api::new(&self.url(), key.trim())
    }

    /// Starts it again after [`Backend::stop`] or [`Backend::kill`], on the same port and database.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the backend already runs");
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.folder.path())
            .args(["serve", "--listen", &self.address.to_string()])
            .arg("--database")
            .arg(self.location())
            .arg("--server-key-file")
            .arg(self.server_key_file())
            .args(&self.extra)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start("backend-server", command)?;
        process.log().wait_for(&format!("listening on {}", self.url()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Closes the other end of its standard output and standard error.
    pub fn close_output(&self) -> Result<()> {
        self.process.as_ref().context("the backend does not run")?.close_output()
    }

    /// Stops it as an operator would and checks that it went in good order.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_by(Signal::TERM)
    }

    /// [`Self::stop`] by this signal.
    pub fn stop_by(&mut self, signal: Signal) -> Result<()> {
        let mut process = self.process.take().context("the backend does not run")?;
        process.signal(signal)?;
        process.wait_for_exit(0)?;
        // It prints its first server key once, for the operator.
        process.log().check_clean(&["gsk_"])
    }

    /// Ends it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the backend does not run")?.kill()
    }

    /// Throws its SQLite file away, keys and accounts and all; the server key stays. Only while it is stopped.
    pub fn erase(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the backend runs");
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.database().into_os_string();
            path.push(suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies its SQLite file. Only while it is stopped: then everything is in that one file.
    pub fn copy_database(&self, to: &Path) -> Result<()> {
        ensure!(self.process.is_none(), "the backend runs");
        fs::copy(self.database(), to).map(drop).context("the database cannot be copied")
    }

    /// Puts a copy in the place of its SQLite file. Only while it is stopped.
    pub fn restore_database(&mut self, from: &Path) -> Result<()> {
        self.erase()?;
        fs::copy(from, self.database()).map(drop).context("the copy cannot be restored")
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the backend does not run")?.id())
    }

    /// What the backend logged since it was last started.
    pub fn log(&self) -> Result<&crate::log::Log> {
        Ok(self.process.as_ref().context("the backend does not run")?.log())
    }

    /// All players and documents, read from the database by `backend-server players`. Works while it is stopped.
    pub fn players(&self) -> Result<Vec<StoredPlayer>> {
        let output = Command::new(programs::backend_server()?)
            .arg("players")
            .arg("--database")
            .arg(self.location())
            .output()?;
        if !output.status.success() {
            bail!("backend-server players failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("backend-server players printed no JSON list")
    }

    /// A new key for the admin routes.
    pub fn admin_key(&self) -> Result<String> {
        let output = Command::new(programs::backend_server()?)
            .args(["admin-keys", "create", "--database"])
            .arg(self.location())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let key = said.split_whitespace().find(|word| word.starts_with("gak_"));
        let why = || format!("no admin key was made: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(key.with_context(why)?.to_owned())
    }

    /// Waits until the player called `name` satisfies `wanted`.
    pub fn wait_for_player(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&StoredPlayer) -> bool,
    ) -> Result<StoredPlayer> {
        let mut seen = None;
        let found = until(&format!("{what} of player {name} in the backend"), || {
            seen = self.players()?.into_iter().find(|player| player.display_name == name);
            Ok(seen.clone().filter(&wanted))
        });
        found.with_context(|| format!("last seen: {seen:?}"))
    }

    /// The URL of its database.
    pub fn database_url(&self) -> String {
        let own = || format!("sqlite://{}", self.database().display());
        self.database_url.clone().unwrap_or_else(own)
    }

    fn location(&self) -> OsString {
        self.database_url.clone().map_or_else(|| self.database().into_os_string(), OsString::from)
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("backend.db")
    }
}

/// A JSON number as a whole one. Godot writes every number of a parsed document as a float.
pub fn as_whole(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)).unwrap_or_default()
}

/// A port free for TCP and UDP, below the range from which the kernel gives ports to outgoing connections: a
/// server that restarts finds its port still free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;

    // Different processes begin at different places; within a process no port is handed out twice.
    let begin = std::process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset)?;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on the loopback interface")
}

//! Servers as containers of this machine, through the API of Docker's engine, which Podman offers as well.
//!
//! Each has a folder below the log folder, as with processes, for its port and its log; everything else is the engine's to remember. A
//! container is found by its name, which is made of the allocation, and by a label with the identity of the log folder.

mod engine;
mod logs;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};

use self::engine::{Engine, EngineError, State};
use super::host_folder::{self, HostFolder};
use super::settings::{AllocationSettings, DockerSettings};
use super::{ALLOCATION_VARIABLE, Allocator, Sighting, StartError};

/// Name of the label with the identity of the log folder, and of the one with the allocation.
const HOST_LABEL: &str = "backend-server.host";
const ALLOCATION_LABEL: &str = "backend-server.allocation";

/// Starts servers as containers of this machine.
pub struct DockerAllocator {
    settings: AllocationSettings,
    docker: DockerSettings,
    folder: HostFolder,
    engine: Engine,
    backend_url: String,
    server_key_file: Option<PathBuf>,
}

impl DockerAllocator {
    /// Servers of the game and environment `scope` reach the backend at `backend_url`, with the key in `server_key_file`.
    pub fn new(
        settings: &AllocationSettings,
        docker: &DockerSettings,
        scope: &str,
        backend_url: String,
        server_key_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            folder: HostFolder::open(settings, scope)?,
            engine: Engine::new(&docker.socket)?,
            backend_url,
            server_key_file: server_key_file.map(Path::to_owned),
            settings: settings.clone(),
            docker: docker.clone(),
        })
    }

    /// What the engine is asked to create.
    async fn container(&self, allocation_id: &str, port: u16) -> anyhow::Result<Value> {
        let mut environment = BTreeMap::from([
            ("BACKEND_URL", self.backend_url.clone()),
            ("BACKEND_MODE", "server".to_owned()),
        ]);
        if let Some(file) = &self.server_key_file {
            // A file of this machine is not in the container, and the container's user could not read it.
            let key = tokio::fs::read_to_string(file).await.context("--server-key-file cannot be read")?;
            environment.insert("BACKEND_SERVER_KEY", key.trim().to_owned());
        }
        environment
            .extend(self.settings.environment.iter().map(|(name, value)| (name.as_str(), value.clone())));
        environment.insert(ALLOCATION_VARIABLE, allocation_id.to_owned());
        let environment: Vec<String> =
            environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let protocols = ["udp", "tcp"].map(|protocol| format!("{port}/{protocol}"));
        // The same port inside as outside: it is the one that the game announces.
        let bound = json!([{ "HostPort": port.to_string() }]);
        let is_published = !self.docker.uses_host_network();
        let published: BTreeMap<_, _> =
            protocols.iter().filter(|_| is_published).map(|name| (name, &bound)).collect();
        let exposed: BTreeMap<_, _> = published.keys().map(|name| (name, json!({}))).collect();
        Ok(json!({
            "Image": self.docker.image,
            "Cmd": self.settings.filled_command(allocation_id, port, &self.backend_url),
            "Env": environment,
            "Labels": {HOST_LABEL: self.folder.host(), ALLOCATION_LABEL: allocation_id},
            "ExposedPorts": exposed,
            "StopTimeout": self.settings.stop_grace.as_secs(),
            "HostConfig": {
                "PortBindings": published,
                "NetworkMode": self.docker.network,
                "Binds": self.docker.volumes,
                "RestartPolicy": {"Name": "no"},
                "LogConfig": {
                    "Type": "json-file",
                    "Config": {"max-size": (self.settings.log_bytes / 2).to_string(), "max-file": "2"},
                },
                "Memory": self.docker.memory_mib * 1024 * 1024,
                "NanoCpus": u64::from(self.docker.cpu_percent) * 10_000_000,
            },
        }))
    }

    /// Creates the container, if there is none, and starts it.
    async fn run(&self, allocation_id: &str, port: u16) -> Result<(), StartError> {
        let container = self.container(allocation_id, port).await;
        let container = container.map_err(|error| StartError::misconfigured("the container", &error))?;
        let name = name_of(allocation_id);
        self.engine.create(&name, &container).await.map_err(|error| self.start_error(error))?;
        self.engine.start(&name).await.map_err(|error| match error {
            // Taken since it was looked for, by a program or by another container: the next attempt takes another one.
            EngineError::Refused { message, .. } if is_port_taken(&message) => {
                StartError::NoCapacity(format!("port {port} is taken: {message}"))
            }
            error => self.start_error(error),
        })
    }

    fn start_error(&self, error: EngineError) -> StartError {
        match error {
            EngineError::Unreachable(reason) => StartError::NoAnswer(reason),
            EngineError::Refused { status: 404, message } => StartError::Misconfigured(format!(
                "docker.image {} cannot be started: {message}. Images are not pulled for a room: run `docker pull` first",
                self.docker.image
            )),
            EngineError::Refused { message, .. } => {
                StartError::Misconfigured(format!("the container cannot be started: {message}"))
            }
        }
    }

    /// Removes the container, if it has one, and what is known of it.
    async fn release(&self, allocation_id: &str) -> anyhow::Result<()> {
        self.engine.remove(&name_of(allocation_id)).await?;
        self.folder.release(allocation_id, &[])
    }

    /// What the server has printed goes with its container: its end is kept.
    async fn keep_log(&self, allocation_id: &str) -> anyhow::Result<()> {
        let most = self.settings.log_bytes;
        let printed = self.engine.logs(&name_of(allocation_id), "all", most).await?;
        let folder = self.folder.of(allocation_id);
        tokio::fs::create_dir_all(&folder).await?;
        tokio::fs::write(folder.join(host_folder::LOG_FILE), printed).await?;
        Ok(())
    }
}

/// Checks that the engine answers and has the image.
pub async fn examine(docker: &DockerSettings) -> anyhow::Result<()> {
    let has_image = Engine::new(&docker.socket)?.has_image(&docker.image).await?;
    ensure!(has_image, "docker.image {}: there is no such image here. Run `docker pull` first", docker.image);
    Ok(())
}

fn name_of(allocation_id: &str) -> String {
    format!("backend-server-{allocation_id}")
}

/// In the words of Docker's engine and of Podman's.
fn is_port_taken(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("already allocated") || message.contains("already in use")
}

#[async_trait]
impl Allocator for DockerAllocator {
    fn host(&self) -> &str {
        self.folder.host()
    }

    async fn start(&self, allocation_id: &str) -> Result<(), StartError> {
        let is_new = !self.folder.is_kept(allocation_id);
        let port = match self.folder.port(allocation_id) {
            Some(port) => port,
            None => self.folder.keep(allocation_id).await?,
        };
        let started = self.run(allocation_id, port).await;
        let has_failed = matches!(started, Err(StartError::NoCapacity(_) | StartError::Misconfigured(_)));
        // What an earlier run has kept is released by `stop`, which first asks what there is of it.
        if has_failed && is_new && self.engine.remove(&name_of(allocation_id)).await.is_ok() {
            self.folder.forget(allocation_id);
        }
        started
    }

    async fn look(&self, allocation_id: &str) -> anyhow::Result<Sighting> {
        let Some(container) = self.engine.inspect(&name_of(allocation_id)).await? else {
            return Ok(Sighting::Unknown);
        };
        Ok(match container.state {
            // The backend ended between the two.
            State::Created => Sighting::Unknown,
            State::Running => Sighting::Running,
            State::Ended => {
                Sighting::Ended { reason: container.ending(), log: self.last_lines(allocation_id).await }
            }
        })
    }

    async fn last_lines(&self, allocation_id: &str) -> String {
        let name = name_of(allocation_id);
        match self.engine.logs(&name, "100", host_folder::LAST_BYTES).await {
            Ok(printed) => host_folder::last_lines_of(&printed),
            // It was released.
            Err(_) => host_folder::last_lines(&self.folder.of(allocation_id)),
        }
    }

    async fn stop(&self, allocation_id: &str) -> anyhow::Result<()> {
        let name = name_of(allocation_id);
        match self.engine.inspect(&name).await?.map(|container| container.state) {
            None | Some(State::Created) => self.release(allocation_id).await,
            Some(State::Ended) => {
                if let Err(error) = self.keep_log(allocation_id).await {
                    tracing::warn!(allocation_id, "the log of a server is lost: {error:#}");
                }
                self.release(allocation_id).await
            }
            Some(State::Running) => match self.folder.stopping_for(allocation_id) {
                None => {
                    if self.engine.kill(&name, "SIGTERM").await? {
                        self.folder.note_stopping(allocation_id)?;
                    }
                    Ok(())
                }
                Some(since) if since >= self.settings.stop_grace => {
                    self.engine.kill(&name, "SIGKILL").await?;
                    Ok(())
                }
                Some(_) => Ok(()),
            },
        }
    }

    async fn owned(&self) -> anyhow::Result<Vec<String>> {
        let mut owned: HashSet<String> =
            self.folder.kept()?.into_iter().map(|(allocation_id, _)| allocation_id).collect();
        let label = format!("{HOST_LABEL}={}", self.folder.host());
        for allocation_id in self.engine.labelled(&label, ALLOCATION_LABEL).await? {
            // It becomes the name of a folder.
            ensure!(
                host_folder::is_allocation_id(&allocation_id),
                "a container has the label {ALLOCATION_LABEL}={allocation_id:?}, which is no allocation; remove the container"
            );
            owned.insert(allocation_id);
        }
        Ok(owned.into_iter().collect())
    }
}

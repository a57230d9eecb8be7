//! The file that `--rooms-on-demand` names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backend_protocol::limits::MAX_PLAYERS;
use serde::Deserialize;

use crate::config::InvalidSetting;

/// What arguments can hold in braces.
pub const PLACEHOLDERS: [&str; 3] = ["{port}", "{allocation_id}", "{backend_url}"];

/// Name of the network that a container shares with the machine.
const HOST_NETWORK: &str = "host";

/// Who may create rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Creators {
    /// Every player.
    Players,
    /// Players with a password or an identity of a platform: guests may not.
    Accounts,
    /// Nobody: only quick play does.
    Nobody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    command: Vec<String>,
    docker: Option<DockerFile>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    working_directory: Option<PathBuf>,
    ports: String,
    backend_url: Option<String>,
    #[serde(default = "max_players")]
    max_players: u32,
    #[serde(default = "max_servers")]
    max_servers: u32,
    #[serde(default = "rooms_per_player")]
    rooms_per_player: u32,
    #[serde(default = "creators")]
    creators: Creators,
    #[serde(default = "is_true")]
    quick_play_creates: bool,
    #[serde(default)]
    spare_servers: u32,
    #[serde(default = "start_timeout")]
    start_timeout_seconds: u32,
    #[serde(default = "start_attempts")]
    start_attempts: u32,
    #[serde(default = "stop_grace")]
    stop_grace_seconds: u32,
    #[serde(default = "empty_timeout")]
    empty_timeout_seconds: u32,
    #[serde(default = "log_folder")]
    log_folder: PathBuf,
    #[serde(default = "log_kib")]
    log_kib: u32,
    #[serde(default = "logs_kept")]
    logs_kept: u32,
    #[serde(default)]
    log_in_errors: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DockerFile {
    image: String,
    #[serde(default = "docker_socket")]
    socket: PathBuf,
    #[serde(default = "docker_network")]
    network: String,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    memory_mib: u32,
    #[serde(default)]
    cpu_percent: u32,
}

fn docker_socket() -> PathBuf {
    "/var/run/docker.sock".into()
}

fn docker_network() -> String {
    "bridge".into()
}

const fn max_players() -> u32 {
    16
}

const fn max_servers() -> u32 {
    8
}

const fn rooms_per_player() -> u32 {
    2
}

const fn creators() -> Creators {
    Creators::Players
}

const fn is_true() -> bool {
    true
}

const fn start_timeout() -> u32 {
    30
}

const fn start_attempts() -> u32 {
    1
}

const fn stop_grace() -> u32 {
    30
}

const fn empty_timeout() -> u32 {
    120
}

fn log_folder() -> PathBuf {
    "room-servers".into()
}

const fn log_kib() -> u32 {
    1024
}

const fn logs_kept() -> u32 {
    100
}

/// Servers as containers.
#[derive(Clone)]
pub struct DockerSettings {
    pub image: String,
    /// Socket of the engine, Docker's or Podman's.
    pub socket: PathBuf,
    /// Name of the network that containers are in; `host` is the machine's own.
    pub network: String,
    /// `VOLUME:PATH` or `FOLDER:PATH`, as `docker run --volume` has them.
    pub volumes: Vec<String>,
    /// Most memory of a server. 0 = unlimited.
    pub memory_mib: u64,
    /// Most processor time of a server, in percent of one core. 0 = unlimited.
    pub cpu_percent: u32,
}

impl DockerSettings {
    /// Whether servers listen on the machine's own ports, so that none is published.
    pub fn uses_host_network(&self) -> bool {
        self.network == HOST_NETWORK
    }
}

/// Rooms on demand.
#[derive(Clone)]
pub struct AllocationSettings {
    /// Program and arguments of a server, with [`PLACEHOLDERS`]. What a container runs; arguments alone, if the image has an entry point.
    pub command: Vec<String>,
    /// Servers are containers. None: processes.
    pub docker: Option<DockerSettings>,
    /// Further environment variables of a server.
    pub environment: BTreeMap<String, String>,
    /// Where a server is started. None: where the backend was.
    pub working_directory: Option<PathBuf>,
    /// Ports that servers listen on.
    pub ports: RangeInclusive<u16>,
    /// URL by which servers reach the backend. None: the address that it listens on.
    pub backend_url: Option<String>,
    /// Most places of a room, and the number of places if a request names none.
    pub max_players: u32,
    /// Most servers of this host, spares included.
    pub max_servers: usize,
    /// Most rooms that one player has created and that have not ended. 0 = unlimited.
    pub rooms_per_player: u32,
    pub creators: Creators,
    /// Whether quick play creates rooms.
    pub quick_play_creates: bool,
    /// Servers of this host that are started ahead of time.
    pub spare_servers: usize,
    /// Time from the request to the registration of its server, with all attempts.
    pub start_timeout: Duration,
    /// How often the server of a request is started, if it ends before it registers.
    pub start_attempts: u32,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Time without players after which a room ends. None: never.
    pub empty_timeout: Option<Duration>,
    /// The folder of what servers print, and of what is known of their processes.
    pub log_folder: PathBuf,
    /// Most bytes that are kept of what a server prints.
    pub log_bytes: u64,
    /// How many ended servers' logs are kept.
    pub logs_kept: usize,
    /// Whether players see the last lines of a server that did not start.
    pub log_in_errors: bool,
    /// The program whose subcommand `room-process` runs a server.
    pub supervisor: PathBuf,
}

/// Without what may hold secrets: the arguments and the environment of servers.
impl std::fmt::Debug for AllocationSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AllocationSettings").field("ports", &self.ports).finish_non_exhaustive()
    }
}

impl AllocationSettings {
    /// Reads the file. Relative paths in it begin at its folder.
    pub fn load(
        file: Option<&Path>,
        spare_servers: Option<u32>,
        supervisor: Option<&Path>,
    ) -> Result<Option<Self>, InvalidSetting> {
        let Some(path) = file else {
            return match spare_servers {
                None | Some(0) => Ok(None),
                Some(_) => Err(InvalidSetting("--spare-servers: needs --rooms-on-demand".into())),
            };
        };
        let invalid = |what: &str| InvalidSetting(format!("--rooms-on-demand {}: {what}", path.display()));
        if !cfg!(target_os = "linux") {
            return Err(invalid("servers are started on Linux only"));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| invalid(&format!("cannot be read: {error}")))?;
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let file: File = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            // serde's text repeats the value, which may be a password of a server's.
            if path.starts_with("environment") && error.inner().is_data() {
                return invalid(&format!("{path}: must be an object of strings"));
            }
            invalid(&error.to_string())
        })?;
        // Servers are started in another folder than the backend.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| invalid(&format!("{}: {error}", path.display())))
        };
        let supervisor = match supervisor {
            Some(program) => absolute(program)?,
            None => std::env::current_exe()
                .map_err(|error| invalid(&format!("the backend's own program is not found: {error}")))?,
        };
        file.check(spare_servers, supervisor, absolute(path)?.parent().unwrap_or(Path::new("/")))
            .map(Some)
            .map_err(|rule| invalid(&rule))
    }

    /// The command of one server.
    pub fn filled_command(&self, allocation_id: &str, port: u16, backend_url: &str) -> Vec<String> {
        let filled = |argument: &String| {
            argument
                .replace("{port}", &port.to_string())
                .replace("{allocation_id}", allocation_id)
                .replace("{backend_url}", backend_url)
        };
        self.command.iter().map(filled).collect()
    }

    /// URL by which servers reach the backend that listens on `address`.
    pub fn url_of(&self, address: SocketAddr) -> String {
        self.backend_url.clone().unwrap_or_else(|| {
            if address.ip().is_unspecified() {
                format!("http://{}", SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())))
            } else {
                format!("http://{address}")
            }
        })
    }
}

impl File {
    fn check(
        self,
        spare_servers: Option<u32>,
        supervisor: PathBuf,
        folder: &Path,
    ) -> Result<AllocationSettings, String> {
        check_command(&self.command)?;
        let docker = self.docker.as_ref().map(|docker| docker.check(&self, folder)).transpose()?;
        for name in self.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("environment: {name:?} is no name of a variable"));
            }
        }
        let ports = parse_ports(&self.ports)?;
        let spare_servers = spare_servers.unwrap_or(self.spare_servers);
        for (name, value, least, most) in [
            ("max_players", self.max_players, 1, MAX_PLAYERS),
            ("max_servers", self.max_servers, 1, 10_000),
            ("rooms_per_player", self.rooms_per_player, 0, 10_000),
            ("spare_servers", spare_servers, 0, self.max_servers.max(1) - 1),
            ("start_timeout_seconds", self.start_timeout_seconds, 1, 3_600),
            ("start_attempts", self.start_attempts, 1, 10),
            ("stop_grace_seconds", self.stop_grace_seconds, 1, 3_600),
            ("empty_timeout_seconds", self.empty_timeout_seconds, 0, 86_400),
            ("log_kib", self.log_kib, 4, 1024 * 1024),
            ("logs_kept", self.logs_kept, 0, 100_000),
        ] {
            if !(least..=most).contains(&value) {
                let less = if name == "spare_servers" { ", less than max_servers" } else { "" };
                return Err(format!("{name}: must be {least} to {most}{less}"));
            }
        }
        if ports.len() < usize::try_from(self.max_servers).unwrap_or(usize::MAX) {
            return Err(format!("ports: {} are fewer than max_servers, {}", ports.len(), self.max_servers));
        }
        Ok(AllocationSettings {
            command: self.command,
            docker,
            environment: self.environment,
            working_directory: self.working_directory.map(|path| folder.join(path)),
            ports,
            backend_url: self.backend_url,
            max_players: self.max_players,
            max_servers: self.max_servers as usize,
            rooms_per_player: self.rooms_per_player,
            creators: self.creators,
            quick_play_creates: self.quick_play_creates,
            spare_servers: spare_servers as usize,
            start_timeout: Duration::from_secs(self.start_timeout_seconds.into()),
            start_attempts: self.start_attempts,
            stop_grace: Duration::from_secs(self.stop_grace_seconds.into()),
            empty_timeout: (self.empty_timeout_seconds > 0)
                .then(|| Duration::from_secs(self.empty_timeout_seconds.into())),
            log_folder: folder.join(self.log_folder),
            log_bytes: u64::from(self.log_kib) * 1024,
            logs_kept: self.logs_kept as usize,
            log_in_errors: self.log_in_errors,
            supervisor,
        })
    }
}

impl DockerFile {
    fn check(&self, file: &File, folder: &Path) -> Result<DockerSettings, String> {
        for (name, value) in [("image", &self.image), ("network", &self.network)] {
            if value.trim().is_empty() || value.contains(['\0', ' ']) {
                return Err(format!("docker.{name}: must be a name, without spaces"));
            }
        }
        if let Some(volume) = self.volumes.iter().find(|volume| !is_volume(volume)) {
            return Err(format!("docker.volumes: {volume:?} must be VOLUME:/PATH or /FOLDER:/PATH"));
        }
        if self.memory_mib != 0 && self.memory_mib < 16 {
            return Err("docker.memory_mib: must be 0 for no limit, or at least 16".into());
        }
        if file.working_directory.is_some() {
            return Err("working_directory: is for processes; the image has its own".into());
        }
        if file.backend_url.is_none() && self.network != HOST_NETWORK {
            return Err(format!(
                "backend_url: must be set, because 127.0.0.1 is another machine in a container; or set docker.network to \"{HOST_NETWORK}\""
            ));
        }
        Ok(DockerSettings {
            image: self.image.clone(),
            socket: folder.join(&self.socket),
            network: self.network.clone(),
            volumes: self.volumes.clone(),
            memory_mib: self.memory_mib.into(),
            cpu_percent: self.cpu_percent,
        })
    }
}

fn is_volume(text: &str) -> bool {
    text.split_once(':').is_some_and(|(source, path)| !source.is_empty() && path.starts_with('/'))
}

/// A typing error in a placeholder would reach the server as it stands.
fn check_command(command: &[String]) -> Result<(), String> {
    if command.first().is_none_or(String::is_empty) {
        return Err("command: must be a list of the program and its arguments".into());
    }
    for argument in command {
        let mut rest = argument.as_str();
        while let Some(begin) = rest.find('{') {
            let Some(end) = rest[begin..].find('}') else { break };
            let word = &rest[begin..=begin + end];
            let is_name = word.len() > 2
                && word[1..word.len() - 1].chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            if is_name && !PLACEHOLDERS.contains(&word) {
                return Err(format!("command: {word} is unknown; there are {}", PLACEHOLDERS.join(", ")));
            }
            rest = &rest[begin + 1..];
        }
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        return Err("command: must not contain NUL".into());
    }
    Ok(())
}

/// `27000-27099`, or one port.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Ok(first..=last),
        _ => Err(format!("ports: {text:?} must be two ports such as 27000-27099")),
    }
}

#[cfg(test)]
mod tests;

//! The settings of a game that uses the addon, as one table, and what it measures, as another.
//!
//! The extension registers the Project Settings from it and reads overrides by it; `cargo xtask settings` writes the tables of
//! the README files and of the guide from it. It has no dependencies, so that both can use it.

pub mod metrics;

/// Where a setting can come from beside the Project Settings.
#[derive(Debug, Clone, Copy)]
pub struct Override {
    /// Name of the environment variable.
    pub environment: Option<&'static str>,
    /// Name of the command-line argument, which is written `--name=value`.
    pub argument: Option<&'static str>,
}

impl Override {
    const NONE: Self = Self { environment: None, argument: None };

    const fn environment(name: &'static str) -> Self {
        Self { environment: Some(name), argument: None }
    }

    const fn both(environment: &'static str, argument: &'static str) -> Self {
        Self { environment: Some(environment), argument: Some(argument) }
    }
}

/// The default of a Project Setting, which has its type.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    Text(&'static str),
    Float(f64),
    Integer(i64),
    Bool(bool),
    /// A list of texts, empty at first.
    Texts,
}

/// What the editor shows for a Project Setting: the engine's property hint.
#[derive(Debug, Clone, Copy)]
pub enum Hint {
    None,
    Placeholder(&'static str),
    Range(&'static str),
    /// One of the options, separated by commas.
    Options(&'static str),
    /// One of the options, or another text.
    Suggestions(&'static str),
}

/// A setting under *Project Settings → Backend Client*.
#[derive(Debug, Clone, Copy)]
pub struct ProjectSetting {
    pub path: &'static str,
    pub default: Default,
    pub hint: Hint,
    pub overrides: Override,
    /// In Markdown, on one line.
    pub description: &'static str,
}

/// A setting of the process or of a node, which is no Project Setting.
#[derive(Debug, Clone, Copy)]
pub struct ProcessSetting {
    /// What it sets, in Markdown.
    pub subject: &'static str,
    /// In Markdown.
    pub default: &'static str,
    pub overrides: Override,
    /// In Markdown, on one line.
    pub description: &'static str,
}

pub const BASE_URL: ProjectSetting = ProjectSetting {
    path: "backend_client/network/base_url",
    default: Default::Text(""),
    hint: Hint::Placeholder("https://api.example.org"),
    overrides: Override::both("BACKEND_URL", "--backend-url"),
    description: "URL of the backend",
};
pub const TIMEOUT_SECONDS: ProjectSetting = ProjectSetting {
    path: "backend_client/network/timeout_seconds",
    default: Default::Float(10.0),
    hint: Hint::Range("0.1,600,0.1,suffix:s"),
    overrides: Override::NONE,
    description: "Timeout of a call in seconds, including its retries",
};
pub const RETRY_ATTEMPTS: ProjectSetting = ProjectSetting {
    path: "backend_client/network/retry_attempts",
    default: Default::Integer(3),
    hint: Hint::Range("0,10"),
    overrides: Override::NONE,
    description: "Maximum number of retries of a call without a response",
};
pub const MAX_IN_FLIGHT: ProjectSetting = ProjectSetting {
    path: "backend_client/network/max_in_flight",
    default: Default::Integer(64),
    hint: Hint::Range("1,1024"),
    overrides: Override::NONE,
    description: "Maximum number of concurrent requests; further requests wait",
};
pub const ALLOW_INSECURE_HTTP: ProjectSetting = ProjectSetting {
    path: "backend_client/network/allow_insecure_http",
    default: Default::Bool(false),
    hint: Hint::None,
    overrides: Override::NONE,
    description: "Allows plain HTTP to hosts other than this machine. Passwords and tokens are then sent unencrypted",
};
pub const TLS_ROOTS: ProjectSetting = ProjectSetting {
    path: "backend_client/network/tls_roots",
    default: Default::Text("platform"),
    hint: Hint::Suggestions("platform,bundled"),
    overrides: Override::environment("BACKEND_TLS_ROOTS"),
    description: "Trusted certificate authorities: `platform` = the operating system's, `bundled` = Mozilla's list (for containers \
                  that have none), or the path of a PEM file",
};
pub const ISSUER: ProjectSetting = ProjectSetting {
    path: "backend_client/auth/issuer",
    default: Default::Text("backend_client"),
    hint: Hint::None,
    overrides: Override::environment("BACKEND_ISSUER"),
    description: "Required issuer of players' tokens",
};
pub const GAME: ProjectSetting = ProjectSetting {
    path: "backend_client/auth/game",
    default: Default::Text("default"),
    hint: Hint::None,
    overrides: Override::environment("BACKEND_GAME"),
    description: "Required game (audience) of players' tokens",
};
pub const PUBLIC_ADDRESS: ProjectSetting = ProjectSetting {
    path: "backend_client/server/public_address",
    default: Default::Text("auto"),
    hint: Hint::Suggestions("auto"),
    overrides: Override::both("BACKEND_PUBLIC_ADDRESS", "--backend-public-address"),
    description: "Address of a dedicated server in the room list: a host name or an IP address. `auto` = the one that the host of \
                  the server reports, or 127.0.0.1 if it reports none",
};
pub const JOURNAL_FOLDER: ProjectSetting = ProjectSetting {
    path: "backend_client/journal/folder",
    default: Default::Text(""),
    hint: Hint::Placeholder("below user://backend_client"),
    overrides: Override::both("BACKEND_JOURNAL_FOLDER", "--backend-journal-folder"),
    description: "Folder of the journal of unsent saves. If empty, `user://backend_client/<backend>/journal`. In a container, \
                  it must be on a volume",
};
pub const WORLDS_FOLDER: ProjectSetting = ProjectSetting {
    path: "backend_client/worlds/folder",
    default: Default::Text(""),
    hint: Hint::Placeholder("below user://backend_client"),
    overrides: Override::both("BACKEND_WORLDS_FOLDER", "--backend-worlds-folder"),
    description: "Folder of the local copies of worlds. If empty, `user://backend_client/<backend>/worlds`. In a container, it \
                  must be on a volume",
};
pub const GODOT_TYPES: ProjectSetting = ProjectSetting {
    path: "backend_client/documents/godot_types",
    default: Default::Bool(true),
    hint: Hint::None,
    overrides: Override::NONE,
    description: "Documents of players keep Godot's types, such as `Vector3` and `PackedByteArray`. If off, documents are plain \
                  JSON: packed arrays are loaded as `Array`, and other types cannot be saved",
};
pub const GRACE_SECONDS: ProjectSetting = ProjectSetting {
    path: "backend_client/shutdown/grace_seconds",
    default: Default::Float(25.0),
    hint: Hint::Range("1,3600,0.5,suffix:s"),
    overrides: Override::environment("BACKEND_SHUTDOWN_GRACE_SECONDS"),
    description: "Time from a termination request to the end of the process, in seconds",
};
pub const HOST_GRACE_SECONDS: ProjectSetting = ProjectSetting {
    path: "backend_client/shutdown/host_grace_seconds",
    default: Default::Float(30.0),
    hint: Hint::Range("0,3600,0.5,suffix:s"),
    overrides: Override::NONE,
    description: "Time after which the host kills a process that it asked to end: 10 s for `docker stop` and 30 s in Kubernetes, unless \
                  set otherwise there. The Inspector warns of a grace that is not shorter. 0 = no warning",
};
/// Read by the export plugin.
pub const EXPORT_SERVER_ONLY: ProjectSetting = ProjectSetting {
    path: "backend_client/export/server_only",
    default: Default::Texts,
    hint: Hint::None,
    overrides: Override::NONE,
    description: "Folders, files or patterns that exports for players leave out, for example `res://server/`",
};
pub const LOG_LEVEL: ProjectSetting = ProjectSetting {
    path: "backend_client/log/level",
    default: Default::Text("info"),
    hint: Hint::Options("error,warn,info,debug,trace"),
    overrides: Override::environment("BACKEND_LOG"),
    description: "Level of the addon's messages in the log",
};
pub const LOG_MODULES: ProjectSetting = ProjectSetting {
    path: "backend_client/log/modules",
    default: Default::Text(""),
    hint: Hint::Placeholder("player_store=debug,network=trace"),
    overrides: Override::environment("BACKEND_LOG_MODULES"),
    description: "Levels of single modules, which differ from the level above: `module=level`, separated by commas. `off` \
                  silences a module",
};
pub const LOG_FORMAT: ProjectSetting = ProjectSetting {
    path: "backend_client/log/format",
    default: Default::Text("text"),
    hint: Hint::Options("text,json"),
    overrides: Override::environment("BACKEND_LOG_FORMAT"),
    description: "Format of the addon's messages on dedicated servers: `text`, or `json` = one JSON object per line, for log \
                  collectors",
};
pub const METRICS_ADDRESS: ProjectSetting = ProjectSetting {
    path: "backend_client/telemetry/metrics_address",
    default: Default::Text(""),
    hint: Hint::Placeholder("off; for example 127.0.0.1:9464"),
    overrides: Override::both("BACKEND_METRICS_ADDRESS", "--backend-metrics-address"),
    description: "Address and port at which a dedicated server answers Prometheus, at `/metrics`. A port alone = this machine \
                  only. Port 0 = chosen by the system, see the log. If empty, there is no endpoint",
};
pub const OTLP_ENDPOINT: ProjectSetting = ProjectSetting {
    path: "backend_client/telemetry/otlp_endpoint",
    default: Default::Text(""),
    hint: Hint::Placeholder("off; for example http://localhost:4318"),
    overrides: Override::environment("OTEL_EXPORTER_OTLP_ENDPOINT"),
    description: "URL of an OpenTelemetry collector to which a dedicated server sends metrics and spans, by OTLP over HTTP with \
                  JSON. If empty, nothing is sent",
};

pub const DOCUMENTATION_BASE_URL: ProjectSetting = ProjectSetting {
    path: "backend_client/documentation/base_url",
    default: Default::Text(""),
    hint: Hint::Placeholder("the pages in the folder of the addon"),
    overrides: Override::NONE,
    description: "Address of the published guide, for `BackendError.doc_url`. If empty, the page in the folder of the addon",
};

/// All Project Settings, in the order of the dialogue.
pub const PROJECT_SETTINGS: [&ProjectSetting; 21] = [
    &BASE_URL,
    &TIMEOUT_SECONDS,
    &RETRY_ATTEMPTS,
    &MAX_IN_FLIGHT,
    &ALLOW_INSECURE_HTTP,
    &TLS_ROOTS,
    &ISSUER,
    &GAME,
    &PUBLIC_ADDRESS,
    &JOURNAL_FOLDER,
    &WORLDS_FOLDER,
    &GODOT_TYPES,
    &GRACE_SECONDS,
    &HOST_GRACE_SECONDS,
    &EXPORT_SERVER_ONLY,
    &LOG_LEVEL,
    &LOG_MODULES,
    &LOG_FORMAT,
    &METRICS_ADDRESS,
    &OTLP_ENDPOINT,
    &DOCUMENTATION_BASE_URL,
];

pub const PROFILE: ProcessSetting = ProcessSetting {
    subject: "property `BackendSession.profile`",
    default: "`default`",
    overrides: Override::both("BACKEND_PROFILE", "--backend-profile"),
    description: "Profile in which the session is stored",
};
pub const QUERY_PORT: ProcessSetting = ProcessSetting {
    subject: "property `BackendServerRegistration.query_port`",
    default: "0",
    overrides: Override::both("BACKEND_QUERY_PORT", "--backend-query-port"),
    description: "UDP port on which a dedicated server answers queries. 0 = chosen by the system",
};
pub const HOST: ProcessSetting = ProcessSetting {
    subject: "property `BackendServerRegistration.host`",
    default: "`auto`",
    overrides: Override::both("BACKEND_HOST", "--backend-host"),
    description: "What runs a dedicated server: `auto` = detected, `none`, `agones`, `ecs`, `ec2`, `azure`, `gcp` or `systemd`",
};
pub const AZURE_METADATA_ENDPOINT: ProcessSetting = ProcessSetting {
    subject: "metadata service of Azure",
    default: "`http://169.254.169.254`",
    overrides: Override::environment("BACKEND_AZURE_METADATA_ENDPOINT"),
    description: "URL of the instance metadata service, for tests. If set, the server counts as one on Azure",
};
pub const AZURE_APPROVE_EVENTS: ProcessSetting = ProcessSetting {
    subject: "approval of Scheduled Events of Azure",
    default: "`false`",
    overrides: Override::environment("BACKEND_AZURE_APPROVE_EVENTS"),
    description: "`true` = a server that has shut down with everything at the backend lets the event begin, if it is about this \
                  machine alone. Only for machines with one game server, because an event ends the whole machine",
};
pub const ALLOCATION_ID: ProcessSetting = ProcessSetting {
    subject: "allocation of a room on demand",
    default: "none",
    overrides: Override::environment("BACKEND_ALLOCATION_ID"),
    description: "Set by the backend when it starts a dedicated server. The server registers with it and becomes the room that was \
                  requested",
};
pub const EMPTY_SERVER_TIMEOUT: ProcessSetting = ProcessSetting {
    subject: "property `BackendShutdown.empty_server_timeout`",
    default: "0",
    overrides: Override { environment: None, argument: Some("--empty-server-timeout") },
    description: "Seconds without players after which a server shuts down. 0 = never",
};
pub const SERVER_KEY: ProcessSetting = ProcessSetting {
    subject: "server key",
    default: "none",
    overrides: Override::environment("BACKEND_SERVER_KEY"),
    description: "Key of a dedicated server. There is no Project Setting for it, because those are exported with the game",
};
pub const SERVER_KEY_FILE: ProcessSetting = ProcessSetting {
    subject: "file with the server key",
    default: "none",
    overrides: Override::both("BACKEND_SERVER_KEY_FILE", "--backend-server-key-file"),
    description: "Path of a file that contains the server key",
};
/// Its argument has no value.
pub const MODE: ProcessSetting = ProcessSetting {
    subject: "dedicated-server mode",
    default: "feature `dedicated_server` of the export",
    overrides: Override::both("BACKEND_MODE", "--server"),
    description: "`BACKEND_MODE=server` and `BACKEND_MODE=client` override the detection; the argument has no value",
};
/// Its argument has no value.
pub const DOCTOR: ProcessSetting = ProcessSetting {
    subject: "check of the surroundings",
    default: "off",
    overrides: Override { environment: None, argument: Some("--backend-doctor") },
    description: "Checks host, address, backend, TLS, clock, key, journal and grace before the first scene, prints one line for each, \
                  and ends the process: with 0, or with 1 if the server would not work. The argument has no value",
};
pub const OTLP_HEADERS: ProcessSetting = ProcessSetting {
    subject: "headers of exports to OpenTelemetry",
    default: "none",
    overrides: Override::environment("OTEL_EXPORTER_OTLP_HEADERS"),
    description: "Headers such as `Authorization=Bearer%20…`, separated by commas, with percent-encoded values. There is no Project \
                  Setting for them, because those are exported with the game",
};
pub const OTLP_INTERVAL: ProcessSetting = ProcessSetting {
    subject: "interval of exports to OpenTelemetry",
    default: "60000",
    overrides: Override::environment("OTEL_METRIC_EXPORT_INTERVAL"),
    description: "Milliseconds between two exports, at least 1000",
};
pub const OTLP_TRACES: ProcessSetting = ProcessSetting {
    subject: "exporter of spans",
    default: "`otlp`",
    overrides: Override::environment("OTEL_TRACES_EXPORTER"),
    description: "`none` = only metrics are sent to OpenTelemetry, no spans",
};
pub const SERVICE_NAME: ProcessSetting = ProcessSetting {
    subject: "service name in OpenTelemetry",
    default: "`game-server`",
    overrides: Override::environment("OTEL_SERVICE_NAME"),
    description: "Attribute `service.name` of metrics and spans",
};
pub const RESOURCE_ATTRIBUTES: ProcessSetting = ProcessSetting {
    subject: "resource attributes in OpenTelemetry",
    default: "none",
    overrides: Override::environment("OTEL_RESOURCE_ATTRIBUTES"),
    description: "Further attributes of metrics and spans, such as `deployment.environment.name=staging`, separated by commas",
};

/// All settings that are no Project Settings.
pub const PROCESS_SETTINGS: [&ProcessSetting; 16] = [
    &PROFILE,
    &QUERY_PORT,
    &HOST,
    &AZURE_METADATA_ENDPOINT,
    &AZURE_APPROVE_EVENTS,
    &ALLOCATION_ID,
    &EMPTY_SERVER_TIMEOUT,
    &SERVER_KEY,
    &SERVER_KEY_FILE,
    &MODE,
    &DOCTOR,
    &OTLP_HEADERS,
    &OTLP_INTERVAL,
    &OTLP_TRACES,
    &SERVICE_NAME,
    &RESOURCE_ATTRIBUTES,
];

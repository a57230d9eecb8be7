//! Who wins when something is said more than once: command line, then environment, then the node's `BackendConfig`,
//! then Project Settings.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::Once;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backend_client::backend::{Backend, HttpBackend};
use backend_client::clock::{Clock, SystemClock};
use backend_client::config::TlsRoots;
use backend_client::error::{ClientError, Fault};
#[cfg(target_os = "linux")]
use backend_client::host::Systemd;
use backend_client::host::{Host, PlainHost};
use backend_client::storage::{FileStorage, Storage};
use backend_client::transport::{HttpTransport, Transport};
use backend_client::{Config, ServerKey};
use godot::classes::{Os, ProjectSettings};
use godot::prelude::*;

use crate::config::project_settings;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::not_configured;
use backend_client::api::lazy_transport::LazyTransport;

/// Where the engine keeps what belongs to this game on this machine.
const STORAGE_FOLDER: &str = "user://backend_client";

thread_local! {
    // Used on the main thread only. Arguments never change while the process runs.
    static ARGUMENTS: OnceCell<Vec<String>> = const { OnceCell::new() };
    static CONNECTIONS: RefCell<HashMap<Config, Weak<HttpBackend>>> = RefCell::new(HashMap::new());
}

/// What applies to a node whose `config` is `own`.
pub fn resolve(own: Option<&Gd<BackendConfig>>) -> Result<Config, ClientError> {
    let own = own.map(|config| config.bind().values());
    let overrides = own.as_ref().is_none_or(|own| own.use_overrides);
    let own = own.unwrap_or_default();
    let outside = |name: &str, variable: &str| if overrides { override_for(name, variable) } else { None };
    let seconds =
        own.timeout_seconds.unwrap_or_else(|| project_settings::number(project_settings::TIMEOUT_SECONDS));
    Ok(Config {
        base_url: outside("--backend-url", "BACKEND_URL")
            .or(own.base_url)
            .unwrap_or_else(|| project_settings::text(project_settings::BASE_URL)),
        timeout: Duration::try_from_secs_f64(seconds)
            .map_err(|_| ClientError::field("timeout_seconds", "must be 0.1 to 600"))?,
        retry_attempts: whole("retry_attempts", own.retry_attempts, project_settings::RETRY_ATTEMPTS)?,
        max_in_flight: whole("max_in_flight", own.max_in_flight, project_settings::MAX_IN_FLIGHT)?,
        allow_insecure_http: own.allow_insecure_http
            || project_settings::flag(project_settings::ALLOW_INSECURE_HTTP),
        tls_roots: tls_roots(
            &outside("", "BACKEND_TLS_ROOTS")
                .or(own.tls_roots)
                .unwrap_or_else(|| project_settings::text(project_settings::TLS_ROOTS)),
        ),
        issuer: outside("", "BACKEND_ISSUER")
            .or(own.issuer)
            .unwrap_or_else(|| project_settings::text(project_settings::ISSUER)),
        game: outside("", "BACKEND_GAME")
            .or(own.game)
            .unwrap_or_else(|| project_settings::text(project_settings::GAME)),
    })
}

fn tls_roots(text: &str) -> TlsRoots {
    match text.trim() {
        "" | "platform" => TlsRoots::Platform,
        "bundled" => TlsRoots::Bundled,
        path => TlsRoots::File(globalized(path)),
    }
}

/// The backend for `config`. Equal configurations share one, with its connections.
pub fn connect(config: Config) -> Result<Arc<dyn Backend>, ClientError> {
    if godot::init::is_editor_hint() {
        return Err(not_configured("nothing is sent from inside the editor"));
    }
    let known = CONNECTIONS.with_borrow(|table| table.get(&config).and_then(Weak::upgrade));
    if let Some(backend) = known {
        return Ok(backend);
    }
    config.check()?;
    let transport: Arc<dyn Transport> = if matches!(config.tls_roots, TlsRoots::File(_)) {
        // A file that is missing or wrong is told as what it is; the platform's certificates are not read.
        Arc::new(HttpTransport::new(&config)?)
    } else {
        Arc::new(LazyTransport::new(config.clone()))
    };
    let backend = Arc::new(HttpBackend::new(config.clone(), transport, clock())?);
    CONNECTIONS.with_borrow_mut(|table| {
        table.retain(|_, backend| backend.strong_count() > 0);
        table.insert(config, Arc::downgrade(&backend));
    });
    Ok(backend)
}

/// The machine's clocks.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Files below `user://`, in a folder of this backend's own: no backend is shown what another one gave out.
pub fn storage(config: &Config) -> Arc<dyn Storage> {
    let folder = globalized(STORAGE_FOLDER);
    let former = former_folder_names(config).into_iter().map(|name| folder.join(name));
    Arc::new(FileStorage::new(folder.join(folder_name(config))).with_former(former))
}

/// Where something is kept on local disk.
pub struct LocalFolder {
    pub folder: PathBuf,
    /// Where an earlier version kept it for the same backend.
    pub former: Vec<PathBuf>,
}

/// The profile that a node whose `config` and property are `own` and `named` keeps its session under.
pub fn profile(own: Option<&Gd<BackendConfig>>, named: &str) -> (String, ProfileChoice) {
    let overrides = own.is_none_or(|own| own.bind().values().use_overrides);
    let outside = if overrides { override_for("--backend-profile", "BACKEND_PROFILE") } else { None };
    match outside {
        Some(profile) => (profile, ProfileChoice::Explicit),
        None => (named.to_owned(), ProfileChoice::Scene),
    }
}

/// Who chose a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileChoice {
    /// Whoever started this process, by argument or environment.
    Explicit,
    /// The scene, which is the same in every process.
    Scene,
}

/// Whether the game runs from the editor's binary, as it does when a developer tries it.
pub fn is_development_run() -> bool {
    Os::singleton().has_feature("editor")
}

/// Where the unsent saves of a node whose `config` is `own` are kept; `config` is what it resolves to. Unless said
/// otherwise, each backend has a folder of its own: no backend is sent what was saved for another one.
pub fn journal_folder(own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
    let journal = Place {
        argument: "--backend-journal-folder",
        variable: "BACKEND_JOURNAL_FOLDER",
        setting: project_settings::JOURNAL_FOLDER,
        own_folder: "journal",
        field: "journal_folder",
    };
    journal.folder(own, config)
}

/// The same for the local copies of worlds.
pub fn worlds_folder(own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
    let worlds = Place {
        argument: "--backend-worlds-folder",
        variable: "BACKEND_WORLDS_FOLDER",
        setting: project_settings::WORLDS_FOLDER,
        own_folder: "worlds",
        field: "worlds_folder",
    };
    worlds.folder(own, config)
}

/// Who says where something is kept on local disk.
struct Place {
    argument: &'static str,
    variable: &'static str,
    setting: &'static str,
    own_folder: &'static str,
    field: &'static str,
}

impl Place {
    fn folder(&self, own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
        let overrides = own.is_none_or(|own| own.bind().values().use_overrides);
        let outside = || override_for(self.argument, self.variable);
        let named = if overrides { outside() } else { None };
        let named = named.unwrap_or_else(|| project_settings::text(self.setting));
        match named.trim() {
            "" => {
                let place = |name: String| globalized(STORAGE_FOLDER).join(name).join(self.own_folder);
                Ok(LocalFolder {
                    folder: place(folder_name(config)),
                    former: former_folder_names(config).into_iter().map(place).collect(),
                })
            }
            inside if inside.starts_with("res://") => Err(ClientError::field(
                self.field,
                "must not be in res://, which cannot be written in an exported game; use user:// or an absolute path",
            )),
            named => Ok(LocalFolder { folder: globalized(named), former: Vec::new() }),
        }
    }
}

/// The server key: from the environment or a file, and from nowhere else.
pub fn server_key() -> Result<ServerKey, ClientError> {
    if let Some(path) = argument("--backend-server-key-file") {
        return ServerKey::read(Path::new(&path));
    }
    if let Some(key) = environment("BACKEND_SERVER_KEY") {
        return ServerKey::parse(&key);
    }
    match environment("BACKEND_SERVER_KEY_FILE") {
        Some(path) => ServerKey::read(Path::new(&path)),
        None => Err(not_configured(
            "no server key: set BACKEND_SERVER_KEY or BACKEND_SERVER_KEY_FILE in the server's environment",
        )),
    }
}

/// What runs this process. An orchestrator that knows better than our settings would be another [`Host`], chosen here.
pub fn host(own_address: &str, own_grace_seconds: f64) -> Arc<dyn Host> {
    let plain = PlainHost {
        public_address: public_address(own_address),
        shutdown_grace: shutdown_grace(own_grace_seconds),
    };
    #[cfg(target_os = "linux")]
    match Systemd::from_environment(plain.clone(), environment, std::process::id()) {
        Some(Ok(systemd)) => return Arc::new(systemd),
        Some(Err(error)) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::warn!("the service manager is not told anything: {error}"));
        }
        None => {}
    }
    Arc::new(plain)
}

/// Where players reach this machine, unless the node says so itself.
fn public_address(own: &str) -> String {
    override_for("--backend-public-address", "BACKEND_PUBLIC_ADDRESS")
        .or_else(|| (!own.is_empty()).then(|| own.to_owned()))
        .unwrap_or_else(|| project_settings::text(project_settings::PUBLIC_ADDRESS))
}

/// Time from a termination request to the end of the process. 0 and less count as not set.
fn shutdown_grace(own_seconds: f64) -> Duration {
    let seconds = environment("BACKEND_SHUTDOWN_GRACE_SECONDS")
        .and_then(|text| text.parse().ok())
        .filter(|seconds: &f64| *seconds > 0.0)
        .or_else(|| (own_seconds > 0.0).then_some(own_seconds))
        .unwrap_or_else(|| project_settings::number(project_settings::GRACE_SECONDS));
    Duration::try_from_secs_f64(seconds.clamp(1.0, 3_600.0)).unwrap_or(Duration::from_secs(25))
}

/// Whether this process is a dedicated server: forced by `BACKEND_MODE`, else exported as one or started with
/// `--server`.
pub fn is_dedicated_server() -> bool {
    match environment("BACKEND_MODE").as_deref() {
        Some("server") => true,
        Some("client") => false,
        _ => Os::singleton().has_feature("dedicated_server") || has_flag("--server"),
    }
}

/// The value of `--name=value`; the last one counts.
pub fn argument(name: &str) -> Option<String> {
    with_arguments(|arguments| value_of(arguments, name))
}

fn has_flag(name: &str) -> bool {
    with_arguments(|arguments| arguments.iter().any(|argument| argument == name))
}

fn with_arguments<T>(read: impl FnOnce(&[String]) -> T) -> T {
    ARGUMENTS.with(|arguments| {
        read(arguments.get_or_init(|| {
            let os = Os::singleton();
            // Arguments after `--` come last, so that they win.
            let plain = os.get_cmdline_args().to_vec();
            plain
                .into_iter()
                .chain(os.get_cmdline_user_args().to_vec())
                .map(|text| text.to_string())
                .collect()
        }))
    })
}

fn override_for(name: &str, variable: &str) -> Option<String> {
    argument(name).or_else(|| environment(variable))
}

/// A variable that is set and not empty. Through the engine, so that `OS.set_environment` counts.
fn environment(variable: &str) -> Option<String> {
    let value = Os::singleton().get_environment(variable).to_string();
    (!value.trim().is_empty()).then_some(value)
}

fn value_of(arguments: &[String], name: &str) -> Option<String> {
    let value = |argument: &String| argument.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let found = if name.is_empty() { None } else { arguments.iter().rev().find_map(value) };
    found.filter(|value| !value.is_empty())
}

fn whole<T: TryFrom<i64>>(field: &str, own: Option<i64>, setting: &str) -> Result<T, ClientError> {
    let value = own.unwrap_or_else(|| project_settings::integer(setting));
    T::try_from(value)
        .map_err(|_| ClientError::new(Fault::InvalidField, format!("{field}: {value} is out of range")))
        .map_err(|mut error| {
            error.field = Some(field.to_owned());
            error
        })
}

/// Readable for a person, different for whatever decides whom a token is shown to or believed. All spellings of an address
/// have one name.
fn folder_name(config: &Config) -> String {
    name_for(&config.address(), config)
}

/// What earlier versions called the folder of the same backend, which depended on how its address is spelled: as it is
/// now, or in one of the usual ways.
fn former_folder_names(config: &Config) -> Vec<String> {
    let address = config.address();
    let (scheme, rest) = address.split_once("://").unwrap_or(("", &address));
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let spellings = [
        config.base_url.clone(),
        format!("{address}/"),
        format!("{scheme}://{rest}{port}"),
        format!("{scheme}://{rest}{port}/"),
        format!("{scheme}://{}", rest.to_ascii_uppercase()),
        format!("{}://{rest}", scheme.to_ascii_uppercase()),
    ];
    let current = folder_name(config);
    let mut names: Vec<String> = spellings.iter().map(|spelling| name_for(spelling, config)).collect();
    names.sort();
    names.dedup();
    names.retain(|name| *name != current);
    names
}

fn name_for(base_url: &str, config: &Config) -> String {
    let origin = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let readable: String = origin
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(40)
        .collect();
    // FNV-1a: stable across versions and machines, which the standard library's hashes are not.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in [base_url, &config.issuer, &config.game].into_iter().flat_map(|part| part.bytes().chain([0]))
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{}-{hash:016x}", readable.trim_matches(['.', '-']))
}

pub fn globalized(path: &str) -> PathBuf {
    ProjectSettings::singleton().globalize_path(path).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::{Config, folder_name, former_folder_names, name_for, value_of};

    #[test]
    fn the_last_value_of_an_argument_counts() {
        let arguments = ["--backend-url=http://a", "--backend-urls=no", "--backend-url=http://b", "--server"];
        let arguments = arguments.map(str::to_owned);
        assert_eq!(value_of(&arguments, "--backend-url").as_deref(), Some("http://b"));
        assert_eq!(value_of(&arguments, "--server"), None);
        assert_eq!(value_of(&["--backend-url=".to_owned()], "--backend-url"), None);
    }

    #[test]
    fn every_backend_has_a_folder_of_its_own() {
        let of = |base_url: &str, issuer: &str| {
            folder_name(&Config { base_url: base_url.into(), issuer: issuer.into(), ..Config::default() })
        };
        assert!(of("https://api.example.org/v", "a").starts_with("api.example.org-v-"));
        assert_eq!(of("https://a", "b"), of("https://a", "b"));
        assert_ne!(of("https://a", "b"), of("https://a", "c"));
        assert_ne!(of("https://a/b", "c"), of("https://a-b", "c"));
        assert_ne!(of("http://a", "b"), of("https://a", "b"));
        assert!(!of("../..", "b").starts_with('.'));
    }

    #[test]
    fn all_spellings_of_an_address_are_one_backend() {
        let at = |base_url: &str| Config { base_url: base_url.into(), ..Config::default() };
        let plain = at("http://localhost:8080");
        // As it was always called.
        assert_eq!(folder_name(&plain), name_for("http://localhost:8080", &plain));
        for spelling in [
            "http://localhost:8080/",
            "HTTP://localhost:8080",
            "http://LOCALHOST:8080",
            " http://localhost:8080// ",
        ] {
            assert_eq!(folder_name(&at(spelling)), folder_name(&plain), "{spelling}");
        }
        assert_eq!(folder_name(&at("https://a.example:443/")), folder_name(&at("https://a.example")));
        assert_ne!(folder_name(&at("https://a.example/Game")), folder_name(&at("https://a.example/game")));
        // Whatever was kept under one spelling is found under another.
        let former = |base_url: &str| name_for(base_url, &plain);
        assert!(former_folder_names(&plain).contains(&former("http://localhost:8080/")));
        assert!(former_folder_names(&at("HTTP://LocalHost:8080")).contains(&former("HTTP://LocalHost:8080")));
        assert!(!former_folder_names(&plain).contains(&folder_name(&plain)));
    }
}

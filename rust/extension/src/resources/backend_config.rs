//! `BackendConfig`: connection settings of nodes that do not use the project's.

use godot::prelude::*;

use crate::config::{self, OwnSettings, Values};

/// Connection settings: base URL, timeout, retries, TLS roots.
///
/// Nodes without a BackendConfig use Project Settings > Backend Client, and so do properties that are left at their default. The
/// environment ([code]BACKEND_URL[/code], [code]BACKEND_ISSUER[/code], [code]BACKEND_GAME[/code]) and the command line
/// ([code]--backend-url=[/code]) override both, unless [member use_overrides] is [code]false[/code]. A node reads its configuration
/// when it first connects; assign the resource again to change the node's backend.
/// ```gdscript
/// var config := BackendConfig.new()
/// config.base_url = "https://api.example.org"
/// $BackendSession.config = config
/// ```
/// A BackendConfig never contains a server key. A dedicated server reads its key from [code]BACKEND_SERVER_KEY[/code],
/// [code]BACKEND_SERVER_KEY_FILE[/code] or [code]--backend-server-key-file=[/code], so that no key is exported with the game.
///
/// See "Configuration" in the guide: [code]docs/src/configuration.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendConfig {
    /// URL of the backend, for example [code]https://api.example.org[/code]. If empty, the project setting is used.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    base_url: GString,
    /// Timeout of a call in seconds, including its retries, from 0.1 to 600. If 0, the project setting is used.
    #[export(range = (0.0, 600.0, 0.1, suffix = "s"))]
    timeout_seconds: f64,
    /// Maximum number of retries of a call without a response, from 0 to 10. If -1, the project setting is used.
    #[export(range = (-1.0, 10.0))]
    #[init(val = -1)]
    retry_attempts: i64,
    /// Maximum number of concurrent requests, from 1 to 1024; further requests wait. If 0, the project setting is used.
    #[export(range = (0.0, 1024.0))]
    max_in_flight: i64,
    /// If [code]true[/code], plain HTTP is allowed to hosts other than this machine. Passwords and tokens are then sent unencrypted.
    #[export]
    allow_insecure_http: bool,
    /// Trusted certificate authorities: [code]platform[/code] for those of the operating system, [code]bundled[/code] for Mozilla's list
    /// as of this build (for containers that have none), or the path of a PEM file. If empty, the project setting is used.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    tls_roots: GString,
    /// Required issuer of players' tokens. If empty, the project setting is used.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    issuer: GString,
    /// Required game (audience) of players' tokens. If empty, the project setting is used.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    game: GString,
    /// If [code]true[/code], the environment and the command line override these properties. Disable it for a second backend.
    #[export]
    #[init(val = true)]
    use_overrides: bool,
}

#[godot_api]
impl BackendConfig {
    /// Returns [code]true[/code] if this process is a dedicated server: exported as one, or started with [code]--server[/code].
    /// [code]BACKEND_MODE=server[/code] and [code]BACKEND_MODE=client[/code] override the detection.
    #[func]
    fn is_dedicated_server() -> bool {
        config::is_dedicated_server()
    }
}

impl OwnSettings for Gd<BackendConfig> {
    fn values(&self) -> Values {
        let config = self.bind();
        let text = |text: &GString| (!text.is_empty()).then(|| text.to_string());
        Values {
            base_url: text(&config.base_url),
            // A negative number is a mistake, which is reported and not replaced.
            timeout_seconds: (config.timeout_seconds != 0.0).then_some(config.timeout_seconds),
            retry_attempts: (config.retry_attempts != -1).then_some(config.retry_attempts),
            max_in_flight: (config.max_in_flight != 0).then_some(config.max_in_flight),
            allow_insecure_http: config.allow_insecure_http,
            tls_roots: text(&config.tls_roots),
            issuer: text(&config.issuer),
            game: text(&config.game),
            use_overrides: config.use_overrides,
        }
    }
}

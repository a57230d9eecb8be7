//! `BackendConfig`: where the backend is, for nodes that do not use the project's own.

use godot::prelude::*;

use crate::config;

/// Where the backend is and how patiently it is asked.
///
/// Nodes without one use Project Settings → Backend Client. Fields left at their default also come from there.
/// The environment ([code]BACKEND_URL[/code], [code]BACKEND_ISSUER[/code], [code]BACKEND_GAME[/code]) and the command
/// line ([code]--backend-url=[/code]) override both, unless [member use_overrides] is off. It is read when a node
/// first talks to the backend; assign it anew to change that node's backend.
///
/// It never holds a server key. A dedicated server gets its key from [code]BACKEND_SERVER_KEY[/code],
/// [code]BACKEND_SERVER_KEY_FILE[/code] or [code]--backend-server-key-file=[/code], so that no key is ever exported
/// with the game.
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendConfig {
    /// Where the backend listens, such as [code]https://api.example.org[/code]. Empty: the project setting.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    base_url: GString,
    /// Seconds one call may take in all, its retries included: 0.1 to 600. 0: the project setting.
    #[export(range = (0.0, 600.0, 0.1, suffix = "s"))]
    timeout_seconds: f64,
    /// Most repetitions of a call that got no answer, 0 to 10. -1: the project setting.
    #[export(range = (-1.0, 10.0))]
    #[init(val = -1)]
    retry_attempts: i64,
    /// Most requests on the wire at a time, 1 to 1024; further ones wait. 0: the project setting.
    #[export(range = (0.0, 1024.0))]
    max_in_flight: i64,
    /// Allows plain HTTP to other machines. Passwords and tokens then travel in clear text.
    #[export]
    allow_insecure_http: bool,
    /// Which certificate authorities to trust: [code]platform[/code]; [code]bundled[/code] for Mozilla's as of this build, which
    /// containers without any need; or the path of a PEM file with the only ones. Empty: the project setting.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    tls_roots: GString,
    /// Who must have issued the players' tokens. Empty: the project setting.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    issuer: GString,
    /// The game the players' tokens must be for. Empty: the project setting.
    #[export]
    #[var(hint = PLACEHOLDER_TEXT, hint_string = "from Project Settings")]
    game: GString,
    /// Whether environment and command line override these fields. Turn it off to talk to a backend other than the
    /// one the process was started for.
    #[export]
    #[init(val = true)]
    use_overrides: bool,
}

/// What a `BackendConfig` says; `None` where it leaves the word to Project Settings.
#[derive(Debug)]
pub struct Values {
    pub base_url: Option<String>,
    pub timeout_seconds: Option<f64>,
    pub retry_attempts: Option<i64>,
    pub max_in_flight: Option<i64>,
    pub allow_insecure_http: bool,
    pub tls_roots: Option<String>,
    pub issuer: Option<String>,
    pub game: Option<String>,
    pub use_overrides: bool,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            base_url: None,
            timeout_seconds: None,
            retry_attempts: None,
            max_in_flight: None,
            allow_insecure_http: false,
            tls_roots: None,
            issuer: None,
            game: None,
            use_overrides: true,
        }
    }
}

#[godot_api]
impl BackendConfig {
    /// Returns whether this process is a dedicated server: exported as one, or started with the argument
    /// [code]--server[/code]. [code]BACKEND_MODE=server[/code] and [code]BACKEND_MODE=client[/code] force it.
    #[func]
    fn is_dedicated_server() -> bool {
        config::is_dedicated_server()
    }

    pub fn values(&self) -> Values {
        let text = |text: &GString| (!text.is_empty()).then(|| text.to_string());
        Values {
            base_url: text(&self.base_url),
            // Negative numbers are somebody's mistake, to be told rather than replaced.
            timeout_seconds: (self.timeout_seconds != 0.0).then_some(self.timeout_seconds),
            retry_attempts: (self.retry_attempts != -1).then_some(self.retry_attempts),
            max_in_flight: (self.max_in_flight != 0).then_some(self.max_in_flight),
            allow_insecure_http: self.allow_insecure_http,
            tls_roots: text(&self.tls_roots),
            issuer: text(&self.issuer),
            game: text(&self.game),
            use_overrides: self.use_overrides,
        }
    }
}

//! The Project Settings under `backend_client/`. A server key is never one of them: settings ship to players.

use godot::classes::ProjectSettings;
use godot::prelude::*;
use godot::register::info::PropertyHint;

pub const BASE_URL: &str = "backend_client/network/base_url";
pub const TIMEOUT_SECONDS: &str = "backend_client/network/timeout_seconds";
pub const RETRY_ATTEMPTS: &str = "backend_client/network/retry_attempts";
pub const MAX_IN_FLIGHT: &str = "backend_client/network/max_in_flight";
pub const ALLOW_INSECURE_HTTP: &str = "backend_client/network/allow_insecure_http";
pub const TLS_ROOTS: &str = "backend_client/network/tls_roots";
pub const ISSUER: &str = "backend_client/auth/issuer";
pub const GAME: &str = "backend_client/auth/game";
pub const PUBLIC_ADDRESS: &str = "backend_client/server/public_address";
pub const JOURNAL_FOLDER: &str = "backend_client/journal/folder";
pub const WORLDS_FOLDER: &str = "backend_client/worlds/folder";
pub const GRACE_SECONDS: &str = "backend_client/shutdown/grace_seconds";
const EXPORT_SERVER_ONLY: &str = "backend_client/export/server_only";
pub const LOG_LEVEL: &str = "backend_client/log/level";

/// Shows the settings, with their defaults, in the Project Settings dialogue.
pub fn register() {
    use PropertyHint as Hint;
    define(BASE_URL, "".to_variant(), Hint::PLACEHOLDER_TEXT, "https://api.example.org");
    define(TIMEOUT_SECONDS, 10.0.to_variant(), Hint::RANGE, "0.1,600,0.1,suffix:s");
    define(RETRY_ATTEMPTS, 3.to_variant(), Hint::RANGE, "0,10");
    define(MAX_IN_FLIGHT, 64.to_variant(), Hint::RANGE, "1,1024");
    define(ALLOW_INSECURE_HTTP, false.to_variant(), Hint::NONE, "");
    define(TLS_ROOTS, "platform".to_variant(), Hint::ENUM_SUGGESTION, "platform,bundled");
    define(ISSUER, "backend_client".to_variant(), Hint::NONE, "");
    define(GAME, "default".to_variant(), Hint::NONE, "");
    define(PUBLIC_ADDRESS, "127.0.0.1".to_variant(), Hint::NONE, "");
    define(JOURNAL_FOLDER, "".to_variant(), Hint::PLACEHOLDER_TEXT, "below user://backend_client");
    define(WORLDS_FOLDER, "".to_variant(), Hint::PLACEHOLDER_TEXT, "below user://backend_client");
    define(GRACE_SECONDS, 25.0.to_variant(), Hint::RANGE, "1,3600,0.5,suffix:s");
    // Read by the export plugin.
    define(EXPORT_SERVER_ONLY, PackedStringArray::new().to_variant(), Hint::NONE, "");
    define(LOG_LEVEL, "info".to_variant(), Hint::ENUM, "error,warn,info,debug,trace");
}

pub fn text(name: &str) -> String {
    read::<GString>(name).to_string()
}

pub fn number(name: &str) -> f64 {
    let value = ProjectSettings::singleton().get_setting(name);
    // Someone who types `10` into project.godot gets an integer.
    value.try_to::<f64>().or_else(|_| value.try_to::<i64>().map(|whole| whole as f64)).unwrap_or_default()
}

pub fn integer(name: &str) -> i64 {
    read(name)
}

pub fn flag(name: &str) -> bool {
    read(name)
}

fn read<T: FromGodot + Default>(name: &str) -> T {
    ProjectSettings::singleton().get_setting(name).try_to().unwrap_or_default()
}

fn define(name: &str, default: Variant, hint: PropertyHint, hint_string: &str) {
    let mut settings = ProjectSettings::singleton();
    if !settings.has_setting(name) {
        settings.set_setting(name, &default);
    }
    // Values equal to the initial one stay out of project.godot.
    settings.set_initial_value(name, &default);
    settings.set_as_basic(name, true);
    let info = vdict! {
        "name" => name,
        "type" => default.get_type().ord(),
        "hint" => hint.ord(),
        "hint_string" => hint_string,
    };
    settings.add_property_info(&info);
}

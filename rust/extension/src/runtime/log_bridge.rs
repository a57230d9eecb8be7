//! Sends `tracing` events to Godot's log, from any thread.

use std::borrow::Cow;

use backend_settings::{LOG_FORMAT, LOG_LEVEL, LOG_MODULES, ProjectSetting};
use godot::prelude::*;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::{log_filter, log_line};
use crate::config::{self, project_settings};
use crate::metrics;
use crate::variant_json;

struct GodotLog {
    json: bool,
}

impl<S: Subscriber> Layer<S> for GodotLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        metrics::LOG_MESSAGES.increment([Cow::Borrowed(label(level))]);
        if self.json {
            // The level is in the line. The engine would put words of its own around errors, on several lines.
            let line = log_line::json(event);
            return variant_json::log_unmuted(|| godot_print!("{line}"));
        }
        let line = log_line::text(event);
        variant_json::log_unmuted(|| match level {
            Level::ERROR => godot_error!("backend_client:{line}"),
            Level::WARN => godot_warn!("backend_client:{line}"),
            _ => godot_print!("backend_client:{line}"),
        });
    }
}

const fn label(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Begins to log by the environment, else by the project settings.
pub fn install() {
    let (filter, mut wrong) = log_filter::parse(&setting(&LOG_LEVEL), &setting(&LOG_MODULES));
    let format = setting(&LOG_FORMAT);
    let json = format == "json";
    if !json && format != "text" {
        wrong.push(format!("the log format \"{format}\" is not known, text is used: set BACKEND_LOG_FORMAT or log/format to text or json"));
    }
    // Players and the editor read text.
    let json = json && !godot::init::is_editor_hint() && config::is_dedicated_server();
    let subscriber = tracing_subscriber::registry().with(filter).with(GodotLog { json });
    // Err after a hot reload within the same process image: the first one stays.
    let _kept_first = tracing::subscriber::set_global_default(subscriber);
    for message in wrong {
        tracing::warn!("{message}");
    }
}

fn setting(setting: &ProjectSetting) -> String {
    config::override_for(&setting.overrides).unwrap_or_else(|| project_settings::text(setting))
}

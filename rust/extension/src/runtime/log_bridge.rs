//! Sends `tracing` events to Godot's log, from any thread.

use std::fmt::{Debug, Write};

use backend_settings::LOG_LEVEL;
use godot::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::config::{self, project_settings};
use crate::variant_json;

struct GodotLog {
    level: Level,
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _infallible = if field.name() == "message" {
            write!(self.0, " {value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

impl<S: Subscriber> Layer<S> for GodotLog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Ours only: HTTP libraries log what a game does not need to see.
        *metadata.level() <= self.level && metadata.target().starts_with("backend_")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let line = line.0;
        variant_json::log_unmuted(|| match *event.metadata().level() {
            Level::ERROR => godot_error!("backend_client:{line}"),
            Level::WARN => godot_warn!("backend_client:{line}"),
            _ => godot_print!("backend_client:{line}"),
        });
    }
}

/// Begins to log at the level of `BACKEND_LOG`, else of the project setting.
pub fn install() {
    let named = config::override_for(&LOG_LEVEL.overrides);
    let named = named.unwrap_or_else(|| project_settings::text(&LOG_LEVEL));
    let level = named.parse().unwrap_or(Level::INFO);
    let subscriber = tracing_subscriber::registry().with(GodotLog { level });
    // Err after a hot reload within the same process image: the first one stays.
    let _kept_first = tracing::subscriber::set_global_default(subscriber);
}

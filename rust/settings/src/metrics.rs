//! What a game server measures, as one table: the extension measures by it, and `cargo xtask settings` writes the table of the
//! guide from it.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often values fell into which range.
    Histogram,
}

impl Kind {
    /// As the Prometheus text format has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// The name, as Prometheus has it.
    pub name: &'static str,
    pub kind: Kind,
    /// In the Unified Code for Units of Measure, as OpenTelemetry has it.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    /// The name of the debugger's monitor, if there is one. It is the sum of all labels.
    pub monitor: Option<&'static str>,
    /// In plain text, on one line.
    pub description: &'static str,
}

impl Metric {
    const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit, labels: &[], monitor: None, description }
    }

    const fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self { kind: Kind::Gauge, ..Self::counter(name, unit, description) }
    }

    const fn histogram(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self { kind: Kind::Histogram, ..Self::counter(name, unit, description) }
    }

    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    const fn monitor(self, name: &'static str) -> Self {
        Self { monitor: Some(name), ..self }
    }
}

pub static BUILD_INFO: Metric = Metric::gauge(
    "backend_client_build_info",
    "",
    "Always 1; the labels are the versions of the addon and of Godot",
)
.by(&["version", "godot"]);
pub static FRAME_SECONDS: Metric =
    Metric::histogram("backend_client_frame_seconds", "s", "Time from one step of the main loop to the next");
pub static MAIN_LOOP_AGE: Metric = Metric::gauge(
    "backend_client_main_loop_age_seconds",
    "s",
    "Time since the last step of the main loop. It grows while the main thread hangs",
);
pub static MAIN_THREAD_QUEUE: Metric = Metric::gauge(
    "backend_client_main_thread_queue",
    "{message}",
    "Results and signals that wait for the main thread",
)
.monitor("backend_client/main_thread_queue");
pub static LOG_MESSAGES: Metric = Metric::counter(
    "backend_client_log_messages_total",
    "{message}",
    "Messages that the addon has logged, by level",
)
.by(&["level"]);

pub static REGISTERED: Metric = Metric::gauge(
    "backend_client_registered",
    "",
    "1 while the server is registered with the backend, otherwise 0",
)
.monitor("backend_client/registered");
pub static PLAYERS: Metric =
    Metric::gauge("backend_client_players", "{player}", "Players, as the room list shows them")
        .monitor("backend_client/players");
pub static MAX_PLAYERS: Metric = Metric::gauge(
    "backend_client_max_players",
    "{player}",
    "Maximum number of players, as the room list shows it",
);
pub static DRAINING: Metric =
    Metric::gauge("backend_client_draining", "", "1 while the server takes no new players, otherwise 0");
pub static HEARTBEATS_FAILED: Metric =
    Metric::counter("backend_client_heartbeat_failures_total", "{heartbeat}", "Heartbeats that failed")
        .monitor("backend_client/heartbeat_failures");
pub static REGISTRATIONS_LOST: Metric = Metric::counter(
    "backend_client_registrations_lost_total",
    "{registration}",
    "How often the backend no longer knew the server, which then registered again",
);

pub static PEERS_VERIFIED: Metric = Metric::counter(
    "backend_client_peers_verified_total",
    "{peer}",
    "Connections whose token or ticket was accepted",
)
.monitor("backend_client/peers_verified");
pub static PEERS_REFUSED: Metric = Metric::counter(
    "backend_client_peers_refused_total",
    "{peer}",
    "Connections that were refused, by error code. See the page on errors",
)
.by(&["code"])
.monitor("backend_client/peers_refused");

pub static REQUESTS: Metric = Metric::counter(
    "backend_client_requests_total",
    "{request}",
    "Requests to the backend, each repetition by itself, by route and HTTP status. Without a response, the status is \
     connect, tls, timeout, broken, too_large or cancelled",
)
.by(&["route", "status"])
.monitor("backend_client/requests");
pub static REQUEST_SECONDS: Metric = Metric::histogram(
    "backend_client_request_seconds",
    "s",
    "Time from a request to the last byte of its response, by route",
)
.by(&["route"]);
pub static REQUESTS_IN_FLIGHT: Metric = Metric::gauge(
    "backend_client_requests_in_flight",
    "{request}",
    "Requests that wait for their response. The upper limit is max_in_flight",
)
.monitor("backend_client/requests_in_flight");

pub static PLAYERS_HELD: Metric =
    Metric::gauge("backend_client_players_held", "{player}", "Players whose documents this server holds")
        .monitor("backend_client/players_held");
pub static UNSAVED_DOCUMENTS: Metric = Metric::gauge(
    "backend_client_unsaved_documents",
    "{document}",
    "Documents whose last change the backend does not have yet",
)
.monitor("backend_client/unsaved_documents");
pub static UNJOURNALLED_DOCUMENTS: Metric = Metric::gauge(
    "backend_client_unjournalled_documents",
    "{document}",
    "Unsaved documents that are not in the journal either: a crash loses their last change",
)
.monitor("backend_client/unjournalled_documents");
pub static UNSAVED_BYTES: Metric =
    Metric::gauge("backend_client_unsaved_bytes", "By", "Size of the unsaved documents");
pub static OLDEST_UNSAVED: Metric = Metric::gauge(
    "backend_client_oldest_unsaved_seconds",
    "s",
    "Age of the oldest change that the backend does not have yet",
)
.monitor("backend_client/oldest_unsaved_seconds");
pub static FLUSH_LATENCY: Metric = Metric::gauge(
    "backend_client_flush_latency_seconds",
    "s",
    "Time from a change to its commit at the backend, of the document that was committed last. The monitor is in milliseconds",
)
.monitor("backend_client/flush_latency_ms");
pub static DOCUMENTS_SAVED: Metric = Metric::counter(
    "backend_client_documents_saved_total",
    "{document}",
    "Changes of documents that the backend has committed",
)
.monitor("backend_client/documents_saved");
pub static SAVES_FAILED: Metric = Metric::counter(
    "backend_client_save_failures_total",
    "{save}",
    "Saves that were refused, by this server or by the backend, by error code",
)
.by(&["code"])
.monitor("backend_client/save_failures");
pub static SAVE_CONFLICTS: Metric = Metric::counter(
    "backend_client_save_conflicts_total",
    "{save}",
    "Saves that came after another server had taken the player over. The backend keeps them as conflicts",
)
.monitor("backend_client/save_conflicts");
pub static LEASES_LOST: Metric = Metric::counter(
    "backend_client_leases_lost_total",
    "{lease}",
    "Players and worlds that another server has taken over without waiting for this one",
);
pub static JOURNAL_FAILURES: Metric = Metric::counter(
    "backend_client_journal_failures_total",
    "{failure}",
    "How often the journal could not be used. Saves are still sent, but a crash loses those that were not sent yet",
)
.monitor("backend_client/journal_failures");
pub static ROLLBACKS: Metric = Metric::counter(
    "backend_client_backend_rollbacks_total",
    "{rollback}",
    "How often the backend was found restored to an older state",
);

pub static UNSAVED_CHUNKS: Metric = Metric::gauge(
    "backend_client_unsaved_chunks",
    "{chunk}",
    "Chunks of worlds whose last change the backend does not have yet",
)
.monitor("backend_client/unsaved_chunks");
pub static CHUNKS_SAVED: Metric = Metric::counter(
    "backend_client_chunks_saved_total",
    "{chunk}",
    "Changes of chunks that the backend has committed",
);
pub static CHUNKS_FAILED: Metric = Metric::counter(
    "backend_client_chunk_failures_total",
    "{chunk}",
    "Changes of chunks that were refused, by error code",
)
.by(&["code"]);

pub static EXPORTS: Metric = Metric::counter(
    "backend_client_telemetry_exports_total",
    "{export}",
    "Exports by OpenTelemetry, by signal (metrics, traces) and outcome (sent, rejected, failed)",
)
.by(&["signal", "outcome"]);
pub static SPANS_DROPPED: Metric = Metric::counter(
    "backend_client_spans_dropped_total",
    "{span}",
    "Spans that were not exported, because too many waited",
);
pub static RESIDENT_MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "By", "Memory of the process. Linux only");
pub static START_TIME: Metric =
    Metric::gauge("process_start_time_seconds", "s", "When the process started, in seconds since 1970");

/// All metrics, in the order of the guide.
pub static METRICS: [&Metric; 35] = [
    &BUILD_INFO,
    &START_TIME,
    &RESIDENT_MEMORY,
    &FRAME_SECONDS,
    &MAIN_LOOP_AGE,
    &MAIN_THREAD_QUEUE,
    &LOG_MESSAGES,
    &REGISTERED,
    &PLAYERS,
    &MAX_PLAYERS,
    &DRAINING,
    &HEARTBEATS_FAILED,
    &REGISTRATIONS_LOST,
    &PEERS_VERIFIED,
    &PEERS_REFUSED,
    &REQUESTS,
    &REQUEST_SECONDS,
    &REQUESTS_IN_FLIGHT,
    &PLAYERS_HELD,
    &UNSAVED_DOCUMENTS,
    &UNJOURNALLED_DOCUMENTS,
    &UNSAVED_BYTES,
    &OLDEST_UNSAVED,
    &FLUSH_LATENCY,
    &DOCUMENTS_SAVED,
    &SAVES_FAILED,
    &SAVE_CONFLICTS,
    &LEASES_LOST,
    &JOURNAL_FAILURES,
    &ROLLBACKS,
    &UNSAVED_CHUNKS,
    &CHUNKS_SAVED,
    &CHUNKS_FAILED,
    &EXPORTS,
    &SPANS_DROPPED,
];

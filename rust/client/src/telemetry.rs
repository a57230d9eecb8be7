//! What a game server measures, and how that gets out: as Prometheus text, by OpenTelemetry's protocol, as numbers for a
//! debugger.
//!
//! Measuring costs an atomic addition, or a short lock for what has labels. Nothing with labels is measured once
//! per frame. Everything else happens when somebody collects.

pub mod endpoint;
pub mod exporter;
pub mod instruments;
pub mod measured_transport;
pub mod otlp;
pub mod prometheus;
pub mod redaction;
pub mod snapshot;
pub mod spans;

//! The backend of a configuration, with its connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use backend_client::Config;
use backend_client::api::backend::Backend;
use backend_client::api::http::HttpBackend;
use backend_client::api::lazy_transport::LazyTransport;
use backend_client::api::transport::{HttpTransport, Transport};
use backend_client::config::TlsRoots;
use backend_client::error::{ClientError, Fault};
use backend_client::platform::clock::{Clock, SystemClock};
use backend_client::telemetry::measured_transport::MeasuredTransport;

use crate::metrics;

thread_local! {
    // Used on the main thread only.
    static CONNECTIONS: RefCell<HashMap<Config, Weak<HttpBackend>>> = RefCell::new(HashMap::new());
}

/// The backend for `config`. Equal configurations share one, with its connections.
pub fn connect(config: Config) -> Result<Arc<dyn Backend>, ClientError> {
    if godot::init::is_editor_hint() {
        return Err(ClientError::new(Fault::NotConfigured, "nothing is sent from inside the editor"));
    }
    let known = CONNECTIONS.with_borrow(|table| table.get(&config).and_then(Weak::upgrade));
    if let Some(backend) = known {
        return Ok(backend);
    }
    config.check()?;
    let transport: Arc<dyn Transport> = if matches!(config.tls_roots, TlsRoots::File(_)) {
        // Opened at once: a missing or invalid file is reported as such, and the platform's certificates are not read.
        Arc::new(HttpTransport::new(&config)?)
    } else {
        Arc::new(LazyTransport::new(config.clone()))
    };
    let transport = Arc::new(MeasuredTransport::new(transport, &metrics::REQUESTS, &config.base_url));
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

//! Access to the backend's HTTP API.

pub mod lazy_transport;

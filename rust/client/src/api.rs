//! The backend as the client calls it: one trait, its implementation over HTTP, retries and transports.

pub mod backend;
pub mod batch;
pub(crate) mod clock_difference;
pub(crate) mod diagnosis;
pub mod http;
pub mod lazy_transport;
pub mod retry;
pub mod transport;

use crate::error::ClientError;

/// The result of a call.
pub type Reply<T> = Result<T, ClientError>;

//! Requests that arrive once more, long after they were answered, as a network may have it.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use super::{FaultProxy, connect};
use crate::{deadline, http_message};

impl FaultProxy {
    /// Remembers requests to paths that begin with `path` from now on.
    pub fn remember(&self, path: &str) {
        self.state.inner().remember = Some(path.to_owned());
    }

    /// Has the backend execute remembered requests again, one after the other: all, or those that name this. Returns the
    /// statuses of the replies, which nobody else gets to see.
    pub fn repeat_remembered(&self, naming: Option<&str>) -> Result<Vec<u16>> {
        let requests = self.state.inner().remembered.clone();
        let wanted =
            |request: &&Vec<u8>| naming.is_none_or(|name| String::from_utf8_lossy(request).contains(name));
        requests.iter().filter(wanted).map(|request| self.repeat(request)).collect()
    }

    fn repeat(&self, request: &[u8]) -> Result<u16> {
        let mut stream = connect(self.state.upstream)?;
        stream.write_all(request)?;
        let mut reply = Vec::new();
        let end = std::time::Instant::now() + deadline::WAIT_TIMEOUT;
        http_message::complete(&mut stream, &mut reply, || std::time::Instant::now() < end)?;
        let head = String::from_utf8_lossy(&reply);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.context("a reply without a status")
    }
}

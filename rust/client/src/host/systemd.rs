//! systemd's notification protocol, as `sd_notify(3)` describes it: lines of `NAME=value` in datagrams to the socket in
//! `NOTIFY_SOCKET`. Own code, because the crate at hand (sd-notify 0.5.0) knows no abstract sockets and blocks for as
//! long as the other side does not read.

use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use async_trait::async_trait;

use super::Host;

/// Longest wait for a socket whose buffer is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is nobody to be told.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Neither a path nor an abstract name.
    #[error("NOTIFY_SOCKET is neither an absolute path nor an abstract name with @: {0}")]
    Address(String),
    /// The socket cannot be used.
    #[error("the socket in NOTIFY_SOCKET cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// A service of systemd, `Type=notify`, perhaps with `WatchdogSec`. It knows no addresses.
pub struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// The service manager that the environment names, if it names one. `pid`: this process, as it sees itself.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        pid: u32,
    ) -> Option<Result<Self, SystemdError>> {
        let name = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let watchdog = watchdog(variable, pid);
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None if name.starts_with('/') => SocketAddr::from_pathname(&name),
            None => return Some(Err(SystemdError::Address(name))),
        };
        Some(address.and_then(|address| Self::open(address, watchdog)).map_err(SystemdError::from))
    }

    fn open(address: SocketAddr, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { socket, address, watchdog })
    }

    /// Not connected: a service manager that restarts opens the socket anew.
    fn tell(&self, lines: &str) {
        if let Err(error) = self.socket.send_to_addr(lines.as_bytes(), &self.address) {
            tracing::debug!(%error, "the service manager received no notification");
        }
    }
}

#[async_trait]
impl Host for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn ready(&self, server_id: &str) {
        self.tell(&with_status("READY=1\n".to_owned(), &format!("Listed as {server_id}")));
    }

    fn draining(&self, grace: Duration, reason: &str) {
        let lines = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", grace.as_micros());
        self.tell(&with_status(lines, &format!("Shutting down: {reason}")));
    }

    fn status(&self, status: &str) {
        self.tell(&with_status(String::new(), status));
    }

    fn healthy(&self) {
        self.tell("WATCHDOG=1\n");
    }

    /// Half of the time after which systemd acts, as `sd_watchdog_enabled(3)` recommends.
    fn health_interval(&self) -> Option<Duration> {
        self.watchdog.map(|after| after / 2)
    }
}

/// Time without a sign of life after which systemd acts, if it is for this process that it asks.
fn watchdog(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let microseconds = variable("WATCHDOG_USEC")?.trim().parse().ok().filter(|count| *count > 0)?;
    let ours = variable("WATCHDOG_PID").is_none_or(|text| text.trim().parse() == Ok(pid));
    ours.then_some(Duration::from_micros(microseconds))
}

/// A line break would begin another message.
fn with_status(mut lines: String, status: &str) -> String {
    // Writing to a String cannot fail.
    let _infallible = writeln!(lines, "STATUS={}", status.replace(['\n', '\r'], " "));
    lines
}

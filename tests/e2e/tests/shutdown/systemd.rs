//! What a service manager is told.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use anyhow::bail;
use test_harness::WAIT_TIMEOUT;

use super::*;

/// Short enough to be waited for, long enough for the machine to be busy with something else.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The receiving end of a service manager.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Result<Self> {
        Ok(Self { socket: UnixDatagram::bind(path)?, heard: Vec::new() })
    }

    /// On a name of the abstract kind, as service managers in containers use it.
    fn listen_to_name(name: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(name)?;
        Ok(Self { socket: UnixDatagram::bind_addr(&address)?, heard: Vec::new() })
    }

    /// The next message, if one comes within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Option<String>> {
        let mut buffer = [0; 4_096];
        self.socket.set_read_timeout(Some(timeout))?;
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let message = String::from_utf8(buffer[..length].to_vec())?;
                self.heard.push(message.clone());
                Ok(Some(message))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first message with this line.
    fn wait_for(&mut self, line: &str) -> Result<String> {
        let end = Instant::now() + WAIT_TIMEOUT;
        while let Some(message) =
            self.next(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))?
        {
            if message.lines().any(|found| found == line) {
                return Ok(message);
            }
        }
        bail!("{line} was not told; heard {:?}", self.heard)
    }

    /// What systemd would take for a hang: no sign of life for [`WATCHDOG`].
    fn wait_for_silence(&mut self) -> Result<()> {
        let end = Instant::now() + WAIT_TIMEOUT;
        while Instant::now() < end {
            if self.next(WATCHDOG)?.is_none() {
                return Ok(());
            }
        }
        bail!("it goes on saying that it is well; heard {:?}", self.heard)
    }
}

#[test]
fn systemd_is_told_that_it_is_ready_well_and_stopping() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manager = Manager::listen(&folder.path().join("notify"))?;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Service")?
        .env("NOTIFY_SOCKET", &folder.path().join("notify").to_string_lossy())
        .env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
        .start()?;

    // Alive before it is ready: registering may take as long as it likes.
    manager.wait_for("WATCHDOG=1")?;
    ensure!(!manager.heard.iter().any(|message| message.contains("READY=1")), "{:?}", manager.heard);
    with_dirty_players(&mut server, &backend, 2)?;
    let ready = manager.wait_for("READY=1")?;
    ensure!(ready.contains("STATUS=Listed as "), "{ready}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1")?;
    }

    let wake = folder.path().join("wake");
    hang(&mut server, &wake)?;
    manager.wait_for_silence()?;
    std::fs::write(&wake, "")?;
    manager.wait_for("WATCHDOG=1")?;

    server.godot().signal(Signal::TERM)?;
    let stopping = manager.wait_for("STOPPING=1")?;
    ensure!(stopping.contains("EXTEND_TIMEOUT_USEC=25000000\n"), "{stopping}");
    ensure!(stopping.contains("STATUS=Shutting down: SIGTERM\n"), "{stopping}");
    server.godot().finish(0)?;
    while manager.next(Duration::from_millis(1))?.is_some() {}
    let told = |part: &str| manager.heard.iter().filter(|message| message.contains(part)).count();
    ensure!(told("READY=1") == 1 && told("STOPPING=1") == 1, "{:?}", manager.heard);
    ensure!(told("STATUS=shutdown complete reason=SIGTERM") == 1, "{:?}", manager.heard);
    all_saved(&backend, 2, true)
}

#[test]
fn the_watchdog_of_another_process_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manager = Manager::listen(&folder.path().join("notify"))?;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Child")?
        .env("NOTIFY_SOCKET", &folder.path().join("notify").to_string_lossy())
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", &std::process::id().to_string())
        .start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    manager.wait_for("STOPPING=1")?;
    ensure!(!manager.heard.iter().any(|message| message.contains("WATCHDOG")), "{:?}", manager.heard);
    Ok(())
}

#[test]
fn an_abstract_socket_is_told_too() -> Result<()> {
    let name = format!("backend-client-end-to-end-{}", std::process::id());
    let mut manager = Manager::listen_to_name(&name)?;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Abstract")?.env("NOTIFY_SOCKET", &format!("@{name}")).start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    manager.wait_for("READY=1")?;
    server.godot().signal(Signal::TERM)?;
    manager.wait_for("STOPPING=1")?;
    server.godot().finish(0)?;
    all_saved(&backend, 1, true)
}

#[test]
fn a_game_that_hangs_while_shutting_down_is_left_to_its_own_deadline() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manager = Manager::listen(&folder.path().join("notify"))?;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Hung service")?
        .env("NOTIFY_SOCKET", &folder.path().join("notify").to_string_lossy())
        .env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "8")
        .arg("--hang-in=draining")
        .start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    server.godot().signal(Signal::TERM)?;
    manager.wait_for("STOPPING=1")?;
    server.log().wait_for("EVENT hanging")?;
    // The service manager hears of it although its main loop does not turn. The first may be from before.
    for _ in 0..2 {
        manager.wait_for("WATCHDOG=1")?;
    }
    let code = server.godot().wait()?;
    // What it would have handed in is not known.
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    all_saved(&backend, 2, false)
}

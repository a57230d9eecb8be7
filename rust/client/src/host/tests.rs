//! What a host is told, and when it is not.

use std::sync::Mutex;

use super::*;
use crate::platform::clock::SystemClock;

/// Notes when it was told that the server is well.
struct Listener {
    interval: Option<Duration>,
    begun: tokio::time::Instant,
    told: Mutex<Vec<Duration>>,
}

impl Host for Listener {
    fn public_address(&self) -> String {
        String::new()
    }

    fn shutdown_grace(&self) -> Duration {
        Duration::ZERO
    }

    fn healthy(&self) {
        self.told.lock().expect("not poisoned").push(self.begun.elapsed());
    }

    fn health_interval(&self) -> Option<Duration> {
        self.interval
    }
}

fn listener(interval: Option<Duration>) -> (Arc<Listener>, Arc<Liveness>) {
    let begun = tokio::time::Instant::now();
    (Arc::new(Listener { interval, begun, told: Mutex::default() }), Arc::default())
}

impl Listener {
    fn told(&self) -> usize {
        self.told.lock().expect("not poisoned").len()
    }
}

async fn turn(liveness: &Liveness, frames: u32) {
    for _ in 0..frames {
        liveness.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_host_hears_of_a_main_loop_that_turns_and_of_no_other() {
    let (host, liveness) = listener(Some(Duration::from_secs(2)));
    let watch = tokio::spawn(keep_alive(host.clone(), Arc::new(SystemClock), Arc::clone(&liveness)));
    turn(&liveness, 100).await;
    let turning = host.told();
    assert!((4..=5).contains(&turning), "{turning} times in ten seconds");

    // It hangs for a minute: the turn just before may still be told, and nothing after it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let hanging = host.told() - turning;
    assert!(hanging <= 1, "{hanging} times while it hangs");

    let before = host.told();
    turn(&liveness, 6).await;
    assert_eq!(host.told(), before + 1, "told soon after it turns again");

    // From the shutdown on, its own watchdog watches.
    liveness.stopping();
    let before = host.told();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(host.told() >= before + 4);

    // Once it is over, a main loop that hangs is a main loop that hangs.
    liveness.resume();
    let before = host.told();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(host.told(), before);
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_ask_is_not_told() {
    let (host, liveness) = listener(None);
    liveness.tick();
    keep_alive(host.clone(), Arc::new(SystemClock), liveness).await;
    assert_eq!(host.told(), 0);
}

#[cfg(target_os = "linux")]
mod systemd {
    use std::collections::HashMap;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn plain() -> PlainHost {
        PlainHost { public_address: "here".to_owned(), shutdown_grace: Duration::from_secs(25) }
    }

    fn service(variables: &[(&str, &str)]) -> Option<Result<Systemd, SystemdError>> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Systemd::from_environment(plain(), |name| variables.get(name).cloned(), 42)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1_024];
        let length = socket.recv(&mut buffer).expect("something was sent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn says_what_systemd_expects(host: &Systemd, manager: &UnixDatagram) {
        host.ready("listed\nREADY=0");
        assert_eq!(heard(manager), "READY=1\nSTATUS=listed READY=0\n");
        host.status("busy");
        assert_eq!(heard(manager), "STATUS=busy\n");
        host.healthy();
        assert_eq!(heard(manager), "WATCHDOG=1\n");
        host.stopping(Duration::from_secs(25), "leaving");
        assert_eq!(heard(manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\nSTATUS=leaving\n");
    }

    #[test]
    fn a_socket_in_the_file_system_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let path = path.to_str().expect("UTF-8");
        let host = service(&[("NOTIFY_SOCKET", path)]).expect("there is a socket").expect("it works");
        says_what_systemd_expects(&host, &manager);
        // As after a restart of the service manager.
        drop(manager);
        std::fs::remove_file(path).expect("removed");
        host.healthy();
        says_what_systemd_expects(&host, &UnixDatagram::bind(path).expect("bound again"));
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("backend-client-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let manager = UnixDatagram::bind_addr(&address).expect("bound");
        let name = format!("@{name}");
        let host = service(&[("NOTIFY_SOCKET", &name)]).expect("there is a socket").expect("it works");
        says_what_systemd_expects(&host, &manager);
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let interval = |more: &[(&str, &str)]| {
            let all: Vec<_> = [("NOTIFY_SOCKET", "/nowhere")].iter().chain(more).copied().collect();
            service(&all).expect("there is a socket").expect("it works").health_interval()
        };
        let half = Some(Duration::from_secs(15));
        assert_eq!(interval(&[("WATCHDOG_USEC", "30000000")]), half);
        assert_eq!(interval(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "42")]), half);
        assert_eq!(interval(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "43")]), None);
        assert_eq!(interval(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(interval(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(interval(&[]), None);
    }

    #[test]
    fn without_a_socket_there_is_no_systemd() {
        assert!(service(&[("WATCHDOG_USEC", "30000000")]).is_none());
        assert!(service(&[("NOTIFY_SOCKET", "")]).is_none());
        let outcome = service(&[("NOTIFY_SOCKET", "vsock:2:1234")]);
        assert!(matches!(outcome, Some(Err(SystemdError::Address(_)))));
    }
}

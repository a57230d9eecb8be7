//! What a host is told, and when it is not.

mod detection;

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::platform::clock::SystemClock;

/// Notes when it was told that the server is well.
struct Listener {
    interval: Option<Duration>,
    allows_stalls: bool,
    begun: tokio::time::Instant,
    told: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Host for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn healthy(&self) {
        self.told.lock().expect("not poisoned").push(self.begun.elapsed());
    }

    fn health_interval(&self) -> Option<Duration> {
        self.interval
    }

    fn allows_stalls(&self) -> bool {
        self.allows_stalls
    }
}

fn listener(interval: Option<Duration>, allows_stalls: bool) -> (Arc<Listener>, Arc<Liveness>) {
    let begun = tokio::time::Instant::now();
    let listener = Listener { interval, allows_stalls, begun, told: Mutex::default() };
    (Arc::new(listener), Arc::new(Liveness::new(Arc::new(SystemClock))))
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
    let (host, liveness) = listener(Some(Duration::from_secs(2)), false);
    let watch = tokio::spawn(keep_alive(host.clone(), Arc::clone(&liveness)));
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
async fn a_map_that_loads_is_no_hang_for_a_host_that_forgives_none() {
    let (host, liveness) = listener(Some(Duration::from_secs(2)), true);
    liveness.set_stall_limit(Duration::from_secs(20));
    let watch = tokio::spawn(keep_alive(host.clone(), Arc::clone(&liveness)));
    turn(&liveness, 10).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let loading = host.told();
    assert!(loading >= 7, "{loading} times in 16 seconds");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let hanging = host.told() - loading;
    assert!((1..=3).contains(&hanging), "{hanging} times while it hangs");
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_ask_is_not_told() {
    let (host, liveness) = listener(None, false);
    liveness.tick();
    keep_alive(host.clone(), liveness).await;
    assert_eq!(host.told(), 0);
}

#[test]
fn ports_are_found_by_their_names() {
    let address = |ports: &[(&str, u16)]| PublicAddress {
        address: "192.0.2.1".to_owned(),
        ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
    };
    assert_eq!(address(&[("query", 1), ("udp", 2), ("default", 3)]).game_port(), Some(3));
    assert_eq!(address(&[("query", 1), ("udp", 2)]).game_port(), Some(2));
    assert_eq!(address(&[("query", 1)]).game_port(), None);
    let placed = |ports: &[(&str, u16)]| {
        let mut server =
            ServerDescription { port: 7_777, query_port: Some(27_015), ..ServerDescription::default() };
        address(ports).place(&mut server);
        (server.address, server.port, server.query_port)
    };
    let here = || "192.0.2.1".to_owned();
    assert_eq!(placed(&[]), (here(), 7_777, Some(27_015)));
    assert_eq!(placed(&[("query", 1)]), (here(), 7_777, Some(1)));
    assert_eq!(placed(&[("game", 2)]), (here(), 2, None));
}

#[cfg(target_os = "linux")]
mod systemd {
    use std::collections::HashMap;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn service(variables: &[(&str, &str)]) -> Option<Result<Systemd, SystemdError>> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Systemd::from_environment(|name| variables.get(name).cloned(), 42)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1_024];
        let length = socket.recv(&mut buffer).expect("something was sent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn says_what_systemd_expects(host: &Systemd, manager: &UnixDatagram) {
        host.ready("s1\nREADY=0");
        assert_eq!(heard(manager), "READY=1\nSTATUS=Listed as s1 READY=0\n");
        host.status("busy");
        assert_eq!(heard(manager), "STATUS=busy\n");
        host.healthy();
        assert_eq!(heard(manager), "WATCHDOG=1\n");
        host.draining(Duration::from_secs(25), "SIGTERM");
        assert_eq!(
            heard(manager),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\nSTATUS=Shutting down: SIGTERM\n"
        );
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

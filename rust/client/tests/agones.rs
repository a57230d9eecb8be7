//! The Agones adapter against a peer of its own, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::host::{Agones, Host, HostEvent, Players, PublicAddress, ReportedAddress, Session};
use test_harness::agones::{AgonesPeer, GameServer, Manner};
use test_harness::until;
use tokio::task::JoinHandle;

/// A server under test, as the rest of the client would drive it.
struct Server {
    host: Arc<Agones>,
    events: Arc<Mutex<Vec<HostEvent>>>,
    running: JoinHandle<()>,
}

impl Server {
    fn start(peer: &AgonesPeer) -> Self {
        let host = Arc::new(Agones::new(peer.port()));
        let events: Arc<Mutex<Vec<HostEvent>>> = Arc::default();
        let (listening, sink) = (Arc::clone(&host), Arc::clone(&events));
        let on_event = Arc::new(move |event| sink.lock().expect("not poisoned").push(event));
        let running = tokio::spawn(async move { listening.run(on_event).await });
        Self { host, events, running }
    }

    fn events(&self) -> Vec<HostEvent> {
        self.events.lock().expect("not poisoned").clone()
    }

    fn wait_for<T>(&self, what: &str, find: impl Fn(&HostEvent) -> Option<T>) -> T {
        until(what, || Ok(self.events().iter().find_map(&find))).expect("it comes")
    }

    fn wait_for_session(&self) -> Session {
        self.wait_for("a session", |event| match event {
            HostEvent::Allocated(session) => Some(session.clone()),
            _ => None,
        })
    }

    fn wait_for_notice(&self) -> &'static str {
        self.wait_for("a notice", |event| match event {
            HostEvent::Notice(notice) => Some(notice.reason),
            _ => None,
        })
    }

    fn sessions(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, HostEvent::Allocated(_))).count()
    }

    fn with_players(&self, ids: &[&str]) {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        self.host.players_changed(&Players { count: ids.len() as u32, capacity: 8, ids });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn declared() -> GameServer {
    GameServer {
        lists: [("players".to_owned(), (4, Vec::new()))].into(),
        counters: [("players".to_owned(), (0, 4))].into(),
        ..GameServer::default()
    }
}

/// The calls that change something, in their order.
fn changes(peer: &AgonesPeer) -> Vec<String> {
    let calls = peer.calls().into_iter().map(|call| call.what);
    calls.filter(|what| !what.starts_with("GET ") && !what.contains("/v1beta1/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_through_its_whole_life() {
    let peer = AgonesPeer::new(declared()).expect("a peer");
    let server = Server::start(&peer);
    assert!(server.host.address().is_some_and(|address| *address.borrow() == ReportedAddress::NotYet));
    // Listed before there is a sidecar.
    server.host.ready("server-1");
    server.host.healthy();
    tokio::time::sleep(Duration::from_millis(300)).await;
    peer.start(Manner::Good).expect("started");

    let ready = peer.wait_for_state("Ready").expect("ready");
    assert_eq!(ready.sdk_annotation("server-id"), Some("server-1"));
    let address = PublicAddress { address: "192.0.2.17".to_owned(), ports: vec![("game".to_owned(), 7_311)] };
    server
        .wait_for("an address", |event| (event == &HostEvent::AddressChanged(address.clone())).then_some(()));
    server.host.healthy();
    peer.wait_for_calls("POST /health", 1).expect("healthy");
    assert_eq!(server.host.health_interval(), Some(Duration::from_millis(2_500)));

    peer.allocate(&[("match", "m7")], &[("map", "pond")]).expect("allocated");
    let session = server.wait_for_session();
    assert_eq!((session.host, session.name.as_str()), ("agones", GameServer::NAME));
    assert_eq!(session.labels.get("match").map(String::as_str), Some("m7"));
    assert_eq!(session.annotations.get("map").map(String::as_str), Some("pond"));

    server.with_players(&["ada", "bob"]);
    let both = |game_server: &GameServer| {
        game_server.lists["players"] == (8, vec!["ada".to_owned(), "bob".to_owned()])
            && game_server.counters["players"] == (2, 8)
    };
    peer.wait_until("both players", both).expect("listed");
    server.with_players(&[]);
    peer.wait_until("no players", |game_server| game_server.lists["players"] == (8, Vec::new()))
        .expect("gone");

    peer.delete().expect("deleted");
    assert_eq!(server.wait_for_notice(), "agones_deleted");
    server.host.draining(Duration::from_secs(5), "agones_deleted");
    server.host.stopped(false).await;
    peer.wait_for_calls("POST /shutdown", 1).expect("told");
    peer.check().expect("by the protocol");
    assert_eq!(changes(&peer), ["PUT /metadata/annotation", "POST /ready", "POST /shutdown"]);
    assert_eq!(server.sessions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_the_room_list_keep_their_server() {
    let peer = AgonesPeer::new(GameServer::default()).expect("a peer");
    peer.start(Manner::Good).expect("started");
    let server = Server::start(&peer);
    server.host.ready("server-1");
    peer.wait_for_state("Ready").expect("ready");
    server.with_players(&["ada"]);
    let allocated = peer.wait_for_state("Allocated").expect("allocated by itself");
    assert!(!allocated.allocated_outside);
    server.with_players(&[]);
    peer.wait_for_state("Ready").expect("ready again");

    // Another allocation is somebody's.
    peer.allocate(&[("match", "m8")], &[]).expect("allocated");
    server.wait_for_session();
    server.with_players(&["bob"]);
    server.with_players(&[]);
    server.host.draining(Duration::from_secs(5), "SIGTERM");
    let draining = |game_server: &GameServer| game_server.sdk_label("draining") == Some("true");
    let left = peer.wait_until("the label", draining).expect("labelled");
    assert_eq!(left.state, "Allocated");
    assert_eq!(server.sessions(), 1);
    peer.check().expect("by the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_without_a_sidecar_is_noticed_later() {
    let peer = AgonesPeer::new(declared()).expect("a peer");
    peer.start(Manner::Good).expect("started");
    let server = Server::start(&peer);
    server.host.ready("server-1");
    peer.wait_for_state("Ready").expect("ready");
    for round in 0..3_usize {
        peer.kill_sidecar();
        server.with_players(&[["ada", "bob", "cid"][round]]);
        if round == 1 {
            peer.set_state("Ready").expect("ready");
            peer.allocate(&[], &[("map", "pond")]).expect("allocated");
        }
        peer.start(Manner::Good).expect("started again");
        let player = [["ada"], ["bob"], ["cid"]][round];
        peer.wait_until("the player", |game_server| game_server.lists["players"].1 == player)
            .expect("listed");
    }
    assert_eq!(server.wait_for_session().annotations.get("map").map(String::as_str), Some("pond"));
    assert_eq!(server.sessions(), 1);
    peer.check().expect("by the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_sidecar_does_without_lists() {
    let peer = AgonesPeer::new(declared()).expect("a peer");
    peer.start(Manner::Older).expect("started");
    let server = Server::start(&peer);
    server.with_players(&[]);
    server.host.ready("server-1");
    peer.wait_for_state("Ready").expect("ready");
    server.with_players(&["ada"]);
    peer.wait_for_state("Allocated").expect("allocated by itself");
    peer.wait_for_calls("PATCH /v1beta1/lists/players", 1).expect("tried");
    peer.wait_for_calls("PATCH /v1beta1/counters/players", 1).expect("tried");
    server.with_players(&[]);
    peer.wait_for_state("Ready").expect("ready again");
    let tried = peer.count("PATCH /v1beta1/lists/players") + peer.count("PATCH /v1beta1/counters/players");
    assert_eq!(tried, 2, "{:?}", peer.calls());
    peer.check().expect("by the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_grow_has_the_players_for_which_there_is_room() {
    let peer = AgonesPeer::new(GameServer { list_limit: 4, ..declared() }).expect("a peer");
    peer.start(Manner::Good).expect("started");
    let server = Server::start(&peer);
    server.host.ready("server-1");
    server.with_players(&["ada", "bob", "cid", "dan", "eve"]);
    let four = |game_server: &GameServer| game_server.lists["players"].1.len() == 4;
    let listed = peer.wait_until("four players", four).expect("listed");
    assert_eq!(listed.lists["players"].0, 4);
    peer.wait_until("the number", |game_server| game_server.counters["players"] == (5, 8)).expect("counted");
    peer.check().expect("by the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_in_a_session_stays_in_it() {
    let allocated = GameServer {
        state: "Allocated".to_owned(),
        allocated_outside: true,
        annotations: [("map".to_owned(), "pond".to_owned())].into(),
        ..declared()
    };
    let peer = AgonesPeer::new(allocated).expect("a peer");
    peer.start(Manner::Good).expect("started");
    let server = Server::start(&peer);
    server.host.ready("server-1");
    assert_eq!(server.wait_for_session().annotations.get("map").map(String::as_str), Some("pond"));
    server.with_players(&["ada"]);
    peer.wait_until("the player", |game_server| game_server.lists["players"].1 == ["ada"]).expect("listed");
    assert_eq!(peer.count("POST /ready") + peer.count("POST /allocate"), 0);
    peer.check().expect("by the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_talks_nonsense_or_hangs_holds_up_nothing() {
    for manner in [Manner::Garbage, Manner::Hangs] {
        let peer = AgonesPeer::new(declared()).expect("a peer");
        peer.start(manner).expect("started");
        let server = Server::start(&peer);
        server.host.ready("server-1");
        server.with_players(&["ada"]);
        for _ in 0..4 {
            server.host.healthy();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.events(), []);
        peer.behave(Manner::Good);
        peer.wait_for_state("Allocated").expect("ready, and used");
        peer.wait_until("the player", |game_server| game_server.lists["players"].1 == ["ada"])
            .expect("listed");

        // It goes bad under an open watch.
        peer.behave(manner);
        server.host.draining(Duration::from_secs(5), "SIGTERM");
        // Neither answered nor waited for for ever.
        server.host.stopped(false).await;
        peer.check().expect("by the protocol");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_game_server_is_a_notice() {
    for (state, reason) in
        [("Shutdown", "agones_shutdown"), ("Unhealthy", "agones_unhealthy"), ("Error", "agones_error")]
    {
        let peer = AgonesPeer::new(GameServer::default()).expect("a peer");
        peer.start(Manner::Good).expect("started");
        let server = Server::start(&peer);
        server.host.ready("server-1");
        peer.wait_for_state("Ready").expect("ready");
        peer.set_state(state).expect("set");
        assert_eq!(server.wait_for_notice(), reason);
        // Once, whatever else happens.
        peer.delete().expect("deleted");
        peer.kill_sidecar();
        peer.start(Manner::Good).expect("started again");
        peer.wait_for_watch().expect("watched again");
        server.host.stopped(false).await;
        let notices = server.events().iter().filter(|event| matches!(event, HostEvent::Notice(_))).count();
        assert_eq!(notices, 1);
        peer.check().expect("by the protocol");
    }
}

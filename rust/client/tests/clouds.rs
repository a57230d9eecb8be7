//! The adapters of clouds against peers of their own, over real sockets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::host::{
    Host, HostChoice, HostEvent, Notice, Players, ReportedAddress, Surroundings, detect,
};
use serde_json::json;
use test_harness::cloud::documents::{
    azure_balancer, azure_event, azure_events, azure_instance, ecs_task, rebalance, spot_action,
};
use test_harness::cloud::{Cloud, CloudPeer, Manner};
use test_harness::until;
use tokio::task::JoinHandle;

const TASK: &str = "GET /v4/0123-game/task";
const SPOT: &str = "GET /latest/meta-data/spot/instance-action";
const EVENTS: &str = "GET /metadata/scheduledevents";
const IPV4: &str = "198.51.100.7";
const IPV6: &str = "2001:db8::7";

/// Further variables of a server's environment.
type Variables<'a> = [(&'static str, &'a str)];

/// A server under test, as the rest of the client would drive it.
struct Server {
    host: Arc<dyn Host>,
    events: Arc<Mutex<Vec<HostEvent>>>,
    running: JoinHandle<()>,
}

impl Server {
    /// Found by what the environment of the peer's machine says.
    fn start(peer: &CloudPeer, more: &Variables<'_>) -> Self {
        let mut variables = peer.environment();
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        let surroundings = Surroundings { variable: &variable, machine: &|_| None, pid: 42 };
        let detected = detect(HostChoice::Auto, &surroundings);
        assert!(detected.warnings.is_empty(), "{:?}", detected.warnings);
        let [host] = <[_; 1]>::try_from(detected.hosts).unwrap_or_else(|_| panic!("{}", detected.summary));
        let events: Arc<Mutex<Vec<HostEvent>>> = Arc::default();
        let (listening, sink) = (Arc::clone(&host), Arc::clone(&events));
        let on_event = Arc::new(move |event| sink.lock().expect("not poisoned").push(event));
        let running = tokio::spawn(async move { listening.run(on_event).await });
        Self { host, events, running }
    }

    fn notices(&self) -> Vec<Notice> {
        let events = self.events.lock().expect("not poisoned");
        let notices = events.iter().filter_map(|event| match event {
            HostEvent::Notice(notice) => Some(notice.clone()),
            _ => None,
        });
        notices.collect()
    }

    fn advice(&self) -> Vec<&'static str> {
        let events = self.events.lock().expect("not poisoned");
        let advice = events.iter().filter_map(|event| match event {
            HostEvent::Advice(reason) => Some(*reason),
            _ => None,
        });
        advice.collect()
    }

    fn wait_for_notices(&self, count: usize) -> Vec<Notice> {
        until("notices", || Ok(Some(self.notices()).filter(|notices| notices.len() >= count)))
            .expect("they come")
    }

    fn wait_for_advice(&self) -> &'static str {
        until("advice", || Ok(self.advice().first().copied())).expect("it comes")
    }

    fn address(&self) -> ReportedAddress {
        self.host.address().expect("one is reported").borrow().clone()
    }

    /// The address once there is one, or that there is none.
    fn wait_for_address(&self) -> Option<String> {
        let reported = until("an address", || {
            Ok(Some(self.address()).filter(|address| *address != ReportedAddress::NotYet))
        });
        match reported.expect("it comes") {
            ReportedAddress::At(address) => Some(address.address),
            _ => None,
        }
    }

    fn with_players(&self, count: u32) {
        let ids = (0..count).map(|number| format!("p{number}")).collect();
        self.host.players_changed(&Players { count, capacity: 8, ids });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn peer(cloud: Cloud, values: &[(&str, &str)]) -> CloudPeer {
    let peer = CloudPeer::new(cloud, values).expect("a peer");
    peer.start(Manner::Good).expect("started");
    peer
}

/// What a machine of this cloud has when all is well.
fn ordinary(cloud: Cloud) -> Vec<(&'static str, String)> {
    match cloud {
        Cloud::Ec2 => vec![("instance-id", "i-07".to_owned()), ("public-ipv4", IPV4.to_owned())],
        Cloud::Ecs => vec![("task", ecs_task("RUNNING", &[IPV6]))],
        Cloud::Azure => vec![("instance", azure_instance(IPV4)), ("scheduledevents", azure_events(&[]))],
        Cloud::Gcp => vec![
            ("network-interfaces/0/access-configs/0/external-ip", IPV4.to_owned()),
            ("preempted", "FALSE".to_owned()),
            ("maintenance-event", "NONE".to_owned()),
        ],
    }
}

fn ordinary_peer(cloud: Cloud) -> CloudPeer {
    let values = ordinary(cloud);
    let values: Vec<(&str, &str)> = values.iter().map(|(name, text)| (*name, text.as_str())).collect();
    peer(cloud, &values)
}

/// The machine is about to end; returns the reason that the server has to give.
fn announce_end(cloud: Cloud, peer: &CloudPeer) -> &'static str {
    match cloud {
        Cloud::Ec2 => {
            peer.set("spot/instance-action", &spot_action(seconds(100)));
            "ec2_spot"
        }
        Cloud::Ecs => {
            peer.set("task", &ecs_task("STOPPED", &[IPV6]));
            "ecs_stopped"
        }
        Cloud::Azure => {
            let event = azure_event("e1", "Terminate", &[CloudPeer::AZURE_NAME], seconds(300));
            peer.set("scheduledevents", &azure_events(&[event]));
            "azure_terminate"
        }
        Cloud::Gcp => {
            peer.set("preempted", "TRUE");
            "gcp_preempted"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_ec2_is_told_once_and_again_if_it_ends_sooner() {
    let peer = ordinary_peer(Cloud::Ec2);
    let server = Server::start(&peer, &[]);
    assert_eq!(server.wait_for_address().as_deref(), Some(IPV4));
    assert_eq!(server.host.name(), "ec2");
    peer.wait_for_another(SPOT).expect("it looks");
    assert_eq!(server.notices(), []);

    peer.set("spot/instance-action", &spot_action(seconds(110)));
    let first = server.wait_for_notices(1).remove(0);
    assert_eq!(first.reason, "ec2_spot");
    peer.wait_for_another(SPOT).expect("it looks");
    assert_eq!(server.notices().len(), 1, "the same notice twice");

    peer.set("spot/instance-action", &spot_action(seconds(30)));
    let second = server.wait_for_notices(2).remove(1);
    assert!(second.deadline < first.deadline, "{second:?} after {first:?}");
    // Later again: the shutdown is under way.
    peer.set("spot/instance-action", &spot_action(seconds(115)));
    peer.wait_for_another(SPOT).expect("it looks");
    assert_eq!(server.notices().len(), 2);
    assert_eq!(peer.count("PUT /latest/api/token"), 1);
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_of_ec2_is_never_longer_than_two_minutes_and_never_over() {
    for (from_now, longest) in [(seconds(7_200), seconds(120)), (Duration::ZERO, seconds(1))] {
        let peer = ordinary_peer(Cloud::Ec2);
        peer.set("spot/instance-action", &spot_action(from_now));
        let server = Server::start(&peer, &[]);
        let notice = server.wait_for_notices(1).remove(0);
        let deadline = notice.deadline.expect("there is one");
        assert!(deadline <= longest && deadline > Duration::ZERO, "{notice:?} for {from_now:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_ec2_takes_a_new_token_when_its_own_is_refused() {
    let peer = ordinary_peer(Cloud::Ec2);
    let server = Server::start(&peer, &[]);
    server.wait_for_address();
    peer.expire_tokens();
    peer.wait_for_calls("PUT /latest/api/token", 2).expect("another token");
    peer.set("autoscaling/target-lifecycle-state", "Terminated");
    let notice = server.wait_for_notices(1).remove(0);
    assert_eq!(notice, Notice { reason: "ec2_autoscaling", deadline: None });
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recommendation_of_ec2_ends_nothing() {
    let peer = ordinary_peer(Cloud::Ec2);
    peer.remove("public-ipv4");
    peer.set("ipv6", IPV6);
    peer.set("autoscaling/target-lifecycle-state", "InService");
    peer.set("events/recommendations/rebalance", &rebalance(Duration::ZERO));
    let server = Server::start(&peer, &[]);
    assert_eq!(server.wait_for_address().as_deref(), Some(IPV6));
    assert_eq!(server.wait_for_advice(), "ec2_rebalance");
    peer.wait_for_another("GET /latest/meta-data/events/recommendations/rebalance").expect("it looks");
    assert_eq!((server.advice().len(), server.notices()), (1, Vec::new()));
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_address_that_there_is_not() {
    let private = peer(Cloud::Ec2, &[("instance-id", "i-07")]);
    assert_eq!(Server::start(&private, &[]).wait_for_address(), None);
    let balanced = peer(Cloud::Azure, &[("instance", &azure_instance(""))]);
    assert_eq!(Server::start(&balanced, &[]).wait_for_address(), None);
    let task = peer(Cloud::Ecs, &[("task", &ecs_task("RUNNING", &["fd00::7"]))]);
    assert_eq!(Server::start(&task, &[]).wait_for_address(), None);
    let internal = peer(Cloud::Gcp, &[("network-interfaces/0/access-configs/0/external-ip", "")]);
    assert_eq!(Server::start(&internal, &[]).wait_for_address(), None);
    // A container that has no way to the service.
    let gone = [Cloud::Ec2, Cloud::Ecs, Cloud::Azure, Cloud::Gcp].map(|cloud| {
        let peer = CloudPeer::new(cloud, &[]).expect("a peer");
        (cloud, Server::start(&peer, &[]))
    });
    for (cloud, server) in &gone {
        assert_eq!(server.wait_for_address(), None, "{cloud:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_ecs_is_protected_while_players_are_on() {
    let peer = ordinary_peer(Cloud::Ecs);
    let server = Server::start(&peer, &[]);
    assert_eq!(server.wait_for_address().as_deref(), Some(IPV6));
    server.with_players(0);
    peer.wait_for_another(TASK).expect("it looks");
    assert!(!peer.is_protected());
    for _ in 0..2 {
        server.with_players(1);
        peer.wait_for_protection(true).expect("protected");
        server.with_players(3);
        server.with_players(0);
        peer.wait_for_protection(false).expect("free again");
    }
    let bodies: Vec<_> = peer.calls().into_iter().filter(|call| call.what.starts_with("PUT")).collect();
    let body = |number: usize| bodies[number].body.clone();
    assert_eq!(body(0), json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 }));
    assert_eq!(body(1), json!({ "ProtectionEnabled": false }));
    assert_eq!(bodies.len(), 4, "one call for each change");

    let reason = announce_end(Cloud::Ecs, &peer);
    assert_eq!(server.wait_for_notices(1), [Notice { reason, deadline: None }]);
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_ecs_that_refuses_is_not_pressed() {
    let peer = ordinary_peer(Cloud::Ecs);
    peer.refuse_protection(true);
    let server = Server::start(&peer, &[]);
    server.with_players(2);
    peer.wait_for_calls("PUT /api/0123-game/task-protection/v1/state", 1).expect("asked");
    announce_end(Cloud::Ecs, &peer);
    server.wait_for_notices(1);
    peer.wait_for_another(TASK).expect("it looks");
    assert_eq!(peer.count("PUT /api/0123-game/task-protection/v1/state"), 1);
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_azure_is_told_of_its_own_events_only() {
    let peer = peer(Cloud::Azure, &[("instance", &azure_instance(""))]);
    peer.set("loadbalancer", &azure_balancer(IPV4));
    let other = azure_event("e0", "Terminate", &["pond_8"], seconds(300));
    let freeze = azure_event("e1", "Freeze", &[CloudPeer::AZURE_NAME], seconds(900));
    peer.set("scheduledevents", &azure_events(&[other.clone(), freeze.clone()]));
    let server = Server::start(&peer, &[]);
    assert_eq!(server.wait_for_address().as_deref(), Some(IPV4));
    assert_eq!(server.wait_for_advice(), "azure_freeze");
    assert_eq!(server.notices(), []);

    let reboot = |from_now| azure_event("e2", "Reboot", &["pond_8", "POND_7"], from_now);
    peer.set("scheduledevents", &azure_events(&[other.clone(), freeze.clone(), reboot(seconds(900))]));
    let first = server.wait_for_notices(1).remove(0);
    assert_eq!(first.reason, "azure_reboot");
    peer.set("scheduledevents", &azure_events(&[other, freeze, reboot(seconds(60))]));
    let second = server.wait_for_notices(2).remove(1);
    assert!(second.deadline < first.deadline, "{second:?} after {first:?}");
    // A machine that is evicted as well has less time.
    let preempt = azure_event("e3", "Preempt", &[CloudPeer::AZURE_NAME], seconds(30));
    peer.set("scheduledevents", &azure_events(&[preempt]));
    assert_eq!(server.wait_for_notices(3)[2].reason, "azure_preempt");
    peer.wait_for_another(EVENTS).expect("it looks");
    assert_eq!((server.notices().len(), server.advice().len()), (3, 1));
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_may_begin_only_with_what_is_about_a_finished_server_alone() {
    let own = || azure_event("e1", "Terminate", &[CloudPeer::AZURE_NAME], seconds(300));
    let shared = || azure_event("e2", "Reboot", &[CloudPeer::AZURE_NAME, "pond_8"], seconds(900));
    let freeze = || azure_event("e3", "Freeze", &[CloudPeer::AZURE_NAME], seconds(900));
    let approval = ("BACKEND_AZURE_APPROVE_EVENTS", "true");
    let cases: [(&Variables<'_>, bool, usize); 3] =
        [(&[], false, 0), (&[approval], true, 0), (&[approval], false, 1)];
    for (variables, owes_saves, approved) in cases {
        let peer = ordinary_peer(Cloud::Azure);
        peer.set("scheduledevents", &azure_events(&[own(), shared(), freeze()]));
        let server = Server::start(&peer, variables);
        server.wait_for_notices(2);
        assert_eq!(peer.count("POST /metadata/scheduledevents"), 0, "before it is drained");
        server.host.stopped(owes_saves).await;
        let calls = peer.calls().into_iter().filter(|call| call.what.starts_with("POST"));
        let bodies: Vec<_> = calls.map(|call| call.body).collect();
        assert_eq!(bodies.len(), approved, "{variables:?}, owes saves: {owes_saves}");
        for body in bodies {
            assert_eq!(body, json!({ "StartRequests": [{ "EventId": "e1" }] }));
        }
        peer.check().expect("by the rules");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_google_waits_for_changes() {
    let peer = ordinary_peer(Cloud::Gcp);
    let server = Server::start(&peer, &[]);
    assert_eq!(server.wait_for_address().as_deref(), Some(IPV4));
    peer.set("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE");
    assert_eq!(server.wait_for_advice(), "gcp_migration");
    assert_eq!(server.notices(), []);
    peer.set("maintenance-event", "NONE");
    peer.set("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE");
    let notice = server.wait_for_notices(1).remove(0);
    assert_eq!(notice.reason, "gcp_maintenance");
    announce_end(Cloud::Gcp, &peer);
    let preempted = server.wait_for_notices(2).remove(1);
    assert_eq!(preempted.reason, "gcp_preempted");
    assert!(preempted.deadline < notice.deadline, "{preempted:?} after {notice:?}");
    // Each value was asked for once at first, and once for each change.
    assert!(peer.calls().len() < 12, "{:?}", peer.calls());
    peer.check().expect("by the rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_google_may_be_one_of_version_six() {
    let values = [("network-interfaces/0/ipv6s", "fd20::7\n2001:db8::7\n")];
    let peer = peer(Cloud::Gcp, &values);
    assert_eq!(Server::start(&peer, &[]).wait_for_address().as_deref(), Some(IPV6));
    peer.check().expect("by the rules");
}

/// A service that misbehaves for a while is asked again, says nothing that it did not say, and loses no notice.
async fn misbehaves(cloud: Cloud, manner: Option<Manner>) {
    let peer = ordinary_peer(cloud);
    let server = Server::start(&peer, &[]);
    let address = server.wait_for_address();
    let before = peer.calls().len();
    match manner {
        Some(manner) => peer.behave(manner),
        None => {
            peer.kill();
            // Noticed, or not yet.
            tokio::time::sleep(seconds(2)).await;
        }
    }
    if matches!(manner, Some(Manner::Garbage | Manner::Late)) {
        until("calls", || Ok((peer.calls().len() > before + 3).then_some(()))).expect("it goes on");
    }
    let reason = announce_end(cloud, &peer);
    match manner {
        Some(_) => peer.behave(Manner::Good),
        None => peer.start(Manner::Good).expect("started again"),
    }
    let reasons: BTreeSet<_> = server.wait_for_notices(1).iter().map(|notice| notice.reason).collect();
    assert_eq!(reasons, BTreeSet::from([reason]), "{cloud:?} {manner:?}");
    assert_eq!(server.wait_for_address(), address, "{cloud:?} {manner:?}");
    peer.check().expect("by the rules");
}

/// Side by side, because each of them is mostly waiting.
fn everywhere(manner: Option<Manner>) {
    std::thread::scope(|scope| {
        for cloud in [Cloud::Ec2, Cloud::Ecs, Cloud::Azure, Cloud::Gcp] {
            scope.spawn(move || {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
                runtime.block_on(misbehaves(cloud, manner));
            });
        }
    });
}

#[test]
fn a_service_that_answers_garbage_costs_no_notice() {
    everywhere(Some(Manner::Garbage));
}

#[test]
fn a_service_that_answers_late_costs_no_notice() {
    everywhere(Some(Manner::Late));
}

#[test]
fn a_service_that_hangs_costs_no_notice() {
    everywhere(Some(Manner::Hangs));
}

#[test]
fn a_service_that_dies_costs_no_notice() {
    everywhere(None);
}

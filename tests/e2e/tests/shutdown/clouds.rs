//! The life of a server on machines of clouds, and what becomes of it when their metadata services misbehave.

use std::time::Duration;

use test_harness::cloud::documents::{
    azure_event, azure_events, azure_instance, ecs_task, rebalance, spot_action,
};
use test_harness::cloud::{Cloud, CloudPeer, Manner};

use super::*;

const ADDRESS: &str = "198.51.100.7";
const SECONDS: Duration = Duration::from_secs(1);

/// A fixture server on this machine.
fn on_a_machine(backend: &Backend, name: &str, peer: &CloudPeer) -> Result<FixtureLaunch> {
    let launch = peer
        .environment()
        .into_iter()
        .fold(quiet_server(backend, name)?, |launch, (name, value)| launch.env(name, &value));
    Ok(launch.env("BACKEND_PUBLIC_ADDRESS", "auto"))
}

fn started_peer(cloud: Cloud, values: &[(&str, &str)]) -> Result<CloudPeer> {
    let peer = CloudPeer::new(cloud, values)?;
    peer.start(Manner::Good)?;
    Ok(peer)
}

/// The server is listed where players reach it.
fn is_listed_at(backend: &Backend, name: &str, address: &str) -> Result<()> {
    let room = backend.api()?.wait_for_room(name, "listed", |_| true)?;
    ensure!(room.address == address, "{}", room.address);
    Ok(())
}

/// A server with unsaved documents that is told to go has saved them, and has said why it goes.
fn leaves_because_of(server: &mut Fixture, backend: &Backend, players: usize, reason: &str) -> Result<()> {
    server.log().wait_for(&format!("EVENT host_notice reason={reason}"))?;
    server.godot().finish(0)?;
    let lines = server.log().lines();
    let position = |part: &str| lines.iter().position(|line| line.contains(part));
    let draining = format!("EVENT draining reason={reason}");
    ensure!(position("EVENT host_notice") < position(&draining), "{lines:?}");
    summary(server)?.has_all(&[("reason", reason), ("left_in_journal", "0"), ("exit_code", "0")])?;
    all_saved(backend, players, true)
}

#[test]
fn a_spot_instance_of_ec2_leaves_in_order() -> Result<()> {
    let backend = Backend::start()?;
    let peer = started_peer(Cloud::Ec2, &[("instance-id", "i-07"), ("public-ipv4", ADDRESS)])?;
    let mut server = on_a_machine(&backend, "Spot", &peer)?.start()?;
    server.log().wait_for("host: Amazon EC2 (AWS_EC2_METADATA_SERVICE_ENDPOINT is set)")?;
    with_dirty_players(&mut server, &backend, 2)?;
    is_listed_at(&backend, "Spot", ADDRESS)?;
    peer.set("events/recommendations/rebalance", &rebalance(Duration::ZERO));
    server.log().wait_for("EVENT host_notice reason=ec2_rebalance deadline=inf")?;
    ensure!(!server.log().contains("EVENT draining"), "{}", server.log().tail());
    peer.set("spot/instance-action", &spot_action(100 * SECONDS));
    server.log().wait_for("EVENT host_notice reason=ec2_spot")?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("reason", "ec2_spot"), ("left_in_journal", "0"), ("exit_code", "0")])?;
    all_saved(&backend, 2, true)?;
    peer.check()
}

#[test]
fn a_task_of_ecs_is_protected_and_leaves_in_order() -> Result<()> {
    let backend = Backend::start()?;
    let peer = started_peer(Cloud::Ecs, &[("task", &ecs_task("RUNNING", &["2001:db8::7"]))])?;
    let mut server = on_a_machine(&backend, "Task", &peer)?.start()?;
    server.log().wait_for("host: Amazon ECS (ECS_CONTAINER_METADATA_URI_V4 is set)")?;
    with_dirty_players(&mut server, &backend, 2)?;
    is_listed_at(&backend, "Task", "2001:db8::7")?;
    ensure!(!peer.is_protected(), "without players");
    server.ask(&json!({ "do": "set_players", "players": 2 }))?;
    peer.wait_for_protection(true)?;
    server.ask(&json!({ "do": "set_players", "players": 0 }))?;
    peer.wait_for_protection(false)?;
    peer.set("task", &ecs_task("STOPPED", &["2001:db8::7"]));
    leaves_because_of(&mut server, &backend, 2, "ecs_stopped")?;
    peer.check()
}

#[test]
fn a_machine_of_azure_leaves_in_order_and_lets_the_event_begin() -> Result<()> {
    let backend = Backend::start()?;
    let values = [("instance", azure_instance(ADDRESS)), ("scheduledevents", azure_events(&[]))];
    let values = values.each_ref().map(|(name, text)| (*name, text.as_str()));
    let peer = started_peer(Cloud::Azure, &values)?;
    let launch = on_a_machine(&backend, "Azure", &peer)?.env("BACKEND_AZURE_APPROVE_EVENTS", "true");
    let mut server = launch.start()?;
    server.log().wait_for("host: Azure (BACKEND_AZURE_METADATA_ENDPOINT is set)")?;
    with_dirty_players(&mut server, &backend, 2)?;
    is_listed_at(&backend, "Azure", ADDRESS)?;
    let event = azure_event("e1", "Terminate", &[CloudPeer::AZURE_NAME], 300 * SECONDS);
    peer.set("scheduledevents", &azure_events(&[event]));
    leaves_because_of(&mut server, &backend, 2, "azure_terminate")?;
    ensure!(peer.count("POST /metadata/scheduledevents") == 1, "{:?}", peer.calls());
    peer.check()
}

#[test]
fn azure_keeps_its_time_if_saves_are_left_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let peer = started_peer(Cloud::Azure, &[("instance", &azure_instance(ADDRESS))])?;
    peer.set("scheduledevents", &azure_events(&[]));
    let launch = on_a_machine(&backend, "Cut off", &peer)?
        .env("BACKEND_AZURE_APPROVE_EVENTS", "true")
        .env("BACKEND_JOURNAL_FOLDER", &journal.path().to_string_lossy());
    let mut server = launch.start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    backend.kill()?;
    let event = azure_event("e1", "Preempt", &[CloudPeer::AZURE_NAME], 10 * SECONDS);
    peer.set("scheduledevents", &azure_events(&[event]));
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    ensure!(peer.count("POST /metadata/scheduledevents") == 0, "{:?}", peer.calls());
    peer.check()
}

#[test]
fn a_machine_of_google_leaves_in_order() -> Result<()> {
    let backend = Backend::start()?;
    let address = "network-interfaces/0/access-configs/0/external-ip";
    let values = [(address, ADDRESS), ("preempted", "FALSE"), ("maintenance-event", "NONE")];
    let peer = started_peer(Cloud::Gcp, &values)?;
    let mut server = on_a_machine(&backend, "Google", &peer)?.start()?;
    server.log().wait_for("host: Google Compute Engine (GCE_METADATA_HOST is set)")?;
    with_dirty_players(&mut server, &backend, 2)?;
    is_listed_at(&backend, "Google", ADDRESS)?;
    peer.set("preempted", "TRUE");
    leaves_because_of(&mut server, &backend, 2, "gcp_preempted")?;
    peer.check()
}

#[test]
fn a_metadata_service_that_misbehaves_costs_no_save() -> Result<()> {
    let backend = Backend::start()?;
    let manners = [Some(Manner::Garbage), Some(Manner::Hangs), Some(Manner::Late), None];
    for (number, manner) in manners.into_iter().enumerate() {
        let cloud = [Cloud::Ec2, Cloud::Azure, Cloud::Gcp, Cloud::Ecs][number];
        let peer = CloudPeer::new(cloud, &[])?;
        if let Some(manner) = manner {
            peer.start(manner)?;
        }
        let mut server = on_a_machine(&backend, "Unlucky", &peer)?.start()?;
        // Registered nevertheless, at the address for players on the same machine.
        let registered = server.ask(&json!({ "do": "register" }))?;
        ensure!(registered["server_id"].is_string(), "{registered}");
        let player = backend.api()?.log_in(&format!("Player {number}"))?;
        server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
        server.ask(&json!({ "do": "save", "key": "progress", "value": { "races": 7 } }))?;
        server.godot().signal(Signal::TERM)?;
        server.godot().finish(0)?;
        all_saved(&backend, number + 1, true)?;
        peer.check()?;
    }
    Ok(())
}

//! Documents as the services have them, shortened to what matters.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::CloudPeer;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time from now, as in `2026-01-31T12:00:00Z`.
pub fn utc(from_now: Duration) -> String {
    let date = http_date(from_now);
    // Such as `Sat, 31 Jan 2026 12:00:00 GMT`.
    let words: Vec<&str> = date.split(' ').collect();
    let month = MONTHS.iter().position(|month| *month == words[2]).unwrap_or_default() + 1;
    format!("{}-{month:02}-{}T{}Z", words[3], words[1], words[4])
}

/// A time from now, as HTTP has it.
pub fn http_date(from_now: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + from_now)
}

/// The notice of a spot instance of EC2.
pub fn spot_action(from_now: Duration) -> String {
    json!({ "action": "terminate", "time": utc(from_now) }).to_string()
}

/// A recommendation of EC2 to move away.
pub fn rebalance(from_now: Duration) -> String {
    json!({ "noticeTime": utc(from_now) }).to_string()
}

/// A task of ECS.
pub fn ecs_task(desired_status: &str, addresses_v6: &[&str]) -> String {
    let network = json!({
        "NetworkMode": "awsvpc",
        "IPv4Addresses": ["10.0.1.7"],
        "IPv6Addresses": addresses_v6,
        "MACAddress": "0a:de:f6:10:51:e5",
        "PrivateDNSName": "ip-10-0-1-7.eu-west-1.compute.internal",
    });
    let container =
        json!({ "DockerId": "0123-game", "Name": "game", "KnownStatus": "RUNNING", "Networks": [network] });
    let task = json!({
        "Cluster": "pond",
        "TaskARN": "arn:aws:ecs:eu-west-1:1:task/pond/0123",
        "Family": "game",
        "Revision": "3",
        "DesiredStatus": desired_status,
        "KnownStatus": "RUNNING",
        "Containers": [container],
        "LaunchType": "FARGATE",
    });
    task.to_string()
}

/// A machine of Azure. An empty address is one that the load balancer knows.
pub fn azure_instance(address: &str) -> String {
    let addresses = json!([{ "privateIpAddress": "10.0.0.4", "publicIpAddress": address }]);
    let interface = json!({ "ipv4": { "ipAddress": addresses, "subnet": [] }, "ipv6": { "ipAddress": [] }, "macAddress": "00" });
    let compute =
        json!({ "name": CloudPeer::AZURE_NAME, "location": "westeurope", "vmScaleSetName": "pond" });
    json!({ "compute": compute, "network": { "interface": [interface] } }).to_string()
}

/// A load balancer of Azure.
pub fn azure_balancer(address: &str) -> String {
    let addresses = json!([{ "frontendIpAddress": address, "privateIpAddress": "10.0.0.4" }]);
    json!({ "loadbalancer": { "publicIpAddresses": addresses, "inboundRules": [], "outboundRules": [] } })
        .to_string()
}

/// An event of Azure that begins at a time from now.
pub fn azure_event(id: &str, kind: &str, resources: &[&str], from_now: Duration) -> Value {
    json!({
        "EventId": id,
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": resources,
        "EventStatus": "Scheduled",
        "NotBefore": http_date(from_now),
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    })
}

/// Scheduled Events of Azure.
pub fn azure_events(events: &[Value]) -> String {
    json!({ "DocumentIncarnation": 1, "Events": events }).to_string()
}

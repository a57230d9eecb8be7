//! Latency, jitter and loss of many servers at once, measured without the backend.
//!
//! All probes leave through one socket per protocol, paced; each carries a random number that its answer has to repeat.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::registration::ServerStatus;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{ClientError, Fault};
use crate::server_query::ping::{Nonce, Pong, Question};

/// Probes to each server.
pub const PROBES: usize = 4;
/// Most servers of one call.
pub const MAX_TARGETS: usize = 10_000;
/// Time between two probes to the same server, at least.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Datagrams per second, over all servers: 1.4 Mbit/s with their headers.
const DATAGRAMS_PER_SECOND: u32 = 2_500;
/// After this long a probe is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Names that are looked up at the same time, and for how long. A look-up takes a thread.
const MAX_LOOKUPS: usize = 8;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// A server to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Id of its room.
    pub room_id: String,
    /// Host name or IP address.
    pub address: String,
    /// UDP port that answers queries.
    pub query_port: Option<u16>,
}

/// What was measured of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomPing {
    /// Id of its room.
    pub room_id: String,
    /// The measurement, or why there is none.
    pub measured: Result<Measurement, ClientError>,
}

/// What a server's answers say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Median round trip.
    pub latency: Duration,
    /// Mean difference between the round trips of successive answers.
    pub jitter: Duration,
    /// Share of the probes that were not answered, 0 to 1.
    pub loss: f64,
    /// Status that the server reports, in its last answer.
    pub status: ServerStatus,
    /// Players now.
    pub players: u32,
    /// Maximum number of players.
    pub max_players: u32,
}

/// Measures all of them and gives the results in their order. A server that cannot be measured has an error of its own.
pub async fn ping_all(targets: Vec<Target>) -> Result<Vec<RoomPing>, ClientError> {
    if targets.len() > MAX_TARGETS {
        return Err(ClientError::field(
            "page",
            format!("at most {MAX_TARGETS} rooms are measured in one call; this page has {}", targets.len()),
        ));
    }
    let addresses = resolve(&targets).await;
    // One measurement per address, however many rooms name it: nobody is made to flood a stranger.
    let mut unique: Vec<SocketAddr> =
        addresses.iter().filter_map(|address| address.as_ref().ok().copied()).collect();
    unique.sort_unstable();
    unique.dedup();
    let measured = measure(&unique).await?;
    let results = targets.into_iter().zip(addresses).map(|(target, address)| {
        let measured = address.and_then(|address| {
            measured.get(&address).copied().flatten().ok_or_else(|| {
                let port = address.port();
                ClientError::new(
                    Fault::Timeout,
                    format!("{}: no answer on UDP port {port} to {PROBES} pings", target.address),
                )
            })
        });
        RoomPing { room_id: target.room_id, measured }
    });
    Ok(results.collect())
}

/// The address of each target.
async fn resolve(targets: &[Target]) -> Vec<Result<SocketAddr, ClientError>> {
    let mut names: HashMap<&str, Option<IpAddr>> = HashMap::new();
    let mut lookups = JoinSet::new();
    let permits = Arc::new(Semaphore::new(MAX_LOOKUPS));
    for target in targets.iter().filter(|target| target.query_port.is_some()) {
        if names.contains_key(target.address.as_str()) {
            continue;
        }
        let literal = target.address.parse().ok();
        names.insert(&target.address, literal);
        if literal.is_none() {
            let (name, permits) = (target.address.clone(), Arc::clone(&permits));
            lookups.spawn(async move {
                let _permit = permits.acquire_owned().await;
                let found = lookup_host((name.as_str(), 0)).await.ok().and_then(|mut found| found.next());
                (name, found.map(|address| address.ip()))
            });
        }
    }
    let mut found = HashMap::new();
    let all = async {
        while let Some(lookup) = lookups.join_next().await {
            found.extend(lookup);
        }
    };
    // What is not found by then is not waited for.
    let _in_time = timeout(LOOKUP_TIMEOUT, all).await;
    let address = |target: &Target| {
        let fails = |rule: &str| Err(ClientError::field("address", format!("{}: {rule}", target.address)));
        let Some(port) = target.query_port else {
            return Err(ClientError::field("query_port", "the server answers no pings"));
        };
        let literal = names.get(target.address.as_str()).copied().flatten();
        let Some(ip) = literal.or_else(|| found.get(&target.address).copied().flatten()) else {
            return fails("the host name was not found");
        };
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast || port == 0 {
            return fails("not an address of one machine");
        }
        Ok(SocketAddr::new(ip, port))
    };
    targets.iter().map(address).collect()
}

struct Probe {
    sent: Instant,
    answer: Option<(Duration, Pong)>,
}

/// The probes, by the number that their answers repeat.
#[derive(Default)]
struct Probes {
    by_nonce: HashMap<Nonce, (SocketAddr, usize)>,
    of: HashMap<SocketAddr, Vec<Probe>>,
    unanswered: usize,
}

impl Probes {
    fn begin(&mut self, address: SocketAddr, now: Instant) -> Nonce {
        let nonce: Nonce = rand::random();
        let probes = self.of.entry(address).or_default();
        self.by_nonce.insert(nonce, (address, probes.len()));
        probes.push(Probe { sent: now, answer: None });
        self.unanswered += 1;
        nonce
    }

    /// An answer, if it is one to a question of ours, from where that went.
    fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let Some(pong) = Pong::decode(datagram) else { return };
        let Some((address, index)) = self.by_nonce.get(&pong.nonce).copied() else { return };
        if (address.ip(), address.port()) != (from.ip().to_canonical(), from.port()) {
            return;
        }
        let Some(probe) = self.of.get_mut(&address).and_then(|probes| probes.get_mut(index)) else { return };
        let latency = now.saturating_duration_since(probe.sent);
        if probe.answer.is_none() && latency <= ANSWER_TIMEOUT {
            probe.answer = Some((latency, pong));
            self.unanswered -= 1;
        }
    }
}

async fn measure(addresses: &[SocketAddr]) -> Result<HashMap<SocketAddr, Option<Measurement>>, ClientError> {
    let unavailable = |error: std::io::Error| {
        ClientError::new(Fault::Network, format!("pings cannot be sent from this machine: {error}"))
    };
    if addresses.is_empty() {
        return Ok(HashMap::new());
    }
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(unavailable)?;
    // Without IPv6, its servers do not answer.
    let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
    let mut probes = Probes::default();
    let began = Instant::now();
    let mut sent = 0;
    for round in 0..PROBES {
        let round_begins = began + PROBE_INTERVAL * round as u32;
        for address in addresses {
            let due = round_begins.max(began + Duration::from_secs(1) * sent / DATAGRAMS_PER_SECOND);
            receive_until(&v4, v6.as_ref(), &mut probes, due, false).await;
            let nonce = probes.begin(*address, Instant::now());
            let socket = if address.is_ipv4() { Some(&v4) } else { v6.as_ref() };
            if let Some(socket) = socket {
                // An address without a route does not answer, as one that drops the datagram.
                let _no_route = socket.send_to(&Question::Ping(nonce).encode(), address).await;
            }
            sent += 1;
        }
    }
    receive_until(&v4, v6.as_ref(), &mut probes, Instant::now() + ANSWER_TIMEOUT, true).await;
    Ok(probes.of.into_iter().map(|(address, probes)| (address, measurement(&probes))).collect())
}

/// Takes what comes in until `deadline`, or until all is answered if `until_all`.
async fn receive_until(
    v4: &UdpSocket,
    v6: Option<&UdpSocket>,
    probes: &mut Probes,
    deadline: Instant,
    until_all: bool,
) {
    let (mut first, mut second) = ([0; 64], [0; 64]);
    let from_v6 = async |buffer: &mut [u8]| match v6 {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    };
    while !(until_all && probes.unanswered == 0) {
        tokio::select! {
            biased;
            received = v4.recv_from(&mut first) => {
                // An error of the socket reports that an earlier probe could not be delivered: that one gets no answer.
                if let Ok((length, from)) = received {
                    probes.take(&first[..length], from, Instant::now());
                }
            }
            received = from_v6(&mut second) => {
                if let Ok((length, from)) = received {
                    probes.take(&second[..length], from, Instant::now());
                }
            }
            () = sleep_until(deadline) => return,
        }
        // A flood of answers does not put off what is to be sent.
        if Instant::now() >= deadline {
            return;
        }
    }
}

fn measurement(probes: &[Probe]) -> Option<Measurement> {
    let answers: Vec<&(Duration, Pong)> = probes.iter().filter_map(|probe| probe.answer.as_ref()).collect();
    let (_, last) = answers.last()?;
    let mut sorted: Vec<Duration> = answers.iter().map(|(latency, _)| *latency).collect();
    sorted.sort_unstable();
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let steps = answers.windows(2).map(|pair| pair[0].0.abs_diff(pair[1].0));
    let jitter = steps.sum::<Duration>() / u32::try_from(answers.len() - 1).unwrap_or(1).max(1);
    Some(Measurement {
        latency: (low + high) / 2,
        jitter,
        loss: 1.0 - answers.len() as f64 / probes.len() as f64,
        status: last.status,
        players: last.players,
        max_players: last.max_players,
    })
}

#[cfg(test)]
mod tests;

//! A task of Amazon ECS, by the metadata of its containers (version 4): notices of its end, and protection from scaling in
//! while players are on. The metadata has a public address only if the task's network gives it one itself, which is so for IPv6.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::metadata::{CALL_TIMEOUT, MetadataError, MetadataService, Pace, Reports, document, is_public};
use super::{Host, OnHostEvent, Players, ReportedAddress};

const TASK_PATH: &str = "/task";
const PROTECTION_PATH: &str = "/task-protection/v1/state";
const STOPPED: &str = "STOPPED";
/// Life of a protection in minutes: when the process hangs, the task is free again after that. Renewed at half of it.
const PROTECTION_MINUTES: u32 = 60;
const RENEWAL: Duration = Duration::from_secs(30 * 60);
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The agent asks the service of ECS before it answers.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Pause after a refusal: the role of the task has to be changed first.
const REFUSED_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A task of ECS.
pub struct Ecs {
    metadata: MetadataService,
    /// The agent that protects tasks.
    agent: Option<MetadataService>,
    reports: Reports,
    /// Whether players are on.
    is_used: watch::Sender<bool>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(rename = "TaskARN")]
    arn: String,
    #[serde(rename = "DesiredStatus")]
    desired_status: String,
    #[serde(rename = "Containers", default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "Networks", default)]
    networks: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "IPv4Addresses", default)]
    ipv4: Vec<IpAddr>,
    #[serde(rename = "IPv6Addresses", default)]
    ipv6: Vec<IpAddr>,
}

impl Task {
    /// An address of the task's own that players can reach.
    fn public_address(&self) -> Option<IpAddr> {
        let networks = || self.containers.iter().flat_map(|container| &container.networks);
        let ipv4 = networks().flat_map(|network| &network.ipv4);
        let ipv6 = networks().flat_map(|network| &network.ipv6);
        ipv4.chain(ipv6).copied().find(is_public)
    }
}

impl Ecs {
    /// The task with its metadata at this URL, and with an agent at the other one.
    pub fn new(metadata: &str, agent: Option<&str>) -> Self {
        Self {
            metadata: MetadataService::new(metadata),
            agent: agent.map(MetadataService::new),
            reports: Reports::new(),
            is_used: watch::Sender::new(false),
        }
    }

    /// Looks whether the task is to stop.
    async fn follow(&self, on_event: &OnHostEvent) {
        let mut pace = Pace::new("the metadata of this task of ECS", POLL_INTERVAL);
        let mut is_named = false;
        loop {
            let outcome = self.task().await.map(|task| {
                if !std::mem::replace(&mut is_named, true) {
                    tracing::info!(task = task.arn, "Amazon ECS");
                }
                self.reports.reach(task.public_address(), on_event);
                if task.desired_status == STOPPED {
                    self.reports.notice("ecs_stopped", None, on_event);
                }
            });
            let pause = pace.after(outcome);
            if pace.is_hopeless() {
                self.reports.expect_no_address();
            }
            sleep(pause).await;
        }
    }

    async fn task(&self) -> Result<Task, MetadataError> {
        let answer = self.metadata.call(Method::GET, TASK_PATH, None, None, CALL_TIMEOUT).await?;
        document(answer.as_ref(), TASK_PATH)
    }

    /// Keeps the task protected while players are on.
    async fn protect(&self, agent: &MetadataService) {
        let mut is_used = self.is_used.subscribe();
        let mut protected_since: Option<Instant> = None;
        // Also after a call whose answer was lost.
        let mut may_be_protected = false;
        let (mut pause, mut is_warned) = (MIN_PAUSE, false);
        loop {
            let wanted = *is_used.borrow_and_update();
            let left = protected_since.map(|since| RENEWAL.saturating_sub(since.elapsed()));
            let is_due = if wanted { left.is_none_or(|left| left.is_zero()) } else { may_be_protected };
            if !is_due {
                // A change or not, the next look shows it.
                let _changed = timeout(left.unwrap_or(RENEWAL), is_used.changed()).await;
                continue;
            }
            may_be_protected |= wanted;
            match set_protection(agent, wanted).await {
                Ok(()) => {
                    tracing::debug!(protected = wanted, "Amazon ECS");
                    may_be_protected = wanted;
                    protected_since = wanted.then(Instant::now);
                    pause = MIN_PAUSE;
                }
                Err(error) if is_passing(&error) => {
                    tracing::debug!(%error, "the agent of ECS is asked again");
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_warned, true) {
                        tracing::warn!(
                            "Amazon ECS does not protect this task while players are on ({error}). The role of the task needs \
                             ecs:GetTaskProtection and ecs:UpdateTaskProtection, and the task has to belong to a service"
                        );
                    }
                    may_be_protected = protected_since.is_some();
                    sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the same call may succeed in a moment.
fn is_passing(error: &MetadataError) -> bool {
    match error {
        MetadataError::Unreachable(_) => true,
        MetadataError::Refused { status, .. } => *status == 429 || *status >= 500,
        MetadataError::Garbage(_) => false,
    }
}

async fn set_protection(agent: &MetadataService, is_protected: bool) -> Result<(), MetadataError> {
    let mut body = json!({ "ProtectionEnabled": is_protected });
    if is_protected {
        body["ExpiresInMinutes"] = PROTECTION_MINUTES.into();
    }
    let body = Some(body.to_string());
    let answer = agent.call(Method::PUT, PROTECTION_PATH, None, body, AGENT_TIMEOUT).await?;
    let answer: Value = document(answer.as_ref(), PROTECTION_PATH)?;
    // A failure may come with 200 as well.
    let is_done = answer["protection"]["ProtectionEnabled"] == is_protected;
    is_done.then_some(()).ok_or_else(|| MetadataError::Garbage(PROTECTION_PATH.to_owned()))
}

#[async_trait]
impl Host for Ecs {
    fn name(&self) -> &'static str {
        "ecs"
    }

    async fn run(&self, on_event: OnHostEvent) {
        match &self.agent {
            Some(agent) => {
                tokio::join!(self.follow(&on_event), self.protect(agent));
            }
            None => self.follow(&on_event).await,
        }
    }

    /// `stopTimeout` of a container.
    fn usual_grace(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        Some(self.reports.address())
    }

    fn players_changed(&self, players: &Players) {
        let is_used = players.count > 0;
        self.is_used.send_if_modified(|known| std::mem::replace(known, is_used) != is_used);
    }
}

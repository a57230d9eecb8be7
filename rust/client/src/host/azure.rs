//! A virtual machine of Azure, by its instance metadata service: the address, and Scheduled Events.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::metadata::{
    ADDRESS_INTERVAL, Answer, CALL_TIMEOUT, MetadataError, MetadataService, Pace, Reports, document,
    is_public,
};
use super::{Host, OnHostEvent, ReportedAddress};

const HEADER: (&str, &str) = ("metadata", "true");
const INSTANCE_PATH: &str = "/metadata/instance?api-version=2021-02-01";
const BALANCER_PATH: &str = "/metadata/loadbalancer?api-version=2020-10-01";
const EVENTS_PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
/// As often as Azure recommends: the shortest notice is one of thirty seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The first answer about events may take two minutes, in which Azure turns them on for this machine.
const FIRST_EVENTS_TIMEOUT: Duration = Duration::from_secs(130);

/// A virtual machine of Azure.
pub struct Azure {
    service: MetadataService,
    reports: Reports,
    /// Events may begin as soon as this server is done.
    approves: bool,
    /// Name of the machine in events.
    name: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Instance {
    compute: Compute,
    #[serde(default)]
    network: Network,
}

#[derive(Deserialize)]
struct Compute {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    interface: Vec<Interface>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    ipv4: Addresses,
    ipv6: Addresses,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Addresses {
    ip_address: Vec<Address>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Address {
    public_ip_address: String,
}

#[derive(Deserialize)]
struct Balancer {
    loadbalancer: Frontends,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Frontends {
    public_ip_addresses: Vec<Frontend>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Frontend {
    frontend_ip_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    event_status: String,
    /// Empty once the event has begun.
    #[serde(default)]
    not_before: String,
}

impl Event {
    /// Whether it is about this machine.
    fn is_about(&self, name: &str) -> bool {
        self.resources.iter().any(|resource| resource.eq_ignore_ascii_case(name))
    }

    /// The reason of a notice; `None` for what ends no process.
    fn reason(&self) -> Option<&'static str> {
        match self.event_type.as_str() {
            "Reboot" => Some("azure_reboot"),
            "Redeploy" => Some("azure_redeploy"),
            "Preempt" => Some("azure_preempt"),
            "Terminate" => Some("azure_terminate"),
            _ => None,
        }
    }

    fn end(&self) -> Option<u64> {
        let end = httpdate::parse_http_date(self.not_before.trim()).ok()?;
        end.duration_since(UNIX_EPOCH).ok().map(|end| end.as_secs())
    }
}

impl Azure {
    /// The machine whose metadata service is at this URL. `approves`: an event that is about this machine alone may begin as soon
    /// as everything is saved.
    pub fn new(base: &str, approves: bool) -> Self {
        let service = MetadataService::new(base);
        Self { service, reports: Reports::new(), approves, name: Mutex::default() }
    }

    async fn get(&self, path: &str, timeout: Duration) -> Result<Option<Answer>, MetadataError> {
        self.service.call(Method::GET, path, Some(HEADER), None, timeout).await
    }

    fn name(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks who this machine is and where players reach it.
    async fn look_at_instance(&self, on_event: &OnHostEvent) -> Result<(), MetadataError> {
        let answer = self.get(INSTANCE_PATH, CALL_TIMEOUT).await?;
        let instance: Instance = document(answer.as_ref(), INSTANCE_PATH)?;
        let known =
            self.name.lock().unwrap_or_else(PoisonError::into_inner).replace(instance.compute.name.clone());
        if known.is_none() {
            tracing::info!(machine = instance.compute.name, "Azure");
        }
        let interfaces = &instance.network.interface;
        let ipv4 = interfaces.iter().flat_map(|interface| &interface.ipv4.ip_address);
        let ipv6 = interfaces.iter().flat_map(|interface| &interface.ipv6.ip_address);
        let own = ipv4.chain(ipv6).find_map(|address| parse(&address.public_ip_address));
        let address = match own {
            Some(address) => Some(address),
            // Addresses of the Standard SKU are known to the load balancer only, also where there is none.
            None => self.balanced_address().await?,
        };
        self.reports.reach(address, on_event);
        Ok(())
    }

    async fn balanced_address(&self) -> Result<Option<IpAddr>, MetadataError> {
        let Some(answer) = self.get(BALANCER_PATH, CALL_TIMEOUT).await? else { return Ok(None) };
        let balancer: Balancer = document(Some(&answer), BALANCER_PATH)?;
        let frontends = &balancer.loadbalancer.public_ip_addresses;
        Ok(frontends.iter().find_map(|frontend| parse(&frontend.frontend_ip_address)))
    }

    async fn events(&self, timeout: Duration) -> Result<Vec<Event>, MetadataError> {
        let answer = self.get(EVENTS_PATH, timeout).await?;
        document::<Events>(answer.as_ref(), EVENTS_PATH).map(|document| document.events)
    }

    async fn look_for_events(&self, timeout: Duration, on_event: &OnHostEvent) -> Result<(), MetadataError> {
        let events = self.events(timeout).await?;
        // Until the machine knows its name, it cannot know what is about it.
        let Some(name) = self.name() else { return Ok(()) };
        let mut freeze = None;
        for event in events.iter().filter(|event| event.is_about(&name)) {
            match event.reason() {
                Some(reason) => self.reports.notice(reason, event.end(), on_event),
                None if event.event_type == "Freeze" => freeze = Some(event.event_id.as_str()),
                None => {}
            }
        }
        self.reports.advise("azure_freeze", freeze, on_event);
        Ok(())
    }

    async fn follow_instance(&self, on_event: &OnHostEvent) {
        let mut pace = Pace::new("the metadata service of Azure", ADDRESS_INTERVAL);
        loop {
            let pause = pace.after(self.look_at_instance(on_event).await);
            if pace.is_hopeless() {
                self.reports.expect_no_address();
            }
            sleep(pause).await;
        }
    }

    async fn follow_events(&self, on_event: &OnHostEvent) {
        let mut pace = Pace::new("Scheduled Events of Azure", POLL_INTERVAL);
        let mut timeout = FIRST_EVENTS_TIMEOUT;
        loop {
            let begun = Instant::now();
            let outcome = self.look_for_events(timeout, on_event).await;
            if outcome.is_ok() {
                timeout = CALL_TIMEOUT;
            }
            let pause = pace.after(outcome);
            sleep(pause.saturating_sub(begun.elapsed()).max(POLL_INTERVAL / 2)).await;
        }
    }

    /// Lets the events begin that are about this machine alone.
    async fn approve(&self) -> Result<(), MetadataError> {
        let Some(name) = self.name() else { return Ok(()) };
        let events = self.events(CALL_TIMEOUT).await?;
        let own = events.iter().filter(|event| {
            let is_alone = event.resources.len() == 1 && event.is_about(&name);
            is_alone && event.event_status == "Scheduled" && event.reason().is_some()
        });
        let requests: Vec<_> = own.map(|event| json!({ "EventId": event.event_id })).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let body = json!({ "StartRequests": requests }).to_string();
        self.service.call(Method::POST, EVENTS_PATH, Some(HEADER), Some(body), CALL_TIMEOUT).await?;
        tracing::info!("Azure may begin with the event");
        Ok(())
    }
}

fn parse(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().filter(is_public)
}

#[async_trait]
impl Host for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    async fn run(&self, on_event: OnHostEvent) {
        tokio::join!(self.follow_instance(&on_event), self.follow_events(&on_event));
    }

    /// The shortest notice: an eviction.
    fn usual_grace(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        Some(self.reports.address())
    }

    async fn stopped(&self, owes_saves: bool) {
        // The journal ends with the machine, so that a machine with saves in it keeps its time.
        if self.approves
            && !owes_saves
            && let Err(error) = self.approve().await
        {
            tracing::debug!(%error, "Azure does not know that this server is done");
        }
    }
}

//! A virtual machine of Google Compute Engine, by its metadata server: the address, preemption and maintenance.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::sleep;

use super::metadata::{
    ADDRESS_INTERVAL, Answer, CALL_TIMEOUT, MetadataError, MetadataService, Pace, Reports, is_public,
};
use super::{Host, OnHostEvent, ReportedAddress};

const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";
const ROOT: &str = "/computeMetadata/v1/instance";
const IPV4: &str = "network-interfaces/0/access-configs/0/external-ip";
const IPV6: &str = "network-interfaces/0/ipv6s";
const PREEMPTED: &str = "preempted";
const MAINTENANCE: &str = "maintenance-event";
/// The server answers after this time if nothing has changed.
const WAIT_SECONDS: u64 = 50;
const WAIT_TIMEOUT: Duration = Duration::from_secs(WAIT_SECONDS + 5);
/// Pause between two waits: an answer that comes at once, again and again, keeps nobody busy.
const PAUSE: Duration = Duration::from_millis(250);
/// What Google leaves a machine: 30 s until it is switched off, and a minute before maintenance.
const PREEMPTION_NOTICE: Duration = Duration::from_secs(30);
const MAINTENANCE_NOTICE: Duration = Duration::from_secs(60);

/// A virtual machine of Google Compute Engine.
pub struct Gcp {
    service: MetadataService,
    reports: Reports,
}

impl Gcp {
    /// The machine whose metadata server is at this URL.
    pub fn new(base: &str) -> Self {
        Self { service: MetadataService::new(base), reports: Reports::new() }
    }

    async fn get(&self, path: &str, timeout: Duration) -> Result<Option<Answer>, MetadataError> {
        let header = Some((FLAVOR_HEADER, FLAVOR));
        let answer = self.service.call(Method::GET, path, header, None, timeout).await?;
        // Anything else may answer at that address where there is no metadata server.
        let is_google =
            |answer: &Answer| answer.headers.get(FLAVOR_HEADER).is_some_and(|flavor| flavor == FLAVOR);
        match answer {
            Some(answer) if !is_google(&answer) => Err(MetadataError::Garbage(path.to_owned())),
            answer => Ok(answer),
        }
    }

    async fn look_for_address(&self, on_event: &OnHostEvent) -> Result<(), MetadataError> {
        let mut found = None;
        for name in [IPV4, IPV6] {
            let answer = self.get(&format!("{ROOT}/{name}"), CALL_TIMEOUT).await?;
            let text = answer.map(|answer| answer.text).unwrap_or_default();
            let addresses = text.split_whitespace().map(str::parse::<IpAddr>).collect::<Result<Vec<_>, _>>();
            let addresses = addresses.map_err(|_| MetadataError::Garbage(name.to_owned()))?;
            found = found.or_else(|| addresses.into_iter().find(is_public));
            if found.is_some() {
                break;
            }
        }
        self.reports.reach(found, on_event);
        Ok(())
    }

    async fn follow_address(&self, on_event: &OnHostEvent) {
        let mut pace = Pace::new("the metadata server of Google", ADDRESS_INTERVAL);
        loop {
            let pause = pace.after(self.look_for_address(on_event).await);
            if pace.is_hopeless() {
                self.reports.expect_no_address();
            }
            sleep(pause).await;
        }
    }

    /// Waits for changes of a value, and shows it at once and after each change.
    async fn follow(&self, name: &'static str, see: impl Fn(&str) + Send) {
        let mut pace = Pace::new("the metadata server of Google", PAUSE);
        let mut etag: Option<String> = None;
        loop {
            let outcome = match &etag {
                Some(etag) => {
                    let path = format!(
                        "{ROOT}/{name}?wait_for_change=true&timeout_sec={WAIT_SECONDS}&last_etag={etag}"
                    );
                    self.get(&path, WAIT_TIMEOUT).await
                }
                None => self.get(&format!("{ROOT}/{name}"), CALL_TIMEOUT).await,
            };
            let pause = match outcome {
                Ok(answer) => {
                    // Without a number of the version, the value is asked for at an interval.
                    etag = answer.as_ref().and_then(Answer::etag).filter(|etag| is_plain(etag));
                    see(answer.as_ref().map(|answer| answer.text.trim()).unwrap_or_default());
                    pace.after(Ok(()))
                }
                Err(error) => {
                    etag = None;
                    pace.after(Err(error))
                }
            };
            let pause = if etag.is_none() { pause.max(CALL_TIMEOUT) } else { pause };
            sleep(pause).await;
        }
    }

    fn see_preempted(&self, value: &str, on_event: &OnHostEvent) {
        if value == "TRUE" {
            let end = self.reports.seconds_from_now(PREEMPTION_NOTICE);
            self.reports.notice("gcp_preempted", Some(end), on_event);
        }
    }

    fn see_maintenance(&self, value: &str, on_event: &OnHostEvent) {
        if value == "TERMINATE_ON_HOST_MAINTENANCE" {
            let end = self.reports.seconds_from_now(MAINTENANCE_NOTICE);
            self.reports.notice("gcp_maintenance", Some(end), on_event);
        }
        let is_moving = value == "MIGRATE_ON_HOST_MAINTENANCE";
        self.reports.advise("gcp_migration", is_moving.then_some(value), on_event);
    }
}

/// Whether it can be a part of a URL as it is.
fn is_plain(etag: &str) -> bool {
    !etag.is_empty() && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[async_trait]
impl Host for Gcp {
    fn name(&self) -> &'static str {
        "gcp"
    }

    async fn run(&self, on_event: OnHostEvent) {
        tokio::join!(
            self.follow_address(&on_event),
            self.follow(PREEMPTED, |value| self.see_preempted(value, &on_event)),
            self.follow(MAINTENANCE, |value| self.see_maintenance(value, &on_event)),
        );
    }

    /// The shortest notice: a preemption.
    fn usual_grace(&self) -> Option<Duration> {
        Some(PREEMPTION_NOTICE)
    }

    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        Some(self.reports.address())
    }
}

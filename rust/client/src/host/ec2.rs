//! An instance of Amazon EC2, by version 2 of its metadata service: the address, and notices of its end.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::metadata::{
    ADDRESS_INTERVAL, CALL_TIMEOUT, MetadataError, MetadataService, Pace, Reports, is_public, parse_utc,
};
use super::{Host, OnHostEvent, ReportedAddress};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// Life of a token, and how long it is used.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_USE: Duration = Duration::from_secs(18_000);
const ID_PATH: &str = "/latest/meta-data/instance-id";
const IPV4_PATH: &str = "/latest/meta-data/public-ipv4";
const IPV6_PATH: &str = "/latest/meta-data/ipv6";
const SPOT_PATH: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE_PATH: &str = "/latest/meta-data/events/recommendations/rebalance";
const LIFECYCLE_PATH: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
/// As often as Amazon recommends to look for a notice.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Notice that spot instances get: what is more comes from a clock that is wrong.
const SPOT_NOTICE: Duration = Duration::from_secs(120);

/// An instance of EC2.
pub struct Ec2 {
    service: MetadataService,
    reports: Reports,
}

/// The notice of a spot instance.
#[derive(Deserialize)]
struct SpotAction {
    action: String,
    time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rebalance {
    notice_time: String,
}

#[derive(Default)]
struct Progress {
    token: Option<(String, Instant)>,
    address_due: Option<Instant>,
    is_named: bool,
}

impl Ec2 {
    /// The instance whose metadata service is at this URL.
    pub fn new(base: &str) -> Self {
        Self { service: MetadataService::new(base), reports: Reports::new() }
    }

    async fn look(&self, progress: &mut Progress, on_event: &OnHostEvent) -> Result<(), MetadataError> {
        if progress.address_due.is_none_or(|due| Instant::now() >= due) {
            self.look_for_address(progress, on_event).await?;
            progress.address_due = Some(Instant::now() + ADDRESS_INTERVAL);
        }
        if let Some(text) = self.get(progress, SPOT_PATH).await? {
            let garbage = || MetadataError::Garbage(SPOT_PATH.to_owned());
            let action: SpotAction = serde_json::from_str(&text).map_err(|_| garbage())?;
            let end = parse_utc(&action.time).ok_or_else(garbage)?;
            tracing::debug!(action.action, action.time, "notice of EC2");
            let end = end.min(self.reports.seconds_from_now(SPOT_NOTICE));
            self.reports.notice("ec2_spot", Some(end), on_event);
        }
        let target = self.get(progress, LIFECYCLE_PATH).await?;
        if target.is_some_and(|target| target.trim() == "Terminated") {
            self.reports.notice("ec2_autoscaling", None, on_event);
        }
        if let Some(text) = self.get(progress, REBALANCE_PATH).await? {
            let garbage = |_| MetadataError::Garbage(REBALANCE_PATH.to_owned());
            let rebalance: Rebalance = serde_json::from_str(&text).map_err(garbage)?;
            self.reports.advise("ec2_rebalance", Some(&rebalance.notice_time), on_event);
        }
        Ok(())
    }

    async fn look_for_address(
        &self,
        progress: &mut Progress,
        on_event: &OnHostEvent,
    ) -> Result<(), MetadataError> {
        if !progress.is_named {
            let id = self.get(progress, ID_PATH).await?;
            tracing::info!(instance = id.as_deref().map(str::trim), "Amazon EC2");
            progress.is_named = true;
        }
        let mut address = self.get_address(progress, IPV4_PATH).await?;
        if address.is_none() {
            address = self.get_address(progress, IPV6_PATH).await?;
        }
        self.reports.reach(address, on_event);
        Ok(())
    }

    async fn get_address(
        &self,
        progress: &mut Progress,
        path: &str,
    ) -> Result<Option<IpAddr>, MetadataError> {
        let Some(text) = self.get(progress, path).await? else { return Ok(None) };
        let address: IpAddr = text.trim().parse().map_err(|_| MetadataError::Garbage(path.to_owned()))?;
        Ok(Some(address).filter(is_public))
    }

    /// What is there, with a token that is good.
    async fn get(&self, progress: &mut Progress, path: &str) -> Result<Option<String>, MetadataError> {
        let known = progress.token.take().filter(|(_, since)| since.elapsed() < TOKEN_USE);
        let token = match known {
            Some(token) => token,
            None => (self.token().await?, Instant::now()),
        };
        let header = Some((TOKEN_HEADER, token.0.as_str()));
        let answer = self.service.call(Method::GET, path, header, None, CALL_TIMEOUT).await;
        // One that is refused is not used again.
        if !matches!(answer, Err(MetadataError::Refused { status: 401, .. })) {
            progress.token = Some(token);
        }
        Ok(answer?.map(|answer| answer.text))
    }

    async fn token(&self) -> Result<String, MetadataError> {
        let header = Some((TTL_HEADER, TOKEN_SECONDS));
        let answer = self.service.call(Method::PUT, TOKEN_PATH, header, None, CALL_TIMEOUT).await?;
        answer.map(|answer| answer.text).ok_or_else(|| MetadataError::Garbage(TOKEN_PATH.to_owned()))
    }
}

#[async_trait]
impl Host for Ec2 {
    fn name(&self) -> &'static str {
        "ec2"
    }

    async fn run(&self, on_event: OnHostEvent) {
        let mut progress = Progress::default();
        let mut pace = Pace::new("the metadata service of EC2", POLL_INTERVAL);
        loop {
            let outcome = self.look(&mut progress, &on_event).await;
            let pause = pace.after(outcome);
            if pace.is_hopeless() {
                self.reports.expect_no_address();
            }
            sleep(pause).await;
        }
    }

    /// The notice of a spot instance.
    fn usual_grace(&self) -> Option<Duration> {
        Some(SPOT_NOTICE)
    }

    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        Some(self.reports.address())
    }
}

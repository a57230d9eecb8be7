//! How far the regions of the backend are, and which one is the nearest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_protocol::rooms::{NEAREST_REGION, RoomQuery};
use tokio::time::Instant;

use super::Rooms;
use super::ping::{Measurement, Target, ping_all};
use crate::error::ClientError;

/// Measurements are taken again after this time: a player changes networks, rarely.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// What was measured of one region.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionPing {
    /// Its name.
    pub region: String,
    /// The measurement, or why there is none.
    pub measured: Result<Measurement, ClientError>,
}

/// The region that answers soonest, if one answers.
pub fn nearest(pings: &[RegionPing]) -> Option<&str> {
    let measured = pings.iter().filter_map(|ping| Some((ping.measured.as_ref().ok()?.latency, ping)));
    measured.min_by_key(|(latency, _)| *latency).map(|(_, ping)| ping.region.as_str())
}

/// The last measurement of the regions. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct RegionPings(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Held while it is measured, so that those who ask at the same time share it.
    measuring: tokio::sync::Mutex<()>,
    last: Mutex<Option<(Instant, Arc<[RegionPing]>)>>,
}

impl RegionPings {
    fn last(&self) -> Option<(Instant, Arc<[RegionPing]>)> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `query` with a region for [`NEAREST_REGION`], as far as it was measured: without a measurement, with any region.
    pub fn resolved(&self, query: &RoomQuery) -> RoomQuery {
        let mut query = query.clone();
        if query.region.as_deref() == Some(NEAREST_REGION) {
            query.region = self.last().and_then(|(_, pings)| nearest(&pings).map(str::to_owned));
        }
        query
    }
}

impl Rooms {
    /// Measures the regions of the backend. One that does not answer has an error of its own.
    pub async fn ping_regions(&self) -> Result<Arc<[RegionPing]>, ClientError> {
        let _measuring = self.regions.0.measuring.lock().await;
        self.measure_regions().await
    }

    async fn measure_regions(&self) -> Result<Arc<[RegionPing]>, ClientError> {
        let read = |token: String| async move { self.backend.regions(&token).await };
        let regions = self.session.authorized(read).await?.regions;
        let targets = regions.into_iter().map(|one| Target {
            room_id: one.region,
            address: one.address,
            query_port: Some(one.query_port),
        });
        let pings = ping_all(targets.collect()).await?;
        let pings: Arc<[RegionPing]> = pings
            .into_iter()
            .map(|ping| RegionPing { region: ping.room_id, measured: ping.measured })
            .collect();
        let last = Some((Instant::now(), Arc::clone(&pings)));
        *self.regions.0.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(pings)
    }

    /// `query` with the nearest region for [`NEAREST_REGION`], which is measured if that was not done lately. If no region answers,
    /// with any region: rooms far away are better than none.
    pub(super) async fn resolved(&self, query: &RoomQuery) -> Result<RoomQuery, ClientError> {
        if query.region.as_deref() == Some(NEAREST_REGION) {
            let _measuring = self.regions.0.measuring.lock().await;
            if self.regions.last().is_none_or(|(at, _)| at.elapsed() > MAX_AGE) {
                self.measure_regions().await?;
            }
        }
        Ok(self.regions.resolved(query))
    }
}

#[cfg(test)]
mod tests;

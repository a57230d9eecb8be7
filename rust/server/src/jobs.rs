//! Jobs that run beside the requests: expired rows and unreferenced objects are removed.

pub mod expiry;
pub mod served;
pub mod world_objects;

use std::time::Duration;

use crate::health;
use crate::state::AppState;

const INTERVAL: Duration = Duration::from_secs(60);
/// Histograms grow until they are folded, also when no scraper reads the metrics.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until the task is aborted. Expired servers are not listed, also before they are removed.
pub async fn run(state: AppState) {
    for round in 0.. {
        for _ in 0..INTERVAL.as_secs() / METRICS_UPKEEP_INTERVAL.as_secs() {
            tokio::time::sleep(METRICS_UPKEEP_INTERVAL).await;
            health::run_metrics_upkeep();
        }
        if let Err(error) = world_objects::run_once(&state, round).await {
            tracing::warn!("unreferenced world objects were not removed; the next round follows: {error:#}");
        }
        if let Err(error) = expiry::run_once(&state).await {
            tracing::warn!(%error, "expired rows were not removed; the next round follows");
        }
    }
}

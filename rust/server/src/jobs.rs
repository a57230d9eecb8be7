//! Jobs that run beside the requests: expired rows and unreferenced objects are removed.

pub mod expiry;
pub mod world_objects;

use std::time::Duration;

use crate::health;
use crate::state::AppState;

const INTERVAL: Duration = Duration::from_secs(60);
/// Nobody may ever ask for the metrics.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until the task is aborted. Expired servers are not listed even before they are swept.
pub async fn run(state: AppState) {
    for round in 0.. {
        for _ in 0..INTERVAL.as_secs() / METRICS_UPKEEP_INTERVAL.as_secs() {
            tokio::time::sleep(METRICS_UPKEEP_INTERVAL).await;
            health::run_metrics_upkeep();
        }
        if let Err(error) = world_objects::run_once(&state, round).await {
            tracing::warn!("worlds were not swept; the next round follows: {error:#}");
        }
        if let Err(error) = expiry::run_once(&state).await {
            tracing::warn!(%error, "the sweep failed; the next one follows");
        }
    }
}

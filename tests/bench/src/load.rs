//! Calls at once, so many on the wire at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

/// What it took.
pub struct Took {
    /// From the first call to the last result.
    pub time: Duration,
    /// Of all threads of this process.
    pub processor: Duration,
}

/// Makes the calls 0 to `count`, `in_flight` at a time; fails with the first that fails.
pub async fn run_load<F>(
    in_flight: usize,
    count: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Took>
where
    F: Future<Output = Result<()>> + Send,
{
    let begun = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let (begin, processor) = (Instant::now(), processor_time());
    for _ in 0..in_flight {
        let (begun, call) = (Arc::clone(&begun), call.clone());
        callers.spawn(async move {
            loop {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                call(number).await?;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(Took { time: begin.elapsed(), processor: processor_time().saturating_sub(processor) })
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

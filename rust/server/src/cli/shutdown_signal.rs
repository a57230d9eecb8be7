//! The signals that stop the server.

use anyhow::Context;

/// Handlers for SIGTERM, SIGINT and SIGHUP; the future completes with the first of them.
#[cfg(unix)]
pub fn install() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    // The terminal is gone. `nohup` means that this is not the end of the service.
    let mut hangup = if is_ignored(HANGUP) {
        None
    } else {
        Some(signal(SignalKind::hangup()).context("cannot watch SIGHUP")?)
    };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    })
}

#[cfg(unix)]
const HANGUP: u32 = 1;

/// Whether the process was started with the signal ignored, if the system shows it.
#[cfg(unix)]
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// A handler for Ctrl-C; the future completes with it.
#[cfg(not(unix))]
pub fn install() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await.context("cannot watch Ctrl-C") {
            tracing::error!("{error:#}");
            std::future::pending::<()>().await;
        }
    })
}

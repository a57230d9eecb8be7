//! `-- --backend-doctor`: checks the surroundings of this server, prints one finding per line and ends the process.

use std::sync::Arc;
use std::time::Duration;

use backend_client::doctor::{Finding, check_address, check_backend, check_folder, check_grace, exit_code};
use backend_client::error::ClientError;
use backend_client::host::{Detected, Host, HostChoice};
use backend_settings::HOST_GRACE_SECONDS;
use godot::prelude::*;

use crate::config::{self, LocalFolder, project_settings};
use crate::resources::backend_config::BackendConfig;
use crate::runtime::worker_threads;
use crate::shutdown::summary_log;

/// Main thread, before the first scene: nothing of the game runs, so that nothing is registered.
pub fn run_if_asked() {
    if godot::init::is_editor_hint() || !config::wants_doctor() {
        return;
    }
    let findings = examine().unwrap_or_else(|error| vec![Finding::failure("settings", error.to_string())]);
    let text: Vec<String> = findings.iter().map(|finding| format!("doctor: {finding}")).collect();
    summary_log::print_and_exit(Some(text.join("\n")), exit_code(&findings));
}

/// What applies to nodes without a `BackendConfig` and values of their own.
fn examine() -> Result<Vec<Finding>, ClientError> {
    let Detected { hosts, summary, warnings } = config::detect_hosts(HostChoice::Auto);
    let mut findings = vec![Finding::good("host", summary)];
    findings.extend(warnings.into_iter().map(|warning| Finding::warning("host", warning)));
    let workers = worker_threads::handle()?;
    findings.push(workers.block_on(check_address(&hosts, config::public_address(""))));
    findings.extend(backend_and_journal(&workers));
    findings.extend(grace(&hosts));
    Ok(findings)
}

fn backend_and_journal(workers: &tokio::runtime::Handle) -> Vec<Finding> {
    let none: Option<&Gd<BackendConfig>> = None;
    let connected = config::resolve(none).and_then(|config| Ok((config::connect(config.clone())?, config)));
    let (backend, config) = match connected {
        Ok(connected) => connected,
        Err(error) => return vec![Finding::failure("backend", error.to_string())],
    };
    let mut findings = workers.block_on(check_backend(&config, &*backend, config::server_key()));
    findings.push(match config::journal_folder(none, &config) {
        Ok(folder) => journal(&folder),
        Err(error) => Finding::failure("journal", error.to_string()),
    });
    findings
}

fn journal(folder: &LocalFolder) -> Finding {
    check_folder("journal", &folder.folder, folder.why_passing())
}

fn grace(hosts: &[Arc<dyn Host>]) -> Vec<Finding> {
    let configured = project_settings::number(&HOST_GRACE_SECONDS);
    let configured = Duration::try_from_secs_f64(configured).unwrap_or_default();
    check_grace(config::shutdown_grace(0.0), configured, hosts)
}

//! `backend-server doctor`: one line per finding.

use anyhow::bail;
use backend_server::Config;
use backend_server::doctor::{self, Level};
use clap::Args;

use super::output;

#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    config: Box<Config>,
    /// URL at which players and game servers reach the backend, such as `https://backend.example.org/`. It is checked through
    /// the proxy in front
    #[arg(long, env = "BACKEND_PUBLIC_URL")]
    public_url: Option<String>,
}

pub async fn run(arguments: Doctor) -> anyhow::Result<()> {
    let findings = doctor::examine(&arguments.config, arguments.public_url.as_deref()).await;
    for finding in &findings {
        output::line(finding)?;
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Failure).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed: see the lines with FAILED", findings.len());
    }
    Ok(())
}

//! Everybody logs in at once, after a server came back: guests, who cost the backend a row, and players with passwords,
//! who cost it a hash that is meant to be slow. On the real backend.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use backend_client::protocol::routes;
use backend_client::protocol::session::{AnonymousLogin, PasswordLogin, Session};
use clap::Args;
use reqwest::Client;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::process::Process;

use crate::Options;
use crate::cpu_affinity::{Side, pin, pinned};
use crate::engine::{self, Figures, Project};
use crate::load::{Took, run_load};
use crate::machine::Machine;
use crate::results::Report;

const RAW: &str = "raw reqwest";
const ADDON: &str = "addon";
const POOL: &str = "pool";
/// As many as the addon has.
const WORKERS: usize = 2;
/// The accounts with a password; `password_pool.gd` and `password_addon.gd` know them, too.
const ACCOUNTS: usize = 8;
const PASSWORD: &str = "correct horse battery staple";
const SPEED: &str = "logins_per_second";
const COST: &str = "backend_processor_ms_per_login";

/// A kind of login.
struct Kind {
    scenario: &'static str,
    /// Of the contestant inside the engine: `addon` or `pool` comes behind it.
    way: &'static str,
    count: usize,
    /// Few with passwords: the backend sends away who would wait for longer than half a second.
    in_flight: usize,
}

#[derive(Args)]
pub struct RawOptions {
    /// Base URL of the backend
    #[arg(long)]
    url: String,
    /// Requests on the wire at a time
    #[arg(long)]
    in_flight: usize,
    /// How many logins
    #[arg(long)]
    count: usize,
    /// With passwords
    #[arg(long)]
    passwords: bool,
}

/// Measures and tells. No figure has to be reached: what bounds it is the backend's.
pub fn run(options: &Options) -> Result<bool> {
    let (guests, passwords) = if options.quick { (100, 16) } else { (2_000, 100) };
    let kinds = [
        Kind { scenario: "guests", way: "login", count: guests, in_flight: 64 },
        Kind { scenario: "passwords", way: "password", count: passwords, in_flight: 16 },
    ];
    let project = Project::with(&options.library)?;
    let mut report = Report::new("login", Machine::this()?);
    for _ in 0..options.rounds {
        let backend = Backend::start_in(&[("TOKIO_WORKER_THREADS", "2")], None, &[])?;
        pin(Side::Server, backend.id()?)?;
        let api = backend.api()?;
        for number in 0..ACCOUNTS {
            api.register_account(&email(number), PASSWORD, "Ada").context("no account")?;
        }
        for kind in &kinds {
            one_round(&backend, &project, kind, &mut report)?;
        }
    }
    for Kind { scenario, .. } in &kinds {
        report.plot(&options.folder, scenario, scenario, SPEED, &format!("Logins per second: {scenario}"))?;
    }
    report.publish(&options.folder)?;
    Ok(true)
}

fn one_round(backend: &Backend, project: &Project, kind: &Kind, report: &mut Report) -> Result<()> {
    let url = backend.url();
    let warm = kind.in_flight;
    let runs = format!("warm:{warm},burst:{}:0", kind.count);
    let inside = |way: &str| project.measure(&format!("{way}_{}", kind.way), &url, &runs);
    let mut contest = |way: &str, work: &dyn Fn() -> Result<Vec<Figures>>| {
        let before = processor_ms(backend)?;
        let figures = work().with_context(|| format!("{}, {way}", kind.scenario))?;
        // Those that warm it up cost the backend as much.
        let each = (processor_ms(backend)? - before) / (kind.count + warm) as f64;
        let speed = figures.iter().find_map(|figures| figures.get("calls_per_second")?.as_f64());
        let speed = speed.with_context(|| format!("{}, {way}: no speed in {figures:?}", kind.scenario))?;
        report.add(kind.scenario, SPEED, way, speed);
        report.add(kind.scenario, COST, way, each);
        anyhow::Ok(())
    };
    contest(RAW, &|| raw(&url, kind))?;
    contest(ADDON, &|| inside(ADDON))?;
    contest(POOL, &|| inside(POOL))
}

fn email(number: usize) -> String {
    format!("player-{}@example.com", number % ACCOUNTS)
}

/// Processor time that the backend has had (proc_pid_stat(5)), in milliseconds.
fn processor_ms(backend: &Backend) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", backend.id()?))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in stat");
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(ticks.iter().sum::<u64>() as f64 / per_second as f64 * 1e3)
}

fn raw(url: &str, kind: &Kind) -> Result<Vec<Figures>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["raw-login", "--url", url, "--in-flight", &kind.in_flight.to_string()]);
    command
        .args(["--count", &kind.count.to_string()])
        .args((kind.way == "password").then_some("--passwords"));
    let mut process = Process::start("raw-login", pinned(Side::Client, &command))?;
    process.wait_for_exit(0)?;
    engine::figures_of(process.log())
}

/// Bare reqwest, in a process of its own.
pub fn run_raw(options: &RawOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let path = if options.passwords { routes::AUTH_PASSWORD } else { routes::AUTH_ANONYMOUS };
    let (url, passwords) = (format!("{}{path}", options.url), options.passwords);
    let log_in = move |number: usize| {
        let (client, url) = (client.clone(), url.clone());
        let body: Result<Value, serde_json::Error> = if passwords {
            serde_json::to_value(PasswordLogin { email: email(number), password: PASSWORD.into() })
        } else {
            serde_json::to_value(AnonymousLogin { display_name: Some("Ada".into()) })
        };
        async move {
            let reply = client.post(url).json(&body?).send().await?;
            ensure!(reply.status().is_success(), "{}", reply.status());
            let session: Session = reply.json().await?;
            ensure!(!session.player_id.is_empty(), "nobody");
            Ok(())
        }
    };
    runtime.block_on(run_load(options.in_flight, options.in_flight, log_in.clone()))?;
    let Took { time, .. } = runtime.block_on(run_load(options.in_flight, options.count, log_in))?;
    let speed = options.count as f64 / time.as_secs_f64();
    test_harness::print_line!(
        "{}{}",
        engine::FIGURES,
        json!({ "run": "burst", "failed": 0, "calls_per_second": speed })
    );
    Ok(())
}

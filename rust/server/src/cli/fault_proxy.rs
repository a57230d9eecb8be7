//! `backend-server fault-proxy`: stands between games and the backend of one machine, and misbehaves on demand.
//!
//! For development only. It is a process of its own, so that a backend has no code for faults, and it neither listens beyond
//! this machine nor forwards to another.

mod faults;
mod forward;
mod token_expiry;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::faults::Faults;
use self::forward::Forwarder;
use super::output;

/// Pause before a port is tried again that something else uses, or after a connection that could not be accepted.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct FaultProxy {
    /// Address for games, on this machine
    #[arg(long)]
    listen: SocketAddr,
    /// URL of the backend, on this machine
    #[arg(long)]
    backend: Url,
}

/// Forwards until standard input ends. Each line there is a JSON object with the faults from then on.
pub async fn run(arguments: FaultProxy) -> anyhow::Result<()> {
    let FaultProxy { listen, backend } = arguments;
    ensure!(
        listen.ip().is_loopback(),
        "--listen {listen}: must be an address of this machine, such as 127.0.0.1:8421"
    );
    ensure!(
        is_of_this_machine(&backend) && backend.scheme() == "http",
        "--backend {}: must be a backend on this machine, such as http://127.0.0.1:8420",
        backend_server::config::redact_secrets(backend.as_str())
    );
    let listener = bind(listen).await?;
    let address = listener.local_addr()?;
    let faults = faults::read_from_standard_input();
    let forwarder = Arc::new(Forwarder::new(backend, faults.clone())?);
    output::line(format_args!("listening on http://{address}"))?;
    accept(listener, address, faults, forwarder).await;
    Ok(())
}

fn is_of_this_machine(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("--listen {address}: cannot be listened on; use another port"))
}

/// Accepts connections until the faults have no source any more.
async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    mut faults: watch::Receiver<Faults>,
    forwarder: Arc<Forwarder>,
) {
    let mut listener = Some(listener);
    loop {
        if faults.borrow_and_update().offline {
            // Refused by the system, as when nothing runs there.
            listener = None;
        } else if listener.is_none() {
            match bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(_in_use) => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            }
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = faults.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            accepted = accepted => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, faults.clone(), Arc::clone(&forwarder)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
}

/// Serves one connection until it ends, or is cut because the backend is to be offline.
async fn serve(stream: TcpStream, mut faults: watch::Receiver<Faults>, forwarder: Arc<Forwarder>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let forwarder = Arc::clone(&forwarder);
        async move { forwarder.answer(request).await }
    });
    let builder = Builder::new(TokioExecutor::new()).http1_only();
    tokio::select! {
        // First: nothing is forwarded once the backend is to be offline.
        biased;
        _offline = faults.wait_for(|faults| faults.offline) => {}
        // Err: the connection was cut, by the game or by a fault.
        _ended = builder.serve_connection(TokioIo::new(stream), service) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_of_this_machine_is_known_by_its_host() {
        for (url, expected) in [
            ("http://127.0.0.1:8420", true),
            ("http://127.1.2.3", true),
            ("http://[::1]:8420", true),
            ("http://LOCALHOST:8420", true),
            ("http://localhost.example.org", false),
            ("http://192.0.2.1:8420", false),
            ("http://[2001:db8::1]", false),
            ("unix:/run/backend", false),
        ] {
            assert_eq!(is_of_this_machine(&url.parse().expect("a URL")), expected, "{url}");
        }
    }
}

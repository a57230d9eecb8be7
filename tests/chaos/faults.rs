//! What goes wrong in a trial, at its time.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use end_to_end::backend::Backend;
use end_to_end::fault_proxy;
use serde_json::{Value, json};

use crate::game_server::GameServer;
use crate::history::History;
use crate::plan::{Fault, NetworkFault, TimedFault};

/// How long a fault lies in wait for an acknowledgement.
const AMBUSH: Duration = Duration::from_secs(1);

/// What faults act on.
pub struct Stage<'a> {
    /// All servers.
    pub servers: &'a [GameServer],
    /// The backend.
    pub backend: &'a Mutex<Backend>,
    /// Where it is noted.
    pub history: &'a History,
    /// When the players began.
    pub begin: Instant,
}

impl Stage<'_> {
    /// Waits for the fault's time and lets it happen, from its beginning to its end.
    pub fn strike(&self, timed: &TimedFault) -> Result<()> {
        let at = self.begin + Duration::from_millis(timed.at_ms);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let mut event = json!({ "event": "fault" });
        if let (Value::Object(event), Value::Object(fault)) = (&mut event, json!(timed)) {
            event.extend(fault);
        }
        self.history.note(event);
        let struck = self.happen(&timed.fault)?;
        let past_lease = timed.fault.outlives_the_lease();
        self.history.note(json!({
            "event": "fault_over", "at_ms": timed.at_ms, "name": timed.fault.name(), "past_lease": past_lease,
            "struck": struck,
        }));
        Ok(())
    }

    /// False when there was nothing to act on, such as a process that another fault has killed.
    fn happen(&self, fault: &Fault) -> Result<bool> {
        match *fault {
            Fault::Kill { server, restart_after_ms } => {
                let struck = self.servers[server].kill()?;
                self.restart(server, restart_after_ms)?;
                Ok(struck)
            }
            Fault::KillOnAck { server, acks, restart_after_ms } => {
                let struck = self.servers[server].kill_after_acks(acks, AMBUSH)?;
                if struck {
                    self.restart(server, restart_after_ms)?;
                }
                Ok(struck)
            }
            Fault::Terminate { server, restart_after_ms } => {
                let struck = self.servers[server].terminate()?;
                if struck {
                    self.restart(server, restart_after_ms)?;
                }
                Ok(struck)
            }
            Fault::Pause { server, for_ms } => {
                let struck = self.servers[server].pause()?;
                if struck {
                    thread::sleep(Duration::from_millis(for_ms));
                    self.servers[server].resume()?;
                }
                Ok(struck)
            }
            Fault::BackendKill { down_ms } => self.outage(down_ms, Backend::kill),
            Fault::BackendTerminate { down_ms } => self.outage(down_ms, Backend::stop),
            Fault::Network { server, ref kind, for_ms } => {
                let proxy = self.servers[server].proxy();
                let before = proxy.struck().total();
                proxy.set(proxy_fault(kind));
                self.servers[server].set_cut_off(fault.outlives_the_lease());
                thread::sleep(Duration::from_millis(for_ms));
                self.servers[server].set_cut_off(false);
                proxy.set(fault_proxy::Fault::None);
                // A server that said nothing meanwhile has noticed nothing.
                Ok(proxy.struck().total() > before)
            }
        }
    }

    fn restart(&self, server: usize, after_ms: u64) -> Result<()> {
        thread::sleep(Duration::from_millis(after_ms));
        self.servers[server].start()
    }

    fn outage(&self, down_ms: u64, end: impl Fn(&mut Backend) -> Result<()>) -> Result<bool> {
        let mut backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        end(&mut backend)?;
        thread::sleep(Duration::from_millis(down_ms));
        backend.resume()?;
        Ok(true)
    }
}

fn proxy_fault(kind: &NetworkFault) -> fault_proxy::Fault {
    match kind {
        NetworkFault::Refuse => fault_proxy::Fault::Refuse,
        NetworkFault::Blackhole => fault_proxy::Fault::Blackhole,
        NetworkFault::Reset => fault_proxy::Fault::Reset,
        NetworkFault::Delay { pause_ms } => fault_proxy::Fault::Delay(Duration::from_millis(*pause_ms)),
        NetworkFault::DropReply { path } => fault_proxy::Fault::DropReply { path: path.clone() },
        NetworkFault::Duplicate { path } => fault_proxy::Fault::DuplicateRequest { path: path.clone() },
        NetworkFault::Truncate { path } => fault_proxy::Fault::TruncateReply { path: path.clone() },
    }
}

//! A process that can be killed or frozen at any await point: whatever it waits for does not come any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use backend_client::platform::clock::{Alarm, Clock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    On,
    Frozen,
    Off,
}

/// What keeps a simulated process going. Time, network and disk ask it before they let the process go on.
pub struct Power {
    current: Mutex<Current>,
    changed: Notify,
    resumed: AtomicUsize,
}

impl Power {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new(Current::On),
            changed: Notify::new(),
            resumed: AtomicUsize::new(0),
        })
    }

    /// SIGKILL.
    pub fn cut(&self) {
        self.set(Current::Off);
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        if self.current() == Current::On {
            self.set(Current::Frozen);
        }
    }

    /// How often it was resumed.
    pub fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }

    /// SIGCONT.
    pub fn resume(&self) {
        if self.current() == Current::Frozen {
            self.resumed.fetch_add(1, Ordering::Relaxed);
            self.set(Current::On);
        }
    }

    pub fn is_cut(&self) -> bool {
        self.current() == Current::Off
    }

    pub fn is_on(&self) -> bool {
        self.current() == Current::On
    }

    /// Resolves while the process runs; never once it is dead.
    pub async fn on(&self) {
        loop {
            let changed = self.changed.notified();
            match self.current() {
                Current::On => return,
                Current::Frozen => changed.await,
                Current::Off => std::future::pending().await,
            }
        }
    }

    /// Resolves when the process is killed.
    pub async fn off(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_cut() {
                return;
            }
            changed.await;
        }
    }

    fn current(&self) -> Current {
        *self.current.lock().expect("not poisoned")
    }

    fn set(&self, current: Current) {
        *self.current.lock().expect("not poisoned") = current;
        self.changed.notify_waiters();
    }
}

/// The clock of a simulated process.
pub struct ProcessClock(pub Arc<Power>);

impl Clock for ProcessClock {
    /// What is played here goes by the monotonic clock alone. Whatever reads the other one must be played with one that is
    /// set forwards and back.
    fn unix_seconds(&self) -> u64 {
        panic!("the wall clock is read");
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let power = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            power.on().await;
        })
    }

    /// A thread of the process's own: what it is given ends the process, here as if the kernel did it.
    fn run_after(&self, duration: Duration, _work: Box<dyn FnOnce() + Send>) -> std::io::Result<Alarm> {
        let power = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            power.on().await;
            power.cut();
        });
        Ok(Alarm::default())
    }
}

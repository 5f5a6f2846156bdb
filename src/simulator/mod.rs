//! A local Claude Messages API with real limits, real latency and faults on demand.
//!
//! It serves `claudeq sim`, the demo, the tests, and any other program that speaks the
//! Messages API. Everything that happens is noted in a log of ground truth: what was billed,
//! what was refused, who came too early.
//!
//! Invariant: no other room of the house is used here but clock and time: the simulator is an
//! independent witness, and a shared mistake in arithmetic would hide.
//! Invariant: all limits live in *simulated* time, which runs [`Config::speed`] times as fast
//! as the caller's; everything told to the caller is in the caller's time.
//!
//! Markers in a prompt decide the answer: `[[out=N]]` and `[[in=N]]` tokens, `[[stop=REASON]]`,
//! `[[pauses=N]]` (the turn's first N calls stop with `pause_turn`), `[[cache_read=N]]`, `[[cache_write=N]]`, `[[id=ANYTHING]]` for the log, and
//! `[[fault=KIND,times=N,retry_after=S,…]]`.

mod answer;
mod app;
mod bucket;
mod config;
mod conn;
mod errors;
mod fault_kind;
mod faults;
mod generation;
mod handlers;
mod log;
mod matching;
mod offline;
mod pool;
mod presets;
mod ramp;
mod reply;
mod request;
mod spoil;
mod stream;
#[cfg(test)]
mod tests;
mod window;

pub use config::{Algorithm, Config, ConfigError, Latency, LimitSet, OutputMode, PoolConfig, Ramp};
pub use fault_kind::Kind;
pub use faults::FaultRule;
pub use log::{Entry, Stats};
pub use offline::{Offline, Response};
pub use presets::{TIERS, preset};

use crate::clock::Clock;
use app::App;
use conn::{Connections, Door, Peer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

/// A running simulator; dropping it stops it.
pub struct Handle {
    app: Arc<App>,
    addr: SocketAddr,
    connections: Connections,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Simulator {
    /// Listens on `addr` (port 0 takes any free one) and serves until stopped.
    ///
    /// Must be called within a tokio runtime with time and I/O.
    pub fn start(config: Config, addr: SocketAddr, clock: Clock) -> io::Result<Handle> {
        let app = Arc::new(App::new(config, clock)?);
        let connections = Connections::default();
        let door = Door::open(addr, connections.clone())?;
        let addr = door.addr()?;
        let service = handlers::router(app.clone()).into_make_service_with_connect_info::<Peer>();
        let (stop, mut stopped) = watch::channel(false);
        let server = axum::serve(door, service).with_graceful_shutdown(async move {
            // An error means that the handle is gone, which is a reason to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let server = Some(tokio::spawn(server.into_future()));
        Ok(Handle { app, addr, connections, stop, server })
    }
}

impl Handle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The ground truth so far, oldest first.
    pub fn log(&self) -> Vec<Entry> {
        self.app.witness.entries()
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        self.app.witness.stats()
    }

    /// Replaces all fault rules; request numbers and times count from now.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        self.app.set_faults(rules);
    }

    /// Lets in only this key from now on, or any.
    pub fn set_key(&self, key: Option<String>) {
        self.app.set_key(key);
    }

    /// Stops as if the provider had vanished: all connections end at once.
    ///
    /// Generations in progress are noted as billed with their client gone. Returns when all
    /// is closed.
    pub async fn stop(mut self) {
        self.end();
        if let Some(server) = self.server.take()
            && let Err(error) = server.await
        {
            tracing::error!(%error, "the simulator's server failed");
        }
    }

    fn end(&self) {
        self.stop.send_replace(true);
        self.connections.stop();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

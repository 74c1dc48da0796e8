//! The signals that end a program which serves: for callers that know nothing of async.

use std::io;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment this is made.
pub struct EndSignals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Begins to catch them: they end nothing by themselves any more.
    pub fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let _within = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(_within);
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) {
        let Self { runtime, terminate, interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        });
    }
}

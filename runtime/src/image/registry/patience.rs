//! How long a silent or a dripping server is waited for.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Time limits of requests. There is none on a whole layer: those may take an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A host that does not answer a SYN within this time is down.
    pub connect: Duration,
    /// Silence on a connection before it counts as broken.
    pub silence: Duration,
    /// Within each such span at least [`Self::progress_bytes`] must come. A server that drips a byte now and then is never
    /// silent, and never done.
    pub progress: Duration,
    /// See [`Self::progress`].
    pub progress_bytes: u64,
}

impl Default for Patience {
    /// 16 KiB a minute: a fortieth of what the slowest mobile link (GPRS) carries.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), silence: seconds(30), progress: seconds(60), progress_bytes: 16 << 10 }
    }
}

/// A body that must make progress. Only waiting for the server counts, not what its reader does between two reads.
pub(super) struct Steady<R> {
    body: R,
    patience: Patience,
    waited: Duration,
    bytes: u64,
}

impl<R> Steady<R> {
    pub(super) fn new(body: R, patience: Patience) -> Self {
        Self { body, patience, waited: Duration::ZERO, bytes: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let count = self.body.read(buffer)?;
        self.waited += began.elapsed();
        self.bytes += count as u64;
        let Patience { progress, progress_bytes, .. } = self.patience;
        if self.bytes >= progress_bytes {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        if self.waited > progress && count > 0 {
            let slow = format!("only {} bytes came in {:.1} s, at least {progress_bytes} must", self.bytes, self.waited.as_secs_f32());
            return Err(io::Error::new(io::ErrorKind::TimedOut, slow));
        }
        Ok(count)
    }
}

//! The only reader of the wall clock and the only source of randomness.
//!
//! Invariant: everything else takes `now` and jitter as parameters.

pub mod calendar;

use crate::domain::time::{Timestamp, Unit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time and monotonic time, real or set by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Manual(Arc<Mutex<ManualTime>>),
}

#[derive(Debug)]
struct ManualTime {
    wall: Timestamp,
    monotonic: Duration,
}

impl Clock {
    /// The machine's clocks.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn system() -> Clock {
        Clock(Source::System { started: Instant::now() })
    }

    /// A clock that stands still until [`Clock::advance`] or [`Clock::set_wall`].
    pub fn manual(wall: Timestamp) -> Clock {
        Clock(Source::Manual(Arc::new(Mutex::new(ManualTime { wall, monotonic: Duration::ZERO }))))
    }

    /// Wall time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual(time) => time.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    /// Time since this clock was made, which never jumps; for spans inside the process.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual(time) => time.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    /// Moves a manual clock ahead, both hands; does nothing to the system's.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual(time) = &self.0 {
            let mut time = time.lock().unwrap_or_else(PoisonError::into_inner);
            time.wall = time.wall + span.into();
            time.monotonic += span;
        }
    }

    /// Sets a manual clock's wall time alone, as an operator or NTP would.
    pub fn set_wall(&self, wall: Timestamp) {
        if let Source::Manual(time) = &self.0 {
            time.lock().unwrap_or_else(PoisonError::into_inner).wall = wall;
        }
    }
}

/// A seedable source of jitter and fault dice (`SplitMix64`, public domain by Sebastiano Vigna).
///
/// Not for secrets.
#[derive(Clone, Debug)]
pub struct Entropy(Arc<Mutex<u64>>);

impl Entropy {
    /// The same seed gives the same sequence.
    pub fn seeded(seed: u64) -> Entropy {
        Entropy(Arc::new(Mutex::new(seed)))
    }

    /// Seeded from the machine's clock and this process.
    pub fn from_system() -> Entropy {
        let now = u64::try_from(Clock::system().now().0).unwrap_or(0);
        Entropy::seeded(now ^ (u64::from(std::process::id()) << 40))
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in 0 … 1.
    pub fn unit(&self) -> Unit {
        // 53 bits are what an f64 holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let value = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        Unit::new(value)
    }
}

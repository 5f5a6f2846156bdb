//! The acceleration limiter: the request rate may not grow too fast.

use super::config::Ramp;
use std::collections::VecDeque;
use std::time::Duration;

/// Compares the last stretch of admitted requests with the one before it.
#[derive(Clone, Debug)]
pub(super) struct RampLimiter {
    window: Duration,
    baseline: Duration,
    /// Allowed requests in the window per request in the baseline.
    growth: f64,
    free: f64,
    admitted: VecDeque<Duration>,
}

impl RampLimiter {
    /// A limiter that has seen nothing yet.
    pub(super) fn new(ramp: &Ramp) -> RampLimiter {
        RampLimiter {
            window: Duration::from_secs_f64(ramp.window_seconds),
            baseline: Duration::from_secs_f64(ramp.baseline_seconds),
            growth: ramp.factor * ramp.window_seconds / ramp.baseline_seconds,
            free: as_f64(usize::try_from(ramp.free_requests).unwrap_or(usize::MAX)),
            admitted: VecDeque::new(),
        }
    }

    /// How long the next request must wait; zero means that the slope allows it.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        let horizon = self.window + self.baseline;
        while self.admitted.front().is_some_and(|at| *at + horizon <= now) {
            self.admitted.pop_front();
        }
        let earlier = self.admitted.partition_point(|at| *at + self.window <= now);
        let recent = self.admitted.len() - earlier;
        let allowed = self.free.max(self.growth * as_f64(earlier));
        if as_f64(recent + 1) <= allowed {
            return Duration::ZERO;
        }
        // The oldest of the window must leave it, one for each request that is too many.
        let too_many = (as_f64(recent + 1) - allowed).ceil();
        let mut leaving = self.admitted.iter().skip(earlier);
        let mut left = 0.0;
        while left + 1.0 < too_many && leaving.next().is_some() {
            left += 1.0;
        }
        let at = leaving.next().or(self.admitted.back()).copied().unwrap_or(now);
        (at + self.window).saturating_sub(now)
    }

    /// Remembers an admitted request.
    pub(super) fn take(&mut self, now: Duration) {
        self.admitted.push_back(now);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests, far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_refused_and_a_slow_rise_is_not() {
        let ramp =
            Ramp { window_seconds: 10.0, baseline_seconds: 60.0, factor: 3.0, free_requests: 5 };
        let mut limiter = RampLimiter::new(&ramp);
        let start = Duration::from_secs(100);
        for _ in 0..5 {
            assert_eq!(limiter.wait(start), Duration::ZERO);
            limiter.take(start);
        }
        assert_eq!(limiter.wait(start), Duration::from_secs(10));
        assert_eq!(limiter.wait(start + Duration::from_secs(10)), Duration::ZERO);

        // One a second for a minute, then three a second are within the factor.
        let mut limiter = RampLimiter::new(&ramp);
        let mut admitted = 0;
        for ms in (0..60_000).step_by(2_000) {
            let now = Duration::from_millis(ms);
            assert_eq!(limiter.wait(now), Duration::ZERO);
            limiter.take(now);
        }
        for ms in (60_000..70_000).step_by(100) {
            let now = Duration::from_millis(ms);
            if limiter.wait(now) == Duration::ZERO {
                limiter.take(now);
                admitted += 1;
            }
        }
        assert!((10..=20).contains(&admitted), "{admitted}");
    }
}

//! The provider's side of a request: time, pools, keys, faults, and the decision.
//!
//! Invariant: the lock is never held over an await.

use super::answer::{self, Answer};
use super::config::{Config, ConfigError, Latency};
use super::errors::ApiError;
use super::fault_kind::Kind;
use super::faults::{FaultRule, Faults};
use super::log::{Entry, Witness};
use super::pool::{Demand, Level, Pool, Refusal};
use super::request::Ask;
use crate::clock::{Clock, Entropy};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Built-in pools, by a part of the model's name.
const FAMILIES: [(&str, &str); 4] =
    [("opus", "*opus*"), ("sonnet", "*sonnet*"), ("haiku", "*haiku*"), ("fable", "*fable*")];
/// A `retry-after` that promises more is not waited for by anybody here.
const PROMISE_MAX: Duration = Duration::from_secs(86_400);
/// No answer takes longer, so that no arithmetic on times can overflow.
const WRITING_MAX: Duration = Duration::from_secs(3_153_600_000);

/// Everything the handlers share.
pub(super) struct App {
    pub(super) clock: Clock,
    pub(super) organization: String,
    pub(super) latency: Latency,
    pub(super) witness: Witness,
    started: Duration,
    speed: f64,
    seed: u64,
    input_estimate: f64,
    ids: Entropy,
    numbers: AtomicU64,
    core: Mutex<Core>,
}

struct Core {
    pools: Vec<Pool>,
    /// Takes the models that no other pool takes.
    rest: Pool,
    counting: Pool,
    faults: Faults,
    key: Option<String>,
}

/// What became of a request at its arrival.
pub(super) struct Arrival {
    pub(super) pool: String,
    /// It came before a promised `retry-after` had passed.
    pub(super) early: bool,
    pub(super) levels: Vec<Level>,
    pub(super) fault: Option<FaultRule>,
    pub(super) verdict: Verdict,
}

/// Whether a request runs.
pub(super) enum Verdict {
    Run(Run),
    Refuse(ApiError),
    /// The fault takes the place of an answer: the connection ends, or leads elsewhere.
    Instead(Kind),
}

/// A generation that was let in; times are simulated.
pub(super) struct Run {
    pub(super) answer: Answer,
    pub(super) first_token: Duration,
    pub(super) end: Duration,
}

impl App {
    /// An app in which nothing has happened yet.
    pub(super) fn new(config: Config, clock: Clock) -> io::Result<App> {
        let invalid = |error: ConfigError| io::Error::new(io::ErrorKind::InvalidInput, error);
        config.check().map_err(invalid)?;
        let ramp = config.ramp.as_ref();
        let mut pools = Vec::new();
        for pool in &config.pools {
            let limits = pool.limits.resolve().map_err(invalid)?;
            pools.push(Pool::new(&pool.name, &pool.models, &limits, ramp));
        }
        let limits = config.limits.resolve().map_err(invalid)?;
        for (name, pattern) in FAMILIES {
            pools.push(Pool::new(name, &[pattern.to_owned()], &limits, ramp));
        }
        let counting = super::LimitSet {
            requests_per_minute: config.count_tokens_per_minute,
            ..super::LimitSet::default()
        };
        let wall = u64::try_from(clock.now().0).unwrap_or(0);
        Ok(App {
            started: clock.monotonic(),
            speed: config.speed,
            seed: config.seed,
            input_estimate: config.input_estimate,
            witness: Witness::open(config.log_path.as_deref(), config.log_entries_max)?,
            // Ids must not come again after a restart that appends to the same log.
            ids: Entropy::seeded(config.seed ^ wall),
            numbers: AtomicU64::new(0),
            core: Mutex::new(Core {
                pools,
                rest: Pool::new("other", &[], &limits, ramp),
                counting: Pool::new("count_tokens", &[], &counting, None),
                faults: Faults::new(config.faults, config.seed, Duration::ZERO),
                key: config.key,
            }),
            organization: config.organization,
            latency: config.latency,
            clock,
        })
    }

    /// Real time since the start.
    fn real_now(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// Simulated time since the start.
    pub(super) fn now(&self) -> Duration {
        self.real_now().mul_f64(self.speed)
    }

    /// How long a stretch of simulated time takes in the caller's world.
    pub(super) fn real(&self, simulated: Duration) -> Duration {
        simulated.div_f64(self.speed)
    }

    /// Sleeps until a moment of simulated time.
    pub(super) async fn sleep_until(&self, at: Duration) {
        let left = self.real(at.saturating_sub(self.now()));
        if left > Duration::ZERO {
            tokio::time::sleep(left).await;
        }
    }

    /// An amount per simulated minute as one per real minute.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "speed is checked to be positive; `as` saturates; limits lie far below 2^53"
    )]
    pub(super) fn per_real_minute(&self, amount: u64) -> u64 {
        (amount as f64 * self.speed).round() as u64
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the factor is checked to be positive; `as` saturates; an estimate may round"
    )]
    fn estimate(&self, input: u64) -> u64 {
        (input as f64 * self.input_estimate).round() as u64
    }

    /// A new id, unique over restarts.
    pub(super) fn id(&self, prefix: &str) -> String {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        answer::make_id(prefix, self.ids.next_u64(), number)
    }

    /// The log's entry of a request that arrives now.
    pub(super) fn entry(&self, path: &str) -> Entry {
        Entry {
            request_id: self.id("req"),
            path: path.to_owned(),
            started_ms: self.clock.now().0,
            ..Entry::default()
        }
    }

    /// Whether the key is let in.
    pub(super) fn check_key(&self, given: Option<&str>) -> Result<(), ApiError> {
        let Some(given) = given.filter(|key| !key.is_empty()) else {
            return Err(ApiError::new(401, "x-api-key header is required"));
        };
        match &self.lock().key {
            Some(expected) if expected != given => Err(ApiError::new(401, "invalid x-api-key")),
            _ => Ok(()),
        }
    }

    /// Lets in only `key` from now on, or any.
    pub(super) fn set_key(&self, key: Option<String>) {
        self.lock().key = key;
    }

    /// Replaces all fault rules; their counts and times begin anew.
    pub(super) fn set_faults(&self, rules: Vec<FaultRule>) {
        let faults = Faults::new(rules, self.seed, self.real_now());
        self.lock().faults = faults;
    }

    /// From now on the buckets of the pool `model` belongs to have `factor` times their limits.
    pub(super) fn scale(&self, model: &str, factor: f64, burst: Duration) {
        let mut core = self.lock();
        let now = self.now();
        core.route(model).scale(now, factor, burst);
    }

    /// The levels of the pool `model` belongs to.
    pub(super) fn levels(&self, model: &str) -> Vec<Level> {
        let mut core = self.lock();
        let now = self.now();
        core.route(model).levels(now)
    }

    /// Decides what becomes of a request, and debits it when it runs.
    pub(super) fn arrive(&self, ask: &Ask) -> Arrival {
        let answer = Answer::plan(ask, self.seed, self.id("msg"));
        let mut core = self.lock();
        // Read under the lock: meters must not see time go back.
        let (real, now) = (self.real_now(), self.now());
        let fault = core.faults.pick(real, ask);
        let pool = core.route(&ask.model);
        let early = now < pool.promised;
        let error = fault.as_ref().and_then(|fault| fault.error(self.clock.now()));
        let verdict = match (error, fault.as_ref().map(|fault| fault.kind)) {
            (Some(error), _) => {
                let wait = error.retry_after.as_deref().and_then(|text| text.parse().ok());
                let wait = wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
                if let (429, Some(wait)) = (error.status, wait) {
                    self.promise(pool, now, wait);
                }
                Verdict::Refuse(error)
            }
            (_, Some(kind @ (Kind::Reset | Kind::Close | Kind::Redirect))) => {
                Verdict::Instead(kind)
            }
            _ => self.run(pool, now, ask, answer, fault.as_ref()),
        };
        let levels = pool.levels(now);
        Arrival { pool: pool.name.clone(), early, levels, fault, verdict }
    }

    fn run(
        &self,
        pool: &mut Pool,
        now: Duration,
        ask: &Ask,
        answer: Answer,
        fault: Option<&FaultRule>,
    ) -> Verdict {
        let mut first_token = now + Duration::from_millis(self.latency.first_token_ms);
        if let Some(fault) = fault.filter(|fault| fault.kind == Kind::SlowStart) {
            first_token += fault.stall().mul_f64(self.speed);
        }
        let input = answer.limited_input();
        let end = first_token + self.writing_time(answer.output_tokens);
        let demand = Demand {
            input_estimate: self.estimate(input),
            input,
            output: answer.output_tokens,
            max_tokens: ask.max_tokens,
            first_token,
            end,
        };
        match pool.admit(now, &demand) {
            Ok(()) => Verdict::Run(Run { answer, first_token, end }),
            Err(refusal) => Verdict::Refuse(self.refuse(pool, now, &refusal, &ask.model)),
        }
    }

    /// Counts a request to `count_tokens` against its own limit.
    pub(super) fn count_tokens(&self, model: &str) -> (Vec<Level>, Result<(), ApiError>) {
        let mut core = self.lock();
        let now = self.now();
        let pool = &mut core.counting;
        let result = pool.admit(now, &Demand::default());
        let result = result.map_err(|refusal| self.refuse(pool, now, &refusal, model));
        (pool.levels(now), result)
    }

    fn refuse(&self, pool: &mut Pool, now: Duration, refusal: &Refusal, model: &str) -> ApiError {
        let scale = |amount| self.per_real_minute(amount);
        let mut error = ApiError::refused(refusal, scale, &self.organization, model);
        let wait = self.whole_wait(self.real(refusal.wait()));
        self.promise(pool, now, wait);
        error.retry_after = Some(self.seconds(wait));
        error
    }

    /// Remembers that somebody was told to wait so long (in real time).
    fn promise(&self, pool: &mut Pool, now: Duration, wait: Duration) {
        pool.promised = pool.promised.max(now + wait.min(PROMISE_MAX).mul_f64(self.speed));
    }

    /// Rounds up to what the header can say: seconds, or milliseconds in time-lapse.
    fn whole_wait(&self, wait: Duration) -> Duration {
        let step = if self.in_real_time() { 1_000_000_000 } else { 1_000_000 };
        let steps = wait.as_nanos().div_ceil(step).max(1);
        Duration::from_nanos(u64::try_from(steps.saturating_mul(step)).unwrap_or(u64::MAX))
    }

    fn seconds(&self, wait: Duration) -> String {
        if self.in_real_time() {
            return wait.as_secs().to_string();
        }
        format!("{}.{:03}", wait.as_secs(), wait.subsec_millis())
    }

    fn in_real_time(&self) -> bool {
        (self.speed - 1.0).abs() < f64::EPSILON
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts lie far below 2^53")]
    fn writing_time(&self, tokens: u64) -> Duration {
        let seconds = tokens as f64 / self.latency.tokens_per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(WRITING_MAX).min(WRITING_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn route(&mut self, model: &str) -> &mut Pool {
        match self.pools.iter().position(|pool| pool.takes(model)) {
            Some(place) => &mut self.pools[place],
            None => &mut self.rest,
        }
    }
}

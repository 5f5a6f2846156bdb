//! What a simulator is told: limits, speed, latency, faults; also read from a TOML file.

use super::faults::FaultRule;
use super::presets;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Everything a simulator can be told; each field has a default, unknown ones are errors.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time-lapse: everything happens this many times faster than the wall clock.
    pub speed: f64,
    /// Seeds the fault dice and the lengths of the answers.
    pub seed: u64,
    /// The only key that is let in; `None` lets in any key, but asks for one.
    pub key: Option<String>,
    /// What `anthropic-organization-id` and the texts of 429s say.
    pub organization: String,
    /// Where the ground truth is appended, one JSON line an event, synced before a paid answer ends.
    pub log_path: Option<PathBuf>,
    /// Entries of the log kept in memory; older ones go first. The counters go on counting.
    pub log_entries_max: usize,
    /// Limits of each built-in family (opus, sonnet, haiku, fable) and of all other models.
    pub limits: LimitSet,
    /// Pools with limits of their own, looked at in order before the built-in families.
    pub pools: Vec<PoolConfig>,
    /// Requests a minute to `count_tokens`, which has a pool of its own; `None` is no limit.
    pub count_tokens_per_minute: Option<u64>,
    /// The acceleration limiter; off by default.
    pub ramp: Option<Ramp>,
    /// How long answers take.
    pub latency: Latency,
    /// The provider's guess of a request's input, as a multiple of what it turns out to be.
    pub input_estimate: f64,
    /// Faults to play, the first matching rule wins.
    pub faults: Vec<FaultRule>,
}

/// The limits of one pool; what is `None` is not limited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSet {
    /// A preset (see [`super::preset`]) that fills what is not given here.
    pub tier: Option<String>,
    /// RPM.
    pub requests_per_minute: Option<u64>,
    /// ITPM: uncached input and cache writes.
    pub input_tokens_per_minute: Option<u64>,
    /// OTPM.
    pub output_tokens_per_minute: Option<u64>,
    /// TPM: input and output together.
    pub tokens_per_minute: Option<u64>,
    /// TPD: input and output together; a bucket that holds a whole day.
    pub tokens_per_day: Option<u64>,
    /// How the limits per minute are counted.
    pub algorithm: Algorithm,
    /// A bucket's capacity, as seconds of its refill. No meaning for windows and days.
    pub burst_seconds: f64,
    /// When output is counted.
    pub output_mode: OutputMode,
}

/// How a limit per minute is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket that refills continuously.
    #[default]
    Bucket,
    /// Never more than the limit within any 60 s.
    Window,
}

/// When output tokens are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// As they are produced; the level may fall below zero, and at or below it nothing starts.
    /// A window counts them when the answer is finished.
    #[default]
    Realtime,
    /// `max_tokens` at the start; what was not used comes back at the end.
    Reserve,
}

/// Models that share limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Shown in the log.
    pub name: String,
    /// Patterns; `*` stands for any text.
    pub models: Vec<String>,
    /// The limits they share.
    pub limits: LimitSet,
}

/// Refuses a rate of requests that grows too fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ramp {
    /// The stretch that is judged, in seconds.
    pub window_seconds: f64,
    /// The stretch before it that it is compared with, in seconds.
    pub baseline_seconds: f64,
    /// How many times the earlier rate the new one may be.
    pub factor: f64,
    /// Requests within the window that are never too many.
    pub free_requests: u64,
}

/// How long an answer takes: the first token, then each further one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// Milliseconds (of simulated time) before the first token.
    pub first_token_ms: u64,
    /// Speed of each single answer.
    pub tokens_per_second: f64,
    /// Real milliseconds between two deltas of a stream.
    pub chunk_ms: u64,
}

/// A configuration that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Default for Config {
    fn default() -> Self {
        Config {
            speed: 1.0,
            seed: 0,
            key: None,
            organization: "7f3b3f0e-51a1-4c6e-9d0b-0f1d5a2c8e44".to_owned(),
            log_path: None,
            log_entries_max: 1_000_000,
            limits: presets::preset("start").unwrap_or_default(),
            pools: Vec::new(),
            count_tokens_per_minute: Some(2_000),
            ramp: None,
            latency: Latency::default(),
            input_estimate: 1.0,
            faults: Vec::new(),
        }
    }
}

impl fmt::Debug for Config {
    // Written by hand so that the key does not print itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("speed", &self.speed)
            .field("seed", &self.seed)
            .field("key", &self.key.as_ref().map(|_| "…"))
            .field("log_path", &self.log_path)
            .field("limits", &self.limits)
            .field("pools", &self.pools)
            .field("ramp", &self.ramp)
            .field("latency", &self.latency)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Default for LimitSet {
    fn default() -> Self {
        LimitSet {
            tier: None,
            requests_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            tokens_per_minute: None,
            tokens_per_day: None,
            algorithm: Algorithm::Bucket,
            burst_seconds: 60.0,
            output_mode: OutputMode::Realtime,
        }
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Ramp { window_seconds: 10.0, baseline_seconds: 60.0, factor: 3.0, free_requests: 50 }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Latency { first_token_ms: 1_000, tokens_per_second: 80.0, chunk_ms: 80 }
    }
}

impl Config {
    /// Reads a configuration file's text.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|e| ConfigError(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot be meant: not a number, zero speeds, unknown tiers.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value.is_finite() && value >= low && value <= high {
                return Ok(());
            }
            Err(ConfigError(format!("{name} must be between {low} and {high}, not {value}")))
        };
        within("speed", self.speed, 0.001, 1_000_000.0)?;
        within("input_estimate", self.input_estimate, 0.0, 100.0)?;
        within("latency.tokens_per_second", self.latency.tokens_per_second, 0.001, 1e9)?;
        if let Some(ramp) = &self.ramp {
            within("ramp.window_seconds", ramp.window_seconds, 0.001, 86_400.0)?;
            within("ramp.baseline_seconds", ramp.baseline_seconds, 0.001, 86_400.0)?;
            within("ramp.factor", ramp.factor, 0.0, 1e6)?;
        }
        for limits in self.pools.iter().map(|pool| &pool.limits).chain([&self.limits]) {
            within("burst_seconds", limits.burst_seconds, 0.0, 86_400.0)?;
            limits.resolve()?;
        }
        for rule in &self.faults {
            within("faults.probability", rule.probability, 0.0, 1.0)?;
        }
        Ok(())
    }
}

impl LimitSet {
    /// The same limits with the tier's numbers put where none were given.
    pub(super) fn resolve(&self) -> Result<LimitSet, ConfigError> {
        let Some(tier) = &self.tier else {
            return Ok(self.clone());
        };
        let Some(preset) = presets::preset(tier) else {
            return Err(ConfigError(format!(
                "unknown tier '{tier}' (known: {})",
                presets::TIERS.join(", ")
            )));
        };
        Ok(LimitSet {
            tier: None,
            requests_per_minute: self.requests_per_minute.or(preset.requests_per_minute),
            input_tokens_per_minute: self
                .input_tokens_per_minute
                .or(preset.input_tokens_per_minute),
            output_tokens_per_minute: self
                .output_tokens_per_minute
                .or(preset.output_tokens_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(preset.tokens_per_minute),
            tokens_per_day: self.tokens_per_day.or(preset.tokens_per_day),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::from_toml("").unwrap(), Config::default());
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn a_file_gives_limits_pools_and_faults() {
        let config = Config::from_toml(
            r#"
            speed = 60
            [limits]
            requests_per_minute = 50
            [[pools]]
            name = "cheap"
            models = ["claude-haiku-*"]
            limits = { tier = "tier-1", burst_seconds = 1, output_mode = "reserve" }
            [[faults]]
            kind = "529"
            probability = 0.1
            retry_after = "3"
            "#,
        )
        .unwrap();
        assert_eq!(config.limits.requests_per_minute, Some(50));
        assert_eq!(config.limits.input_tokens_per_minute, None);
        let cheap = config.pools[0].limits.resolve().unwrap();
        assert_eq!(cheap.tokens_per_minute, Some(40_000));
        assert_eq!(cheap.output_mode, OutputMode::Reserve);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "sped = 1",
            "speed = 0",
            "speed = nan",
            "limits = { tier = 'gold' }",
            "faults = [{ kind = 'meteor' }]",
            "faults = [{ kind = '529', probability = 2 }]",
        ] {
            assert!(Config::from_toml(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let config = Config { key: Some("sk-canary".into()), ..Config::default() };
        assert!(!format!("{config:?}").contains("canary"));
    }
}

//! The file as it is written: every key optional, unknown keys refused.

use super::values::{
    Attempts, Calls, Continuations, Count, Delay, KeyFile, MaxTokens, Model, Name, Positive, Size,
    Span, Zone,
};
use crate::domain::limit::OutputMode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) database: RawDatabase,
    #[serde(default)]
    pub(super) provider: RawProvider,
    #[serde(default)]
    pub(super) defaults: RawDefaults,
    #[serde(default)]
    pub(super) executor: RawExecutor,
    #[serde(default)]
    pub(super) retry: RawRetry,
    #[serde(default)]
    pub(super) pool: Vec<Spanned<RawPool>>,
    #[serde(default)]
    pub(super) budget: Vec<Spanned<RawBudget>>,
    #[serde(default)]
    pub(super) queue: BTreeMap<Name, RawQueue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawDatabase {
    pub(super) path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum RawAuth {
    #[serde(rename = "x-api-key")]
    XApiKey,
    #[serde(rename = "bearer")]
    Bearer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawStream {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawProvider {
    pub(super) base_url: Option<String>,
    pub(super) api_key_file: Option<KeyFile>,
    pub(super) auth: Option<RawAuth>,
    pub(super) anthropic_version: Option<String>,
    pub(super) anthropic_beta: Option<Vec<String>>,
    pub(super) stream: Option<RawStream>,
    pub(super) proxy: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) max_response_bytes: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawDefaults {
    pub(super) model: Option<Model>,
    pub(super) max_tokens: Option<MaxTokens>,
    pub(super) system: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawExecutor {
    pub(super) max_in_flight: Option<Calls>,
    pub(super) request_timeout: Option<Delay>,
    pub(super) shutdown_grace: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawOnUnknown {
    Retry,
    Hold,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawRetry {
    pub(super) max_attempts: Option<Attempts>,
    pub(super) base_delay: Option<Delay>,
    pub(super) max_delay: Option<Delay>,
    pub(super) on_unknown: Option<RawOnUnknown>,
    pub(super) max_continuations: Option<Continuations>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAlgorithm {
    Bucket,
    Window,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawPool {
    pub(super) name: Name,
    pub(super) models: Option<Vec<Model>>,
    pub(super) tier: Option<String>,
    pub(super) requests_per_minute: Option<Count>,
    pub(super) requests_per_hour: Option<Count>,
    pub(super) requests_per_day: Option<Count>,
    pub(super) input_tokens_per_minute: Option<Count>,
    pub(super) input_tokens_per_hour: Option<Count>,
    pub(super) input_tokens_per_day: Option<Count>,
    pub(super) output_tokens_per_minute: Option<Count>,
    pub(super) output_tokens_per_hour: Option<Count>,
    pub(super) output_tokens_per_day: Option<Count>,
    pub(super) tokens_per_minute: Option<Count>,
    pub(super) tokens_per_hour: Option<Count>,
    pub(super) tokens_per_day: Option<Count>,
    pub(super) algorithm: Option<RawAlgorithm>,
    pub(super) burst: Option<Delay>,
    pub(super) output_mode: Option<OutputMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawPer {
    Day,
    Month,
    Total,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawBudget {
    pub(super) usd: Option<Positive>,
    pub(super) tokens: Option<Count>,
    pub(super) per: RawPer,
    pub(super) queue: Option<Name>,
    pub(super) timezone: Option<Zone>,
    #[serde(default)]
    pub(super) allow_unbounded: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of keys")]
pub(super) struct RawQueue {
    pub(super) weight: Option<Positive>,
    pub(super) max_in_flight: Option<Calls>,
    pub(super) model: Option<Model>,
    pub(super) max_tokens: Option<MaxTokens>,
    pub(super) system: Option<String>,
}

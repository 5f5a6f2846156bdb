//! Pools: the user's entries over the shipped ones.

use super::raw::{RawAlgorithm, RawPool};
use super::values::{Count, Model};
use super::{ConfigError, Source};
use crate::domain::limit::{
    Algorithm, Dimension, LimitSource, LimitSpec, OutputMode, Per, PoolName, PoolSpec,
};
use crate::domain::tier::{TIERS, tier};
use crate::domain::time::Millis;
use toml::Spanned;

/// The user's pools first; a shipped one only when no pool of the user's has its name.
pub(super) fn pools(
    source: &Source<'_>,
    given: &[Spanned<RawPool>],
    shipped: &[Spanned<RawPool>],
) -> Result<Vec<PoolSpec>, ConfigError> {
    let mut all: Vec<PoolSpec> = Vec::new();
    for raw in given {
        let at = Some(raw.span().start);
        let raw = raw.get_ref();
        if all.iter().any(|pool| *pool.name.0 == *raw.name.0) {
            return Err(source.mistake(format!("there are two pools named {:?}", raw.name.0), at));
        }
        let same = shipped.iter().find(|shipped| shipped.get_ref().name == raw.name);
        let models =
            raw.models.clone().or_else(|| same.and_then(|same| same.get_ref().models.clone()));
        let Some(models) = models.filter(|models| !models.is_empty()) else {
            let message =
                format!("the pool {:?} needs `models`, such as [\"claude-*\"]", raw.name.0);
            return Err(source.mistake(message, at));
        };
        for model in &models {
            if let Some(first) = all.iter().find(|pool| pool.models.contains(&model.0)) {
                let message = format!(
                    "{:?} stands in the pool {:?} already, which is matched first",
                    model.0, &*first.name.0
                );
                return Err(source.mistake(message, at));
            }
        }
        all.push(pool(source, raw, models, at)?);
    }
    for raw in shipped {
        let raw = raw.get_ref();
        if !all.iter().any(|pool| *pool.name.0 == *raw.name.0) {
            all.push(pool(source, raw, raw.models.clone().unwrap_or_default(), None)?);
        }
    }
    Ok(all)
}

fn pool(
    source: &Source<'_>,
    raw: &RawPool,
    models: Vec<Model>,
    at: Option<usize>,
) -> Result<PoolSpec, ConfigError> {
    let algorithm = match (raw.algorithm, raw.burst) {
        (Some(RawAlgorithm::Window), Some(_)) => {
            let message = "a pool with algorithm = \"window\" has no `burst`; leave it out";
            return Err(source.mistake(message, at));
        }
        (Some(RawAlgorithm::Window), None) => Algorithm::Window,
        (_, burst) => Algorithm::Bucket { burst: burst.map(|burst| Millis::from(burst.0)) },
    };
    let preset = match &raw.tier {
        None => None,
        Some(name) => Some(tier(name, family(&raw.name.0, &models)).ok_or_else(|| {
            let message = format!("unknown tier {name:?}; there are {}", TIERS.join(", "));
            source.mistake(message, at)
        })?),
    };
    let mode = raw.output_mode.or(preset.as_ref().map(|preset| preset.output_mode));
    let mut limits: Vec<LimitSpec> = own_limits(raw, algorithm);
    for (dimension, amount) in preset.into_iter().flat_map(|preset| preset.limits) {
        let stated = |own: &LimitSpec| own.dimension == dimension && own.per == Per::Minute;
        if !limits.iter().any(stated) {
            let source = LimitSource::Tier;
            limits.push(LimitSpec { dimension, per: Per::Minute, amount, algorithm, source });
        }
    }
    Ok(PoolSpec {
        name: PoolName(raw.name.0.as_str().into()),
        models: models.into_iter().map(|model| model.0).collect(),
        limits,
        output_mode: mode.unwrap_or(OutputMode::Realtime),
    })
}

/// The shipped pool whose tiers a pool has: by its models, since its name is the user's.
fn family<'a>(name: &'a str, models: &[Model]) -> &'a str {
    let of = |beginnings: [&str; 2]| {
        models.iter().any(|model| beginnings.iter().any(|begin| model.0.starts_with(begin)))
    };
    if of(["claude-fable", "claude-mythos"]) {
        "fable-5"
    } else if of(["claude-3-5-haiku", "claude-haiku-3-5"]) {
        "haiku-3-5"
    } else {
        name
    }
}

fn own_limits(raw: &RawPool, algorithm: Algorithm) -> Vec<LimitSpec> {
    use Dimension::{InputTokens, OutputTokens, Requests, Tokens};
    let table: [(Dimension, Per, Option<Count>); 12] = [
        (Requests, Per::Minute, raw.requests_per_minute),
        (Requests, Per::Hour, raw.requests_per_hour),
        (Requests, Per::Day, raw.requests_per_day),
        (InputTokens, Per::Minute, raw.input_tokens_per_minute),
        (InputTokens, Per::Hour, raw.input_tokens_per_hour),
        (InputTokens, Per::Day, raw.input_tokens_per_day),
        (OutputTokens, Per::Minute, raw.output_tokens_per_minute),
        (OutputTokens, Per::Hour, raw.output_tokens_per_hour),
        (OutputTokens, Per::Day, raw.output_tokens_per_day),
        (Tokens, Per::Minute, raw.tokens_per_minute),
        (Tokens, Per::Hour, raw.tokens_per_hour),
        (Tokens, Per::Day, raw.tokens_per_day),
    ];
    let stated = table.into_iter().filter_map(|(dimension, per, amount)| {
        let source = LimitSource::Configured;
        amount.map(|amount| LimitSpec { dimension, per, amount: amount.0, algorithm, source })
    });
    stated.collect()
}

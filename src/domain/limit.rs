//! Limits as the configuration or the provider's headers state them.

use super::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Calls.
    Requests,
    /// Input and cache writes.
    InputTokens,
    /// Output, thinking included.
    OutputTokens,
    /// Input and output together.
    Tokens,
}

impl Dimension {
    /// All of them, in the order in which people read them.
    pub const ALL: [Dimension; 4] =
        [Dimension::Requests, Dimension::InputTokens, Dimension::OutputTokens, Dimension::Tokens];

    /// The word in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Requests => "requests",
            Dimension::InputTokens => "input_tokens",
            Dimension::OutputTokens => "output_tokens",
            Dimension::Tokens => "tokens",
        }
    }

    /// Reads the word in the database.
    pub fn parse(word: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == word)
    }

    /// As people say it.
    pub fn label(self) -> &'static str {
        match self {
            Dimension::Requests => "requests",
            Dimension::InputTokens => "input tokens",
            Dimension::OutputTokens => "output tokens",
            Dimension::Tokens => "tokens",
        }
    }
}

/// The period of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s, rolling; not a calendar day.
    Day,
}

impl Per {
    /// Every period.
    pub const ALL: [Per; 3] = [Per::Minute, Per::Hour, Per::Day];

    /// Its length.
    pub fn span(self) -> Millis {
        match self {
            Per::Minute => Millis::MINUTE,
            Per::Hour => Millis::HOUR,
            Per::Day => Millis::DAY,
        }
    }

    /// The word in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
        }
    }

    /// Reads the word in the database.
    pub fn parse(word: &str) -> Option<Per> {
        Per::ALL.into_iter().find(|per| per.as_str() == word)
    }
}

/// How the provider counts a per-minute limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Refills continuously up to a capacity.
    Bucket {
        /// Capacity as a duration of refill; `None`: to be learned, from low upwards.
        burst: Option<Millis>,
    },
    /// Never more than the limit in any period.
    Window,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitSource {
    /// The user's configuration.
    Configured,
    /// A shipped table.
    Tier,
    /// The provider's response headers.
    Headers,
}

impl LimitSource {
    /// The word in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitSource::Configured => "configured",
            LimitSource::Tier => "tier",
            LimitSource::Headers => "headers",
        }
    }
}

/// One limit of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// What it counts.
    pub dimension: Dimension,
    /// Over which period.
    pub per: Per,
    /// How much in one period; at least 1.
    pub amount: i64,
    /// How it is enforced; hour and day limits are always rolling slots.
    pub algorithm: Algorithm,
    /// Who says so.
    pub source: LimitSource,
}

/// How the provider counts output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Tokens as they are produced.
    #[default]
    Realtime,
    /// `max_tokens` at the start, the unused part given back at the end.
    Reserve,
}

/// A pool's name, shared cheaply.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolName(pub Arc<str>);

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The models that share limits at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name.
    pub name: PoolName,
    /// Globs over model names; `*` is any run of characters.
    pub models: Vec<String>,
    /// Its limits; empty: taken from the first response's headers.
    pub limits: Vec<LimitSpec>,
    /// How output is counted.
    pub output_mode: OutputMode,
}

impl PoolSpec {
    /// Whether one of the globs fits the model.
    pub fn covers(&self, model: &str) -> bool {
        self.models.iter().any(|glob| glob_matches(glob, model))
    }
}

/// `*` matches any run of characters, everything else itself.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|head| text.strip_prefix(head)) else {
        return false;
    };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.len() >= part.len() && rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn globs() {
        for (glob, text, fits) in [
            ("claude-sonnet-5", "claude-sonnet-5", true),
            ("claude-sonnet-5", "claude-sonnet-5-5", false),
            ("claude-sonnet-5-*", "claude-sonnet-5-20260101", true),
            ("*", "anything", true),
            ("*sonnet*", "claude-sonnet-4-5", true),
            ("*sonnet*5", "claude-sonnet-4-5", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("", "", true),
        ] {
            assert_eq!(glob_matches(glob, text), fits, "{glob} on {text}");
        }
    }
}

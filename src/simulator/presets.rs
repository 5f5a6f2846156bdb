//! Published limits, for pools like Sonnet's.

use super::config::LimitSet;

/// The names [`preset`] knows.
pub const TIERS: [&str; 12] = [
    "free",
    "tier-1",
    "tier-2",
    "tier-3",
    "tier-4",
    "tier-1-split",
    "tier-2-split",
    "tier-3-split",
    "tier-4-split",
    "start",
    "build",
    "scale",
];

/// The limits of a tier: `start`, `build`, `scale` of 2026, or of the tables of 2024-25:
/// `tier-N` has one limit on all tokens, `tier-N-split` one on input and one on output.
///
/// The older tables counted `max_tokens` up front, so they come with
/// [`super::OutputMode::Reserve`].
pub fn preset(tier: &str) -> Option<LimitSet> {
    let set = match tier {
        "free" => legacy(5, None, None, Some(25_000)),
        "tier-1" => legacy(50, None, None, Some(40_000)),
        "tier-2" => legacy(1_000, None, None, Some(80_000)),
        "tier-3" => legacy(2_000, None, None, Some(160_000)),
        "tier-4" => legacy(4_000, None, None, Some(400_000)),
        "tier-1-split" => legacy(50, Some(30_000), Some(8_000), None),
        "tier-2-split" => legacy(1_000, Some(80_000), Some(16_000), None),
        "tier-3-split" => legacy(2_000, Some(160_000), Some(32_000), None),
        "tier-4-split" => legacy(4_000, Some(400_000), Some(80_000), None),
        "start" => current(1_000, 2_000_000, 400_000),
        "build" => current(5_000, 5_000_000, 1_000_000),
        "scale" => current(10_000, 10_000_000, 2_000_000),
        _ => return None,
    };
    Some(set)
}

fn legacy(requests: u64, input: Option<u64>, output: Option<u64>, tokens: Option<u64>) -> LimitSet {
    LimitSet {
        requests_per_minute: Some(requests),
        input_tokens_per_minute: input,
        output_tokens_per_minute: output,
        tokens_per_minute: tokens,
        output_mode: super::OutputMode::Reserve,
        ..LimitSet::default()
    }
}

fn current(requests: u64, input: u64, output: u64) -> LimitSet {
    LimitSet {
        requests_per_minute: Some(requests),
        input_tokens_per_minute: Some(input),
        output_tokens_per_minute: Some(output),
        ..LimitSet::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_tier_exists() {
        assert!(TIERS.iter().all(|tier| preset(tier).is_some()));
        assert!(preset("gold").is_none());
    }
}

//! The provider's published limits, as presets.
//!
//! Sources: Anthropic's rate-limit page as of 2026-08 (start, build, scale), and its tables of
//! 2024 (free, tier-1 … tier-4: requests and tokens together) and 2025 (tier-N-split: input and
//! output apart). The old tables counted `max_tokens` at the start of a call.

use super::limit::{Dimension, OutputMode};

/// Limits a minute, and how output was counted under them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// What, and how much a minute.
    pub limits: Vec<(Dimension, i64)>,
    /// How output counts.
    pub output_mode: OutputMode,
}

/// Every preset's name.
pub const TIERS: [&str; 12] = [
    "start",
    "build",
    "scale",
    "free",
    "tier-1",
    "tier-2",
    "tier-3",
    "tier-4",
    "tier-1-split",
    "tier-2-split",
    "tier-3-split",
    "tier-4-split",
];

/// The limits of a tier for a pool; the current tiers differ by the pool's models.
pub fn tier(name: &str, pool: &str) -> Option<Tier> {
    let split = |requests, input, output, output_mode| Tier {
        limits: vec![
            (Dimension::Requests, requests),
            (Dimension::InputTokens, input),
            (Dimension::OutputTokens, output),
        ],
        output_mode,
    };
    let current =
        |requests, input, output| Some(split(requests, input, output, OutputMode::Realtime));
    let of_2025 =
        |requests, input, output| Some(split(requests, input, output, OutputMode::Reserve));
    let of_2024 = |requests, tokens| {
        Some(Tier {
            limits: vec![(Dimension::Requests, requests), (Dimension::Tokens, tokens)],
            output_mode: OutputMode::Reserve,
        })
    };
    let fable = pool.starts_with("fable") || pool.starts_with("mythos");
    let old_haiku = pool == "haiku-3-5";
    match name {
        "start" if fable => current(1_000, 500_000, 100_000),
        "build" if fable => current(2_000, 1_500_000, 300_000),
        "scale" if fable => current(4_000, 4_000_000, 800_000),
        "start" if old_haiku => current(1_000, 100_000, 20_000),
        "build" if old_haiku => current(2_000, 200_000, 40_000),
        "scale" if old_haiku => current(4_000, 400_000, 80_000),
        "start" => current(1_000, 2_000_000, 400_000),
        "build" => current(5_000, 5_000_000, 1_000_000),
        "scale" => current(10_000, 10_000_000, 2_000_000),
        "free" => of_2024(5, 25_000),
        "tier-1" => of_2024(50, 40_000),
        "tier-2" => of_2024(1_000, 80_000),
        "tier-3" => of_2024(2_000, 160_000),
        "tier-4" => of_2024(4_000, 400_000),
        "tier-1-split" => of_2025(50, 30_000, 8_000),
        "tier-2-split" => of_2025(1_000, 80_000, 16_000),
        "tier-3-split" => of_2025(2_000, 160_000, 32_000),
        "tier-4-split" => of_2025(4_000, 400_000, 80_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_no_other() {
        for name in TIERS {
            assert!(tier(name, "sonnet-5").is_some(), "{name}");
        }
        assert!(tier("tier-5", "sonnet-5").is_none());
    }

    #[test]
    fn current_tiers_differ_by_pool() {
        let output = |pool| tier("start", pool).unwrap().limits[2].1;
        assert_eq!((output("sonnet-5"), output("fable-5")), (400_000, 100_000));
    }
}

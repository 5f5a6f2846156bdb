//! What a call costs, in nano-dollars (10⁻⁹ USD), as integers.
//!
//! The table is Anthropic's published price list for the first-party API as of 2026-11-24
//! (<https://docs.claude.com/en/docs/about-claude/pricing>). A price of $1 a million tokens is
//! 1,000 nano-dollars a token.
//!
//! Invariant: a model that is not in the table has no price, never a price of zero.

use super::attempt::Usage;
use super::time::Timestamp;

/// Nano-dollars.
pub type Nanousd = i64;

/// Nano-dollars as dollars, for people and views.
#[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53 nano-dollars")]
pub fn in_usd(amount: Nanousd) -> f64 {
    amount as f64 / 1e9
}

/// Prices of one token in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    input: i64,
    output: i64,
    cache_write_5m: i64,
    cache_write_1h: i64,
    cache_read: i64,
}

/// One line of the price list.
#[derive(Clone, Copy, Debug)]
struct Line {
    models: &'static [&'static str],
    /// In force from here on (Unix milliseconds).
    from: i64,
    rates: Rates,
    /// Above this many prompt tokens (cached ones included) other rates hold for the whole call.
    long: Option<(i64, Rates)>,
    /// Whether `inference_geo = "us"` costs 11/10.
    geo: bool,
}

/// Dollars a million tokens, in thousandths, so that $0.125 is 125.
const fn rates(input: i64, output: i64, write_5m: i64, write_1h: i64, read: i64) -> Rates {
    Rates { input, output, cache_write_5m: write_5m, cache_write_1h: write_1h, cache_read: read }
}

/// 2026-10-07T00:00:00Z: cache reads of Sonnet 5.5 were halved.
const OCT_7_2026: i64 = 1_791_331_200_000;
/// $10 for a thousand web searches.
const WEB_SEARCH: Nanousd = 10_000_000;

const fn line(models: &'static [&'static str], rates: Rates) -> Line {
    Line { models, from: 0, rates, long: None, geo: true }
}

/// Newest line of a model first.
const LINES: &[Line] = &[
    line(
        &["claude-fable-5", "claude-mythos-5", "claude-mythos-preview"],
        rates(10_000, 50_000, 12_500, 20_000, 1_000),
    ),
    line(&["claude-fable-5-1", "claude-mythos-5-1"], rates(10_000, 50_000, 12_500, 20_000, 250)),
    line(&["claude-opus-5-5"], rates(4_000, 20_000, 5_000, 8_000, 200)),
    line(
        &["claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6"],
        rates(5_000, 25_000, 6_250, 10_000, 500),
    ),
    Line { geo: false, ..line(&["claude-opus-4-5"], rates(5_000, 25_000, 6_250, 10_000, 500)) },
    Line {
        from: OCT_7_2026,
        ..line(&["claude-sonnet-5-5"], rates(2_000, 10_000, 2_500, 4_000, 100))
    },
    line(&["claude-sonnet-5-5"], rates(2_000, 10_000, 2_500, 4_000, 200)),
    line(&["claude-sonnet-5"], rates(2_000, 10_000, 2_500, 4_000, 200)),
    line(&["claude-sonnet-4-6"], rates(3_000, 15_000, 3_750, 6_000, 300)),
    Line { geo: false, ..line(&["claude-sonnet-4-5"], rates(3_000, 15_000, 3_750, 6_000, 300)) },
    Line {
        long: Some((100_000, rates(500, 2_500, 625, 1_000, 50))),
        ..line(&["claude-haiku-5-5"], rates(100, 500, 125, 200, 10))
    },
    Line { geo: false, ..line(&["claude-haiku-4-5"], rates(1_000, 5_000, 1_250, 2_000, 100)) },
];

/// What a finished call cost; `None` when the model has no price.
pub fn cost(model: &str, usage: &Usage, geo: Option<&str>, at: Timestamp) -> Option<Nanousd> {
    let line = find(model, at)?;
    let rates = match line.long {
        Some((above, long)) if usage.prompt_tokens() > above => long,
        _ => line.rates,
    };
    let write_1h = usage.cache_write_1h_tokens.clamp(0, usage.cache_write_tokens.max(0));
    let write_5m = usage.cache_write_tokens.saturating_sub(write_1h);
    let tokens = [
        (usage.input_tokens, rates.input),
        (usage.output_tokens, rates.output),
        (write_5m, rates.cache_write_5m),
        (write_1h, rates.cache_write_1h),
        (usage.cache_read_tokens, rates.cache_read),
    ];
    let sum = tokens
        .iter()
        .fold(0_i64, |sum, (count, rate)| sum.saturating_add(count.saturating_mul(*rate)));
    let searches = usage.web_searches.saturating_mul(WEB_SEARCH);
    Some(with_geo(sum, line.geo && geo == Some("us")).saturating_add(searches))
}

/// The most a call can cost: all input at the dearest input price (an hour's cache write, the
/// long-prompt band, the geographic surcharge), all of `output_tokens` produced.
pub fn worst(model: &str, input_tokens: i64, output_tokens: i64, at: Timestamp) -> Option<Nanousd> {
    let line = find(model, at)?;
    let bands = [Some(line.rates), line.long.map(|(_, rates)| rates)];
    let dearest = bands.into_iter().flatten().map(|rates| {
        let input = rates.input.max(rates.cache_write_1h).max(rates.cache_write_5m);
        input_tokens
            .saturating_mul(input)
            .saturating_add(output_tokens.saturating_mul(rates.output))
    });
    dearest.max().map(|sum| with_geo(sum, line.geo))
}

/// Whether the table knows the model.
pub fn is_known(model: &str) -> bool {
    find(model, Timestamp(i64::MAX)).is_some()
}

fn with_geo(sum: Nanousd, surcharge: bool) -> Nanousd {
    // Rounded up: a wall must not leak by rounding.
    if surcharge { sum.saturating_mul(11).saturating_add(9) / 10 } else { sum }
}

fn find(model: &str, at: Timestamp) -> Option<&'static Line> {
    let name = undated(model);
    LINES.iter().filter(|line| line.models.contains(&name)).find(|line| line.from <= at.0)
}

/// `claude-haiku-4-5-20251001` and `claude-haiku-4-5-latest` are priced as `claude-haiku-4-5`.
fn undated(model: &str) -> &str {
    match model.rsplit_once('-') {
        Some((name, "latest")) => name,
        Some((name, date)) if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_500_000_000);

    fn usage(input: i64, output: i64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    #[test]
    fn a_million_tokens_cost_what_the_list_says() {
        let million = usage(1_000_000, 1_000_000);
        for (model, dollars) in [
            ("claude-fable-5", 60),
            ("claude-opus-5-5", 24),
            ("claude-opus-4-8", 30),
            ("claude-sonnet-5-5", 12),
            ("claude-sonnet-4-5-20250929", 18),
            ("claude-haiku-4-5-latest", 6),
        ] {
            let cost = cost(model, &million, None, NOW);
            assert_eq!(cost, Some(dollars * 1_000_000_000), "{model}");
        }
    }

    #[test]
    fn unknown_models_have_no_price() {
        assert_eq!(cost("claude-fable-5-2", &usage(1, 1), None, NOW), None);
        assert_eq!(worst("gpt-9", 1, 1, NOW), None);
        assert!(!is_known("claude-sonnet-55"));
    }

    #[test]
    fn a_long_prompt_moves_the_whole_call_to_the_dear_band() {
        let model = "claude-haiku-5-5";
        assert_eq!(cost(model, &usage(100_000, 10), None, NOW), Some(100_000 * 100 + 10 * 500));
        let cached = Usage { cache_read_tokens: 1, ..usage(100_000, 10) };
        assert_eq!(cost(model, &cached, None, NOW), Some(100_000 * 500 + 10 * 2_500 + 50));
    }

    #[test]
    fn cache_reads_of_sonnet_5_5_follow_the_date() {
        let read = Usage { cache_read_tokens: 1_000, ..Usage::default() };
        let before = Timestamp(OCT_7_2026 - 1);
        assert_eq!(cost("claude-sonnet-5-5", &read, None, before), Some(200_000));
        assert_eq!(cost("claude-sonnet-5-5", &read, None, NOW), Some(100_000));
    }

    #[test]
    fn worst_covers_every_way_to_be_billed() {
        let at = NOW;
        for line in LINES {
            for model in line.models {
                for split in 0..4 {
                    let mut usage = usage(0, 500);
                    match split {
                        0 => usage.input_tokens = 200_000,
                        1 => usage.cache_write_tokens = 200_000,
                        2 => {
                            usage.cache_write_tokens = 200_000;
                            usage.cache_write_1h_tokens = 200_000;
                        }
                        _ => usage.cache_read_tokens = 200_000,
                    }
                    let most = worst(model, 200_000, 500, at).unwrap();
                    assert!(cost(model, &usage, Some("us"), at).unwrap() <= most, "{model}");
                }
            }
        }
    }
}

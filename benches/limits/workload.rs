//! Jobs of mixed sizes: log-normal, as they are in practice.

use claudeq::clock::Entropy;

/// Bytes a token of the prompts takes.
const BYTES_PER_TOKEN: f64 = 3.5;

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its prompt; markers in it tell the simulator what to answer.
    pub prompt: String,
    /// Its `max_tokens`.
    pub max_tokens: u64,
    /// Input the provider will count.
    pub input: u64,
    /// Output it will produce.
    pub output: u64,
}

/// `count` jobs: input 50 … 8,000 (mean about 1,150), output 20 … 2,000 (mean about 280),
/// `max_tokens` two to four times the output. `spread` is the standard deviation of the logarithm
/// of bytes a token: what makes estimates of the input wrong.
pub(crate) fn jobs(count: usize, spread: f64, seed: u64) -> Vec<Job> {
    let dice = Entropy::seeded(seed);
    (0..count).map(|number| job(number, spread, &dice)).collect()
}

fn job(number: usize, spread: f64, dice: &Entropy) -> Job {
    let input = log_normal(1_150.0, 0.9, dice).clamp(50.0, 8_000.0).round();
    let output = log_normal(280.0, 0.8, dice).clamp(20.0, 2_000.0).round();
    let max_tokens = (output * (2.0 + 2.0 * dice.unit().get())).round() as u64;
    let per_token = BYTES_PER_TOKEN * (spread * normal(dice)).exp();
    let mut prompt = format!("[[id={number}]] [[in={input}]] [[out={output}]] ");
    let bytes = (input * per_token).round() as usize;
    let missing = bytes.saturating_sub(prompt.len());
    prompt.push_str(&"x".repeat(missing));
    let (input, output) = (input as u64, output as u64);
    Job { prompt, max_tokens, input, output }
}

fn log_normal(mean: f64, sigma: f64, dice: &Entropy) -> f64 {
    (mean.ln() - sigma * sigma / 2.0 + sigma * normal(dice)).exp()
}

/// Box and Muller's.
fn normal(dice: &Entropy) -> f64 {
    let (u, v) = (1.0 - dice.unit().get(), dice.unit().get());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

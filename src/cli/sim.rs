//! `claudeq sim`: the simulator, served to any program.

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::format;
use crate::simulator::{
    Algorithm, Config, FaultRule, Handle, OutputMode, Simulator, Stats, TIERS, preset,
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Serve a local Claude API with real limits, latency and faults; Ctrl-C ends it
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq sim --tier tier-1\n  \
    claudeq sim --requests-per-minute 60 --speed 10 --fault 529=0.05\n\n\
    Prints its URL when it is ready. Flags come after --config-file.\n\
    An answer has 20 to 60 tokens. Markers in a prompt decide otherwise: [[out=N]], \
    [[stop=REASON]],\n[[pauses=N]], [[fault=KIND,times=N]].")]
pub(crate) struct SimArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// A TOML file with everything a simulator can be told
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Published limits: free, start, build, scale, tier-1 … tier-4, tier-1-split …
    #[arg(long, value_name = "NAME", value_parser = parse_tier)]
    tier: Option<String>,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    /// Input tokens a minute
    #[arg(long, value_name = "N")]
    input_tokens_per_minute: Option<u64>,
    /// Output tokens a minute
    #[arg(long, value_name = "N")]
    output_tokens_per_minute: Option<u64>,
    /// Tokens a minute, input and output together
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Tokens a day, input and output together
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// What a bucket holds, as a time of refill, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    burst: Option<Duration>,
    /// When output counts: as it is produced, or max_tokens up front
    #[arg(long, value_name = "MODE")]
    output_mode: Option<OutputModeArg>,
    /// How a minute counts: a bucket that refills, or a rolling window
    #[arg(long, value_name = "NAME")]
    algorithm: Option<AlgorithmArg>,
    /// Everything happens this many times faster
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// Seed of faults and answers
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The only key that is let in [default: any]
    #[arg(long)]
    key: Option<String>,
    /// Append what was billed and refused to this file, JSON lines
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// A fault and how likely it is, such as 529=0.05 or reset=0.01; may be repeated
    #[arg(long = "fault", value_name = "KIND=PROBABILITY", value_parser = parse_fault)]
    faults: Vec<FaultRule>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputModeArg {
    Realtime,
    Reserve,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmArg {
    Bucket,
    Window,
}

fn parse_tier(name: &str) -> Result<String, String> {
    match preset(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(format!("there are {}", TIERS.join(", "))),
    }
}

fn parse_fault(text: &str) -> Result<FaultRule, String> {
    let (kind, probability) = text.split_once('=').unwrap_or((text, "1"));
    let probability = probability
        .parse::<f64>()
        .ok()
        .filter(|probability| (0.0..=1.0).contains(probability))
        .ok_or_else(|| format!("{probability:?} is no probability from 0 to 1"))?;
    Ok(FaultRule { probability, ..FaultRule::new(kind.parse()?) })
}

pub(crate) async fn run(args: &SimArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = config_of(args)?;
    let handle = Simulator::start(config, args.listen, context.clock.clone()).map_err(|error| {
        failure(Exit::Unavailable, format!("cannot serve on {}: {error}", args.listen))
    })?;
    let mut terminated = signal(SignalKind::terminate())?;
    announce(&handle, context)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminated.recv() => {}
    }
    let stats = handle.stats();
    handle.stop().await;
    output::note(&summary(&stats));
    Ok(Exit::Ok)
}

fn announce(handle: &Handle, context: &Context) -> anyhow::Result<()> {
    let url = handle.url();
    if context.global.json {
        return output::json_lines(&context.screen, &[json!({ "url": url })]);
    }
    output::line(&url)?;
    output::note(&format!("export ANTHROPIC_BASE_URL={url}"));
    Ok(())
}

fn config_of(args: &SimArgs) -> anyhow::Result<Config> {
    let mut config = match &args.config_file {
        None => Config::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Config::from_toml(&text).map_err(|error| {
                failure(Exit::Configuration, format!("{}: {error}", path.display()))
            })?
        }
    };
    if let Some(limits) = args.tier.as_deref().and_then(preset) {
        config.limits = limits;
    }
    let limits = &mut config.limits;
    let given = [
        (&mut limits.requests_per_minute, args.requests_per_minute),
        (&mut limits.input_tokens_per_minute, args.input_tokens_per_minute),
        (&mut limits.output_tokens_per_minute, args.output_tokens_per_minute),
        (&mut limits.tokens_per_minute, args.tokens_per_minute),
        (&mut limits.tokens_per_day, args.tokens_per_day),
    ];
    for (limit, value) in given {
        *limit = value.or(*limit);
    }
    limits.burst_seconds = args.burst.map_or(limits.burst_seconds, |burst| burst.as_secs_f64());
    if let Some(mode) = args.output_mode {
        limits.output_mode = match mode {
            OutputModeArg::Realtime => OutputMode::Realtime,
            OutputModeArg::Reserve => OutputMode::Reserve,
        };
    }
    if let Some(algorithm) = args.algorithm {
        limits.algorithm = match algorithm {
            AlgorithmArg::Bucket => Algorithm::Bucket,
            AlgorithmArg::Window => Algorithm::Window,
        };
    }
    config.speed = args.speed.unwrap_or(config.speed);
    config.seed = args.seed.unwrap_or(config.seed);
    config.key = args.key.clone().or(config.key);
    config.log_path = args.log.clone().or(config.log_path);
    config.faults.extend(args.faults.iter().cloned());
    config.check().map_err(|error| failure(Exit::Usage, error.to_string()))?;
    Ok(config)
}

fn summary(stats: &Stats) -> String {
    let count = |number: u64| format::count(i64::try_from(number).unwrap_or(i64::MAX));
    format!(
        "{} requests: {} ok, {} refused with 429, {} other errors; {} billed \
         ({} input and {} output tokens); at most {} at a time",
        count(stats.requests),
        count(stats.ok),
        count(stats.refused_429),
        count(stats.errors),
        count(stats.billed),
        count(stats.input_tokens),
        count(stats.output_tokens),
        count(stats.max_concurrency),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_a_kind_and_a_probability() {
        assert_eq!(parse_fault("529=0.25").unwrap().probability, 0.25);
        assert_eq!(parse_fault("reset").unwrap().probability, 1.0);
        for bad in ["meteor=0.1", "529=2", "529=often", "=1", ""] {
            assert!(parse_fault(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_come_after_the_tier() {
        let args = SimArgs {
            listen: "127.0.0.1:0".parse().unwrap(),
            config_file: None,
            tier: Some("tier-1".into()),
            requests_per_minute: Some(7),
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            tokens_per_minute: None,
            tokens_per_day: None,
            burst: Some(Duration::from_secs(2)),
            output_mode: None,
            algorithm: Some(AlgorithmArg::Window),
            speed: Some(9.0),
            seed: None,
            key: None,
            log: None,
            faults: Vec::new(),
        };
        let config = config_of(&args).unwrap();
        assert_eq!(config.limits.requests_per_minute, Some(7));
        assert_eq!(config.limits.tokens_per_minute, Some(40_000));
        assert_eq!(config.limits.output_mode, OutputMode::Reserve);
        assert_eq!(config.limits.algorithm, Algorithm::Window);
        assert_eq!((config.limits.burst_seconds, config.speed), (2.0, 9.0));
    }
}

//! `claudeq daemon`: the queue at work.

use super::context::Context;
use super::environment::Environment;
use super::exit::{Exit, failure};
use crate::claude::key::{self, KeyError, KeySources};
use crate::clock::Entropy;
use crate::config::Config;
use crate::daemon::{self, DaemonError, Ended, Options, Reload, Reloaded};
use crate::telemetry;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use std::net::IpAddr;

/// Sent where a key is asked for and none is needed: to this machine.
const PLACEHOLDER: &str = "no-key-needed-on-this-machine";

/// Run the queue: call the API as fast as the limits allow, and not faster
#[derive(Args, Debug)]
#[command(after_help = "The API key comes from the systemd credential anthropic-api-key, from \
    ANTHROPIC_API_KEY, or from\nprovider.api_key_file. RUST_LOG says how much is logged.\n\n\
    SIGTERM and Ctrl-C let the calls in flight end (executor.shutdown_grace), a second one \
    breaks\nthem off. With --until-empty: 0 all done, 1 some failed, 8 something is held, paused, \
    parked or\nstopped by a budget, or you stopped it before all was done.")]
pub(crate) struct DaemonArgs {
    /// End when nothing runs and nothing can become due without a person
    #[arg(long)]
    until_empty: bool,
    /// How the log looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(crate) async fn run(args: &DaemonArgs, context: &Context) -> anyhow::Result<Exit> {
    telemetry::start(match args.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    });
    let config = context.config()?;
    let key = key_of(&config, &context.environment)?;
    let ended = daemon::run(Options {
        config,
        key,
        until_empty: args.until_empty,
        clock: context.clock.clone(),
        entropy: Entropy::from_system(),
        notify_socket: context.environment.notify_socket.clone(),
        host: host(),
        reload: Some(reload(context)),
    })
    .await
    .map_err(|error| with_origin(error, context))?;
    Ok(match ended {
        Ended::Stopped | Ended::Empty { failed: false, stuck: false } => Exit::Ok,
        Ended::Interrupted | Ended::Empty { stuck: true, .. } => Exit::Unfinished,
        Ended::Empty { failed: true, stuck: false } => Exit::Failed,
    })
}

/// Says where the settings stand that the API cannot be called with.
fn with_origin(error: DaemonError, context: &Context) -> anyhow::Error {
    if !matches!(error, DaemonError::Client(_)) {
        return error.into();
    }
    let mut origins: Vec<String> =
        context.config_path().iter().map(|path| path.display().to_string()).collect();
    if context.environment.base_url.is_some() {
        origins.push("ANTHROPIC_BASE_URL, which comes before provider.base_url".to_owned());
    }
    match origins.is_empty() {
        true => error.into(),
        false => anyhow::Error::from(error).context(origins.join(" and ")),
    }
}

/// Reads configuration and key again, from the same places.
fn reload(context: &Context) -> Reload {
    let path = context.config_path().map(ToOwned::to_owned);
    let (overrides, environment) = (context.overrides(), context.environment.clone());
    Box::new(move || {
        let config =
            Config::load(path.as_deref(), &overrides).map_err(|error| error.to_string())?;
        let key = key_of(&config, &environment).map_err(|error| format!("{error:#}"))?;
        Ok(Reloaded { config, key })
    })
}

fn key_of(config: &Config, environment: &Environment) -> anyhow::Result<SecretString> {
    let sources = KeySources {
        credentials_directory: environment.credentials_directory.as_deref(),
        environment: environment.api_key.as_deref(),
        api_key_file: config.provider.api_key_file.as_deref(),
    };
    match key::load(&sources) {
        Err(KeyError::None) if is_loopback(&config.provider.base_url) => Ok(PLACEHOLDER.into()),
        Err(KeyError::None) => Err(failure(
            Exit::Configuration,
            "no API key: set ANTHROPIC_API_KEY, or provider.api_key_file in the configuration, \
             or the systemd credential anthropic-api-key",
        )),
        key => Ok(key?),
    }
}

/// Whether the URL leads to this machine.
fn is_loopback(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// This machine's name, for the row in `daemons`.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_needs_no_key() {
        for url in ["http://127.0.0.1:8787", "http://localhost/v1", "http://[::1]:80/"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://api.anthropic.com",
            "http://127.0.0.1.example.com",
            "http://user@127.0.0.1",
            "http://localhost.example:80",
            "127.0.0.1",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}

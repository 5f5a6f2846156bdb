use super::*;
use crate::domain::limit::{Algorithm, Dimension, OutputMode};

fn parse(text: &str) -> Result<Config, ConfigError> {
    let path = Path::new("/etc/claudeq/daemon.toml");
    Config::parse(text, path, Some(path), &Overrides::default())
}

fn mistake(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.max_in_flight, 64);
    assert_eq!(config.request_timeout, Duration::from_secs(600));
    assert_eq!(config.database, Path::new("/etc/claudeq/queue.db"));
    assert_eq!(config.provider.base_url, "https://api.anthropic.com");
    assert_eq!(config.defaults.max_tokens, Some(4_096));
    assert!(config.pools.iter().all(|pool| pool.limits.is_empty()));
    assert_eq!(config, parse(DEFAULTS).unwrap());
}

/// Every key that the parser knows stands in the shipped file, with its comment.
#[test]
fn every_key_is_documented() {
    let unknown = |table: &str| mistake(&format!("{table}\nno_such_key = 1"));
    for table in [
        "[database]",
        "[provider]",
        "[defaults]",
        "[executor]",
        "[retry]",
        "[[pool]]",
        "[[budget]]",
        "[queue.x]",
    ] {
        let message = unknown(table);
        let listed = message.lines().next().unwrap();
        let keys: Vec<&str> = listed.split('`').skip(3).step_by(2).collect();
        assert!(!keys.is_empty(), "{message}");
        for key in keys {
            let family = key.strip_suffix("_hour").or(key.strip_suffix("_day"));
            // requests_per_hour and so on are described once, by their family.
            let documented = match family {
                Some(_) if key.contains("_per_") => DEFAULTS.contains("_per_hour and ..._per_day"),
                _ if key == "tokens_per_minute" => DEFAULTS.contains("output_tokens and tokens"),
                _ => DEFAULTS.contains(&format!("{key} =")),
            };
            assert!(documented, "{table} {key} is not in daemon.toml");
        }
    }
}

#[test]
fn errors_name_file_line_and_caret() {
    let message = mistake("[executor]\nmax_in_fligt = 3\n");
    assert!(
        message.starts_with(
            "/etc/claudeq/daemon.toml:2:1: unknown key `max_in_fligt`; did you mean `max_in_flight`?"
        ),
        "{message}"
    );
    assert!(message.ends_with("\n  2 | max_in_fligt = 3\n      ^"), "{message}");
    let message = mistake("[executor]\nrequest_timeout = 60\n");
    assert!(message.contains("daemon.toml:2:19") && message.contains("\"90s\""), "{message}");
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    for (text, part) in [
        ("[executor]\nmax_in_flight = 0", "a whole number from 1"),
        ("[executor]\nmax_in_flight = \"many\"", "invalid type"),
        ("[provider]\nmax_response_bytes = \"big\"", "32MiB"),
        ("[provider]\nauth = \"cookie\"", "x-api-key"),
        ("[[budget]]\nper = \"day\"", "either `usd` or `tokens`"),
        ("[[budget]]\nusd = 1\ntokens = 1\nper = \"day\"", "either `usd` or `tokens`"),
        ("[[budget]]\nusd = -1\nper = \"day\"", "above 0"),
        ("[[budget]]\nusd = 1\nper = \"week\"", "week"),
        ("[[budget]]\nusd = 1\nper = \"day\"\ntimezone = \"Mars/Olympus\"", "no time zone"),
        ("[[pool]]\nname = \"x\"", "needs `models`"),
        ("[[pool]]\nname = \"sonnet-5\"\ntier = \"gold\"", "tier-4-split"),
        (
            "[[pool]]\nname = \"a\"\nmodels=[\"*\"]\n[[pool]]\nname = \"a\"\nmodels=[\"*\"]",
            "two pools",
        ),
        (
            "[[pool]]\nname = \"a\"\nmodels=[\"*\"]\nalgorithm=\"window\"\nburst=\"5s\"",
            "no `burst`",
        ),
        ("[defaults", "daemon.toml:1"),
        ("[executor]\nmax_in_flight = \"4k\"", "a whole number from 1 to 10000, without quotes"),
        ("[executor]\nmax_in_flight = 4k", ":2:"),
        ("[executor]\nmax_in_flight = 20000", "from 1 to 10000"),
        ("[executor]\nmax_in_flight = 9999999999999999999999", "from 1 to 10000"),
        ("[executor]\nmax_in_flight = 1.5", "a whole number from 1"),
        ("[retry]\nmax_attempts = 5000", "from 1 to 1000"),
        ("[retry]\nmax_continuations = 101", "a whole number from 0 to 100"),
        ("[defaults]\nmax_tokens = 1000000000", "from 1 to 10000000"),
        ("[queue.a]\nmax_in_flight = 20000", "from 1 to 10000"),
        // Every call would be given up at once, and charged.
        ("[executor]\nrequest_timeout = \"0s\"", "at least \"1ms\""),
        ("[provider]\nmax_response_bytes = \"0B\"", "no size"),
        ("[retry]\nbase_delay = \"5m\"", "longer than retry.max_delay"),
        ("[defaults]\nmodel = \"\"", "1 to 200 characters"),
        // None of these can ever be met by a job, so that their walls would hold nothing.
        ("[queue.\"*\"]\nweight = 2", "can be no name"),
        ("[queue.\"\"]\nweight = 2", "can be no name"),
        ("[[budget]]\nusd = 1\nper = \"day\"\nqueue = \"*\"", "daemon.toml:4:9: \"*\" can be"),
        ("[[pool]]\nname = \"*\"\nmodels = [\"m\"]", "can be no name"),
        ("[[pool]]\nname = \"x\"\nmodels = [\"\"]", "1 to 200 characters"),
        (
            "[[budget]]\nusd = 5\nper = \"day\"\n[[budget]]\nusd = 7\nper = \"day\"",
            "daemon.toml:4:1: there is another budget",
        ),
        (
            "[[pool]]\nname = \"a\"\nmodels=[\"m*\"]\n[[pool]]\nname = \"b\"\nmodels=[\"m*\"]",
            "\"m*\" stands in the pool \"a\" already",
        ),
        ("[budget]\nusd = 5\nper = \"day\"", "two pairs of brackets: [[…]]"),
        ("[[budget]]\nusd = 5", "missing key `per`"),
        ("database = \"x.db\"", "expected a table of keys"),
        ("[provider]\nanthropic_beta = \"x\"", "expected a list, such as"),
    ] {
        let message = mistake(text);
        assert!(message.contains(part), "{text}\n{message}");
        assert!(message.contains("/etc/claudeq/daemon.toml"), "{message}");
    }
}

#[test]
fn a_key_in_the_wrong_place_is_not_shown() {
    for (text, cure) in [
        ("[provider]\napi_key = \"sk-ant-canary\"", "`api_key_file` in [provider]"),
        ("[provider]\napi_key = canary", "string values must be quoted"),
        ("api_key = \"canary\"", "`api_key_file` in [provider]"),
        ("[provider]\napi_key_file = \"sk-ant-canary\"", "into a file that only you can read"),
        ("[provider]\nauth = \"sk-ant-canary\"", "`bearer`"),
        ("[provider]\nproxi = \"sk-ant-canary\"", "did you mean `proxy`?"),
        ("[provider]\nproxy = [\"http://me:canary@proxy\"]", "expected a string"),
    ] {
        let message = mistake(text);
        assert!(!message.contains("canary") && message.contains(cure), "{message}");
    }
}

#[test]
fn files_as_other_systems_write_them_are_read() {
    let config = parse("\u{feff}[executor]\r\nmax_in_flight = 3\r\n").unwrap();
    assert_eq!(config.max_in_flight, 3);
    let message = mistake("\u{feff}[executor]\r\n\tmax_in_fligt = 3\r\n");
    assert!(message.ends_with("\n  2 |  max_in_fligt = 3\n       ^"), "{message}");
}

#[test]
fn what_is_no_text_or_no_configuration_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.toml");
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Config::load(Some(&path), &Overrides::default()).unwrap_err().to_string()
    };
    let latin = message(b"[defaults]\nsystem = \"Gr\xfc\xdfe\"\n");
    assert!(latin.contains("daemon.toml:2:13: this is not UTF-8 text"), "{latin}");
    let long = message(&vec![b'#'; 2 << 20]);
    assert!(long.contains("too large to be a configuration"), "{}", long.len());
    let wide = mistake(&format!("[executor]\nmax_in_flight = \"{}\" x", "a".repeat(5_000)));
    assert!(wide.lines().all(|line| line.len() < 400), "{}", wide.len());
}

#[test]
fn tiers_go_by_the_models_not_by_the_name_of_the_pool() {
    let amount = |text: &str| {
        let pool = parse(text).unwrap().pools.remove(0);
        pool.limits.iter().find(|l| l.dimension == Dimension::OutputTokens).unwrap().amount
    };
    let pool = "[[pool]]\ntier = \"scale\"\n";
    let mine = format!("{pool}name = \"mine\"\nmodels = [\"claude-fable-5*\"]");
    assert_eq!(amount(&mine), amount(&format!("{pool}name = \"fable-5\"")));
    let usual = format!("{pool}name = \"mine\"\nmodels = [\"claude-sonnet-5*\"]");
    assert!(amount(&usual) > amount(&mine));
}

#[test]
fn a_users_pool_replaces_the_shipped_one_and_comes_first() {
    let config =
        parse("[[pool]]\nname = \"sonnet-5\"\ntier = \"start\"\nrequests_per_minute = 7").unwrap();
    let shipped = parse("").unwrap();
    assert_eq!(config.pools.len(), shipped.pools.len());
    let pool = &config.pools[0];
    assert_eq!(pool.models, ["claude-sonnet-5*"]);
    let amount = |dimension| pool.limits.iter().find(|l| l.dimension == dimension).unwrap().amount;
    assert_eq!(amount(Dimension::Requests), 7);
    assert_eq!(amount(Dimension::OutputTokens), 400_000);
}

#[test]
fn old_tiers_count_max_tokens_and_bursts_are_told() {
    let text = "[[pool]]\nname = \"x\"\nmodels = [\"*\"]\ntier = \"tier-1\"\nburst = \"5s\"";
    let pool = parse(text).unwrap().pools.remove(0);
    assert_eq!(pool.output_mode, OutputMode::Reserve);
    let burst = Some(crate::domain::time::Millis(5_000));
    assert_eq!(pool.limits[0].algorithm, Algorithm::Bucket { burst });
}

#[test]
fn queues_fill_before_the_global_defaults() {
    let config =
        parse("[queue.a]\nmodel = \"m\"\nweight = 2.5\n[defaults]\nsystem = \"s\"").unwrap();
    let filled = config.defaults_for("a");
    assert_eq!((filled.model.as_deref(), filled.system.as_deref()), (Some("m"), Some("s")));
    assert_eq!(filled.max_tokens, Some(4_096));
    assert_eq!(config.queues["a"].policy.weight_milli, 2_500);
}

#[test]
fn environment_and_flags_come_last() {
    let overrides =
        Overrides { database: Some("here.db".into()), base_url: Some("http://127.0.0.1:1".into()) };
    let config =
        Config::parse("[database]\npath = \"x.db\"", Path::new("f"), None, &overrides).unwrap();
    assert_eq!(config.database, Path::new("here.db"));
    assert_eq!(config.provider.base_url, "http://127.0.0.1:1");
}

#[test]
fn money_is_exact() {
    let config = parse("[[budget]]\nusd = 0.10\nper = \"total\"").unwrap();
    assert_eq!(config.budgets[0].cap, Cap::Usd(100_000_000));
}

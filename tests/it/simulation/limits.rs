//! Limits that are not what the daemon thinks: unknown, smaller, changed; and calls of another kind
//! than most. All in virtual time.

use super::{MODEL, Scene, execute, mixed, number, pool};
use crate::world::{START, World};
use claudeq::domain::time::Millis;
use claudeq::simulator::{LimitSet, PoolConfig, Ramp};
use std::time::Duration;

/// Enough that the limits hold and nothing else does.
const WIDE: &str = "[executor]\nmax_in_flight = 256";

/// A bucket that holds `burst_seconds` of refill; output binds.
fn limits(burst_seconds: f64) -> LimitSet {
    LimitSet {
        requests_per_minute: Some(1_000),
        input_tokens_per_minute: Some(200_000),
        output_tokens_per_minute: Some(30_000),
        burst_seconds,
        ..LimitSet::default()
    }
}

/// Nobody tells the daemon any limit.
fn unknown(limits: LimitSet, insert: String) -> Scene {
    Scene { limits, told: Some(String::new()), settings: WIDE, insert, ..Scene::default() }
}

async fn until(world: &mut World, seconds: i64) -> bool {
    let at = START + Millis::from_secs(seconds);
    world.run(|world| world.now() >= at).await.unwrap()
}

/// Output of the calls let in between these seconds.
async fn output(world: &mut World, from: i64, to: i64) -> u64 {
    until(world, from).await;
    let before = world.provider().stats().output_tokens;
    until(world, to).await;
    world.provider().stats().output_tokens - before
}

/// All of a limit's output would be 30,000 a minute.
#[tokio::test]
async fn unknown_limits_are_used_in_full_within_a_minute_whatever_the_burst() {
    for (burst, least, refused) in [(60.0, 27_000, 0), (5.0, 26_000, 5), (1.0, 21_000, 10)] {
        let (_dir, mut world) = unknown(limits(burst), mixed(300, "", "")).begin().await;
        let written = output(&mut world, 60, 120).await;
        assert!(written >= least, "{written} tokens in the second minute, burst {burst} s");
        assert!(world.outcome.refused <= refused, "{} 429s", world.outcome.refused);
    }
}

/// After each pause the daemon finds its bucket full, and the provider's is smaller.
#[tokio::test]
async fn a_small_burst_is_not_tried_again_after_every_pause() {
    for burst in [5.0, 1.0] {
        let (_dir, mut world) = unknown(limits(burst), mixed(40, "", "")).begin().await;
        for round in 1..=10 {
            until(&mut world, 60 * round).await;
            execute(world.database(), mixed(40, "", "")).await;
        }
        let refused = world.outcome.refused;
        assert!(refused <= 10, "burst {burst} s: {refused} of {} calls", world.outcome.calls);
        assert!(world.outcome.ended >= 380, "burst {burst} s: {} done", world.outcome.ended);
    }
}

/// Six dozen calls are out when the first of them is refused.
#[tokio::test]
async fn a_ramp_limit_met_by_many_calls_at_once_lowers_the_slope_once() {
    let scene = Scene {
        limits: LimitSet { output_tokens_per_minute: Some(80_000), ..limits(60.0) },
        ramp: Some(Ramp::default()),
        settings: WIDE,
        insert: mixed(300, "", ""),
        ..Scene::default()
    };
    let (_dir, mut world) = scene.begin().await;
    until(&mut world, 5).await;
    assert!(world.outcome.refused > 20, "{} 429s", world.outcome.refused);
    let ended = until(&mut world, 180).await;
    assert!(ended, "{} of 300 in three minutes", world.outcome.ended);
}

/// Between two ends of such calls minutes pass, in which the bucket refills and is written out of.
#[tokio::test]
async fn answers_that_take_minutes_use_the_limit_in_full() {
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
        INSERT INTO jobs (prompt, max_tokens)
        SELECT '[[in=3000]] [[out=' || (12000 + i * 7919 % 16000) || ']] ' || i, 32000 FROM n";
    let limits = LimitSet { output_tokens_per_minute: Some(80_000), ..limits(60.0) };
    let told = Some(pool(&limits, "burst = \"60s\""));
    for told in [told, Some(String::new())] {
        let scene = Scene { told, ..unknown(limits.clone(), insert.to_owned()) };
        let (_dir, mut world) = scene.begin().await;
        let ended = until(&mut world, 2_000).await;
        // Two million tokens take 25 minutes, the last call six; the first wave is small, since
        // nobody knows how fast the model writes.
        assert!(ended, "{} of 100 in 2,000 s", world.outcome.ended);
        assert_eq!(world.outcome.refused, 0);
    }
}

/// The headers tell; a limit that was stated is lowered, and one that was not is raised as well.
#[tokio::test]
async fn a_limit_that_the_provider_changes_is_followed() {
    for (told, factor, jobs, (least, most)) in [
        (Some(String::new()), 0.5, 500, (12_000, 18_000)),
        (Some(String::new()), 2.0, 750, (50_000, 66_000)),
        (None, 0.5, 500, (12_000, 18_000)),
    ] {
        let known = if told.is_some() { "unknown" } else { "told" };
        let scene = Scene { told, ..unknown(limits(60.0), mixed(jobs, "", "")) };
        let (_dir, mut world) = scene.begin().await;
        until(&mut world, 80).await;
        world.provider().scale_limits(MODEL, factor, Duration::from_secs(60));
        let written = output(&mut world, 110, 170).await;
        let refused = world.outcome.refused;
        assert!((least..=most).contains(&written), "{known}, {factor}: {written} a minute");
        assert!(refused <= 5, "{known}, {factor}: {refused} 429s");
        // By then the bucket is full again, and the next daemon knows how much that is.
        world.kill(Millis::MINUTE).await.unwrap();
        until(&mut world, 240).await;
        let more = world.outcome.refused - refused;
        assert_eq!(more, 0, "{known}, {factor}: {more} 429s after a restart");
    }
}

/// A model of no configured pool has one of its own, and what was learned of it lasts.
#[tokio::test]
async fn learned_limits_of_a_model_nobody_knows_outlive_a_kill() {
    let insert = mixed(200, ", model", ", 'my-own-model'");
    let (_dir, mut world) = unknown(limits(60.0), insert).begin().await;
    until(&mut world, 60).await;
    // By then the bucket is full again.
    world.kill(Millis::MINUTE).await.unwrap();
    let before = world.outcome.calls;
    world.run(|world| world.outcome.calls > before).await.unwrap();
    let started = world.outcome.calls - before;
    assert!(started > 5, "{started} calls at once: it asks for the limits again");
}

/// Two pools behind one queue, in which the jobs of the one stand before those of the other.
#[tokio::test]
async fn two_pools_are_both_used_in_full() {
    let haiku =
        PoolConfig { name: "haiku".into(), models: vec!["*haiku*".into()], limits: limits(60.0) };
    let own = pool(&limits(60.0), "burst = \"60s\"");
    let told = own.replace("\"all\"", "\"haiku\"").replace("\"*\"", "\"*haiku*\"") + &own;
    let scene =
        Scene { pools: vec![haiku], told: Some(told), ..unknown(limits(60.0), mixed(300, "", "")) };
    let (_dir, mut world) = scene.begin().await;
    execute(world.database(), mixed(300, ", model", ", 'claude-haiku-5-5'")).await;
    let written = output(&mut world, 30, 90).await;
    assert!(written >= 54_000, "{written} of 60,000 tokens");
    assert_eq!(world.outcome.refused, 0);
}

/// A call that the provider refuses whatever its limits say: the others go on.
#[tokio::test]
async fn a_job_that_is_always_refused_does_not_stop_the_others() {
    let scene = Scene {
        limits: limits(60.0),
        insert: "INSERT INTO jobs (prompt) VALUES ('[[fault=429,retry_after=2]] first')".to_owned(),
        ..Scene::default()
    };
    let (_dir, mut world) = scene.begin().await;
    until(&mut world, 10).await;
    execute(
        world.database(),
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
         INSERT INTO jobs (prompt, max_tokens) SELECT '[[out=50]] ' || i, 200 FROM n"
            .to_owned(),
    )
    .await;
    until(&mut world, 120).await;
    let done = "SELECT count(*) FROM job_state WHERE state = 'succeeded'";
    assert_eq!(number(&world, done).await, 20);
    let counted = "SELECT counted_attempts FROM job_state WHERE id = 1 AND state = 'queued'";
    assert_eq!(number(&world, counted).await, 0, "it waits, and no attempt is used up");
}

/// A call larger than its bucket waits until it is full, is sent once, and the others wait no longer
/// than its debt.
#[tokio::test]
async fn a_call_of_twice_the_limit_goes_out_when_the_bucket_is_full() {
    let limits = LimitSet { input_tokens_per_minute: Some(30_000), ..limits(60.0) };
    let small = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
         INSERT INTO jobs (prompt, max_tokens)
         SELECT '[[in=500]] [[out=50]] ' || i || hex(zeroblob(850)), 200 FROM n";
    let scene = Scene { limits, insert: small.to_owned(), ..Scene::default() };
    let (_dir, mut world) = scene.begin().await;
    let giant = "INSERT INTO jobs (prompt, max_tokens)
         VALUES ('[[in=70000]] [[out=100]]' || hex(zeroblob(122500)), 400)";
    execute(world.database(), giant.to_owned()).await;
    execute(world.database(), small.to_owned()).await;
    assert!(until(&mut world, 330).await, "{} of 201 in 330 s", world.outcome.ended);
    assert_eq!(world.outcome.refused, 0);
    assert_eq!(number(&world, "SELECT count(*) FROM attempts WHERE job_id = 101").await, 1);
}

/// The free tier of 2024: one request in twelve seconds, and `max_tokens` reserved.
#[tokio::test]
async fn five_requests_a_minute_are_five_requests_a_minute() {
    let limits = LimitSet { tier: Some("free".into()), ..LimitSet::default() };
    let limits = LimitSet { output_mode: claudeq::simulator::OutputMode::Reserve, ..limits };
    let told = [r#"tier = "free""#, "tier = \"free\"\nburst = \"60s\""];
    for (told, seconds) in [(told[0], 370), (told[1], 320)] {
        let told = Some(pool(&LimitSet::default(), told));
        let scene = Scene { told, ..unknown(limits.clone(), mixed(30, "", "")) };
        let (_dir, mut world) = scene.begin().await;
        assert!(until(&mut world, seconds).await, "{} of 30", world.outcome.ended);
        assert_eq!(world.outcome.refused, 0);
    }
}

/// Cached input does not count, and a body of which most is cached is soon known for it.
#[tokio::test]
async fn cached_input_is_not_waited_for() {
    let limits = LimitSet { input_tokens_per_minute: Some(30_000), ..limits(60.0) };
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO jobs (prompt, max_tokens)
         SELECT '[[in=500]] [[cache_read=9000]] [[out=50]] ' || i || hex(zeroblob(15000)), 200 FROM n";
    let scene = Scene { limits, insert: insert.to_owned(), ..Scene::default() };
    let (_dir, mut world) = scene.begin().await;
    // 100,000 tokens count: two minutes and twenty seconds behind the first 30,000.
    assert!(until(&mut world, 165).await, "{} of 200", world.outcome.ended);
    assert!(world.outcome.refused <= 2, "{} 429s", world.outcome.refused);
}

//! Who goes first, measured over a minute of virtual time.

use super::{Scene, number};
use crate::world::START;
use claudeq::domain::time::Millis;
use claudeq::simulator::LimitSet;

/// 60 calls a second would be possible by requests; output binds.
fn limits() -> LimitSet {
    LimitSet {
        requests_per_minute: Some(4_000),
        input_tokens_per_minute: Some(400_000),
        output_tokens_per_minute: Some(80_000),
        burst_seconds: 60.0,
        ..LimitSet::default()
    }
}

#[tokio::test]
async fn weighted_shares_hold_within_a_twentieth_over_a_minute() {
    let scene = Scene {
        limits: limits(),
        settings: "[executor]\nmax_in_flight = 256\n[queue.heavy]\nweight = 3.0",
        // The heavy queue's calls are small ones: shares are of tokens, not of calls.
        insert: "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO jobs (prompt, max_tokens, queue)
             SELECT '[[in=200]] [[out=' || CASE i % 4 WHEN 0 THEN 400 ELSE 100 END || ']] ' || i,
               CASE i % 4 WHEN 0 THEN 800 ELSE 200 END, CASE i % 4 WHEN 0 THEN 'light' ELSE 'heavy' END
             FROM n"
            .to_owned(),
        seed: 5,
        ..Scene::default()
    };
    let (_dir, mut world) = scene.begin().await;
    // The stored-up minute is used up and sizes are learned by then.
    let from = START + Millis::from_secs(90);
    world.run(|world| world.now() >= from).await.unwrap();
    world.run(|world| world.now() >= from + Millis::MINUTE).await.unwrap();
    let all_wait = number(
        &world,
        "SELECT min(n) FROM (SELECT count(*) AS n FROM job_state WHERE state = 'queued' GROUP BY queue)",
    )
    .await;
    assert!(all_wait > 50, "both queues had work all the time");
    let heavy = number(
        &world,
        "SELECT sum(settled_input_tokens + settled_output_tokens) FROM attempts
         WHERE queue = 'heavy' AND reserved_at >= 1790812890000",
    )
    .await;
    let light = number(
        &world,
        "SELECT sum(settled_input_tokens + settled_output_tokens) FROM attempts
         WHERE queue = 'light' AND reserved_at >= 1790812890000",
    )
    .await;
    let share = 100 * heavy / (heavy + light);
    assert!((70..=80).contains(&share), "three quarters are its due: {share} % of {heavy}+{light}");
}

#[tokio::test]
async fn an_urgent_job_starts_within_one_slot_before_a_hundred_thousand() {
    let scene = Scene {
        limits: limits(),
        settings: "",
        insert: "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO jobs (prompt, max_tokens)
             SELECT '[[in=200]] [[out=200]] ' || i, 400 FROM n"
            .to_owned(),
        seed: 6,
        ..Scene::default()
    };
    let (_dir, mut world) = scene.begin().await;
    world.run(|world| world.now() >= START + Millis::from_secs(75)).await.unwrap();
    let before = world.outcome.calls;
    let database = super::open(world.database()).await;
    sqlx::query(
        "INSERT INTO jobs (prompt, max_tokens, priority) VALUES ('[[out=200]] now', 400, 9)",
    )
    .execute(&database)
    .await
    .unwrap();
    database.close().await;
    let mut calls_until = None;
    let urgent = "SELECT count(*) FROM attempts WHERE job_id = 100001";
    while calls_until.is_none() {
        let calls = world.outcome.calls;
        world.run(|world| world.outcome.calls > calls).await.unwrap();
        calls_until = (number(&world, urgent).await > 0).then_some(world.outcome.calls - before);
        assert!(world.outcome.calls < before + 50, "others go first, one after another");
    }
    assert_eq!(calls_until, Some(1), "it is the very next to start");
}

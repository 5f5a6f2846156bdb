//! Kills and faults at random: nothing is lost, nothing is forgotten, nothing is paid unnoticed.

use super::{Scene, number};
use crate::world::World;
use claudeq::clock::Entropy;
use claudeq::domain::time::Millis;
use claudeq::simulator::{FaultRule, Kind, LimitSet};

const JOBS: usize = 60;
/// One turn in so many is the daemon's last.
const DEADLY: u64 = 60;
/// More turns than any round takes; one that takes more has got stuck.
const TURNS_MAX: u64 = 20_000;

fn scene(seed: u64) -> Scene {
    let fault = |kind, probability| FaultRule { probability, ..FaultRule::new(kind) };
    Scene {
        limits: LimitSet {
            requests_per_minute: Some(400),
            input_tokens_per_minute: Some(40_000),
            output_tokens_per_minute: Some(6_000),
            burst_seconds: 60.0,
            ..LimitSet::default()
        },
        faults: vec![
            fault(Kind::Status(529), 0.05),
            fault(Kind::Status(500), 0.05),
            fault(Kind::Reset, 0.05),
            fault(Kind::ResetAfter, 0.05),
        ],
        settings: "[retry]\nmax_attempts = 1000",
        insert: format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {JOBS})
             INSERT INTO jobs (prompt, max_tokens, queue)
             SELECT '[[out=' || (20 + i * 37 % 500) || ']] ' || i, 1000, 'q' || (i % 3) FROM n"
        ),
        seed,
        ..Scene::default()
    }
}

/// What holds after every turn and every kill.
async fn holds(world: &World, seed: u64) {
    let jobs = number(world, "SELECT count(*) FROM jobs JOIN job_state USING (id)").await;
    assert_eq!(jobs, i64::try_from(JOBS).unwrap(), "seed {seed}: each job has one state");
    let strays = number(
        world,
        "SELECT count(*) FROM job_state AS s LEFT JOIN attempts AS a ON a.id = s.attempt_id
         WHERE s.state = 'running' AND (a.id IS NULL OR a.settlement IS NOT NULL)",
    )
    .await;
    assert_eq!(strays, 0, "seed {seed}: what runs has a reservation");
    let twice = number(
        world,
        "SELECT count(*) FROM (SELECT 1 FROM attempts WHERE outcome = 'succeeded'
           GROUP BY job_id HAVING count(*) > 1)",
    )
    .await;
    assert_eq!(twice, 0, "seed {seed}: an answered job is never asked again");
    let summed = number(
        world,
        "SELECT (SELECT coalesce(sum(settled_tokens), 0) FROM attempts)
           - (SELECT coalesce(sum(tokens), 0) FROM spending)",
    )
    .await;
    assert_eq!(summed, 0, "seed {seed}: sums are those of the calls");
}

async fn round(seed: u64) {
    let (_dir, mut world) = scene(seed).begin().await;
    let dice = Entropy::seeded(seed);
    loop {
        let deadly = |world: &World| {
            assert!(world.outcome.turns < TURNS_MAX, "seed {seed}: stuck at {}", world.now());
            dice.next_u64().is_multiple_of(DEADLY)
        };
        if world.run(deadly).await.unwrap() {
            break;
        }
        let pause = Millis(i64::try_from(dice.next_u64() % 5_000).unwrap());
        world.kill(pause).await.unwrap();
        holds(&world, seed).await;
    }
    holds(&world, seed).await;
    let succeeded =
        number(&world, "SELECT count(*) FROM job_state WHERE state = 'succeeded'").await;
    assert_eq!(succeeded, i64::try_from(JOBS).unwrap(), "seed {seed}: nothing is lost");
    let open = number(&world, "SELECT count(*) FROM attempts WHERE settlement IS NULL").await;
    assert_eq!(open, 0, "seed {seed}: every call is settled");
    let stats = world.provider().stats();
    let unknown = number(&world, "SELECT count(*) FROM attempts WHERE outcome = 'unknown'").await;
    let billed = i64::try_from(stats.billed).unwrap();
    assert!(billed <= succeeded + unknown, "seed {seed}: {billed} billed");
    let counted = number(&world, "SELECT sum(settled_tokens) FROM attempts").await;
    let used = i64::try_from(stats.input_tokens + stats.output_tokens).unwrap();
    assert!(counted >= used, "seed {seed}: {used} tokens used, {counted} in the ledger");
    let kills = i64::try_from(world.outcome.killed).unwrap();
    let lost = number(&world, "SELECT count(*) FROM attempts WHERE error_class = 'unknown'").await;
    assert!(lost <= kills, "seed {seed}: {lost} repeated, {kills} in flight at kills");
    let refused = world.outcome.refused;
    assert_eq!(refused, 0, "seed {seed}: no restart is a burst");
}

#[tokio::test]
async fn killed_at_any_turn_nothing_is_lost() {
    for seed in 1..=12 {
        round(seed).await;
    }
}

//! A provider that answers every call with a 500 for a while.

use super::{Scene, number};
use claudeq::simulator::{FaultRule, Kind, LimitSet};

/// Twelve calls open the breaker. Each job that is probed meanwhile has one attempt left.
#[tokio::test]
async fn an_outage_costs_no_job_its_last_attempt() {
    let outage = FaultRule { until_ms: Some(600_000), ..FaultRule::new(Kind::Status(500)) };
    let scene = Scene {
        limits: LimitSet { requests_per_minute: Some(400), ..LimitSet::default() },
        faults: vec![outage],
        settings: "[retry]\nmax_attempts = 2",
        insert: "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12)
             INSERT INTO jobs (prompt) SELECT '[[out=20]] ' || i FROM n"
            .into(),
        seed: 1,
        ..Scene::default()
    };
    let (_dir, mut world) = scene.begin().await;
    assert!(world.run(|_| false).await.unwrap());
    let succeeded = "SELECT count(*) FROM job_state WHERE state = 'succeeded'";
    assert_eq!(number(&world, succeeded).await, 12);
    let failed = "SELECT count(*) FROM attempts WHERE outcome = 'transient'";
    let failed = number(&world, failed).await;
    assert!((16..40).contains(&failed), "{failed} calls into a provider that ails");
    let counted = "SELECT sum(counted_attempts) FROM job_state";
    assert_eq!(number(&world, counted).await, 24, "the first call and the answer, of each");
}

//! Cycles of lease and settlement as the daemon's turns make them, without any HTTP.

use anyhow::Context as _;
use claudeq::domain::attempt::Usage;
use claudeq::domain::job::{Epoch, JobEvent, JobId};
use claudeq::domain::limit::{OutputMode, PoolName, PoolSpec};
use claudeq::domain::reservation::{Amounts, CallSize, Reservation, Settlement, SettlementKind};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::store::{
    Admission, Ending, Fresh, Lease, LimitSnapshot, NewAttempt, Next, Snapshots, Store,
};
use std::time::{Duration, Instant};

/// The moment of everything.
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// Times of a series of groups.
#[derive(Default)]
pub(crate) struct Cycles {
    /// Jobs that went through.
    pub(crate) jobs: usize,
    /// Reading heads and bodies.
    pub(crate) reading: Duration,
    /// Committing leases.
    pub(crate) leasing: Duration,
    /// Committing settlements.
    pub(crate) settling: Duration,
}

impl Cycles {
    /// Jobs a second, all in all.
    pub(crate) fn per_second(&self) -> f64 {
        let took = self.reading + self.leasing + self.settling;
        self.jobs as f64 / took.as_secs_f64()
    }
}

/// Takes `count` jobs of the queue `default` through the store, in groups.
///
/// # Errors
/// When the store fails, or has too few jobs.
pub(crate) async fn run(
    store: &Store,
    count: usize,
    group: usize,
    answer: &str,
) -> anyhow::Result<Cycles> {
    let epoch = store.begin_epoch(1, "here", "0", NOW).await?;
    let mut cycles = Cycles::default();
    while cycles.jobs < count {
        let begun = Instant::now();
        let heads = store.heads("default", i64::try_from(group)?).await?;
        let jobs: Vec<JobId> = heads.iter().map(|head| head.id).collect();
        let bodies = store.bodies(&jobs).await?;
        anyhow::ensure!(bodies.len() == group, "too few jobs");
        cycles.reading += begun.elapsed();

        let begun = Instant::now();
        let (leases, ()) = store.admit(NOW, epoch, &jobs, |fresh| (starts(fresh), ())).await?;
        anyhow::ensure!(leases.len() == group, "not all were leased");
        cycles.leasing += begun.elapsed();

        let endings: Vec<Ending> = leases.iter().map(|lease| ending(lease, answer)).collect();
        let begun = Instant::now();
        let settled = store.settle(epoch, &endings, &ledger(), NOW).await?;
        anyhow::ensure!(settled.finished.len() == group, "not all were settled");
        cycles.settling += begun.elapsed();
        cycles.jobs += group;
    }
    Ok(cycles)
}

fn starts(fresh: &[Fresh]) -> Admission {
    let pool = PoolSpec {
        name: PoolName("haiku".into()),
        models: vec!["*".into()],
        limits: Vec::new(),
        output_mode: OutputMode::Realtime,
    };
    let size = CallSize {
        body_bytes: 1_000,
        max_tokens: 1_000,
        expected_input: 250,
        expected_output: 250,
    };
    let (queue, model) = ("default".into(), "claude-haiku-4-5".into());
    let start = |one: &Fresh| NewAttempt {
        job: one.id,
        reservation: Reservation::new(&pool, &queue, &model, size, NOW),
        body_bytes: 1_000,
        wait_reason: None,
    };
    Admission {
        starts: fresh.iter().map(start).collect(),
        snapshots: ledger(),
        ..Admission::default()
    }
}

/// What a turn writes of the ledger: three limits of one pool.
fn ledger() -> Snapshots {
    let limit = |dimension: &str| LimitSnapshot {
        pool: "haiku".into(),
        dimension: dimension.into(),
        per: "minute".into(),
        amount: 400_000,
        source: "config".into(),
        algorithm: "bucket".into(),
        burst_ms: Some(60_000),
        burst_learned: false,
        capacity: 400_000,
        level_shares: Some(24_000_000_000),
        available: 400_000,
        held: 0,
        others: 0,
        as_of: NOW,
    };
    Snapshots {
        limits: ["requests", "input_tokens", "output_tokens"].map(limit).to_vec(),
        gates: Some(Vec::new()),
        ..Snapshots::default()
    }
}

fn ending(lease: &Lease, answer: &str) -> Ending {
    let amounts = Amounts { requests: 1, input_tokens: 240, output_tokens: 250 };
    let done = NOW + Millis(200);
    Ending {
        lease: lease.clone(),
        settlement: Settlement {
            taken_in_at: done,
            kind: SettlementKind::Actual,
            amounts,
            tokens: 490,
            nanousd: Some(1_490_000),
            counted_at: done,
        },
        outcome: "succeeded".into(),
        http_status: Some(200),
        request_id: Some("req_011CSHoEeqs5C35K2UUqR7Fy".into()),
        error_class: None,
        error: None,
        usage: Some(Usage { input_tokens: 240, output_tokens: 250, ..Usage::default() }),
        stop_reason: Some("end_turn".into()),
        sent_at: Some(NOW),
        first_byte_at: Some(done),
        done_at: done,
        headers: Some(
            r#"{"anthropic-ratelimit-requests-limit":"4000","anthropic-ratelimit-requests-remaining":"3999"}"#
                .into(),
        ),
        response: Some((format!(r#"{{"content":[{{"type":"text","text":"{answer}"}}]}}"#), answer.into())),
        next: Next { event: JobEvent::Succeed, at: None, counts: true, error_class: None, error: None },
    }
}

/// The daemon's life that a statement written by hand belongs to.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn epoch(store: &Store) -> anyhow::Result<Epoch> {
    store.begin_epoch(1, "here", "0", NOW).await.context("an epoch")
}

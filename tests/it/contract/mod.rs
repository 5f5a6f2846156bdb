//! The verbs of the store, on a real file: each test one verb and one promise.

mod admission;
mod again;
mod backlog;
mod editing;
mod epochs;
mod glance;
mod importing;
mod opening;
mod queue;
mod recovery;
mod results;
mod settlement;
mod spending;
mod sweeping;
mod tally;
mod turns;

use crate::helper::{TempDb, sql};
use claudeq::domain::attempt::Usage;
use claudeq::domain::job::{Epoch, JobEvent, JobId};
use claudeq::domain::limit::{OutputMode, PoolName, PoolSpec};
use claudeq::domain::reservation::{Amounts, CallSize, Reservation, Settlement, SettlementKind};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::store::{
    Admission, BudgetSnapshot, Ending, Fresh, GateRow, Lease, LimitSnapshot, NewAttempt, NewJob,
    Next, Snapshots, Store,
};
use sqlx::{ConnectOptions as _, Connection as _};

/// The moment at which every test begins.
const T0: Timestamp = Timestamp(1_790_000_000_000);

fn after(secs: i64) -> Timestamp {
    T0 + Millis::from_secs(secs)
}

/// A database, a store on it, and a daemon's epoch.
struct Desk {
    db: TempDb,
    store: Store,
    epoch: Epoch,
}

impl Desk {
    async fn open() -> Desk {
        let db = TempDb::create().await;
        let store = Store::open(db.path()).await.expect("it opens");
        let epoch = store.begin_epoch(7, "here", "1.0.0", T0).await.expect("an epoch begins");
        Desk { db, store, epoch }
    }

    async fn add(&self, job: NewJob) -> JobId {
        self.store.add_job(&job).await.expect("the job is accepted")
    }

    async fn prompt(&self, text: &str) -> JobId {
        self.add(job(text)).await
    }

    async fn prompts(&self, count: usize) -> Vec<JobId> {
        let mut added = Vec::with_capacity(count);
        for number in 0..count {
            added.push(self.prompt(&format!("job {number}")).await);
        }
        added
    }

    /// Starts those of the jobs that are still ready.
    async fn start(&self, jobs: &[JobId], now: Timestamp) -> Vec<Lease> {
        let (leases, ()) = self
            .store
            .admit(now, self.epoch, jobs, |fresh| (all_of(fresh, now), ()))
            .await
            .expect("they start");
        leases
    }

    async fn start_one(&self) -> Lease {
        let job = self.prompt("Say hi").await;
        self.start(&[job], T0).await.remove(0)
    }

    async fn settle(&self, endings: &[Ending]) -> claudeq::store::Settled {
        let settled = self.store.settle(self.epoch, endings, &Snapshots::default(), after(9)).await;
        settled.expect("they are settled")
    }

    /// What the command `sqlite3` sees.
    fn sql(&self, script: &str) -> String {
        sql(self.db.path(), script)
    }

    /// `state` of a job, as written.
    fn state(&self, job: JobId) -> String {
        self.sql(&format!("SELECT state FROM job_state WHERE id = {job};"))
    }
}

/// Another connection that notices every commit.
struct Witness(sqlx::SqliteConnection);

impl Witness {
    async fn of(desk: &Desk) -> Witness {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(desk.db.path());
        let mut this = Witness(options.connect().await.expect("it connects"));
        this.version().await;
        this
    }

    /// Changes with every commit of another connection.
    async fn version(&mut self) -> i64 {
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.0).await;
        version.expect("it can be read")
    }

    async fn leave(self) {
        self.0.close().await.expect("it closes");
    }
}

fn job(prompt: &str) -> NewJob {
    NewJob { prompt: Some(prompt.to_owned()), ..NewJob::default() }
}

fn in_queue(prompt: &str, queue: &str) -> NewJob {
    NewJob { queue: Some(queue.to_owned()), ..job(prompt) }
}

fn reservation(now: Timestamp) -> Reservation {
    let pool = PoolSpec {
        name: PoolName("sonnet".into()),
        models: vec!["*".into()],
        limits: Vec::new(),
        output_mode: OutputMode::Realtime,
    };
    let size =
        CallSize { body_bytes: 100, max_tokens: 600, expected_input: 50, expected_output: 300 };
    Reservation::new(&pool, &"default".into(), &"claude-sonnet-5".into(), size, now)
}

fn start_of(job: JobId, now: Timestamp) -> NewAttempt {
    NewAttempt { job, reservation: reservation(now), body_bytes: 100, wait_reason: None }
}

/// A decision that starts whatever is ready.
fn all_of(fresh: &[Fresh], now: Timestamp) -> Admission {
    Admission {
        starts: fresh.iter().map(|one| start_of(one.id, now)).collect(),
        ..Admission::default()
    }
}

fn next(event: JobEvent) -> Next {
    Next { event, at: None, counts: false, error_class: None, error: None }
}

/// The end of a call that was never billed.
fn unbilled(lease: &Lease, next: Next) -> Ending {
    Ending {
        settlement: Settlement::released(&lease.reservation, Amounts::default(), after(2)),
        lease: lease.clone(),
        outcome: "transient".into(),
        http_status: Some(500),
        request_id: Some("req_1".into()),
        error_class: Some("api_error".into()),
        error: Some("Internal server error".into()),
        usage: None,
        stop_reason: None,
        sent_at: Some(after(1)),
        first_byte_at: Some(after(2)),
        done_at: after(2),
        headers: None,
        response: None,
        next,
    }
}

/// The end of a call that gave an answer.
fn answered(lease: &Lease, text: &str) -> Ending {
    let settlement = Settlement {
        taken_in_at: after(2),
        kind: SettlementKind::Actual,
        amounts: Amounts { requests: 1, input_tokens: 40, output_tokens: 20 },
        tokens: 60,
        nanousd: Some(280_000),
        counted_at: after(2),
    };
    let usage = Usage { input_tokens: 40, output_tokens: 20, ..Usage::default() };
    Ending {
        settlement,
        outcome: "succeeded".into(),
        http_status: Some(200),
        error_class: None,
        error: None,
        usage: Some(usage),
        stop_reason: Some("end_turn".into()),
        response: Some((format!("{{\"text\":\"{text}\"}}"), text.to_owned())),
        ..unbilled(lease, next(JobEvent::Succeed))
    }
}

fn requeued(lease: &Lease, at: Option<Timestamp>, counts: bool) -> Ending {
    let next = Next {
        at,
        counts,
        error_class: Some("api_error".into()),
        error: Some("Internal server error".into()),
        ..next(JobEvent::Requeue)
    };
    unbilled(lease, next)
}

fn failed(lease: &Lease) -> Ending {
    let next = Next {
        counts: true,
        error_class: Some("invalid_request".into()),
        error: Some("model: no such model".into()),
        ..next(JobEvent::Fail)
    };
    unbilled(lease, next)
}

/// One snapshot of each kind.
fn snapshots() -> Snapshots {
    let limit = LimitSnapshot {
        pool: "sonnet".into(),
        dimension: "requests".into(),
        per: "minute".into(),
        amount: 50,
        source: "tier".into(),
        algorithm: "bucket".into(),
        burst_ms: Some(60_000),
        burst_learned: true,
        capacity: 50,
        level_shares: Some(-2_999_999),
        available: -49,
        held: 3,
        others: 7,
        as_of: T0,
    };
    let budget = BudgetSnapshot {
        budget: "usd/day/UTC/*".into(),
        period_start: Timestamp(T0.0 - 5),
        period_end: after(3_600),
        cap: 1_000,
        spent: 10,
        reserved: 20,
    };
    let gate = GateRow { name: "*".into(), reason: "account".into(), until: None };
    Snapshots {
        limits: vec![limit],
        budgets: vec![budget],
        gates: Some(vec![gate]),
        estimates: Vec::new(),
    }
}

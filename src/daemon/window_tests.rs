use super::*;
use crate::config::Overrides;
use crate::domain::time::Millis;

const T0: Timestamp = Timestamp(1_000_000);

struct Desk {
    store: Store,
    config: Config,
    window: HeadWindow,
    _dir: tempfile::TempDir,
}

impl Desk {
    async fn with(jobs: &'static str) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("queue.db"), false).await.unwrap();
        store.insert_as_producer(jobs).await.unwrap();
        let config = Config::load(None, &Overrides::default()).unwrap();
        Desk { store, config, window: HeadWindow::default(), _dir: dir }
    }

    async fn fill(&mut self) {
        let unfit = self.window.fill(&self.store, &self.config, |_| false).await.unwrap();
        assert_eq!(unfit, []);
        assert!(self.window.len() <= JOBS_MAX + scout::JOBS_MAX, "{}", self.window.len());
    }

    /// A plan in which every job in sight of this model waits for its pool, and others do not.
    fn blocked(&self, model: &str, reason: Reason) -> Plan {
        let candidates = self.window.candidates();
        let waits = candidates.iter().filter(|one| &*one.model == model);
        let waits = waits.map(|one| Wait { job: one.job, reason, passed_over: false });
        Plan { waits: waits.collect(), ..Plan::default() }
    }

    fn sees(&self, model: &str) -> bool {
        self.window.candidates().iter().any(|one| &*one.model == model)
    }

    /// Turns until a job of this model is seen, each half a second after the last.
    async fn turns_until_seen(&mut self, model: &str, reason: Reason) -> Option<i64> {
        for turn in 0..30 {
            self.fill().await;
            if self.sees(model) {
                return Some(turn);
            }
            let plan = self.blocked("m1", reason);
            self.window.look_further(&plan, |_| true, T0 + Millis(500 * turn));
        }
        None
    }
}

/// Had it been read, it would have been said that its text is no UTF-8.
#[tokio::test]
async fn what_can_never_be_sent_is_not_even_read() {
    let mut desk = Desk::with(
        "INSERT INTO jobs (prompt, model, max_tokens)
         SELECT CAST(x'ff' || zeroblob(67108864) AS TEXT), 'm1', 9",
    )
    .await;
    let unfit = desk.window.fill(&desk.store, &desk.config, |_| false).await.unwrap();
    let said: Vec<&str> = unfit.iter().map(|one| &*one.error).collect();
    assert_eq!(said, ["the body has 67108865 bytes; at most 32 MiB are allowed"]);
    assert_eq!(desk.window.len(), 0);
}

/// Less urgent than all the others, and the last of all.
const DEEP: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4001)
    INSERT INTO jobs (prompt, model, max_tokens, priority)
    SELECT 'x', CASE i WHEN 4001 THEN 'm2' ELSE 'm1' END, 9, CASE WHEN i > 2500 THEN -1 ELSE 0 END
    FROM n";

#[tokio::test]
async fn a_job_of_another_model_is_seen_behind_thousands_whose_pool_is_shut() {
    let mut desk = Desk::with(DEEP).await;
    // 1,024 heads, then six pages of 512.
    assert_eq!(desk.turns_until_seen("m2", Reason::OutputTokens).await, Some(7));
    assert!(desk.sees("m1"), "the heads stay in sight");
}

#[tokio::test]
async fn what_stops_the_queue_itself_sends_nobody_beyond_its_heads() {
    let mut desk = Desk::with(DEEP).await;
    assert_eq!(desk.turns_until_seen("m2", Reason::Budget).await, None);
    assert_eq!(desk.window.len(), JOBS_MAX);
    for turn in 0..30 {
        let plan = desk.blocked("m1", Reason::Requests);
        let now = T0 + Millis(500 * turn);
        assert_eq!(desk.window.look_further(&plan, |_| false, now), (false, None));
    }
}

/// What starts needs no scout, and a page stays in sight while something of it can start.
#[tokio::test]
async fn a_queue_in_which_something_starts_is_not_scouted() {
    let mut desk = Desk::with(DEEP).await;
    desk.fill().await;
    for turn in 0..30 {
        let mut plan = desk.blocked("m1", Reason::Requests);
        let wait = plan.waits.pop().unwrap();
        plan.unbounded.push(wait.job);
        let now = T0 + Millis(500 * turn);
        assert_eq!(desk.window.look_further(&plan, |_| true, now), (false, None));
    }
}

const TWO_QUEUES: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
    INSERT INTO jobs (prompt, model, max_tokens, queue)
    SELECT 'x', 'm1', 9, CASE WHEN i <= 300 THEN 'waits' ELSE 'goes' END FROM n";

/// A queue that waits in sight must not look like work that is left of another one.
#[tokio::test]
async fn of_a_long_queue_more_is_read_when_it_is_short_of_jobs_in_sight() {
    let mut desk = Desk::with(TWO_QUEUES).await;
    desk.fill().await;
    let goes = desk.window.candidates().into_iter().filter(|one| &*one.queue == "goes");
    let jobs: Vec<JobId> = goes.map(|one| one.job).collect();
    assert_eq!((jobs.len(), desk.window.len()), (512, 812));
    for (taken, job) in jobs.into_iter().enumerate() {
        assert_eq!(desk.window.is_low(16), 512 - taken < FEW, "{taken}");
        desk.window.remove(job);
    }
    assert!(desk.window.is_low(16));
    desk.fill().await;
    assert!(!desk.window.is_low(16));
}

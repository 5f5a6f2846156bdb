use super::*;
use crate::clock::{Clock, Entropy};
use crate::config::Overrides;
use crate::daemon::client_of;
use crate::domain::job::{Epoch, JobId};
use crate::domain::ledger::Ledger;
use crate::store::{Admission, Store};
use secrecy::SecretString;
use std::sync::mpsc::{Sender, channel};

/// A scheduler over a database of its own with one job; nobody listens where it would call.
async fn scheduler(dir: &tempfile::TempDir) -> Scheduler {
    let path = dir.path().join("queue.db");
    let created = Store::create(&path, false).await.unwrap();
    created
        .insert_as_producer("INSERT INTO jobs (prompt, model, max_tokens) VALUES ('x', 'm', 9)")
        .await
        .unwrap();
    created.close().await;
    let overrides =
        Overrides { database: Some(path.clone()), base_url: Some("http://127.0.0.1:9".into()) };
    let config = Arc::new(Config::load(None, &overrides).unwrap());
    let key = SecretString::from("sk-ant-of-a-test");
    let clock = Clock::system();
    let store = Store::open_for_daemon(&path, Duration::from_millis(1)).await.unwrap();
    let now = clock.now();
    let epoch = store.begin_epoch(1, "here", "0", now).await.unwrap();
    let entropy = Entropy::seeded(1);
    let context = Context::new(store, epoch, clock.clone(), now, entropy.clone(), 4, 0);
    let books = Books::new(Arc::clone(&config), Ledger::new(config.pools.clone(), vec![], now));
    let client = client_of(&config, key.clone(), &clock).unwrap();
    let spool = Spool::open(&path, "one".into()).unwrap();
    let options = Options {
        config: Config::clone(&config),
        key,
        until_empty: false,
        clock,
        entropy,
        notify_socket: None,
        host: "here".into(),
        reload: None,
    };
    Scheduler::new(Arc::new(context), client, books, spool, options)
}

#[tokio::test]
async fn what_a_turn_leases_while_somebody_stops_the_daemon_is_not_sent() {
    for signals in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut scheduler = scheduler(&dir).await;
        scheduler.begin_turn();
        let event = turned(&mut scheduler.turn).await;
        assert!(matches!(&event, Event::Turned(_, done) if done.calls.len() == 1));
        for _ in 0..signals {
            scheduler.stop();
        }
        assert_eq!(scheduler.handle(event).unwrap(), None, "it is to be settled first");
        assert!(scheduler.flights.values().all(|flight| flight.is_over()));

        scheduler.not_before = Instant::now();
        scheduler.begin_turn();
        let event = turned(&mut scheduler.turn).await;
        assert_eq!(scheduler.handle(event).unwrap(), Some(Ended::Stopped));
        let store = &scheduler.context.store;
        let attempts = store.attempts(JobId(1)).await.unwrap();
        let attempt = &attempts[0];
        let words = (attempt.settlement.as_deref(), attempt.outcome.as_deref(), attempt.sent_at);
        assert_eq!(words, (Some("released"), Some("interrupted"), None));
        let job = store.detail(JobId(1)).await.unwrap().unwrap();
        assert_eq!((job.state.as_str(), job.attempts), ("queued", 1));
    }
}

impl Scheduler {
    /// A whole turn, at once; what it ended with is handled.
    async fn whole_turn(&mut self) -> Option<Ended> {
        self.not_before = Instant::now();
        self.begin_turn();
        let event = turned(&mut self.turn).await;
        self.handle(event).unwrap()
    }

    /// Its only call goes out, and comes back unanswered; nothing is settled yet.
    async fn one_call(&mut self) {
        assert_eq!(self.whole_turn().await, None);
        assert_eq!(self.flights.len(), 1);
        let finished = self.ended.1.recv().await.unwrap();
        assert_eq!(self.handle(Event::Ended(Box::new(finished))).unwrap(), None);
    }
}

/// Somebody else inside a write transaction, until the sender is dropped.
async fn lock(dir: &tempfile::TempDir) -> (Sender<()>, JoinHandle<()>) {
    let path = dir.path().join("queue.db");
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let (release, released) = channel();
    let holder = tokio::spawn(async move {
        let store = Store::open(&path).await.unwrap();
        let wait = move |_: &[_]| {
            inside.send(()).unwrap();
            let _ = released.recv();
            (Admission::default(), ())
        };
        store.admit(Timestamp(0), Epoch(1), &[], wait).await.unwrap();
    });
    is_inside.await.unwrap();
    (release, holder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_waits_for_a_locked_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut scheduler = scheduler(&dir).await;
    scheduler.one_call().await;
    let (release, holder) = lock(&dir).await;
    let new = Config { max_in_flight: 9, ..Config::clone(&scheduler.config) };
    scheduler.new_config = Some(Arc::new(new));
    scheduler.whole_turn().await;
    assert!(scheduler.trouble.is_some(), "the call could not be settled");
    drop(release);
    holder.await.unwrap();
    scheduler.whole_turn().await;
    assert_eq!(scheduler.books.unwrap().config.max_in_flight, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_locked_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut scheduler = scheduler(&dir).await;
    scheduler.one_call().await;
    let (release, holder) = lock(&dir).await;
    scheduler.whole_turn().await;
    assert_eq!(scheduler.handle(Event::Stop).unwrap(), None, "the grace lasts");
    assert_eq!(scheduler.handle(Event::Stop).unwrap(), Some(Ended::Stopped));
    assert!(!scheduler.spool.is_empty());
    drop(release);
    holder.await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_gave_up_waits_for_its_calls() {
    let dir = tempfile::tempdir().unwrap();
    let mut scheduler = scheduler(&dir).await;
    scheduler.whole_turn().await;
    scheduler.give_up(DaemonError::Panicked);
    scheduler.look = true;
    let before = Instant::now();
    assert!(scheduler.due() >= before + TICK, "no turn follows: there is nothing to hurry for");
    scheduler.stop();
    assert!(scheduler.flights.values().all(|flight| !flight.is_over()), "it is the first signal");
    scheduler.stop();
    assert!(scheduler.flights.values().all(Flight::is_over));
}

#[tokio::test]
async fn a_sweep_that_was_cut_short_goes_on_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut scheduler = scheduler(&dir).await;
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
        INSERT INTO jobs (prompt, cancel_requested) SELECT 'x', 1 FROM n";
    scheduler.context.store.insert_as_producer(many).await.unwrap();
    scheduler.whole_turn().await;
    assert!(scheduler.wake_at.is_some_and(|at| at <= scheduler.context.now()));
    scheduler.whole_turn().await;
    assert_eq!(scheduler.wake_at, None);
    assert_eq!(scheduler.context.store.counts().await.unwrap().cancelled, 1001);
}

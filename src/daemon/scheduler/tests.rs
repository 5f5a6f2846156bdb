use super::*;
use crate::clock::{Clock, Entropy};
use crate::config::Overrides;
use crate::daemon::BUSY;
use crate::domain::job::JobId;
use crate::domain::ledger::Ledger;
use crate::store::Store;
use secrecy::SecretString;

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
    let store = Store::open_for_daemon(&path, BUSY).await.unwrap();
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

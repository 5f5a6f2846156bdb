//! A glance, and the WAL of a daemon: no commit moves pages, checkpoints do.

use super::{Desk, T0, after, job};
use crate::helper::{TempDb, sql};
use claudeq::store::{NewJob, Store, Wal};
use std::time::Duration;

/// More than SQLite's own thousand pages.
const LARGE: usize = 6_000_000;

#[tokio::test]
async fn it_tells_what_is_due_and_whether_others_have_written() {
    let desk = Desk::open().await;
    let before = desk.store.glance(T0).await.unwrap();
    assert_eq!((before.to_sweep, before.next_due), (false, None));
    desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let own = desk.store.glance(after(59)).await.unwrap();
    assert_eq!(own.version, before.version, "its own commits do not count");
    assert_eq!((own.to_sweep, own.next_due), (false, Some(after(60))));
    assert!(own.wal.unmoved > 0, "{own:?}");
    assert!(desk.store.glance(after(60)).await.unwrap().to_sweep);
    desk.sql("INSERT INTO jobs (prompt) VALUES ('of somebody else');");
    let others = desk.store.glance(T0).await.unwrap();
    assert_ne!(others.version, own.version);
    assert_eq!(others.version, desk.store.data_version().await.unwrap());
}

#[tokio::test]
async fn a_daemons_commit_leaves_the_wal_to_its_checkpoints() {
    let db = TempDb::create().await;
    let store = Store::open_for_daemon(db.path(), Duration::from_secs(5)).await.unwrap();
    store.add_job(&job(&"x".repeat(LARGE))).await.unwrap();
    let long = store.glance(T0).await.unwrap().wal;
    assert!(long.pages > 1_000, "{long:?}");
    assert_eq!(long.unmoved, long.pages);
    store.checkpoint_beside().await.unwrap();
    let moved = store.glance(T0).await.unwrap().wal;
    assert_eq!(moved, Wal { pages: long.pages, unmoved: 0 });
    store.add_job(&job("the next")).await.unwrap();
    let anew = store.glance(T0).await.unwrap().wal;
    assert!(anew.pages < 100, "the WAL begins anew: {anew:?}");
    store.checkpoint(false).await.unwrap();
    assert_eq!(store.glance(T0).await.unwrap().wal.unmoved, 0);
    assert_eq!(sql(db.path(), "SELECT count(*) FROM jobs;"), "2");
}

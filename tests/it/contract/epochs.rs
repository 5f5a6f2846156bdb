//! The daemon's life: its number fences what it writes.

use super::{Desk, after, answered};

#[tokio::test]
async fn every_life_has_a_higher_number() {
    let desk = Desk::open().await;
    let second = desk.store.begin_epoch(8, "there", "1.0.1", after(1)).await.unwrap();
    assert!(second > desk.epoch);
    desk.sql("DELETE FROM daemons;");
    let third = desk.store.begin_epoch(9, "there", "1.0.1", after(2)).await.unwrap();
    assert!(third > second, "a number is never given twice");
}

#[tokio::test]
async fn a_heartbeat_is_seen_by_those_who_look() {
    let desk = Desk::open().await;
    assert!(desk.store.heartbeat(desk.epoch, "{\"jobs\":1}", after(5)).await.unwrap());
    let row = desk.store.daemon().await.unwrap().unwrap();
    assert_eq!((row.epoch, row.pid, row.host.as_str()), (desk.epoch.0, 7, "here"));
    assert_eq!((row.heartbeat_at, row.stopped_at), (after(5), None));
    assert_eq!(row.report.as_deref(), Some("{\"jobs\":1}"));
}

#[tokio::test]
async fn an_end_in_order_is_recorded() {
    let desk = Desk::open().await;
    desk.store.end_epoch(desk.epoch, "{}", after(7)).await.unwrap();
    let row = desk.store.daemon().await.unwrap().unwrap();
    assert_eq!(row.stopped_at, Some(after(7)));
}

#[tokio::test]
async fn an_older_daemon_hears_that_a_newer_one_took_over() {
    let desk = Desk::open().await;
    let newer = desk.store.begin_epoch(8, "here", "1.0.0", after(1)).await.unwrap();
    assert!(!desk.store.heartbeat(desk.epoch, "{}", after(2)).await.unwrap());
    assert!(desk.store.heartbeat(newer, "{}", after(3)).await.unwrap());
}

#[tokio::test]
async fn an_older_daemon_starts_nothing() {
    let desk = Desk::open().await;
    let job = desk.prompt("Say hi").await;
    desk.store.begin_epoch(8, "here", "1.0.0", after(1)).await.unwrap();
    assert_eq!(desk.start(&[job], after(2)).await, []);
    assert_eq!(desk.state(job), "queued");
}

/// What it paid for before is another matter: its lease still holds.
#[tokio::test]
async fn an_older_daemon_may_still_deliver() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.store.begin_epoch(8, "here", "1.0.0", after(1)).await.unwrap();
    let settled = desk.settle(&[answered(&lease, "Hi")]).await;
    assert_eq!(settled.lost, []);
    assert_eq!(desk.state(lease.job), "succeeded");
}

/// … but its levels, budgets and gates are old: those of the newer one stand.
#[tokio::test]
async fn an_older_daemon_does_not_write_the_newer_ones_ledger() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let newer = desk.store.begin_epoch(8, "here", "1.0.0", after(1)).await.unwrap();
    let settled = desk.store.settle(newer, &[], &super::snapshots(), after(2)).await.unwrap();
    assert!(!settled.fenced);
    let mut old = super::snapshots();
    old.limits[0].available = 7;
    old.budgets[0].spent = 0;
    old.gates = Some(Vec::new());
    let endings = [answered(&lease, "Hi")];
    let settled = desk.store.settle(desk.epoch, &endings, &old, after(3)).await.unwrap();
    assert!(settled.fenced, "it hears that it is not the last any more");
    assert_eq!(desk.state(lease.job), "succeeded");
    assert_eq!(desk.store.limits().await.unwrap(), super::snapshots().limits);
    assert_eq!(desk.store.budgets(super::T0).await.unwrap(), super::snapshots().budgets);
    assert_eq!(Some(desk.store.gates().await.unwrap()), super::snapshots().gates);
}

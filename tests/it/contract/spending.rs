//! Sums of what was spent: whatever slots they are read from, they are those of the calls.

use super::{Desk, T0, after, answered, in_queue, reservation, snapshots, unbilled};
use claudeq::domain::job::JobEvent;
use claudeq::domain::reservation::Reservation;
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::store::{Admission, BudgetSpent, Lease, NewAttempt, SpentRow};

/// What one sum stands for.
const SLOT: Millis = Millis::from_secs(900);

/// A call of a queue at a time.
async fn call(desk: &Desk, queue: &str, now: Timestamp) -> Lease {
    let job = desk.add(in_queue("a prompt", queue)).await;
    let reservation = Reservation { queue: queue.into(), ..reservation(now) };
    let start = NewAttempt { job, reservation, body_bytes: 100, wait_reason: None };
    let decide = |_: &[_]| (Admission { starts: vec![start], ..Admission::default() }, ());
    let (mut leases, ()) = desk.store.admit(now, desk.epoch, &[job], decide).await.unwrap();
    leases.remove(0)
}

fn spent(calls: i64) -> BudgetSpent {
    BudgetSpent { nanousd: calls * 280_000, tokens: calls * 60 }
}

#[tokio::test]
async fn a_budget_counts_what_was_settled_of_its_period_and_queue() {
    let desk = Desk::open().await;
    let early = call(&desk, "default", T0).await;
    let other = call(&desk, "other", T0).await;
    let late = call(&desk, "default", after(100)).await;
    call(&desk, "default", after(1)).await;
    desk.settle(&[answered(&early, "Hi"), answered(&other, "Hi"), answered(&late, "Hi")]).await;
    let sum = |start, end, queue| desk.store.budget_spent(start, end, queue);
    assert_eq!(sum(T0, after(100), None).await.unwrap(), spent(2));
    assert_eq!(sum(T0, after(101), None).await.unwrap(), spent(3));
    assert_eq!(sum(after(1), after(100), None).await.unwrap(), spent(0));
    assert_eq!(sum(T0, after(101), Some("other")).await.unwrap(), spent(1));
    assert_eq!(sum(T0, after(101), Some("nobody")).await.unwrap(), spent(0));
}

/// Periods begin and end on slots, beside them, inside one, and nowhere.
#[tokio::test]
async fn every_period_is_the_sum_of_its_calls() {
    let desk = Desk::open().await;
    let base = Timestamp(T0.0.div_euclid(SLOT.0) * SLOT.0);
    let offset = |at: i64| base + Millis(at * SLOT.0 / 4);
    let mut endings = Vec::new();
    for at in 0..24 {
        endings.push(answered(&call(&desk, "default", offset(at)).await, "Hi"));
    }
    desk.settle(&endings).await;
    for from in 0..=24 {
        for to in from..=24 {
            let sum = desk.store.budget_spent(offset(from), offset(to), None).await.unwrap();
            assert_eq!(sum, spent(to - from), "quarters of a slot, {from} to {to}");
        }
        let since = desk.store.spent_by_model(offset(from), None, None).await.unwrap();
        assert_eq!(SpentRow::sum(&since).calls, 24 - from, "since quarter {from}");
    }
    let ever = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    assert_eq!(desk.store.budget_spent(ever.0, ever.1, None).await.unwrap(), spent(24));
    let since = desk.store.spent_by_model(ever.0, None, None).await.unwrap();
    assert_eq!(SpentRow::sum(&since).nanousd, spent(24).nanousd);
}

/// In flight it counts at its worst, settled as it was, released as nothing; each exactly once.
#[tokio::test]
async fn a_call_is_counted_once_whatever_becomes_of_it() {
    let desk = Desk::open().await;
    let lease = call(&desk, "default", T0).await;
    let released = call(&desk, "default", T0).await;
    let worst = lease.reservation.worst.nanousd.expect("it has a price");
    let row = |calls, nanousd, tokens: (i64, i64)| SpentRow {
        model: "claude-sonnet-5".to_owned(),
        calls,
        nanousd,
        input_tokens: tokens.0,
        output_tokens: tokens.1,
        unpriced: 0,
    };
    let read = || desk.store.spent_by_model(T0, None, None);
    assert_eq!(read().await.unwrap(), [row(2, 2 * worst, (0, 0))]);
    desk.settle(&[unbilled(&released, super::next(JobEvent::Requeue))]).await;
    assert_eq!(read().await.unwrap(), [row(2, worst, (0, 0))]);
    let ending = answered(&lease, "Hi");
    for _ in 0..2 {
        desk.store
            .settle(desk.epoch, std::slice::from_ref(&ending), &snapshots(), after(9))
            .await
            .unwrap();
        assert_eq!(read().await.unwrap(), [row(2, 280_000, (40, 20))], "also when it comes twice");
    }
    let late = desk.store.spent_by_model(after(1), None, None).await.unwrap();
    assert_eq!(late, [], "the time of the reservation decides");
}

#[tokio::test]
async fn a_model_without_a_price_is_counted_as_such() {
    let desk = Desk::open().await;
    let job = desk.prompt("a prompt").await;
    let mut reservation = reservation(T0);
    (reservation.model, reservation.worst.nanousd) = ("nobody-knows".into(), None);
    let start = NewAttempt { job, reservation, body_bytes: 100, wait_reason: None };
    let decide = |_: &[_]| (Admission { starts: vec![start], ..Admission::default() }, ());
    let (leases, ()) = desk.store.admit(T0, desk.epoch, &[job], decide).await.unwrap();
    let unpriced = |rows: Vec<SpentRow>| (rows[0].unpriced, rows[0].nanousd);
    let read = || desk.store.spent_by_model(T0, None, None);
    assert_eq!(unpriced(read().await.unwrap()), (1, 0), "in flight");
    let mut ending = answered(&leases[0], "Hi");
    ending.settlement.nanousd = None;
    desk.settle(&[ending]).await;
    assert_eq!(unpriced(read().await.unwrap()), (1, 0), "settled");
}

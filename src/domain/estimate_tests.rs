use super::*;
use crate::domain::limit::{OutputMode, PoolName, PoolSpec};
use crate::domain::reservation::CallSize;

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn call(queue: &str, max_tokens: i64, now: Timestamp) -> Reservation {
    let pool = PoolSpec {
        name: PoolName("sonnet".into()),
        models: vec!["*".into()],
        limits: Vec::new(),
        output_mode: OutputMode::Realtime,
    };
    let size = CallSize {
        body_bytes: 1_000,
        max_tokens,
        expected_input: 500,
        expected_output: max_tokens,
    };
    Reservation::new(&pool, &queue.into(), &"m".into(), size, now)
}

fn lesson(input: i64, output: i64) -> Lesson {
    Lesson {
        body_bytes: 1_000,
        usage: Usage { input_tokens: input, output_tokens: output, ..Usage::default() },
        took: Millis(1_000 + output * 1_000 / 80),
        streamed_bytes: None,
    }
}

fn output(sizes: &Estimator, queue: &str) -> i64 {
    sizes.output_tokens(&queue.into(), &"m".into(), 1_000)
}

/// Calls of `queue` that are answered one after another.
fn answered(sizes: &mut Estimator, queue: &str, count: i64, tokens: i64) {
    for number in 0..count {
        let call = call(queue, 1_000, T0);
        sizes.begin(JobId(number), &call);
        sizes.end(JobId(number), &call, Some(&lesson(300, tokens)), T0 + Millis::SECOND);
    }
}

#[test]
fn input_starts_high_and_follows_usage() {
    let (queue, model): (Arc<str>, Arc<str>) = ("q".into(), "m".into());
    let mut sizes = Estimator::default();
    assert_eq!(sizes.input_tokens(&queue, &model, 1_000), 500);
    answered(&mut sizes, "q", 8, 50);
    assert_eq!(sizes.input_tokens(&queue, &model, 2_000), 600);
    assert_eq!(sizes.input_tokens(&"new".into(), &model, 2_000), 600, "as the model's others");
    assert_eq!(sizes.input_tokens(&queue, &"another".into(), 1_000), 500);
}

#[test]
fn output_is_all_of_max_tokens_until_enough_was_seen() {
    let mut sizes = Estimator::default();
    answered(&mut sizes, "q", 7, 100);
    assert_eq!(output(&sizes, "q"), 1_000);
    answered(&mut sizes, "q", 93, 100);
    let learned = output(&sizes, "q");
    assert!((100..200).contains(&learned), "{learned}");
}

#[test]
fn a_queue_of_its_own_kind_leaves_the_models_mean() {
    let mut sizes = Estimator::default();
    answered(&mut sizes, "long", 200, 900);
    let new = output(&sizes, "short");
    assert!(new > 800, "nothing else is known: {new}");
    answered(&mut sizes, "short", 200, 50);
    let learned = output(&sizes, "short");
    assert!(learned < 120, "{learned}");
    assert!(output(&sizes, "long") > 800);
}

#[test]
fn short_answers_that_finish_first_do_not_deceive() {
    let mut sizes = Estimator::default();
    let calls: Vec<Reservation> = (0..100).map(|_| call("q", 1_000, T0)).collect();
    for (job, call) in (0..).zip(&calls) {
        sizes.begin(JobId(job), call);
    }
    // Nine of ten are short and come back first; the very first one is long.
    for (job, call) in (0..).zip(&calls).filter(|(job, _)| job % 10 != 0) {
        sizes.end(JobId(job), call, Some(&lesson(300, 20)), T0 + Millis::SECOND);
    }
    assert_eq!(output(&sizes, "q"), 1_000, "the first has not ended: nothing is learned");
    for (job, call) in (0..).zip(&calls).filter(|(job, _)| job % 10 == 0) {
        sizes.end(JobId(job), call, Some(&lesson(300, 1_000)), T0 + Millis::from_secs(13));
    }
    let mean = output(&sizes, "q");
    assert!((110..190).contains(&mean), "(9 × 20 + 1,000) ÷ 10 = 118, and some caution: {mean}");
}

#[test]
fn a_straggler_counts_in_full_and_is_not_waited_for_any_longer() {
    let mut sizes = Estimator::default();
    let first = call("q", 1_000, T0);
    sizes.begin(JobId(1_000), &first);
    answered(&mut sizes, "q", 20, 100);
    assert_eq!(sizes.learned("q", "m").unwrap().samples(), 0.0);
    let later = T0 + PATIENCE_MIN + Millis::SECOND;
    let last = call("q", 1_000, later);
    sizes.begin(JobId(2_000), &last);
    sizes.end(JobId(2_000), &last, Some(&lesson(300, 100)), later);
    assert_eq!(sizes.learned("q", "m").unwrap().samples(), 22.0);
}

#[test]
fn calls_without_an_answer_say_nothing_of_lengths() {
    let mut sizes = Estimator::default();
    for number in 0..20 {
        let call = call("q", 1_000, T0);
        sizes.begin(JobId(number), &call);
        sizes.end(JobId(number), &call, None, T0);
    }
    assert_eq!(sizes.learned("q", "m").unwrap().samples(), 0.0);
    assert_eq!(output(&sizes, "q"), 1_000);
}

#[test]
fn what_was_written_down_comes_back() {
    let mut sizes = Estimator::default();
    answered(&mut sizes, "q", 100, 100);
    let mut fresh = Estimator::default();
    for queue in ["q", ""] {
        let text = serde_json::to_string(sizes.learned(queue, "m").unwrap()).unwrap();
        fresh.restore(queue, "m", serde_json::from_str(&text).unwrap());
    }
    fresh.restored();
    assert_eq!(output(&fresh, "q"), output(&sizes, "q"));
    assert_eq!(fresh.prospect(&"q".into(), &"m".into()), sizes.prospect(&"q".into(), &"m".into()));
}

#[test]
fn what_cannot_be_true_is_not_put_back() {
    let mut sizes = Estimator::default();
    for text in [
        r#"{"lengths":{"counts":[1.0],"total":9.0},"input":{"answers":0,"bytes":0,"tokens":0},"pace":PACE}"#,
        r#"{"lengths":{"counts":[],"total":0.0},"input":{"answers":9,"bytes":-1,"tokens":5},"pace":PACE}"#,
    ] {
        let pace = serde_json::to_string(&Pace::default()).unwrap();
        let learned = serde_json::from_str(&text.replace("PACE", &pace)).unwrap();
        sizes.restore("q", "m", learned);
    }
    assert_eq!(sizes, Estimator::default());
}

#[test]
fn a_new_queue_a_day_does_not_fill_the_memory() {
    let mut sizes = Estimator::default();
    for number in 0..5_000 {
        let call = call(&format!("q{number}"), 1_000, T0);
        sizes.begin(JobId(number), &call);
    }
    assert_eq!(sizes.known.len(), MOST_KEYS);
}

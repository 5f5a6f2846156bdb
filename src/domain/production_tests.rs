use super::*;
use crate::domain::limit::{OutputMode, PoolName, PoolSpec};
use crate::domain::reservation::CallSize;
use proptest::prelude::*;

const T0: Timestamp = Timestamp(1_790_000_000_000);

fn call(expected_output: i64, at: Timestamp) -> Reservation {
    let pool = PoolSpec {
        name: PoolName("sonnet".into()),
        models: vec!["*".into()],
        limits: Vec::new(),
        output_mode: OutputMode::Realtime,
    };
    let size = CallSize { body_bytes: 100, max_tokens: 2_000, expected_input: 50, expected_output };
    Reservation::new(&pool, &"default".into(), &"claude-sonnet-5".into(), size, at)
}

fn prospect(tokens_per_second: f64) -> Prospect {
    let speed = (tokens_per_second > 0.0)
        .then_some(Speed { tokens_per_second, first_token: Millis::from_secs(1) });
    Prospect { speed, ..Prospect::default() }
}

/// What can happen to the answers of a pool.
#[derive(Clone, Debug)]
enum Event {
    Begin { job: i64, expected: i64, speed: f64, ago: i64 },
    End { job: i64 },
    See { job: i64, bytes: i64 },
    Advance,
    Foresee { speed: f64 },
    Later { millis: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    let job = || 1..8_i64;
    let speed = || prop_oneof![Just(0.0), 1.0..200.0];
    prop_oneof![
        (job(), 0..2_000_i64, speed(), 0..5_000_i64)
            .prop_map(|(job, expected, speed, ago)| { Event::Begin { job, expected, speed, ago } }),
        job().prop_map(|job| Event::End { job }),
        (job(), 0..9_000_i64).prop_map(|(job, bytes)| Event::See { job, bytes }),
        Just(Event::Advance),
        speed().prop_map(|speed| Event::Foresee { speed }),
        (0..3_000_i64).prop_map(|millis| Event::Later { millis }),
    ]
}

fn sums_of(production: &Production) -> Sums {
    production.flows.values().fold(Sums::default(), |sums, flow| sums.plus(Sums::of(flow)))
}

fn tokens(draws: &[Draw]) -> i64 {
    draws.iter().map(|draw| draw.tokens).sum()
}

proptest! {
    #[test]
    fn sums_are_kept_whatever_happens(events in prop::collection::vec(event(), 1..60)) {
        let (mut production, mut now) = (Production::default(), T0);
        let mut taken = 0;
        for event in events {
            match event {
                Event::Begin { job, expected, speed, ago } => {
                    production.end(JobId(job));
                    let flow = Flow::new(&call(expected, now - Millis(ago)), prospect(speed));
                    production.begin(JobId(job), flow, now);
                }
                Event::End { job } => {
                    production.end(JobId(job));
                }
                Event::See { job, bytes } => {
                    let progress = Progress { first_token_at: now, bytes, limits: [].into() };
                    production.see(JobId(job), &progress, |_| Pace::default(), now);
                }
                Event::Advance => {
                    taken = production.taken();
                    prop_assert_eq!(tokens(&production.advance(now)), production.taken() - taken);
                    prop_assert_eq!(production.advance(now), [], "nothing is taken off twice");
                }
                Event::Foresee { speed } => production.foresee(now, |_, _| prospect(speed)),
                Event::Later { millis } => now = now + Millis(millis),
            }
            prop_assert_eq!(production.sums, sums_of(&production));
        }
        prop_assert!(taken >= 0);
    }
}

#[test]
fn what_is_written_is_taken_off_at_the_next_look() {
    let mut production = Production::default();
    production.begin(JobId(1), Flow::new(&call(500, T0), prospect(100.0)), T0);
    assert_eq!(tokens(&production.advance(T0)), 0);
    let later = T0 + Millis::from_secs(3);
    assert_eq!(tokens(&production.advance(later)), 200, "two seconds after the first token");
    production.begin(JobId(2), Flow::new(&call(500, T0), prospect(100.0)), later);
    assert_eq!(
        tokens(&production.advance(later)),
        200,
        "one that began before this moment counts at once"
    );
}

#[test]
fn what_several_wrote_is_stretches_one_after_another() {
    let at = Timestamp;
    let draws = spread(vec![(at(500), 600), (at(0), 1_000), (at(500), 300)], at(1_000));
    let draw = |from, to, tokens| Draw { from: at(from), to: at(to), tokens };
    assert_eq!(draws, [draw(0, 500, 500), draw(500, 1_000, 1_400)]);
    assert_eq!(spread(vec![(at(7), 5)], at(7)), [draw(7, 7, 5)]);
    assert_eq!(spread(Vec::new(), at(7)), []);
}

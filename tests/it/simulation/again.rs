//! A job that was read, ended and asked again meanwhile, before its call began.

use claudeq::clock::{Clock, Entropy};
use claudeq::config::{Config, Overrides};
use claudeq::daemon::Options;
use claudeq::daemon::stepper::{End, Stepper};
use claudeq::domain::attempt::{Failure, FailureKind, Outcome, Reply};
use claudeq::domain::job::{JobEvent, JobId};
use claudeq::domain::time::Timestamp;
use claudeq::store::{NewJob, Store};

const START: Timestamp = Timestamp(1_790_000_000_000);

fn failed() -> Reply {
    let failure = Failure {
        kind: FailureKind::Permanent,
        class: "invalid_request".into(),
        message: "x".into(),
    };
    Reply {
        outcome: Outcome::Failed(failure),
        http_status: Some(400),
        request_id: None,
        limits: Vec::new(),
        headers: None,
        first_byte_at: None,
        done_at: START,
    }
}

#[tokio::test]
async fn a_call_is_made_on_the_terms_that_hold_when_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.toml");
    let toml = "[defaults]\nmodel = \"m\"\nmax_tokens = 512\n[executor]\nmax_in_flight = 1\n\
        [[pool]]\nname = \"all\"\nmodels = [\"*\"]\nrequests_per_minute = 1000\n";
    std::fs::write(&file, toml).unwrap();
    let config = Config::load(Some(&file), &Overrides::default()).unwrap();
    let person = Store::create(&config.database, false).await.unwrap();
    for prompt in ["first", "second"] {
        let job = NewJob { prompt: Some(prompt.into()), ..NewJob::default() };
        person.add_job(&job).await.unwrap();
    }
    let options = Options {
        config,
        key: "none".to_owned().into(),
        until_empty: true,
        clock: Clock::manual(START),
        entropy: Entropy::seeded(1),
        notify_socket: None,
        host: "virtual".into(),
        reload: None,
    };
    let mut daemon = Stepper::start(&options).await.unwrap();
    let step = daemon.step(Vec::new(), Vec::new()).await.unwrap();
    let first = &step.started[0];
    assert_eq!((step.started.len(), first.job), (1, JobId(1)), "the second is in sight and waits");

    let second = [JobId(2)];
    person.edit(&second, JobEvent::Cancel, false).await.unwrap();
    person.sweep(START, 9).await.unwrap();
    assert_eq!(person.retry(&second, Some(77)).await.unwrap().changed, 1);
    let mut ended = vec![End { attempt: first.attempt, reply: failed(), streamed_bytes: None }];
    let body = loop {
        let step = daemon.step(std::mem::take(&mut ended), Vec::new()).await.unwrap();
        if let Some(call) = step.started.first() {
            assert_eq!(call.job, JobId(2));
            break String::from_utf8(call.body.to_vec()).unwrap();
        }
        assert!(step.left > 0, "it was never called");
    };
    assert!(body.contains("\"max_tokens\":77"), "{body}");
    daemon.kill().await;
    person.close().await;
}

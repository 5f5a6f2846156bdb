//! What the log says when a gate shuts for a person to know, and when it opens again.
//!
//! Invariant: once for each time, however many calls meet it. A 429's pause is everyday life.

use super::executor::Finished;
use crate::clock::calendar;
use crate::domain::attempt::{FailureKind, Outcome};
use crate::domain::gate::{Closed, Gate};
use crate::domain::ledger::Ledger;
use crate::domain::time::Timestamp;

/// A gate that shut or opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The pool; `None`: the account.
    pool: Option<String>,
    /// Until when, and why; `None`: it is open again.
    shut: Option<(Option<Timestamp>, Closed)>,
}

/// What changed between two states of a ledger.
pub(super) fn changes(before: &Ledger, after: &Ledger) -> Vec<Change> {
    let pools = after.pools.iter().map(|pool| {
        let name = &pool.spec.name;
        (Some(name.0.to_string()), before.gate(name), &pool.gate)
    });
    let all = pools.chain([(None, Some(&before.account), &after.account)]);
    all.filter_map(|(pool, before, after)| {
        let (was, shut) = (before.and_then(trouble), trouble(after));
        (was.is_some() != shut.is_some()).then_some(Change { pool, shut })
    })
    .collect()
}

/// What an earlier daemon left shut.
pub(super) fn left_shut(ledger: &Ledger) -> Vec<Change> {
    changes(&Ledger::default(), ledger)
}

fn trouble(gate: &Gate) -> Option<(Option<Timestamp>, Closed)> {
    gate.closed().filter(|(_, why)| *why != Closed::Pause)
}

/// Says it; the calls that have just ended know why.
pub(super) fn tell(changes: &[Change], finished: &[Finished], now: Timestamp) {
    for change in changes {
        let text = change.sentence(change.because(finished), now);
        match change.shut {
            Some(_) => tracing::warn!("{text}"),
            None => tracing::info!("{text}"),
        }
    }
}

impl Change {
    fn sentence(&self, because: Option<&str>, now: Timestamp) -> String {
        let whose = self.pool.as_deref().unwrap_or("the account");
        let because = because.unwrap_or("an earlier daemon left it so");
        match self.shut {
            None => format!("{whose} is open again: calls go out"),
            Some((_, Closed::Key)) => format!(
                "{whose} is shut, the API key was rejected ({because}): put a valid one in place, \
                 then send SIGHUP"
            ),
            Some((until, _)) => {
                let next = match until {
                    Some(until) if until > now => {
                        format!("the next try is at {}", calendar::rfc3339(until))
                    }
                    _ => "the next try is due".to_owned(),
                };
                format!("{whose} is shut, jobs wait ({because}); {next}")
            }
        }
    }

    /// The words of the last call that met it.
    fn because<'a>(&self, finished: &'a [Finished]) -> Option<&'a str> {
        finished.iter().rev().find_map(|one| match &one.reply.outcome {
            Outcome::Failed(failure) | Outcome::Unknown(failure) => {
                let of_account = matches!(
                    failure.kind,
                    FailureKind::AccountParked { .. } | FailureKind::KeyRejected
                );
                let met = match &self.pool {
                    None => of_account,
                    Some(pool) => {
                        !of_account
                            && failure.kind != FailureKind::Interrupted
                            && *one.lease.reservation.pool.0 == **pool
                    }
                };
                met.then_some(failure.message.as_str())
            }
            Outcome::Completed(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{Millis, Unit};

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn each_shut_gate_is_named_once_and_pauses_are_not() {
        let mut open = Ledger::default();
        open.pool_of("m", NOW);
        let mut pause = open.clone();
        pause.pools[0].gate.rate_limited(None, Unit::ZERO, NOW);
        assert_eq!(changes(&open, &pause), []);
        let mut shut = pause.clone();
        shut.pools[0].gate.open(NOW);
        shut.pools[0].gate.not_reached(NOW, Unit::ZERO, NOW);
        let [change] = &changes(&pause, &shut)[..] else { panic!() };
        assert_eq!(
            change.sentence(Some("could not connect to h: refused"), NOW),
            "m is shut, jobs wait (could not connect to h: refused); \
             the next try is at 2026-09-21T14:13:25Z"
        );
        let mut longer = shut.clone();
        let probe = NOW + Millis::from_secs(5);
        longer.pools[0].gate.passed(probe);
        longer.pools[0].gate.not_reached(probe, Unit::ZERO, probe);
        assert_eq!(changes(&shut, &longer), [], "that is known");
        let [change] = &changes(&longer, &open)[..] else { panic!() };
        assert_eq!(change.sentence(None, NOW), "m is open again: calls go out");
        let [change] = &left_shut(&longer)[..] else { panic!() };
        assert!(change.sentence(None, NOW).contains("an earlier daemon left it so"));
    }

    #[test]
    fn a_rejected_key_says_what_to_do() {
        let mut shut = Ledger::default();
        shut.account.shut(Closed::Key, NOW, None);
        let [change] = &changes(&Ledger::default(), &shut)[..] else { panic!() };
        let said = change.sentence(Some("HTTP 401"), NOW);
        assert!(said.contains("rejected (HTTP 401)") && said.contains("SIGHUP"), "{said}");
    }
}

//! A reply whose bytes are already there: for simulations in virtual time, which have no sockets.

use super::answer;
use super::error;
use super::head::Head;
use crate::domain::attempt::{Failure, FailureKind, Outcome, Reply};
use crate::domain::time::Timestamp;
use reqwest::header::HeaderMap;

/// The host that errors name.
const HOST: &str = "the simulator";

/// What [`Client::send`](super::Client::send) would have made of this response.
pub fn reply_to(
    status: u16,
    headers: &HeaderMap,
    body: &str,
    first_byte_at: Timestamp,
    done_at: Timestamp,
) -> Reply {
    let head = Head::read(status, headers, first_byte_at);
    let (outcome, body_id) = if (200..300).contains(&status) {
        match answer::read(body.to_owned()) {
            Ok(answer) => (Outcome::Completed(Box::new(answer)), None),
            Err(_) => (lost(), None),
        }
    } else {
        error::outcome(&head, body.as_bytes(), HOST)
    };
    Reply {
        outcome,
        http_status: Some(status),
        request_id: head.request_id.or(body_id),
        limits: head.limits,
        headers: head.record,
        first_byte_at: Some(first_byte_at),
        done_at,
    }
}

/// What it would have made of a connection that broke after the request was written.
pub fn broken_at(done_at: Timestamp) -> Reply {
    Reply {
        outcome: lost(),
        http_status: None,
        request_id: None,
        limits: Vec::new(),
        headers: None,
        first_byte_at: None,
        done_at,
    }
}

fn lost() -> Outcome {
    Outcome::Unknown(Failure {
        kind: FailureKind::Transient { retry_after: None },
        class: "connection_lost".into(),
        message: "the connection broke".into(),
    })
}

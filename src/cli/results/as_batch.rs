//! A result as the Message Batches API writes it: for programs that read its files.

use crate::store::ResultRow;
use serde::Serialize;
use serde_json::value::RawValue;

/// A line of a results file.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    custom_id: String,
    result: Ended<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Ended<'a> {
    /// A refusal is one, too: `stop_reason` says so.
    Succeeded {
        message: &'a RawValue,
    },
    Errored {
        error: ErrorBody<'a>,
    },
    Canceled,
    Expired,
}

/// The body of an error response; it has an error of its own in it.
#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct ErrorBody<'a> {
    error: Error<'a>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    message: &'a str,
}

impl Line<'_> {
    /// The key is what the producer calls it; without one there is the id.
    pub(super) fn of(row: &ResultRow) -> Line<'_> {
        let custom_id = row.key.clone().unwrap_or_else(|| row.id.to_string());
        Line { custom_id, result: Ended::of(row) }
    }
}

impl Ended<'_> {
    fn of(row: &ResultRow) -> Ended<'_> {
        let class = row.error_class.as_deref().unwrap_or_default();
        match (&row.response, class) {
            (Some(message), _) => Ended::Succeeded { message },
            (None, "cancelled") => Ended::Canceled,
            (None, "expired") => Ended::Expired,
            (None, class) => Ended::Errored {
                error: ErrorBody {
                    error: Error {
                        r#type: error_type(class),
                        message: row.error.as_deref().unwrap_or("there is no answer on record"),
                    },
                    request_id: row.request_id.as_deref(),
                },
            },
        }
    }
}

/// The provider's word for one of ours.
fn error_type(class: &str) -> &'static str {
    match class {
        "invalid_request" => "invalid_request_error",
        "request_too_large" => "request_too_large",
        "not_found" => "not_found_error",
        "authentication" => "authentication_error",
        "permission" => "permission_error",
        "billing" => "billing_error",
        "conflict" => "conflict_error",
        "rate_limited" | "ramp_limited" | "spend_limit" => "rate_limit_error",
        "overloaded" => "overloaded_error",
        "timeout" => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_provider() {
        assert_eq!(error_type("not_found"), "not_found_error");
        assert_eq!(error_type("connection_lost"), "api_error");
    }
}

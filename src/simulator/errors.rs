//! What the API says when it refuses.

use super::pool::Refusal;
use serde_json::{Value, json};

/// A refusal: its status, its error object and the headers that come with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) message: String,
    /// `error.details`: left out, or written as it is (which may be `null`).
    pub(super) details: Option<Value>,
    /// The header's text.
    pub(super) retry_after: Option<String>,
    pub(super) should_retry: Option<bool>,
    /// A page by a proxy instead of the API's JSON.
    pub(super) html: bool,
    /// The first and only event of a stream, under a 200.
    pub(super) event: bool,
}

impl ApiError {
    /// An error with the type the API gives to this status.
    pub(super) fn new(status: u16, message: impl Into<String>) -> ApiError {
        let kind = match status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            409 => "conflict_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        ApiError { status, kind: kind.to_owned(), message: message.into(), ..ApiError::default() }
    }

    /// 400.
    pub(super) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(400, message)
    }

    /// 404.
    pub(super) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(404, message)
    }

    /// The same with `error.details.error_code`.
    pub(super) fn with_code(mut self, code: &str) -> ApiError {
        self.details = Some(json!({ "error_code": code }));
        self
    }

    /// The 429 of a limit; `scale` turns its amount into one per real minute.
    pub(super) fn refused(
        refusal: &Refusal,
        scale: impl Fn(u64) -> u64,
        organization: &str,
        model: &str,
    ) -> ApiError {
        match refusal {
            Refusal::Limit { dimension, amount, .. } => ApiError::new(
                429,
                format!(
                    "This request would exceed your organization's rate limit of {} {} \
                     (org: {organization}, model: {model}). For details, refer to: \
                     https://docs.claude.com/en/api/rate-limits. You can see the response headers \
                     for current usage. Please reduce the prompt length or the maximum tokens \
                     requested, or try again later. You may also contact sales at \
                     https://www.anthropic.com/contact-sales to discuss your options for a rate \
                     limit increase.",
                    thousands(scale(*amount)),
                    dimension.words(),
                ),
            ),
            Refusal::Ramp { .. } => ApiError::ramp(),
        }
    }

    /// The 429 of the acceleration limiter.
    pub(super) fn ramp() -> ApiError {
        ApiError::new(
            429,
            "Your organization's usage has increased too quickly. Please ramp up gradually; \
             retry after the time in the retry-after header.",
        )
        .with_code("ramp_limit_exceeded")
    }

    /// The body, with the id that is also in the header.
    pub(super) fn body(&self, request_id: &str) -> String {
        if self.html {
            let Self { status, message, .. } = self;
            return format!(
                "<html>\r\n<head><title>{status} {message}</title></head>\r\n<body>\r\n\
                 <center><h1>{status} {message}</h1></center>\r\n<hr><center>cloudflare</center>\
                 \r\n</body>\r\n</html>\r\n"
            );
        }
        let json = self.json(Some(request_id));
        if self.event {
            return format!("event: error\ndata: {json}\n\n");
        }
        json.to_string()
    }

    /// The error object, as a body or as an event's data.
    pub(super) fn json(&self, request_id: Option<&str>) -> Value {
        let mut error = json!({ "type": self.kind, "message": self.message });
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        let mut body = json!({ "type": "error", "error": error });
        if let Some(id) = request_id {
            body["request_id"] = Value::from(id);
        }
        body
    }
}

/// `30000` as `30,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::pool::Dimension;
    use std::time::Duration;

    #[test]
    fn a_429_names_limit_and_model() {
        let refusal = Refusal::Limit {
            dimension: Dimension::InputTokens,
            amount: 30_000,
            wait: Duration::from_secs(3),
        };
        let error = ApiError::refused(&refusal, |amount| amount, "org", "claude-sonnet-5");
        assert!(error.message.contains(
            "rate limit of 30,000 input tokens per minute (org: org, model: claude-sonnet-5)"
        ));
    }

    #[test]
    fn numbers_are_grouped() {
        let texts: Vec<String> = [0, 999, 1_000, 1_234_567].map(thousands).into();
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn details_are_left_out_null_or_an_object() {
        let error = ApiError::new(529, "Overloaded");
        assert!(!error.body("req_1").contains("details"));
        let error = ApiError { details: Some(Value::Null), ..error };
        assert!(error.body("req_1").contains(r#""details":null"#));
        assert!(error.body("req_1").contains(r#""request_id":"req_1""#));
    }
}

use super::*;

const NOW: &str = "2026-11-24T12:00:00Z";

fn at(text: &str) -> Timestamp {
    parse_rfc3339(text).unwrap()
}

fn head(status: u16) -> Head {
    Head { status, at: at(NOW), retry_after: Some(Millis(7_000)), ..Head::default() }
}

fn body(kind: &str, message: &str, details: &str) -> String {
    format!(
        r#"{{"type":"error","error":{{"details":{details},"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#
    )
}

fn fails(head: &Head, body: &str) -> Failure {
    match outcome(head, body.as_bytes(), "host").0 {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn class_of(status: u16, kind: &str, message: &str, details: &str) -> (FailureKind, String) {
    let failure = fails(&head(status), &body(kind, message, details));
    (failure.kind, failure.class.into_owned())
}

const WISH: Option<Millis> = Some(Millis(7_000));
const TRANSIENT: FailureKind = FailureKind::Transient { retry_after: WISH };
const OVERLOADED: FailureKind = FailureKind::Overloaded { retry_after: WISH };
const PARKED: FailureKind = FailureKind::AccountParked { until: None };

#[test]
fn the_table() {
    use FailureKind::{KeyRejected, NotReached, Permanent};
    for (status, kind, expected, class) in [
        (301, "", NotReached, "redirect"),
        (307, "", NotReached, "redirect"),
        (400, "invalid_request_error", Permanent, "invalid_request"),
        (400, "brand_new_error", Permanent, "invalid_request"),
        (401, "authentication_error", KeyRejected, "authentication"),
        (402, "billing_error", PARKED, "billing"),
        (402, "brand_new_error", PARKED, "billing"),
        (403, "permission_error", KeyRejected, "permission"),
        (404, "not_found_error", Permanent, "not_found"),
        (405, "", Permanent, "provider_error"),
        (408, "", TRANSIENT, "timeout"),
        (409, "conflict_error", TRANSIENT, "conflict"),
        (412, "invalid_request_error", Permanent, "invalid_request"),
        (413, "request_too_large", Permanent, "request_too_large"),
        (422, "invalid_request_error", Permanent, "invalid_request"),
        (431, "", Permanent, "provider_error"),
        (499, "", Permanent, "provider_error"),
        (500, "api_error", TRANSIENT, "api_error"),
        (500, "overloaded_error", OVERLOADED, "overloaded"),
        (501, "", TRANSIENT, "api_error"),
        (503, "brand_new_error", TRANSIENT, "api_error"),
        (504, "timeout_error", TRANSIENT, "timeout"),
        (529, "overloaded_error", OVERLOADED, "overloaded"),
        (529, "brand_new_error", OVERLOADED, "overloaded"),
        (599, "", TRANSIENT, "api_error"),
    ] {
        for details in ["null", "{}", r#"{"error_code":null}"#, r#"{"error_code":"new"}"#, "7"] {
            assert_eq!(
                class_of(status, kind, "Words", details),
                (expected.clone(), class.to_owned()),
                "{status} {kind} {details}"
            );
        }
    }
}

#[test]
fn states_of_the_account_park_it_whatever_the_status() {
    for (status, kind, message, details, class) in [
        (
            400,
            "invalid_request_error",
            "x",
            r#"{"error_code":"organization_on_hold"}"#,
            "account_on_hold",
        ),
        (
            400,
            "invalid_request_error",
            "This organization has been disabled.",
            "null",
            "account_on_hold",
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
            "null",
            "billing",
        ),
        (403, "billing_error", "x", "null", "billing"),
    ] {
        assert_eq!(
            class_of(status, kind, message, details),
            (PARKED, class.to_owned()),
            "{message}"
        );
    }
    assert_eq!(
        class_of(400, "invalid_request_error", "x", r#"{"error_code":"request_body_timeout"}"#),
        (TRANSIENT, "timeout".to_owned())
    );
}

fn parked_until(head: &Head, body: &str) -> Timestamp {
    let failure = fails(head, body);
    assert_eq!(failure.class, "spend_limit");
    match failure.kind {
        FailureKind::AccountParked { until } => until.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn spend_limits_say_until_when() {
    let reached = "You have reached your specified API usage limits.";
    let again = "You will regain access on 2026-12-24 at 06:30 UTC.";
    for code in ["enforced_spend_limit_reached", "contract_spend_limit_reached"] {
        let details = format!(r#"{{"error_code":"{code}"}}"#);
        let capped = body("rate_limit_error", &format!("Capped. {again}"), &details);
        assert_eq!(parked_until(&head(429), &capped), at("2026-12-24T06:30:00Z"));
        let silent = body("rate_limit_error", "Capped.", &details);
        assert_eq!(parked_until(&head(429), &silent), at("2026-12-01T00:00:00Z"));
    }
    let own = body("invalid_request_error", &format!("{reached} {again}"), "null");
    assert_eq!(parked_until(&head(400), &own), at("2026-12-24T06:30:00Z"));
    let silent = body("invalid_request_error", reached, "null");
    assert_eq!(parked_until(&head(400), &silent), at("2026-12-01T00:00:00Z"));
    let workspace = body(
        "invalid_request_error",
        "You have reached your specified workspace API usage limits.",
        "null",
    );
    assert_eq!(parked_until(&head(400), &workspace), at("2026-12-01T00:00:00Z"));
}

#[test]
fn the_end_of_a_spend_limit_is_measured_against_their_clock() {
    let theirs = Head { date: Some(at("2026-12-31T23:00:00Z")), ..head(429) };
    let details = r#"{"error_code":"enforced_spend_limit_reached"}"#;
    let silent = body("rate_limit_error", "Capped.", details);
    // Their new year is an hour away; so it is for us, whatever our clock says.
    assert_eq!(parked_until(&theirs, &silent), at("2026-11-24T13:00:00Z"));
    let past =
        body("rate_limit_error", "You will regain access on 2026-01-01 at 00:00 UTC", details);
    assert_eq!(
        parked_until(&head(429), &past),
        at(NOW) + SPEND_LIMIT_LOOK,
        "a past end must not open the gate at once"
    );
}

#[test]
fn a_429_names_its_limit() {
    for (words, limit) in [
        ("rate limit of 30,000 input tokens per minute (org: x)", Some(Dimension::InputTokens)),
        ("rate limit of 8,000 output tokens per minute", Some(Dimension::OutputTokens)),
        ("rate limit of 50 requests per minute", Some(Dimension::Requests)),
        ("rate limit of 40,000 Tokens per minute", Some(Dimension::Tokens)),
        ("limit of 1,000,000 tokens per day", Some(Dimension::Tokens)),
        ("Number of concurrent connections has exceeded your rate limit", None),
    ] {
        for details in ["null", r#"{"error_code":"brand_new"}"#] {
            assert_eq!(
                class_of(429, "rate_limit_error", words, details),
                (
                    FailureKind::RateLimited { retry_after: WISH, limit, ramp: false },
                    "rate_limited".to_owned()
                ),
                "{words}"
            );
        }
    }
}

#[test]
fn a_429_for_rising_too_fast() {
    for (words, details) in [
        ("x", r#"{"error_code":"ramp_limit_exceeded"}"#),
        ("This request would exceed your organization's maximum usage increase rate for", "null"),
    ] {
        let (kind, class) = class_of(429, "rate_limit_error", words, details);
        assert!(matches!(kind, FailureKind::RateLimited { ramp: true, .. }));
        assert_eq!(class, "ramp_limited");
    }
}

#[test]
fn x_should_retry_stands_above_the_status() {
    let no = |status| Head { should_retry: Some(false), ..head(status) };
    let yes = |status| Head { should_retry: Some(true), ..head(status) };
    for (head, kind) in [
        (no(500), FailureKind::Permanent),
        (no(503), FailureKind::Permanent),
        (no(529), OVERLOADED),
        (no(408), FailureKind::Permanent),
        (no(409), FailureKind::Permanent),
        (yes(400), TRANSIENT),
        (yes(404), TRANSIENT),
        (yes(401), FailureKind::KeyRejected),
        (yes(402), PARKED),
        (yes(403), FailureKind::KeyRejected),
        (yes(413), FailureKind::Permanent),
    ] {
        assert_eq!(fails(&head, &body("x", "y", "null")).kind, kind, "{head:?}");
    }
}

#[test]
fn bodies_that_are_not_the_apis() {
    let html = "<html>\n <head>\t<title>413\u{7} Too Large</title>";
    let failure = fails(&head(413), html);
    assert_eq!(failure.class, "request_too_large");
    assert_eq!(failure.message, "HTTP 413 from host: <html> <head> <title>413 Too Large</title>");
    for odd in ["", "[]", "{}", "null", r#"{"error":"x"}"#, r#"{"error":{}}"#, "\u{0}"] {
        assert_eq!(fails(&head(500), odd).kind, TRANSIENT, "{odd:?}");
    }
    let cut = &body("overloaded_error", "Overloaded", "null")[..40];
    assert_eq!(fails(&head(529), cut).kind, OVERLOADED);
}

/// Else a wrong base URL would empty a queue, and a firewall's page would look like a bad key.
#[test]
fn what_answers_without_the_apis_words_is_not_the_api() {
    let elsewhere =
        [302, 403, 404, 405, 406, 407, 410, 411, 412, 414, 415, 417, 421, 423, 426, 428, 431, 451];
    for status in elsewhere.into_iter().chain([495, 496, 497, 499, 511]) {
        for page in ["<html>nginx", "", r#"{"detail":"Not Found"}"#] {
            let elsewhere = fails(&head(status), page);
            assert_eq!(elsewhere.kind, FailureKind::NotReached, "{status} {page:?}");
            assert!(elsewhere.message.contains("provider.base_url"), "{}", elsewhere.message);
        }
    }
    // Of these the request itself may be the cause, whoever says so; a 401 asks for a key.
    for words in ["", "Bad Request", r#"{"detail":"x"}"#] {
        for status in [400, 413, 422] {
            assert_eq!(fails(&head(status), words).kind, FailureKind::Permanent, "{status}");
        }
        assert_eq!(fails(&head(401), words).kind, FailureKind::KeyRejected);
    }
    let path = fails(&head(404), &body("not_found_error", "Not Found", "null"));
    assert_eq!((path.kind, &*path.class), (FailureKind::NotReached, "not_the_api"));
    assert!(path.message.contains("no such path"), "{}", path.message);
}

/// A proxy that wants somebody to log in, or a server that is spoken to in the wrong way, shows
/// a page; programs that look at keys and requests answer in words for programs.
#[test]
fn a_page_is_neither_about_the_key_nor_about_the_request() {
    for status in [400, 401] {
        let page = fails(&head(status), " <!DOCTYPE html>\n<title>Sign in</title>");
        assert_eq!((page.kind, &*page.class), (FailureKind::NotReached, "not_the_api"));
        assert!(page.message.contains("provider.base_url"), "{}", page.message);
    }
    // Of a size every proxy knows.
    assert_eq!(fails(&head(413), "<html>nginx").kind, FailureKind::Permanent);
}

/// Other people's APIs have error objects too, and no such path.
#[test]
fn a_404_in_other_words_than_the_apis_ends_no_job() {
    let other = r#"{"error":{"message":"Unknown request URL: POST /v1/messages","type":"invalid_request_error","param":null,"code":"unknown_url"}}"#;
    let failure = fails(&head(404), other);
    assert_eq!((failure.kind, &*failure.class), (FailureKind::NotReached, "not_the_api"));
    assert!(failure.message.contains("provider.base_url"), "{}", failure.message);
    assert!(failure.message.contains("Unknown request URL"), "{}", failure.message);
}

#[test]
fn a_gateway_that_gave_up_does_not_know_what_became_of_the_call() {
    for status in [502, 504, 520, 522, 524] {
        let (unknown, _) = outcome(&head(status), b"<html>Bad gateway", "host");
        assert!(matches!(unknown, Outcome::Unknown(failure) if failure.kind == TRANSIENT));
        fails(&head(status), &body("api_error", "x", "null"));
    }
}

#[test]
fn messages_say_what_where_and_the_providers_words_and_end() {
    let (made, request_id) = outcome(
        &head(404),
        body("not_found_error", "model: claude-x", "null").as_bytes(),
        "api.example",
    );
    assert_eq!(request_id.as_deref(), Some("req_1"));
    assert!(matches!(made, Outcome::Failed(failure)
        if failure.message == "HTTP 404 from api.example: not_found_error: model: claude-x"));
    let long = "long ".repeat(1_000);
    let failure = fails(&head(400), &body("invalid_request_error", &long, "null"));
    assert_eq!(failure.message.chars().count(), MESSAGE_CHARS_MAX + 1);
    assert_eq!(tidy(" a \r\n\t b\u{1b}[31m ", 100), "a b [31m");
    assert_eq!(tidy("äöü", 2), "äö…");
    assert_eq!(tidy("äöü", 3), "äöü");
}

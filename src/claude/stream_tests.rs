use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const MOST: u64 = 1 << 20;

/// Everything a stream may hold, in one.
const EVENTS: &[(&str, &str)] = &[
    (
        "message_start",
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"output_tokens":1,"service_tier":"standard"}}}"#,
    ),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    ),
    ("ping", r#"{"type": "ping"}"#),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me "}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"think"}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[{"n":0}]}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Gr\u00fc\u00dfe,\n"}}"#,
    ),
    ("news", "not JSON at all"),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"n":1.50}}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"hologram_delta","x":1}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"日本 🎉"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"z\": 1.50,"}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \"a\": [\"ü\"]}"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":2}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"q\"}"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":3}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"web_search_tool_result","content":[{"type":"web_search_result","url":"u"}]}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":4}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"e","name":"n","input":{}}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":5}"#),
    (
        "message_delta",
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":15,"cache_read_input_tokens":null,"server_tool_use":{"web_search_requests":1}}}"#,
    ),
    (
        "message_delta",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_details":{"k":1}},"usage":{"output_tokens":89}}"#,
    ),
    ("message_stop", r#"{"type":"message_stop"}"#),
];

/// The message a call without streaming would have given, key by key in the same order.
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"Let me think","signature":"EqQB"},{"type":"text","text":"Grüße,\n日本 🎉","citations":[{"n":0},{"n":1.50}]},{"type":"tool_use","id":"t","name":"n","input":{"z": 1.50, "a": ["ü"]}},{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}},{"type":"web_search_tool_result","content":[{"type":"web_search_result","url":"u"}]},{"type":"tool_use","id":"e","name":"n","input":{}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"output_tokens":89,"service_tier":"standard","server_tool_use":{"web_search_requests":1}},"stop_details":{"k":1}}"#;

fn wire(events: &[(&str, &str)], newline: &str) -> String {
    events
        .iter()
        .map(|(name, data)| format!("event: {name}{newline}data: {data}{newline}{newline}"))
        .collect()
}

fn assemble<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<String>, StreamError> {
    let mut stream = Stream::new(MOST);
    for chunk in chunks {
        stream.push(chunk)?;
    }
    Ok(stream.finish())
}

fn whole(text: &str) -> Result<Option<String>, StreamError> {
    assemble([text.as_bytes()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_gives_the_same_message(
        newline in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        mut cuts in prop::collection::vec(0_usize..6_000, 0..80),
    ) {
        let wire = wire(EVENTS, newline);
        cuts.retain(|cut| *cut < wire.len());
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&wire.as_bytes()[from..cut]);
            from = cut;
        }
        chunks.push(&wire.as_bytes()[from..]);
        let message = assemble(chunks).unwrap();
        prop_assert_eq!(message.as_deref(), Some(MESSAGE));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = assemble([bytes.as_slice()]);
    }

    #[test]
    fn shuffled_and_damaged_events_never_panic(
        picks in prop::collection::vec((0..EVENTS.len(), any::<prop::sample::Index>()), 0..40),
    ) {
        let events: String = picks
            .iter()
            .map(|(pick, cut)| {
                let (name, data) = EVENTS[*pick];
                let keep = cut.index(data.len() * 3);
                let data = data.get(..keep).unwrap_or(data);
                format!("event: {name}\ndata: {data}\n\n")
            })
            .collect();
        let _ = whole(&events);
    }

    #[test]
    fn a_stream_cut_anywhere_is_no_message(cut in 0_usize..5_000) {
        let wire = wire(EVENTS, "\n");
        // The last brace and the blank line behind it.
        let cut = cut.min(wire.len() - 3);
        prop_assert_eq!(assemble([&wire.as_bytes()[..cut]]).unwrap(), None);
    }
}

#[test]
fn the_last_blank_line_may_be_missing() {
    let wire = wire(EVENTS, "\n");
    assert_eq!(whole(wire.trim_end()).unwrap().as_deref(), Some(MESSAGE));
}

#[test]
fn one_byte_at_a_time() {
    let wire = wire(EVENTS, "\r\n");
    assert_eq!(assemble(wire.as_bytes().chunks(1)).unwrap().as_deref(), Some(MESSAGE));
}

#[test]
fn comments_several_data_lines_and_a_byte_order_mark() {
    let start = EVENTS[0].1.replace(r#","message""#, "\ndata:  ,\"message\"");
    let text = format!(
        "\u{feff}: hello\nretry: 5\nid\nevent:message_start\ndata:{start}\n\n\n: ping\n\n\
         data: {{\"type\":\"message_stop\"}}\n\nevent: error\ndata: late\n\n"
    );
    let message: Value = serde_json::from_str(&whole(&text).unwrap().unwrap()).unwrap();
    assert_eq!(message["id"], "msg_1");
    assert_eq!(message["content"], json!([]));
}

/// What `message_start` says of the output is only its beginning: taken for all of it, a budget
/// would be charged too little.
#[test]
fn without_the_last_usage_there_is_none_of_the_output() {
    let stop = ("message_stop", r#"{"type":"message_stop"}"#);
    let silent =
        ("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#);
    let null = (
        "message_delta",
        r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":null,"input_tokens":26}}"#,
    );
    for events in
        [vec![EVENTS[0], stop], vec![EVENTS[0], silent, stop], vec![EVENTS[0], null, stop]]
    {
        let message = whole(&wire(&events, "\n")).unwrap().unwrap();
        let value: Value = serde_json::from_str(&message).unwrap();
        assert!(value["usage"]["input_tokens"].as_i64().unwrap() >= 25, "{message}");
        assert_eq!(value["usage"].get("output_tokens"), None, "{message}");
        assert_eq!(crate::claude::answer::read(message).unwrap().usage, None);
    }
}

#[test]
fn an_error_event_is_told() {
    let mut events = EVENTS[..3].to_vec();
    events.push((
        "error",
        r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_9"}"#,
    ));
    assert_eq!(
        whole(&wire(&events, "\n")).unwrap_err(),
        StreamError::Provider {
            error: ApiError {
                kind: "overloaded_error".to_owned(),
                message: "Overloaded".to_owned(),
                code: None,
                request_id: Some("req_9".to_owned()),
                enveloped: true,
            },
            begun: true,
        }
    );
}

#[test]
fn what_could_hide_a_missing_part_is_damage() {
    let start = EVENTS[0];
    for events in [
        vec![("message_stop", r#"{"type":"message_stop"}"#)],
        vec![start, start],
        vec![
            start,
            (
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
            ),
        ],
        vec![start, EVENTS[1], EVENTS[1]],
        vec![
            start,
            EVENTS[1],
            (
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta"}}"#,
            ),
        ],
        vec![
            start,
            EVENTS[1],
            ("content_block_delta", r#"{"type":"content_block_delta","index":0,"#),
        ],
        vec![
            start,
            (
                "content_block_start",
                r#"{"type":"content_block_start","index":-1,"content_block":{}}"#,
            ),
        ],
        vec![("message_start", r#"{"type":"message_start","message":7}"#)],
        vec![("message_delta", r#"{"type":"message_delta","delta":{}}"#)],
    ] {
        assert!(
            matches!(whole(&wire(&events, "\n")), Err(StreamError::Malformed(_))),
            "{events:?}"
        );
    }
}

#[test]
fn a_tool_input_cut_short_is_kept() {
    let events = [
        EVENTS[0],
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\": \"b"}}"#,
        ),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":9}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ];
    let message = whole(&wire(&events, "\n")).unwrap().unwrap();
    let message: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(message["content"][0]["input"], json!({"_partial_json": "{\"a\": \"b"}));
}

#[test]
fn more_bytes_than_allowed_end_it() {
    let mut stream = Stream::new(100);
    stream.push(&[b':'; 100]).unwrap();
    assert_eq!(stream.push(b":"), Err(StreamError::TooLarge(100)));
}

#[test]
fn deep_nesting_is_taken_as_it_comes() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let block = format!(
        r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"new","x":{deep}}}}}"#
    );
    let events = [EVENTS[0], ("content_block_start", block.as_str()), EVENTS[EVENTS.len() - 1]];
    let message = whole(&wire(&events, "\n")).unwrap().unwrap();
    assert!(message.contains(&deep));
}

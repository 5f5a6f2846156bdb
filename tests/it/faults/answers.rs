//! Answers, whatever they stopped for: paid for, kept, and told apart in the database.

use crate::crash::checker::check_end;
use crate::helper::{Lab, Settings, needs};
use claudeq::simulator;

/// Why the model stops, and what that is for the queue: the job's state, its `error_class`, the
/// attempt's outcome. What was cut short or waits for a tool was paid for like all else, and the
/// same request would stop there again.
const REASONS: &[(&str, &str, &str, &str)] = &[
    ("end_turn", "succeeded", "", "succeeded"),
    ("stop_sequence", "succeeded", "", "succeeded"),
    ("max_tokens", "succeeded", "", "succeeded"),
    ("model_context_window_exceeded", "succeeded", "", "succeeded"),
    ("tool_use", "succeeded", "", "succeeded"),
    ("refusal", "failed", "refusal", "refused"),
    ("a_reason_of_next_year", "succeeded", "", "succeeded"),
];

#[test]
fn every_reason_to_stop() {
    needs!("sqlite3");
    for stream in ["never", "always"] {
        let config = simulator::Config { speed: 50.0, ..Default::default() };
        let lab = Lab::new(config, &Settings { stream, ..Settings::default() });
        let prompts: Vec<String> = REASONS
            .iter()
            .map(|(reason, ..)| {
                format!("[[out=7]] [[in=40]] [[cache_read=11]] [[cache_write=5]] [[stop={reason}]]")
            })
            .collect();
        let prompts = REASONS.iter().zip(&prompts);
        lab.insert(prompts.map(|((reason, ..), prompt)| (*reason, prompt.as_str())));
        assert_eq!(lab.until_empty(), 1, "one of them failed");
        for (reason, state, class, outcome) in REASONS {
            let row = format!(
                "SELECT r.state || ' ' || coalesce(r.error_class, '') || ' ' || a.outcome || ' '
                   || r.stop_reason || ' ' || a.stop_reason || ' ' || a.input_tokens || ' '
                   || a.cache_read_tokens || ' ' || a.cache_write_tokens || ' ' || a.output_tokens
                   || ' ' || (r.response ->> 'stop_reason') || ' ' || s.attempts
                 FROM results AS r JOIN attempts AS a ON a.job_id = r.id
                 JOIN job_state AS s ON s.id = r.id WHERE r.key = '{reason}'"
            );
            let expected =
                format!("{state} {class} {outcome} {reason} {reason} 40 11 5 7 {reason} 1");
            assert_eq!(lab.texts(&row), [expected], "{stream}");
        }
        assert_eq!(lab.simulator().stats().requests, 7, "nothing is called again");
        check_end(&lab, &[]);
    }
}

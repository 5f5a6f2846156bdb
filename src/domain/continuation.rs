//! A turn that the provider paused: whether another call goes on with it.
//!
//! Each call of a turn is an attempt of its own, with its own reservation and settlement; the job
//! is one, and ends with the last of them.

use super::attempt::Answer;

/// The calls of a turn so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Those before this one, all paused.
    pub calls: u32,
    /// Bytes of this one's body: what was asked, and all that was answered before.
    pub body_bytes: i64,
}

/// How far a turn may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Calls that go on.
    pub calls: u32,
    /// Bytes of a body.
    pub body_bytes: i64,
}

/// Whether the answer is a part that another call goes on with. Where it is not, it is the end,
/// and `stop_reason` says that the turn was paused.
pub fn goes_on(answer: &Answer, so_far: SoFar, bounds: Bounds) -> bool {
    let bytes = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
    answer.is_paused()
        && so_far.calls < bounds.calls
        && so_far.body_bytes.saturating_add(bytes) <= bounds.body_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { calls: 2, body_bytes: 100 };

    fn answer(stop_reason: &str, bytes: usize) -> Answer {
        Answer {
            body: "x".repeat(bytes),
            text: String::new(),
            stop_reason: Some(stop_reason.into()),
            model: None,
            usage: None,
            inference_geo: None,
        }
    }

    #[test]
    fn a_paused_turn_goes_on_until_its_bounds() {
        let goes = |stop_reason, bytes, calls, body_bytes| {
            goes_on(&answer(stop_reason, bytes), SoFar { calls, body_bytes }, BOUNDS)
        };
        assert!(goes("pause_turn", 40, 0, 60));
        assert!(goes("pause_turn", 40, 1, 60));
        assert!(!goes("pause_turn", 40, 2, 60), "so many calls");
        assert!(!goes("pause_turn", 41, 0, 60), "a body that nobody takes");
        assert!(!goes("pause_turn", 1, 0, i64::MAX));
        for stop_reason in ["end_turn", "max_tokens", "tool_use", "refusal"] {
            assert!(!goes(stop_reason, 40, 0, 60), "{stop_reason}");
        }
    }
}

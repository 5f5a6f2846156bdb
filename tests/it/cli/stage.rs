//! What the tests of the command line share: a directory with a queue, jobs in every state.

use crate::helper::{Said, Terminal, claudeq, sql};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A directory in which `claudeq` runs.
pub(super) struct Stage {
    dir: TempDir,
}

impl Stage {
    /// With nothing in it.
    pub(super) fn empty() -> Stage {
        Stage { dir: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    /// After `claudeq init`.
    pub(super) fn ready() -> Stage {
        let stage = Stage::empty();
        assert_eq!(stage.run(&["init"]).code, 0);
        stage
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path().join("queue.db")
    }

    /// A command of the binary, not yet run.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = claudeq();
        command.current_dir(self.path()).args(args).env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs the binary with pipes on all sides.
    pub(super) fn run(&self, args: &[&str]) -> Said {
        said(self.command(args))
    }

    /// What it prints when all goes well.
    pub(super) fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    }

    /// Runs it on a terminal of its own, of 100 columns; what appears there, and its exit code.
    pub(super) fn on_terminal(&self, args: &[&str]) -> Said {
        self.typing(args, None)
    }

    /// As [`Stage::on_terminal`]; the second text is typed once the first one has appeared.
    pub(super) fn when_it_says(&self, text: &str, typed: &str, args: &[&str]) -> Said {
        self.typing(args, Some((text, typed)))
    }

    fn typing(&self, args: &[&str], typing: Option<(&str, &str)>) -> Said {
        let terminal = Terminal::open(100);
        let mut command = terminal.command(env!("CARGO_BIN_EXE_claudeq"));
        command
            .args(args)
            .current_dir(self.path())
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR")
            .env_remove("CLAUDEQ_DB");
        terminal.run(command, typing)
    }

    /// Six jobs, one in each state: 1 queued, 2 running, 3 succeeded, 4 failed, 5 cancelled,
    /// 6 held; 3 and 4 are of the batch `nightly`, 4 is of the queue `side`.
    pub(super) fn with_every_state() -> Stage {
        let stage = Stage::ready();
        sql(&stage.database(), EVERY_STATE);
        stage
    }

    /// A single value from the database.
    pub(super) fn value(&self, select: &str) -> String {
        sql(&self.database(), select)
    }
}

/// Runs a command to its end.
pub(super) fn said(mut command: Command) -> Said {
    let output = command.output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// As the daemon would have left it.
const EVERY_STATE: &str = "
INSERT INTO jobs (prompt) VALUES ('waits'), ('runs');
INSERT INTO jobs (prompt, batch, key) VALUES ('is answered', 'nightly', 'k3');
INSERT INTO jobs (prompt, batch, queue) VALUES ('fails', 'nightly', 'side');
INSERT INTO jobs (prompt) VALUES ('is not wanted'), ('is dear');
INSERT INTO daemons (pid, host, version, started_at, heartbeat_at, stopped_at)
  VALUES (4121, 'host', '0.1.0', 1790000000000, 1790000000000, 1790000000000);
INSERT INTO attempts (id, job_id, number, epoch, queue, pool, model, output_mode, body_bytes,
  reserved_at, reserved_requests, reserved_input_tokens, reserved_output_tokens,
  worst_input_tokens, worst_output_tokens, worst_nanousd, settlement, settled_at, counted_at,
  settled_requests, settled_input_tokens, settled_output_tokens, settled_tokens, settled_nanousd,
  outcome, http_status, error_class, error, stop_reason, input_tokens, output_tokens, sent_at,
  done_at, request_id)
VALUES
  (1, 3, 1, 1, 'default', 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 90, 1790000000000,
   1, 20, 100, 1100, 4096, 90000000, 'actual', 1790000002000, 1790000002000, 1, 12, 34, 46,
   1550000, 'succeeded', 200, NULL, NULL, 'end_turn', 12, 34, 1790000000500, 1790000002000,
   'req_3'),
  (2, 4, 1, 1, 'side', 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 90, 1790000000000,
   1, 20, 100, 1100, 4096, 90000000, 'actual', 1790000001000, 1790000001000, 1, 0, 0, 0,
   0, 'failed', 400, 'invalid_request', 'messages: too many', NULL, NULL, NULL, 1790000000500,
   1790000001000, 'req_4');
INSERT INTO spending (slot, queue, model, calls, nanousd, tokens, input_tokens, output_tokens,
  unpriced)
SELECT reserved_at / 900000 * 900000, queue, model, 1, settled_nanousd, settled_tokens,
  settled_input_tokens, settled_output_tokens, 0 FROM attempts;
INSERT INTO responses (attempt_id, body, text)
  VALUES (1, '{\"type\": \"message\",' || char(10) || ' \"content\": []}', 'The answer.');
UPDATE job_state SET state = 'running', epoch = 1 WHERE id = 2;
UPDATE job_state SET state = 'succeeded', finished_seq = 1, finished_at = 1790000002000,
  attempts = 1, counted_attempts = 1, attempt_id = 1 WHERE id = 3;
UPDATE job_state SET state = 'failed', finished_seq = 2, finished_at = 1790000001000,
  attempts = 1, counted_attempts = 1, attempt_id = 2, error_class = 'invalid_request',
  error = 'messages: too many' WHERE id = 4;
UPDATE job_state SET state = 'cancelled', finished_seq = 3, finished_at = 1790000003000,
  error_class = 'cancelled', error = 'cancelled before it ran' WHERE id = 5;
UPDATE job_state SET state = 'held', error_class = 'cost_unbounded', error = 'it has images'
  WHERE id = 6;
UPDATE sequences SET value = 3 WHERE name = 'finished';
";

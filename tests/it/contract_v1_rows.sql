-- Rows as producers and a daemon leave them in a database of schema 1 (contract_v1.sql): jobs in
-- every state, in the middle of a call when the power went.

-- Producers. ----------------------------------------------------------------------------------

INSERT INTO jobs (id, prompt, key, batch, max_tokens, metadata, created_at) VALUES
  (1, 'Say hi', 'answered', 'night', 4096, '{"row":1}', 1700000000000),
  (2, 'Say something bad', 'refused', 'night', 4096, NULL, 1700000000000);
INSERT INTO jobs (id, request, key, created_at) VALUES
  (3, 'this is not JSON', 'invalid', 1700000000000);
INSERT INTO jobs (prompt, key, created_at) VALUES
  ('Never mind', 'cancelled', 1700000000000),
  ('Let me think', 'held', 1700000000000),
  ('Say ho', 'running', 1700000000000),
  ('Say hey', 'ready', 1700000000000);
INSERT INTO jobs (prompt, key, run_at, expires_at, created_at) VALUES
  ('Say good morning', 'due', 1700000001000, 4000000000000, 1700000000000),
  ('Say good night', 'expired', NULL, 1700000001000, 1700000000000),
  ('Say it later', 'delayed', 4000000000000, NULL, 1700000000000);
INSERT INTO jobs (prompt, key, queue, priority, system, model, max_attempts, created_at) VALUES
  ('Say moin', 'retrying', 'chat', 100, 'Be kind', 'claude-haiku-4-5', 3, 1700000000000);
INSERT INTO jobs (prompt, key, queue, created_at) VALUES
  ('Say servus', 'paused', 'elsewhere', 1700000000000);
INSERT INTO jobs (prompt, key, created_at) VALUES
  ('called, then deleted', 'gone', 1700000000000),
  ('never called, deleted', 'never', 1700000000000);

-- A daemon that was killed. -------------------------------------------------------------------

INSERT INTO daemons (epoch, pid, host, version, started_at, heartbeat_at, report) VALUES
  (1, 4121, 'host', '0.1.0', 1700000001000, 1700000002000,
   '{"as_of":1700000002000,"phase":"running","base_url":"http://127.0.0.1:8787","in_flight":1,'
   || '"max_in_flight":64,"held_back_by":null,"held_back":{},"forecast":null,"jobs_per_minute":4,'
   || '"trouble":null}');

INSERT INTO attempts (id, job_id, number, epoch, queue, batch, pool, model, output_mode, body_bytes,
  reserved_at, reserved_requests, reserved_input_tokens, reserved_output_tokens,
  worst_input_tokens, worst_output_tokens, worst_nanousd, settlement, settled_at, counted_at,
  settled_requests, settled_input_tokens, settled_output_tokens, settled_tokens, settled_nanousd,
  outcome, http_status, request_id, error_class, error, stop_reason, input_tokens, output_tokens,
  cache_read_tokens, cache_write_tokens, sent_at, first_byte_at, done_at, wait_reason, headers)
VALUES
  (1, 1, 1, 1, 'default', 'night', 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 95,
   1700000001100, 1, 48, 4096, 1119, 4096, 49979600, 'actual', 1700000001200, 1700000001190,
   1, 14, 2, 16, 48000, 'succeeded', 200, 'req_1', NULL, NULL, 'end_turn', 14, 2, 0, 0,
   1700000001110, 1700000001150, 1700000001190, NULL,
   '{"anthropic-ratelimit-requests-limit":"1000"}'),
  (2, 2, 1, 1, 'default', 'night', 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 106,
   1700000001100, 1, 53, 4096, 1130, 4096, 50028000, 'actual', 1700000001300, 1700000001290,
   1, 19, 0, 19, 38000, 'refused', 200, 'req_2', NULL, NULL, 'refusal', 19, 0, 0, 0,
   1700000001110, 1700000001150, 1700000001290, 'concurrency', NULL),
  (3, 13, 1, 1, 'default', NULL, 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 95,
   1700000001100, 1, 48, 4096, 1119, 4096, 49979600, 'actual', 1700000001200, 1700000001190,
   1, 14, 2, 16, 48000, 'succeeded', 200, 'req_3', NULL, NULL, 'end_turn', 14, 2, 0, 0,
   1700000001110, 1700000001150, 1700000001190, NULL, NULL),
  (4, 11, 1, 1, 'chat', NULL, 'haiku-4-5', 'claude-haiku-4-5', 'realtime', 112,
   1700000001100, 1, 56, 4096, 1136, 4096, NULL, 'released', 1700000001300, 1700000001290,
   1, 0, 0, 0, 0, 'overloaded', 529, 'req_4', 'overloaded', 'HTTP 529: overloaded_error: Overloaded',
   NULL, NULL, NULL, NULL, NULL, 1700000001110, 1700000001150, 1700000001290, NULL, NULL),
  (5, 6, 1, 1, 'default', NULL, 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 95,
   1700000001900, 1, 48, 4096, 1119, 4096, 49979600, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL);

INSERT INTO spending (slot, queue, model, calls, nanousd, tokens, input_tokens, output_tokens,
  unpriced) VALUES
  (1699999200000, 'default', 'claude-sonnet-5-5', 3, 134000, 51, 47, 4, 0),
  (1699999200000, 'chat', 'claude-haiku-4-5', 1, 0, 0, 0, 0, 1);

INSERT INTO responses (attempt_id, body, text) VALUES
  (1, '{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5-5",'
   || '"content":[{"type":"text","text":"Hi!"}],"stop_reason":"end_turn","stop_sequence":null,'
   || '"usage":{"input_tokens":14,"output_tokens":2}}', 'Hi!'),
  (2, '{"id":"msg_2","type":"message","role":"assistant","model":"claude-sonnet-5-5",'
   || '"content":[],"stop_reason":"refusal","stop_sequence":null,'
   || '"usage":{"input_tokens":19,"output_tokens":0}}', ''),
  (3, '{}', 'an answer whose job was deleted');

UPDATE job_state SET state = 'succeeded', attempts = 1, counted_attempts = 1, attempt_id = 1,
  finished_seq = 1, finished_at = 1700000001200 WHERE id = 1;
UPDATE job_state SET state = 'failed', attempts = 1, counted_attempts = 1, attempt_id = 2,
  finished_seq = 2, finished_at = 1700000001300, error_class = 'refusal',
  error = 'the model refused to answer; the response says more' WHERE id = 2;
UPDATE job_state SET state = 'failed', finished_seq = 3, finished_at = 1700000001300,
  error_class = 'invalid_request', error = 'the request is not a JSON object' WHERE id = 3;
UPDATE job_state SET state = 'cancelled', finished_seq = 4, finished_at = 1700000001400,
  error_class = 'cancelled', error = 'cancelled' WHERE id = 4;
UPDATE job_state SET state = 'held', error_class = 'held', error = 'held by hand' WHERE id = 5;
UPDATE job_state SET state = 'running', attempts = 1, epoch = 1, attempt_id = 5 WHERE id = 6;
UPDATE job_state SET attempts = 1, attempt_id = 4, next_attempt_at = 1700000002000,
  error_class = 'overloaded', error = 'HTTP 529: overloaded_error: Overloaded' WHERE id = 11;
UPDATE sequences SET value = 4 WHERE name = 'finished';
UPDATE sequences SET value = 3 WHERE name = 'counted';
UPDATE finished_counts SET jobs = 1 WHERE state = 'succeeded';
UPDATE finished_counts SET jobs = 2 WHERE state = 'failed';

INSERT INTO limit_snapshots (pool, dimension, per, amount, source, algorithm, burst_ms,
  burst_learned, capacity, level_shares, available, held, others, as_of) VALUES
  ('sonnet-5-5', 'requests', 'minute', 1000, 'headers', 'bucket', 3840, 1, 64, 2957000, 50, 1, 0,
   1700000001900);
INSERT INTO estimates (queue, model, answers, output_part, bytes_per_token, tokens_per_second,
  first_token_ms, learned, as_of) VALUES
  ('default', 'claude-sonnet-5-5', 2, NULL, NULL, NULL, NULL,
   '{"input":{"answers":2.0,"bytes":201.0,"tokens":33.0}}', 1700000001300);
INSERT INTO budget_snapshots (budget, period_start, period_end, cap, spent, reserved, as_of) VALUES
  ('usd/day/UTC/*', 1699920000000, 1700006400000, 5000000000, 134000, 49979600, 1700000001900);
INSERT INTO gates (name, reason, until, as_of) VALUES
  ('haiku-4-5', 'pause', 1700000003000, 1700000001300);

-- Somebody at the command line, and a producer again. -----------------------------------------

INSERT INTO pauses (queue, paused_at) VALUES ('elsewhere', 1700000001000);
DELETE FROM jobs WHERE key IN ('gone', 'never');

-- claudeq, schema 1.0: the contract.
--
-- This text also runs in the producer's own SQLite, however old (floor: 3.9): no STRICT, no JSON
-- functions, no generated columns, no expression indexes, no UPSERT in triggers, no window
-- functions, no unixepoch().
--
-- Where each row is checked, alternatives are joined by OR: for an IN with three or more values
-- SQLite builds a table in memory, for every row anew.
--
-- All times are Unix milliseconds. Money is in nano-dollars (1e-9 USD).

PRAGMA application_id = 0x636c6171;
PRAGMA user_version = 1000;

-- Tells this database from every other one, whatever its file is called.
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity (id) VALUES (lower(hex(randomblob(16))));

-- What a producer writes, and nothing else. -------------------------------------------------

CREATE TABLE jobs (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  prompt           TEXT,
  request          TEXT,
  system           TEXT,
  model            TEXT,
  max_tokens       INTEGER,
  queue            TEXT    NOT NULL DEFAULT 'default',
  batch            TEXT,
  key              TEXT,
  priority         INTEGER NOT NULL DEFAULT 0,
  run_at           INTEGER,
  expires_at       INTEGER,
  max_attempts     INTEGER,
  metadata         TEXT,
  created_at       INTEGER NOT NULL DEFAULT (
    CAST(strftime('%s', 'now') AS INTEGER) * 1000
    + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER)),
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  UNIQUE (queue, key),
  -- The second line of defence; the sentences are in the triggers. Older SQLite looks here before
  -- it makes the text '5' the number 5, and typeof would refuse what PHP and Perl bind; a
  -- comparison takes both. (An integer is one that a cast leaves as it is.)
  CHECK ((prompt IS NULL) <> (request IS NULL)),
  CHECK (priority = CAST(priority AS INTEGER) AND priority BETWEEN -100 AND 100),
  CHECK (max_tokens = CAST(max_tokens AS INTEGER)),
  CHECK (run_at = CAST(run_at AS INTEGER)),
  CHECK (expires_at = CAST(expires_at AS INTEGER)),
  CHECK (max_attempts = CAST(max_attempts AS INTEGER)),
  CHECK (cancel_requested = 0 OR cancel_requested = 1 OR cancel_requested = 2)
);

-- Of jobs that were deleted before their first call; those of the others stand in attempts.
CREATE TABLE deleted_ids (id INTEGER PRIMARY KEY);

-- What the daemon and the command line write. ------------------------------------------------

CREATE TABLE job_state (
  id               INTEGER PRIMARY KEY,
  queue            TEXT    NOT NULL,
  batch            TEXT,
  priority         INTEGER NOT NULL,
  state            TEXT    NOT NULL DEFAULT 'queued'
    CHECK (state = 'queued' OR state = 'running' OR state = 'succeeded' OR state = 'failed'
      OR state = 'cancelled' OR state = 'held'),
  attempts         INTEGER NOT NULL DEFAULT 0,  -- calls made
  counted_attempts INTEGER NOT NULL DEFAULT 0,  -- those that count against max_attempts
  next_attempt_at  INTEGER,                     -- NULL: ready (when queued)
  expires_at       INTEGER,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  epoch            INTEGER,                     -- the daemon that runs it
  attempt_id       INTEGER,                     -- the last one: in flight, or with the answer
  finished_seq     INTEGER,                     -- grows in the order of commits
  finished_at      INTEGER,
  error_class      TEXT,
  error            TEXT,
  max_tokens       INTEGER,                     -- asked by hand, in place of the job's own
  turn_from        INTEGER,                     -- first attempt of a turn that was paused
  CHECK ((state = 'running') = (epoch IS NOT NULL)),
  CHECK ((state = 'succeeded' OR state = 'failed' OR state = 'cancelled')
    = (finished_seq IS NOT NULL)),
  CHECK ((finished_seq IS NULL) = (finished_at IS NULL))
);

CREATE INDEX job_state_ready ON job_state (queue, priority DESC, id)
  WHERE state = 'queued' AND next_attempt_at IS NULL;
CREATE INDEX job_state_timed ON job_state (next_attempt_at)
  WHERE state = 'queued' AND next_attempt_at IS NOT NULL;
CREATE INDEX job_state_expiring ON job_state (expires_at)
  WHERE state = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX job_state_cancelling ON job_state (id)
  WHERE cancel_requested > 0 AND state IN ('queued', 'running', 'held');
CREATE INDEX job_state_running ON job_state (epoch) WHERE state = 'running';
CREATE UNIQUE INDEX job_state_finished ON job_state (finished_seq) WHERE finished_seq IS NOT NULL;
CREATE INDEX job_state_batch ON job_state (batch, state) WHERE batch IS NOT NULL;
CREATE INDEX job_state_class ON job_state (state, error_class);

-- The ledger: one row a call. No foreign key: it outlives its job.
CREATE TABLE attempts (
  id                     INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id                 INTEGER NOT NULL,
  number                 INTEGER NOT NULL,
  epoch                  INTEGER NOT NULL,
  queue                  TEXT    NOT NULL,
  batch                  TEXT,
  pool                   TEXT    NOT NULL,
  model                  TEXT    NOT NULL,
  output_mode            TEXT    NOT NULL CHECK (output_mode IN ('realtime', 'reserve')),
  body_bytes             INTEGER NOT NULL,
  -- Set aside before the call: expected for the limits, worst case for the budgets.
  reserved_at            INTEGER NOT NULL,
  reserved_requests      INTEGER NOT NULL,
  reserved_input_tokens  INTEGER NOT NULL,
  reserved_output_tokens INTEGER NOT NULL,
  worst_input_tokens     INTEGER NOT NULL,
  worst_output_tokens    INTEGER NOT NULL,
  worst_nanousd          INTEGER,               -- NULL: the model has no price
  -- What ended that; NULL while the call is in flight.
  settlement             TEXT CHECK (
    settlement = 'actual' OR settlement = 'released' OR settlement = 'assumed_spent'),
  settled_at             INTEGER,
  counted_at             INTEGER,               -- latest moment the provider may have counted it
  settled_requests       INTEGER,
  settled_input_tokens   INTEGER,
  settled_output_tokens  INTEGER,
  settled_tokens         INTEGER,               -- prompt and output, for token budgets
  settled_nanousd        INTEGER,
  -- How the call went.
  outcome                TEXT,
  http_status            INTEGER,
  request_id             TEXT,
  error_class            TEXT,
  error                  TEXT,
  stop_reason            TEXT,
  input_tokens           INTEGER,
  output_tokens          INTEGER,
  cache_read_tokens      INTEGER,
  cache_write_tokens     INTEGER,
  sent_at                INTEGER,
  first_byte_at          INTEGER,
  done_at                INTEGER,
  wait_reason            TEXT,                  -- what held it back before
  headers                TEXT,                  -- rate-limit headers, JSON
  UNIQUE (job_id, number),
  CHECK ((settlement IS NULL) = (settled_at IS NULL))
);

CREATE INDEX attempts_reserved ON attempts (reserved_at);
CREATE INDEX attempts_counted ON attempts (counted_at) WHERE counted_at IS NOT NULL;
CREATE INDEX attempts_open ON attempts (epoch) WHERE settlement IS NULL;
CREATE INDEX attempts_unknown ON attempts (job_id) WHERE outcome = 'unknown';
CREATE INDEX attempts_batch ON attempts (batch) WHERE batch IS NOT NULL;

-- What settled calls cost, by quarters of an hour of `reserved_at`: sums over attempts, written in
-- the transactions that settle them. Whoever asks what a day or a month cost reads these.
CREATE TABLE spending (
  slot          INTEGER NOT NULL,               -- begin of the quarter
  queue         TEXT    NOT NULL,
  model         TEXT    NOT NULL,
  calls         INTEGER NOT NULL,
  nanousd       INTEGER NOT NULL,
  tokens        INTEGER NOT NULL,               -- prompt and output
  input_tokens  INTEGER NOT NULL,               -- those that the limits count
  output_tokens INTEGER NOT NULL,
  unpriced      INTEGER NOT NULL,               -- calls of models without a price
  PRIMARY KEY (slot, queue, model)
);

CREATE TABLE responses (
  attempt_id INTEGER PRIMARY KEY,
  body       TEXT NOT NULL,                     -- the message: as it came, or put together
  text       TEXT NOT NULL                      -- its text blocks joined
);

CREATE TABLE sequences (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
);
INSERT INTO sequences (name, value) VALUES ('finished', 0), ('counted', 0);

-- Finished jobs by state, up to the number `counted`. Those behind it are few and counted by
-- index: nobody walks over ten million rows to learn how many there are.
CREATE TABLE finished_counts (
  state TEXT PRIMARY KEY,
  jobs  INTEGER NOT NULL
);
INSERT INTO finished_counts (state, jobs) VALUES ('succeeded', 0), ('failed', 0), ('cancelled', 0);

-- One row a daemon's life; its number fences everything it writes.
CREATE TABLE daemons (
  epoch        INTEGER PRIMARY KEY AUTOINCREMENT,
  pid          INTEGER NOT NULL,
  host         TEXT    NOT NULL,
  version      TEXT    NOT NULL,
  started_at   INTEGER NOT NULL,
  heartbeat_at INTEGER NOT NULL,
  stopped_at   INTEGER,
  report       TEXT                             -- what it says of itself, JSON
);

-- Derived from attempts, written in the same transactions.
CREATE TABLE limit_snapshots (
  pool          TEXT    NOT NULL,
  dimension     TEXT    NOT NULL,
  per           TEXT    NOT NULL,
  amount        INTEGER NOT NULL,
  source        TEXT    NOT NULL,
  algorithm     TEXT    NOT NULL,
  burst_ms      INTEGER,
  burst_learned INTEGER NOT NULL DEFAULT 0,
  capacity      INTEGER NOT NULL,
  level_shares  INTEGER,                        -- buckets: tokens x period in ms
  available     INTEGER NOT NULL,
  held          INTEGER NOT NULL,
  others        INTEGER NOT NULL DEFAULT 0,     -- what other users of the key take a period
  as_of         INTEGER NOT NULL,
  PRIMARY KEY (pool, dimension, per)
);

-- What was learned of the sizes of calls; an empty queue: the model over all queues.
CREATE TABLE estimates (
  queue             TEXT    NOT NULL,
  model             TEXT    NOT NULL,
  answers           INTEGER NOT NULL,             -- whose length it stands on; old ones fade
  output_part       REAL,                         -- mean output as a part of max_tokens
  bytes_per_token   REAL,                         -- of the body, for the input
  tokens_per_second REAL,                         -- of one answer
  first_token_ms    INTEGER,
  learned           TEXT    NOT NULL,             -- the daemon's own, as JSON
  as_of             INTEGER NOT NULL,
  PRIMARY KEY (queue, model)
);

CREATE TABLE budget_snapshots (
  budget       TEXT    NOT NULL,
  period_start INTEGER NOT NULL,
  period_end   INTEGER NOT NULL,
  cap          INTEGER NOT NULL,
  spent        INTEGER NOT NULL,
  reserved     INTEGER NOT NULL,
  as_of        INTEGER NOT NULL,
  PRIMARY KEY (budget, period_start)
);

-- What is shut, and until when: pools by name, the account as '*'.
CREATE TABLE gates (
  name   TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  until  INTEGER,
  as_of  INTEGER NOT NULL
);

-- Queues that somebody paused; '*' is every queue.
CREATE TABLE pauses (
  queue     TEXT PRIMARY KEY,
  paused_at INTEGER NOT NULL
);

-- Refusals, each in a sentence. ----------------------------------------------------------------
-- RAISE(ABORT) speaks through INSERT OR IGNORE and OR REPLACE alike; a CHECK would be swallowed.

CREATE TRIGGER jobs_refuse BEFORE INSERT ON jobs BEGIN
  SELECT RAISE(ABORT, 'jobs: give exactly one of prompt and request')
    WHERE (NEW.prompt IS NULL) = (NEW.request IS NULL);
  SELECT RAISE(ABORT, 'jobs.prompt must be text and not empty')
    WHERE NEW.prompt IS NOT NULL AND (typeof(NEW.prompt) <> 'text' OR length(NEW.prompt) = 0);
  SELECT RAISE(ABORT, 'jobs.request must be text: the JSON body of a Messages API call')
    WHERE NEW.request IS NOT NULL AND (typeof(NEW.request) <> 'text' OR length(NEW.request) = 0);
  SELECT RAISE(ABORT, 'jobs.system must be text')
    WHERE typeof(NEW.system) NOT IN ('null', 'text');
  SELECT RAISE(ABORT, 'jobs.model must be text of 1 to 200 characters')
    WHERE NEW.model IS NOT NULL
      AND (typeof(NEW.model) <> 'text' OR length(NEW.model) NOT BETWEEN 1 AND 200);
  SELECT RAISE(ABORT, 'jobs.max_tokens must be an integer from 0 to 10000000')
    WHERE NEW.max_tokens IS NOT NULL
      AND (typeof(NEW.max_tokens) <> 'integer' OR NEW.max_tokens NOT BETWEEN 0 AND 10000000);
  -- Plain names: text in SQLite may be any bytes, and a queue is read by its name. (A NUL ends the
  -- text for length and GLOB, but not for the bytes.)
  SELECT RAISE(ABORT, 'jobs.queue must be text of 1 to 200 printable ASCII characters and not ''*''; leave it out for ''default''')
    WHERE typeof(NEW.queue) <> 'text' OR length(NEW.queue) NOT BETWEEN 1 AND 200
      OR length(CAST(NEW.queue AS BLOB)) <> length(NEW.queue) OR NEW.queue GLOB '*[^ -~]*'
      OR NEW.queue = '*';
  SELECT RAISE(ABORT, 'jobs.batch must be text of 1 to 200 characters')
    WHERE NEW.batch IS NOT NULL
      AND (typeof(NEW.batch) <> 'text' OR length(NEW.batch) NOT BETWEEN 1 AND 200);
  SELECT RAISE(ABORT, 'jobs.key must be text of 1 to 500 characters')
    WHERE NEW.key IS NOT NULL
      AND (typeof(NEW.key) <> 'text' OR length(NEW.key) NOT BETWEEN 1 AND 500);
  SELECT RAISE(ABORT, 'jobs.priority must be an integer from -100 to 100; higher goes first')
    WHERE typeof(NEW.priority) <> 'integer' OR NEW.priority NOT BETWEEN -100 AND 100;
  SELECT RAISE(ABORT, 'jobs.run_at must be Unix time in milliseconds (an integer; seconds are refused)')
    WHERE NEW.run_at IS NOT NULL
      AND (typeof(NEW.run_at) <> 'integer'
        OR NEW.run_at NOT BETWEEN 100000000000 AND 253402300799999);
  SELECT RAISE(ABORT, 'jobs.expires_at must be Unix time in milliseconds (an integer; seconds are refused)')
    WHERE NEW.expires_at IS NOT NULL
      AND (typeof(NEW.expires_at) <> 'integer'
        OR NEW.expires_at NOT BETWEEN 100000000000 AND 253402300799999);
  SELECT RAISE(ABORT, 'jobs.expires_at must lie after jobs.run_at')
    WHERE NEW.run_at IS NOT NULL AND NEW.expires_at IS NOT NULL AND NEW.expires_at <= NEW.run_at;
  SELECT RAISE(ABORT, 'jobs.max_attempts must be an integer from 1 to 1000')
    WHERE NEW.max_attempts IS NOT NULL
      AND (typeof(NEW.max_attempts) <> 'integer' OR NEW.max_attempts NOT BETWEEN 1 AND 1000);
  SELECT RAISE(ABORT, 'jobs.metadata must be text')
    WHERE typeof(NEW.metadata) NOT IN ('null', 'text');
  SELECT RAISE(ABORT, 'jobs.created_at must be Unix time in milliseconds; leave it out for now')
    WHERE typeof(NEW.created_at) <> 'integer'
      OR NEW.created_at NOT BETWEEN 100000000000 AND 253402300799999;
  SELECT RAISE(ABORT, 'jobs.cancel_requested must be 0, 1 or 2')
    WHERE typeof(NEW.cancel_requested) <> 'integer' OR NEW.cancel_requested NOT BETWEEN 0 AND 2;
  -- Before the insert an id that was left out reads as -1, so -1 itself is caught afterwards.
  SELECT RAISE(ABORT, 'jobs.id must lie between 1 and 9007199254740991; leave it out to have one given')
    WHERE NEW.id <> -1 AND NEW.id NOT BETWEEN 1 AND 9007199254740991;
  -- AUTOINCREMENT goes on above the largest id there ever was: one job that took the last one
  -- would be the last of all. So the last 2^32 are only given, never taken.
  SELECT RAISE(ABORT, 'jobs.id: an id of your own must not be above 9007194959773695; leave it out to have one given')
    WHERE NEW.id > 9007194959773695 AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = NEW.id);
  SELECT RAISE(ABORT, 'jobs.key: this queue has a job with the same key and another prompt or request')
    WHERE NEW.key IS NOT NULL AND EXISTS (
      SELECT 1 FROM jobs AS same
      WHERE same.queue = NEW.queue AND same.key = NEW.key
        AND (same.prompt IS NOT NEW.prompt OR same.request IS NOT NEW.request));
  SELECT RAISE(ABORT, 'jobs.id: there is another job with this id; leave it out to have one given')
    WHERE NEW.id <> -1 AND EXISTS (
      SELECT 1 FROM jobs AS same
      WHERE same.id = NEW.id
        AND (same.prompt IS NOT NEW.prompt OR same.request IS NOT NEW.request
          OR same.queue <> NEW.queue OR same.key IS NOT NEW.key));
  -- A daemon may have read the other one's prompt already.
  SELECT RAISE(ABORT, 'jobs.id: a deleted job had this id; ids are never used again')
    WHERE NEW.id <> -1
      AND (EXISTS (SELECT 1 FROM deleted_ids WHERE id = NEW.id)
        OR EXISTS (SELECT 1 FROM attempts WHERE job_id = NEW.id))
      AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = NEW.id);
  -- The same job twice does nothing.
  SELECT RAISE(IGNORE)
    WHERE (NEW.id <> -1 AND EXISTS (SELECT 1 FROM jobs WHERE id = NEW.id))
      OR (NEW.key IS NOT NULL
        AND EXISTS (SELECT 1 FROM jobs WHERE queue = NEW.queue AND key = NEW.key));
END;

CREATE TRIGGER jobs_enqueue AFTER INSERT ON jobs BEGIN
  SELECT RAISE(ABORT, 'jobs.id must lie between 1 and 9007199254740991; leave it out to have one given')
    WHERE NEW.id NOT BETWEEN 1 AND 9007199254740991;
  INSERT INTO job_state (id, queue, batch, priority, next_attempt_at, expires_at, cancel_requested)
    VALUES (NEW.id, NEW.queue, NEW.batch, NEW.priority, NEW.run_at, NEW.expires_at,
      NEW.cancel_requested);
END;

CREATE TRIGGER jobs_guard BEFORE UPDATE OF
  id, prompt, request, system, model, max_tokens, queue, batch, key, priority, run_at, expires_at,
  max_attempts, metadata, created_at
ON jobs BEGIN
  SELECT RAISE(ABORT, 'jobs: only cancel_requested may be updated; insert a new job instead');
END;

-- The column list above is compared by name, and rowid is another name of id.
CREATE TRIGGER jobs_guard_rowid BEFORE UPDATE ON jobs WHEN NEW.id <> OLD.id BEGIN
  SELECT RAISE(ABORT, 'jobs: only cancel_requested may be updated; insert a new job instead');
END;

CREATE TRIGGER jobs_guard_cancel BEFORE UPDATE OF cancel_requested ON jobs BEGIN
  SELECT RAISE(ABORT, 'jobs.cancel_requested must be 0, 1 (a running call may end) or 2 (it is broken off)')
    WHERE typeof(NEW.cancel_requested) <> 'integer' OR NEW.cancel_requested NOT BETWEEN 0 AND 2;
END;

CREATE TRIGGER jobs_cancel AFTER UPDATE OF cancel_requested ON jobs BEGIN
  UPDATE job_state SET cancel_requested = NEW.cancel_requested WHERE id = NEW.id;
END;

CREATE TRIGGER jobs_guard_delete BEFORE DELETE ON jobs BEGIN
  SELECT RAISE(ABORT, 'jobs: a running job cannot be deleted; set cancel_requested = 1 and wait for its end')
    WHERE EXISTS (SELECT 1 FROM job_state WHERE id = OLD.id AND state = 'running');
END;

CREATE TRIGGER jobs_forget AFTER DELETE ON jobs BEGIN
  DELETE FROM job_state WHERE id = OLD.id;
  INSERT INTO deleted_ids (id)
    SELECT OLD.id WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE job_id = OLD.id);
END;

-- A finished job that is asked again or deleted counts no more.
CREATE TRIGGER job_state_uncount AFTER UPDATE OF finished_seq ON job_state
WHEN OLD.finished_seq IS NOT NULL BEGIN
  UPDATE finished_counts SET jobs = jobs - 1
    WHERE state = OLD.state
      AND OLD.finished_seq <= (SELECT value FROM sequences WHERE name = 'counted');
END;

CREATE TRIGGER job_state_uncount_deleted AFTER DELETE ON job_state
WHEN OLD.finished_seq IS NOT NULL BEGIN
  UPDATE finished_counts SET jobs = jobs - 1
    WHERE state = OLD.state
      AND OLD.finished_seq <= (SELECT value FROM sequences WHERE name = 'counted');
END;

-- What a consumer reads. -----------------------------------------------------------------------

-- One row a finished job; WHERE seq > ? ORDER BY seq is the way to consume.
CREATE VIEW results AS
SELECT
  s.finished_seq AS seq,
  s.id AS id,
  j.key AS key,
  s.queue AS queue,
  s.batch AS batch,
  s.state AS state,
  r.text AS text,
  r.body AS response,
  a.stop_reason AS stop_reason,
  s.error_class AS error_class,
  s.error AS error,
  s.attempts AS attempts,
  coalesce(a.model, j.model) AS model,
  -- Of a turn in several calls: all of them together.
  CASE WHEN s.turn_from IS NULL THEN a.input_tokens ELSE
    (SELECT sum(c.input_tokens) FROM attempts AS c
     WHERE c.job_id = s.id AND c.id >= s.turn_from) END AS input_tokens,
  CASE WHEN s.turn_from IS NULL THEN a.output_tokens ELSE
    (SELECT sum(c.output_tokens) FROM attempts AS c
     WHERE c.job_id = s.id AND c.id >= s.turn_from) END AS output_tokens,
  CASE WHEN s.turn_from IS NULL THEN a.cache_read_tokens ELSE
    (SELECT sum(c.cache_read_tokens) FROM attempts AS c
     WHERE c.job_id = s.id AND c.id >= s.turn_from) END AS cache_read_tokens,
  CASE WHEN s.turn_from IS NULL THEN a.cache_write_tokens ELSE
    (SELECT sum(c.cache_write_tokens) FROM attempts AS c
     WHERE c.job_id = s.id AND c.id >= s.turn_from) END AS cache_write_tokens,
  -- Every attempt counts, those of unknown fate at their worst; NULL when one has no price.
  (SELECT CASE WHEN count(*) = count(c.settled_nanousd)
     THEN total(c.settled_nanousd) / 1000000000.0 END
   FROM attempts AS c WHERE c.job_id = s.id) AS cost_usd,
  j.created_at AS created_at,
  s.finished_at AS finished_at,
  j.metadata AS metadata
FROM job_state AS s
JOIN jobs AS j ON j.id = s.id
LEFT JOIN attempts AS a ON a.id = s.attempt_id
LEFT JOIN responses AS r ON r.attempt_id = s.attempt_id
WHERE s.finished_seq IS NOT NULL;

-- Every job and its state, without bodies.
CREATE VIEW job_list AS
SELECT
  s.id AS id,
  j.key AS key,
  s.queue AS queue,
  s.batch AS batch,
  s.priority AS priority,
  s.state AS state,
  s.attempts AS attempts,
  s.counted_attempts AS counted_attempts,
  s.next_attempt_at AS next_attempt_at,
  j.run_at AS run_at,
  s.expires_at AS expires_at,
  j.model AS model,
  coalesce(s.max_tokens, j.max_tokens) AS max_tokens,
  j.max_attempts AS max_attempts,
  s.error_class AS error_class,
  s.error AS error,
  s.cancel_requested AS cancel_requested,
  j.created_at AS created_at,
  s.finished_at AS finished_at,
  s.finished_seq AS seq
FROM job_state AS s
JOIN jobs AS j ON j.id = s.id;

CREATE VIEW batches AS
SELECT
  s.batch AS batch,
  count(*) AS jobs,
  sum(s.state = 'queued') AS queued,
  sum(s.state = 'running') AS running,
  sum(s.state = 'succeeded') AS succeeded,
  sum(s.state = 'failed') AS failed,
  sum(s.state = 'cancelled') AS cancelled,
  sum(s.state = 'held') AS held,
  count(s.finished_seq) * 1.0 / count(*) AS progress,
  (SELECT total(a.settled_nanousd) / 1000000000.0 FROM attempts AS a WHERE a.batch = s.batch)
    AS cost_usd,
  max(s.finished_at) AS last_finished_at
FROM job_state AS s
WHERE s.batch IS NOT NULL
GROUP BY s.batch;

-- The limits as the daemon last wrote them.
CREATE VIEW limits_now AS
SELECT
  l.pool AS pool,
  l.dimension AS dimension,
  l.per AS per,
  l.amount AS amount,
  l.available AS available,
  l.held AS held,
  l.capacity AS capacity,
  l.algorithm AS algorithm,
  l.burst_ms AS burst_ms,
  l.burst_learned AS burst_learned,
  l.source AS source,
  l.others AS others,
  g.reason AS closed_by,
  g.until AS closed_until,
  l.as_of AS as_of
FROM limit_snapshots AS l
LEFT JOIN gates AS g ON g.name = l.pool
WHERE l.amount > 0;

// Inserts jobs and prints their results: node example.mjs queue.db
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

const db = new DatabaseSync(process.argv[2] ?? "queue.db");
// Only the daemon checkpoints.
db.exec("PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 0");
const batch = `node-${Date.now()}-${process.pid}`;

function transaction(work) {
  db.exec("BEGIN IMMEDIATE");
  try {
    work();
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

function insert() {
  const one = db.prepare("INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)");
  console.log(`inserted job ${one.run("What's up?", batch).lastInsertRowid}`);

  const cities = ["Oslo", "Lima", "Hanoi"];
  transaction(() => {
    for (const city of cities) one.run(`Say hello to ${city}`, batch);
  });
  console.log(`inserted ${cities.length} jobs in one transaction`);

  const keyed = db.prepare(
    "INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)",
  );
  for (let round = 0; round < 2; round++) {
    const { changes } = keyed.run("Say hi", batch, `${batch}-hi`);
    console.log(`inserted by key: ${changes} new`);
  }
}

// Gives each result of the batch once, until nothing of it is queued or running.
async function* results() {
  const version = db.prepare("PRAGMA data_version");
  const unfinished = db.prepare("SELECT queued + running AS jobs FROM batches WHERE batch = ?");
  const news = db.prepare(
    "SELECT seq, id, state, coalesce(text, error) AS text FROM results " +
      "WHERE seq > ? AND batch = ? ORDER BY seq",
  );
  let [seq, seen, left] = [0, undefined, 1];
  while (left > 0) {
    const now = version.get().data_version;
    if (now === seen) {
      await sleep(100);
      continue;
    }
    seen = now;
    // First what is left, then the results: none can slip in between.
    left = unfinished.get(batch).jobs;
    for (const row of news.all(seq, batch)) {
      seq = row.seq;
      yield row;
    }
  }
}

insert();
for await (const { id, state, text } of results()) {
  console.log(`job ${id} ${state}: ${text.replace(/\s+/g, " ")}`);
}
console.log("done");

"""Inserts jobs and prints their results: python3 example.py queue.db"""

import os
import sqlite3
import sys
import time


def connect(path):
    # isolation_level=None: transactions begin and end where this program says so.
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")  # only the daemon checkpoints
    return db


def insert(db, batch):
    insert_one = "INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)"
    one = db.execute(insert_one, ("What's up?", batch))
    print("inserted job", one.lastrowid)

    many = [("Say hello to " + city, batch) for city in ("Oslo", "Lima", "Hanoi")]
    with db:  # commits, or rolls back when an exception leaves it
        db.execute("BEGIN IMMEDIATE")
        db.executemany(insert_one, many)
    print("inserted", len(many), "jobs in one transaction")

    for _ in range(2):
        same = db.execute(
            "INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)",
            ("Say hi", batch, batch + "-hi"),
        )
        print("inserted by key:", same.rowcount, "new")


def results(db, batch):
    """Gives each result of the batch once, until nothing of it is queued or running."""
    seq, seen, left = 0, None, 1
    while left:
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version == seen:
            time.sleep(0.1)
            continue
        seen = version
        # First what is left, then the results: none can slip in between.
        (left,) = db.execute(
            "SELECT queued + running FROM batches WHERE batch = ?", (batch,)
        ).fetchone()
        rows = db.execute(
            "SELECT seq, id, state, coalesce(text, error) FROM results"
            " WHERE seq > ? AND batch = ? ORDER BY seq",
            (seq, batch),
        ).fetchall()
        for seq, job, state, text in rows:
            yield job, state, text


def main():
    db = connect(sys.argv[1] if len(sys.argv) > 1 else "queue.db")
    batch = "python-{}-{}".format(int(time.time()), os.getpid())
    insert(db, batch)
    for job, state, text in results(db, batch):
        print("job {} {}: {}".format(job, state, " ".join(text.split())))
    print("done")


if __name__ == "__main__":
    main()

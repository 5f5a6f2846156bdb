//! Inserts jobs and prints their results: cargo run -- queue.db

use rusqlite::{Connection, Result, TransactionBehavior, params};
use std::time::{Duration, SystemTime};
use std::{env, process, thread};

const INSERT: &str = "INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)";
const INSERT_KEYED: &str =
    "INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)";
const UNFINISHED: &str = "SELECT queued + running FROM batches WHERE batch = ?";
const NEWS: &str = "SELECT seq, id, state, coalesce(text, error) FROM results
    WHERE seq > ? AND batch = ? ORDER BY seq";

fn connect(path: &str) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?; // only the daemon checkpoints
    Ok(db)
}

fn insert(db: &mut Connection, batch: &str) -> Result<()> {
    db.execute(INSERT, params!["What's up?", batch])?;
    println!("inserted job {}", db.last_insert_rowid());

    let cities = ["Oslo", "Lima", "Hanoi"];
    // It is rolled back when it is dropped.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut insert = transaction.prepare(INSERT)?;
    for city in cities {
        insert.execute(params![format!("Say hello to {city}"), batch])?;
    }
    drop(insert);
    transaction.commit()?;
    println!("inserted {} jobs in one transaction", cities.len());

    let key = format!("{batch}-hi");
    for _ in 0..2 {
        let new = db.execute(INSERT_KEYED, params!["Say hi", batch, key])?;
        println!("inserted by key: {new} new");
    }
    Ok(())
}

/// Prints each result of the batch once, until nothing of it is queued or running.
fn results(db: &Connection, batch: &str) -> Result<()> {
    let mut unfinished = db.prepare(UNFINISHED)?;
    let mut news = db.prepare(NEWS)?;
    let (mut seq, mut seen, mut left) = (0_i64, None, 1_i64);
    while left > 0 {
        let version: i64 = db.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if seen == Some(version) {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        seen = Some(version);
        // First what is left, then the results: none can slip in between.
        left = unfinished.query_row([batch], |row| row.get(0))?;
        let mut rows = news.query(params![seq, batch])?;
        while let Some(row) = rows.next()? {
            seq = row.get(0)?;
            let (id, state, text): (i64, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
            let words: Vec<&str> = text.split_whitespace().collect();
            println!("job {id} {state}: {}", words.join(" "));
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args().nth(1).unwrap_or_else(|| "queue.db".to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let batch = format!("rust-{now}-{}", process::id());
    let mut db = connect(&path)?;
    insert(&mut db, &batch)?;
    results(&db, &batch)?;
    println!("done");
    Ok(())
}

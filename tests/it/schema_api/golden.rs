//! `tests/it/contract_v1.sql` is the schema as producers and consumers meet it: what a migrated
//! database has is compared with it to the letter.
//!
//! `CLAUDEQ_UPDATE_GOLDEN=1` writes it anew.

use crate::helper::schema::{database_of, rows_of, schema_of};
use crate::helper::{TempDb, updates_golden};
use std::path::Path;

const FILE: &str = "tests/it/contract_v1.sql";
const HEAD: &str = "\
-- A database of schema 1 as the migrations leave it: a whole file, in plain SQL.
--
-- tests/it/schema_api/golden.rs compares every migrated database with this text and writes it
-- (CLAUDEQ_UPDATE_GOLDEN=1); nobody edits it by hand.

";
const CURE: &str = "\
the schema is no longer the one in tests/it/contract_v1.sql.
  It was not meant: undo the change to migrations/.
  It was meant, and the version has been released: leave the old migrations alone, to the letter
  (databases remember their checksums). Add a new one to migrations/sqlite/ that only adds, count
  user_version up, tell docs/contract.md, then run CLAUDEQ_UPDATE_GOLDEN=1 cargo test golden.
  It was meant, and CHANGELOG.md names no release yet: the last command alone.
";

fn whole(database: &Path) -> String {
    let (schema, rows) = (schema_of(database), rows_of(database));
    format!("{HEAD}{schema}\n-- rows that are there from the beginning\n\n{rows}")
}

#[test]
fn the_schema_is_the_golden_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let now = whole(TempDb::create_now().path());
    if updates_golden() {
        std::fs::write(&path, &now).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is there");
    let first = now.lines().zip(golden.lines()).position(|(now, golden)| now != golden);
    let line = first.unwrap_or(now.lines().count().min(golden.lines().count()));
    assert!(
        now == golden,
        "{CURE}first at line {}:\n  golden: {}\n  now:    {}",
        line + 1,
        golden.lines().nth(line).unwrap_or("(its end)"),
        now.lines().nth(line).unwrap_or("(its end)"),
    );
}

/// A golden file that forgot something would let that drift.
#[tokio::test]
async fn the_golden_one_is_a_whole_database() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
    let db = database_of(&[&text]).await;
    assert_eq!(whole(db.path()), text);
    claudeq::store::Store::open(db.path()).await.expect("it is a database").close().await;
}

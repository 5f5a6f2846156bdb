//! Several statements with one hand-off to the connection's thread.
//!
//! Each hand-off costs two changes of threads, some 30 us on an idle machine and a millisecond on
//! a busy one: more than most statements.

use crate::store::error::{Doing, StoreError};
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Either, Executor as _, SqliteConnection};

/// Statements that run one after the other, until one fails.
#[derive(Default)]
pub(super) struct Batch {
    text: String,
    arguments: SqliteArguments,
    /// What each statement does.
    doing: Vec<&'static str>,
    /// Why a parameter could not be taken.
    refused: Option<sqlx::error::BoxDynError>,
}

/// A parameter.
pub(super) enum Parameter {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Parameter {
    fn from(value: i64) -> Parameter {
        Parameter::Integer(value)
    }
}

impl From<String> for Parameter {
    fn from(value: String) -> Parameter {
        Parameter::Text(value)
    }
}

impl From<Vec<u8>> for Parameter {
    fn from(value: Vec<u8>) -> Parameter {
        Parameter::Bytes(value)
    }
}

impl Batch {
    /// Adds a statement whose parameters are `?1`, `?2` …; gives its place among the results.
    pub(super) fn add<const N: usize>(
        &mut self,
        doing: &'static str,
        statement: &'static str,
        parameters: [Parameter; N],
    ) -> usize {
        if !self.text.is_empty() {
            self.text.push_str(";\n");
        }
        renumber(statement, self.arguments.len(), &mut self.text);
        for parameter in parameters {
            let added = match parameter {
                Parameter::Integer(value) => self.arguments.add(value),
                Parameter::Text(value) => self.arguments.add(value),
                Parameter::Bytes(value) => self.arguments.add(value),
            };
            self.refused = self.refused.take().or(added.err());
        }
        self.doing.push(doing);
        self.doing.len() - 1
    }

    /// Runs them; the rows of each.
    pub(super) async fn run(
        self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<Vec<SqliteRow>>, StoreError> {
        let mut rows: Vec<Vec<SqliteRow>> = self.doing.iter().map(|_| Vec::new()).collect();
        if rows.is_empty() {
            return Ok(rows);
        }
        if let Some(refused) = self.refused {
            return Err(sqlx::Error::Encode(refused)).doing("bind the values of statements");
        }
        let mut at = 0;
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        let mut steps = connection.fetch_many(query);
        loop {
            let doing = self.doing.get(at).copied().unwrap_or("end a group of statements");
            match steps.try_next().await.doing(doing)? {
                None => break,
                Some(Either::Left(_)) => at += 1,
                Some(Either::Right(row)) => {
                    if let Some(rows) = rows.get_mut(at) {
                        rows.push(row);
                    }
                }
            }
        }
        drop(steps);
        Ok(rows)
    }
}

/// Writes a statement with `?1` as the parameter behind the first `before`.
///
/// As `$3`, a name: the library takes the gap before a `?3` for parameters without a number.
fn renumber(statement: &str, before: usize, text: &mut String) {
    let mut parts = statement.split('?');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let number: usize = number.parse().unwrap_or_default();
        text.push('$');
        text.push_str(&(number + before).to_string());
        text.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use sqlx::Row as _;

    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("queue.db"), false).await.unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn each_statement_has_its_own_parameters_and_rows() {
        let (_dir, store) = store().await;
        let mut connection = store.writer.acquire().await.unwrap();
        let mut batch = Batch::default();
        let pair = batch.add("pair", "-- pair\nSELECT ?2, ?1", [1.into(), "a?2".to_owned().into()]);
        let none = batch.add("none", "SELECT 1 WHERE ?1 > 5", [4.into()]);
        let many =
            batch.add("many", "SELECT value FROM json_each(?1)", ["[7,8]".to_owned().into()]);
        let rows = batch.run(&mut connection).await.unwrap();
        assert_eq!(rows[pair][0].get::<String, _>(0), "a?2");
        assert_eq!(rows[pair][0].get::<i64, _>(1), 1);
        assert!(rows[none].is_empty());
        let values: Vec<i64> = rows[many].iter().map(|row| row.get(0)).collect();
        assert_eq!(values, [7, 8]);
        assert!(Batch::default().run(&mut connection).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_error_names_its_statement_and_ends_the_batch() {
        let (_dir, store) = store().await;
        let mut connection = store.writer.acquire().await.unwrap();
        let mut batch = Batch::default();
        batch.add("begin", "INSERT INTO sequences VALUES ('x', ?1)", [1.into()]);
        batch.add("go on", "INSERT INTO sequences VALUES ('x', ?1)", [2.into()]);
        batch.add("end", "INSERT INTO sequences VALUES ('y', ?1)", [3.into()]);
        let error = batch.run(&mut connection).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to go on");
        let count: i64 = sqlx::query_scalar("SELECT sum(value) FROM sequences")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(count, 1, "the first stays, the last did not run");
    }
}

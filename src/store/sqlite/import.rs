//! Many jobs at once, from a file: a group of rows is one statement in one short transaction.
//!
//! Only when not all of a group go in is it looked at more closely: what is there already is
//! looked up, and a row that is refused is found by halving.
//!
//! Invariant: rows go in from the first to the last; [`Imported::rows`] says up to where.

use super::Store;
use super::queue::ids;
use crate::domain::job::{JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::incoming::Incoming;
use sqlx::{Acquire as _, Row as _, Sqlite, SqliteConnection, Transaction};
use std::collections::HashMap;
use std::ops::Range;

/// Parts that are looked at closely in one transaction.
const PARTS: usize = 32;

/// The places of the values are those of [`Column`](crate::store::Column).
pub(super) const IMPORT: &str = "-- import
INSERT INTO jobs (prompt, request, key, system, model, max_tokens, queue, priority, batch, run_at,
  expires_at, max_attempts, metadata, id, created_at, cancel_requested)
SELECT v.value ->> 0, v.value ->> 1, v.value ->> 2, coalesce(v.value ->> 3, ?2),
  coalesce(v.value ->> 4, ?3), coalesce(v.value ->> 5, ?4), coalesce(v.value ->> 6, ?5),
  coalesce(v.value ->> 7, ?6), coalesce(v.value ->> 8, ?7), coalesce(v.value ->> 9, ?8),
  coalesce(v.value ->> 10, ?9), coalesce(v.value ->> 11, ?10), v.value ->> 12, v.value ->> 13,
  coalesce(v.value ->> 14, ?11), coalesce(v.value ->> 15, 0)
FROM jsonb_each(?1) AS v";

/// Jobs that are there under a row's key or id. `IS` compares as the column's type does.
macro_rules! taken {
    ($by_id:literal, $found_by:literal) => {
        concat!(
            "SELECT v.key AS at, j.id, s.state, s.attempts, ",
            $by_id,
            " AS by_id,
  j.prompt IS (v.value ->> 0) AND j.request IS (v.value ->> 1) AS is_same,
  j.prompt IS (v.value ->> 0) AND j.request IS (v.value ->> 1)
    AND j.key IS (v.value ->> 2) AND j.system IS coalesce(v.value ->> 3, ?2)
    AND j.model IS coalesce(v.value ->> 4, ?3) AND j.max_tokens IS coalesce(v.value ->> 5, ?4)
    AND j.queue IS coalesce(v.value ->> 6, ?5) AND j.priority IS coalesce(v.value ->> 7, ?6)
    AND j.batch IS coalesce(v.value ->> 8, ?7) AND j.run_at IS coalesce(v.value ->> 9, ?8)
    AND j.expires_at IS coalesce(v.value ->> 10, ?9)
    AND j.max_attempts IS coalesce(v.value ->> 11, ?10) AND j.metadata IS (v.value ->> 12)
    AND j.id IS coalesce(v.value ->> 13, j.id) AS is_equal
FROM jsonb_each(?1) AS v CROSS JOIN jobs AS j ON ",
            $found_by,
            " CROSS JOIN job_state AS s ON s.id = j.id"
        )
    };
}

pub(super) const FIND_TAKEN: &str = concat!(
    "-- find_taken\n",
    taken!("0", "j.queue = coalesce(v.value ->> 6, ?5) AND j.key = (v.value ->> 2)"),
    " UNION ALL ",
    taken!("1", "j.id = (v.value ->> 13)")
);

pub(super) const DELETE_JOBS: &str = "-- delete_jobs
DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?1))";

/// What becomes of a row whose key or id a job has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is refused.
    #[default]
    Error,
    /// It is left out.
    Skip,
    /// It takes the job's place, as long as that was not started; where nothing differs, it is
    /// left out.
    Replace,
}

/// How rows go in.
#[derive(Clone, Debug)]
pub struct ImportRule {
    /// What a row has that does not say.
    pub defaults: Defaults,
    /// For keys and ids that are taken.
    pub on_duplicate: OnDuplicate,
    /// Whether rows behind one that is refused go in.
    pub keep_going: bool,
    /// Whether all of it is undone at the end: nothing is written.
    pub rehearse: bool,
    /// For `created_at`.
    pub now: Timestamp,
}

/// Values of columns that a row leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the contract describes them")]
pub struct Defaults {
    pub system: Option<String>,
    pub model: Option<String>,
    pub max_tokens: Option<i64>,
    pub queue: String,
    pub priority: i64,
    pub batch: Option<String>,
    pub run_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub max_attempts: Option<i64>,
}

/// Why a row did not go in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The contract's own sentence.
    Sentence(String),
    /// Its key or id is a job's.
    Taken(Taken),
}

/// A job that has a row's key or id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its id.
    pub job: JobId,
    /// Where it is in its life.
    pub state: JobState,
    /// Calls that were made for it.
    pub attempts: i64,
    /// Whether it has the row's id, not its key.
    pub by_id: bool,
    /// Whether prompt or request are the same.
    pub is_same: bool,
    /// Whether all else is as well.
    pub is_equal: bool,
}

/// What became of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many of them are dealt with, from the first on.
    pub rows: usize,
    /// New jobs, those that took another's place included.
    pub added: usize,
    /// Jobs that gave their place.
    pub replaced: usize,
    /// Rows left out because their job was there.
    pub skipped: usize,
    /// … with another prompt or request.
    pub different: usize,
    /// Which rows were left out, where somebody asked: in a rehearsal.
    pub left_out: Vec<usize>,
    /// Rows that were refused, and why.
    pub refused: Vec<(usize, Refusal)>,
}

/// What an INSERT did.
enum Inserted {
    /// So many jobs are new.
    Jobs(usize),
    /// A row was refused, so none of them went in.
    None(String),
}

impl Store {
    /// Inserts a group of rows; what became of them is added to `done`, also when it fails on the
    /// way.
    ///
    /// # Errors
    /// When the database cannot be written. A row that is refused is no error.
    pub async fn import(
        &self,
        rows: &Incoming,
        rule: &ImportRule,
        done: &mut Imported,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let inserted = insert(&mut tx, rows.array(0..rows.len()), rule).await?;
        if let Inserted::Jobs(added) = inserted
            && (added == rows.len() || (rule.on_duplicate == OnDuplicate::Skip && !rule.rehearse))
        {
            end(tx, rule).await?;
            done.rows += rows.len();
            done.added += added;
            done.skipped += rows.len() - added;
            return Ok(());
        }
        tx.rollback().await.doing("undo an import")?;
        self.import_in_parts(rows, rule, done).await
    }

    /// Halves what does not go in as a whole. However many rows are refused, no transaction is
    /// long.
    async fn import_in_parts(
        &self,
        rows: &Incoming,
        rule: &ImportRule,
        done: &mut Imported,
    ) -> Result<(), StoreError> {
        let whole = 0..rows.len();
        let mut parts = vec![whole];
        while !parts.is_empty() {
            let mut tx = self.begin().await?;
            let mut placed = Imported::default();
            for _ in 0..PARTS {
                let Some(part) = parts.pop() else { break };
                let Some(some) = place(&mut tx, rows, part.clone(), rule).await? else {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                    continue;
                };
                if !some.refused.is_empty() && !rule.keep_going {
                    parts.clear();
                }
                placed.add(some);
            }
            end(tx, rule).await?;
            done.add(placed);
        }
        Ok(())
    }
}

impl Imported {
    fn add(&mut self, more: Imported) {
        self.rows += more.rows;
        self.added += more.added;
        self.replaced += more.replaced;
        self.skipped += more.skipped;
        self.different += more.different;
        self.left_out.extend(more.left_out);
        self.refused.extend(more.refused);
    }

    fn skip(&mut self, row: usize, is_same: bool) {
        self.skipped += 1;
        self.different += usize::from(!is_same);
        self.left_out.push(row);
    }
}

/// Deals with some rows, or gives nothing when only their halves can be.
async fn place(
    tx: &mut Transaction<'static, Sqlite>,
    rows: &Incoming,
    part: Range<usize>,
    rule: &ImportRule,
) -> Result<Option<Imported>, StoreError> {
    let taken = find_taken(tx, rows, part.clone(), rule).await?;
    let mut placed = Imported::default();
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for row in part.clone() {
        placed.rows += 1;
        let Some(job) = taken.get(&row) else {
            new.push(row);
            continue;
        };
        match rule.on_duplicate {
            OnDuplicate::Skip => placed.skip(row, job.is_same),
            OnDuplicate::Replace if job.is_equal => placed.skip(row, true),
            OnDuplicate::Replace if job.state.is_untouched(job.attempts) => {
                new.push(row);
                old.push(job.job);
            }
            OnDuplicate::Error | OnDuplicate::Replace => {
                placed.refused.push((row, Refusal::Taken(*job)));
                if !rule.keep_going {
                    break;
                }
            }
        }
    }
    if new.is_empty() {
        return Ok(Some(placed));
    }
    let mut nested = tx.begin().await.doing("begin a part of an import")?;
    if !old.is_empty() {
        delete(&mut nested, &old).await?;
    }
    match insert(&mut nested, rows.array(new.iter().copied()), rule).await? {
        Inserted::Jobs(added) if added == new.len() => {
            nested.commit().await.doing("end a part of an import")?;
            placed.added = added;
            placed.replaced = old.len();
            return Ok(Some(placed));
        }
        _ if part.len() > 1 => {
            nested.rollback().await.doing("undo a part of an import")?;
            return Ok(None);
        }
        Inserted::Jobs(_) => placed.skip(part.start, true),
        Inserted::None(sentence) => {
            placed.refused.push((part.start, Refusal::Sentence(sentence)));
        }
    }
    nested.rollback().await.doing("undo a part of an import")?;
    Ok(Some(placed))
}

async fn insert(
    connection: &mut SqliteConnection,
    rows: String,
    rule: &ImportRule,
) -> Result<Inserted, StoreError> {
    let inserted = bound(IMPORT, rows, rule).execute(connection).await.doing("import jobs");
    match inserted {
        Ok(done) => Ok(Inserted::Jobs(usize::try_from(done.rows_affected()).unwrap_or(0))),
        Err(error) => match error.refusal() {
            Some(sentence) => Ok(Inserted::None(sentence)),
            None => Err(error),
        },
    }
}

async fn find_taken(
    connection: &mut SqliteConnection,
    rows: &Incoming,
    part: Range<usize>,
    rule: &ImportRule,
) -> Result<HashMap<usize, Taken>, StoreError> {
    let first = part.start;
    let query = bound(FIND_TAKEN, rows.array(part), rule);
    let found = query.fetch_all(connection).await.doing("look for jobs that are there already")?;
    let mut taken = HashMap::new();
    for row in found {
        let at = usize::try_from(row.get::<i64, _>("at")).unwrap_or(0);
        let one = Taken {
            job: JobId(row.get("id")),
            state: JobState::parse(row.get("state")).unwrap_or(JobState::Running),
            attempts: row.get("attempts"),
            by_id: row.get("by_id"),
            is_same: row.get("is_same"),
            is_equal: row.get("is_equal"),
        };
        // Found by its key first, then by its id.
        taken.entry(first + at).or_insert(one);
    }
    Ok(taken)
}

async fn delete(connection: &mut SqliteConnection, jobs: &[JobId]) -> Result<(), StoreError> {
    sqlx::query(DELETE_JOBS)
        .bind(ids(jobs))
        .execute(connection)
        .await
        .doing("take jobs out that are replaced")?;
    Ok(())
}

fn bound<'q>(
    statement: &'static str,
    rows: String,
    rule: &'q ImportRule,
) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments> {
    let defaults = &rule.defaults;
    sqlx::query(statement)
        .bind(rows)
        .bind(&defaults.system)
        .bind(&defaults.model)
        .bind(defaults.max_tokens)
        .bind(&defaults.queue)
        .bind(defaults.priority)
        .bind(&defaults.batch)
        .bind(defaults.run_at.map(|at| at.0))
        .bind(defaults.expires_at.map(|at| at.0))
        .bind(defaults.max_attempts)
        .bind(rule.now.0)
}

async fn end(tx: Transaction<'static, Sqlite>, rule: &ImportRule) -> Result<(), StoreError> {
    if rule.rehearse {
        return tx.rollback().await.doing("undo a rehearsal");
    }
    tx.commit().await.doing("commit imported jobs")
}

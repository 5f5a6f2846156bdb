//! Groups of rows from a file.

use super::{Desk, T0, Witness};
use claudeq::domain::job::{JobId, JobState};
use claudeq::store::{
    Column, Defaults, ImportRule, Imported, Incoming, IncomingRow, OnDuplicate, Refusal,
};

fn rule(on_duplicate: OnDuplicate) -> ImportRule {
    let defaults = Defaults { queue: "default".into(), ..Defaults::default() };
    ImportRule { defaults, on_duplicate, keep_going: true, rehearse: false, now: T0 }
}

fn rows(list: &[&[(Column, &str)]]) -> Incoming {
    let mut rows = Incoming::default();
    for given in list {
        let mut row = IncomingRow::default();
        for (column, value) in *given {
            row.set(*column, *value);
        }
        rows.push(&row);
    }
    rows
}

/// Prompts with keys: `a=one b=two`.
fn keyed(text: &str) -> Incoming {
    let pairs: Vec<_> = text.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let cells: Vec<_> = pairs
        .iter()
        .map(|(key, prompt)| [(Column::Key, *key), (Column::Prompt, *prompt)])
        .collect();
    rows(&cells.iter().map(|row| &row[..]).collect::<Vec<_>>())
}

impl Desk {
    async fn import(&self, rows: &Incoming, rule: &ImportRule) -> Imported {
        let mut done = Imported::default();
        self.store.import(rows, rule, &mut done).await.expect("the database can be written");
        done
    }

    /// Keys and prompts in the order of ids.
    fn keys(&self) -> String {
        self.sql(
            "SELECT group_concat(key || '=' || prompt, ' ') FROM (SELECT * FROM jobs ORDER BY id);",
        )
    }
}

fn sentence(done: &Imported, at: usize) -> (usize, &str) {
    match &done.refused[at] {
        (row, Refusal::Sentence(sentence)) => (*row, sentence),
        (row, Refusal::Taken(_)) => (*row, "taken"),
    }
}

#[tokio::test]
async fn every_column_arrives_as_given() {
    let desk = Desk::open().await;
    let values: Vec<(Column, &str)> = Column::ALL
        .into_iter()
        .filter(|column| *column != Column::Request)
        .map(|column| {
            let value = match column {
                Column::Prompt => "one \"line\"\nand \u{1f389} \u{0} more",
                Column::MaxTokens => "7",
                Column::Priority => "-5",
                Column::RunAt => "1790000000001",
                Column::ExpiresAt => "1790000000002",
                Column::MaxAttempts => "3",
                Column::Id => "4711",
                Column::CreatedAt => "1780000000000",
                Column::CancelRequested => "1",
                other => other.name(),
            };
            (column, value)
        })
        .collect();
    let done = desk.import(&rows(&[&values]), &rule(OnDuplicate::Error)).await;
    assert_eq!((done.rows, done.added, done.refused.len()), (1, 1, 0), "{done:?}");
    assert_eq!(
        desk.sql(
            "SELECT id, hex(prompt), request, system, model, max_tokens, queue, batch, key,
               priority, run_at, expires_at, max_attempts, metadata, created_at, cancel_requested
             FROM jobs;"
        ),
        "4711|6F6E6520226C696E65220A616E6420F09F8E892000206D6F7265||system|model|7|queue|batch|key|\
         -5|1790000000001|1790000000002|3|metadata|1780000000000|1"
    );
}

#[tokio::test]
async fn what_a_row_leaves_out_has_the_defaults() {
    let desk = Desk::open().await;
    let mut rule = rule(OnDuplicate::Error);
    rule.defaults = Defaults {
        system: Some("s".into()),
        model: Some("m".into()),
        max_tokens: Some(7),
        queue: "q".into(),
        priority: 3,
        batch: Some("b".into()),
        run_at: Some(T0),
        expires_at: None,
        max_attempts: Some(2),
    };
    let given = rows(&[
        &[(Column::Prompt, "one")],
        &[(Column::Prompt, "two"), (Column::Queue, "other"), (Column::Priority, "0")],
    ]);
    assert_eq!(desk.import(&given, &rule).await.added, 2);
    assert_eq!(
        desk.sql(
            "SELECT prompt, system, model, max_tokens, queue, priority, batch,
               run_at - 1790000000000,
               expires_at, max_attempts, created_at - 1790000000000, cancel_requested
             FROM jobs ORDER BY id;"
        ),
        "one|s|m|7|q|3|b|0||2|0|0\ntwo|s|m|7|other|0|b|0||2|0|0"
    );
}

#[tokio::test]
async fn a_row_that_is_refused_is_found_and_its_neighbours_go_in() {
    let desk = Desk::open().await;
    let mut given = Vec::new();
    let names: Vec<String> = (0..100).map(|row| format!("p{row}")).collect();
    for (row, name) in names.iter().enumerate() {
        let priority = if [13, 14, 99].contains(&row) { "101" } else { "1" };
        given.push([(Column::Prompt, name.as_str()), (Column::Priority, priority)]);
    }
    let given = rows(&given.iter().map(|row| &row[..]).collect::<Vec<_>>());
    let done = desk.import(&given, &rule(OnDuplicate::Error)).await;
    assert_eq!((done.rows, done.added), (100, 97));
    let rule_of = "jobs.priority must be an integer from -100 to 100; higher goes first";
    for (at, row) in [13, 14, 99].into_iter().enumerate() {
        assert_eq!(sentence(&done, at), (row, rule_of));
    }
    let in_order = "SELECT group_concat(prompt, ' ') FROM (SELECT * FROM jobs ORDER BY id);";
    let others = names.iter().enumerate().filter(|(row, _)| ![13, 14, 99].contains(row));
    let others: Vec<&str> = others.map(|(_, name)| name.as_str()).collect();
    assert_eq!(desk.sql(in_order), others.join(" "));
}

#[tokio::test]
async fn the_first_refusal_is_the_last_row_that_is_looked_at() {
    let desk = Desk::open().await;
    let rule = ImportRule { keep_going: false, ..rule(OnDuplicate::Error) };
    let done = desk.import(&keyed("a=1 b=2 c= d=4 e="), &rule).await;
    assert_eq!((done.rows, done.added), (3, 2));
    assert_eq!(sentence(&done, 0), (2, "jobs.prompt must be text and not empty"));
    let again = desk.import(&keyed("x=1 b=2 c=3"), &rule).await;
    assert_eq!((again.rows, again.added, sentence(&again, 0)), (2, 1, (1, "taken")));
    assert_eq!(desk.keys(), "a=1 b=2 x=1");
}

#[tokio::test]
async fn text_as_an_id_is_refused_like_the_rest() {
    let desk = Desk::open().await;
    let given = rows(&[&[(Column::Prompt, "one"), (Column::Id, "x")], &[(Column::Prompt, "two")]]);
    let done = desk.import(&given, &rule(OnDuplicate::Error)).await;
    assert_eq!((sentence(&done, 0), done.added), ((0, "datatype mismatch"), 1));
}

#[tokio::test]
async fn duplicates_are_refused_whether_they_differ_or_not() {
    let desk = Desk::open().await;
    desk.import(&keyed("a=1 b=2"), &rule(OnDuplicate::Error)).await;
    let done = desk.import(&keyed("a=1 c=3 b=other c=3 c=4"), &rule(OnDuplicate::Error)).await;
    assert_eq!((done.rows, done.added, done.refused.len()), (5, 1, 4));
    let same: Vec<(usize, i64, bool)> = done
        .refused
        .iter()
        .filter_map(|(row, why)| match why {
            Refusal::Taken(by) => Some((*row, by.job.0, by.is_same)),
            Refusal::Sentence(_) => None,
        })
        .collect();
    assert_eq!(same, [(0, 1, true), (2, 2, false), (3, 3, true), (4, 3, false)]);
    assert_eq!(desk.keys(), "a=1 b=2 c=3");
}

#[tokio::test]
async fn duplicates_are_left_out() {
    let desk = Desk::open().await;
    desk.import(&keyed("a=1 b=2"), &rule(OnDuplicate::Skip)).await;
    let same = desk.import(&keyed("a=1 b=2 c=3"), &rule(OnDuplicate::Skip)).await;
    assert_eq!((same.rows, same.added, same.skipped, same.different), (3, 1, 2, 0));
    let done = desk.import(&keyed("a=9 b=2 d=4 d=5 d=4"), &rule(OnDuplicate::Skip)).await;
    assert_eq!((done.rows, done.added, done.skipped, done.different), (5, 1, 4, 2));
    assert_eq!(desk.keys(), "a=1 b=2 c=3 d=4");
}

#[tokio::test]
async fn only_a_job_that_was_not_started_gives_its_place() {
    let desk = Desk::open().await;
    desk.import(&keyed("waits=1 same=2 runs=3 ended=4"), &rule(OnDuplicate::Error)).await;
    let leases = desk.start(&[JobId(3)], T0).await;
    assert_eq!(leases.len(), 1);
    desk.sql(
        "UPDATE job_state SET state = 'cancelled', finished_seq = 1, finished_at = 1 WHERE id = 4;",
    );
    let done = desk
        .import(&keyed("waits=9 same=2 runs=9 ended=9 new=9 new=10"), &rule(OnDuplicate::Replace))
        .await;
    assert_eq!((done.rows, done.added, done.replaced, done.skipped), (6, 3, 2, 1), "{done:?}");
    let refused: Vec<(usize, JobState)> = done
        .refused
        .iter()
        .filter_map(|(row, why)| match why {
            Refusal::Taken(by) => Some((*row, by.state)),
            Refusal::Sentence(_) => None,
        })
        .collect();
    assert_eq!(refused, [(2, JobState::Running), (3, JobState::Cancelled)]);
    assert_eq!(desk.keys(), "same=2 runs=3 ended=4 waits=9 new=10");
    assert_eq!(desk.sql("SELECT count(*) FROM job_state;"), "5");
    // What has ended or runs, and is wanted as it is, is nothing to complain about.
    let again = desk.import(&keyed("runs=3 ended=4"), &rule(OnDuplicate::Replace)).await;
    assert_eq!((again.skipped, again.refused.len()), (2, 0));
}

#[tokio::test]
async fn another_priority_alone_is_worth_replacing() {
    let desk = Desk::open().await;
    desk.import(&keyed("a=1"), &rule(OnDuplicate::Error)).await;
    let urgent = |priority| {
        let mut rule = rule(OnDuplicate::Replace);
        rule.defaults.priority = priority;
        rule
    };
    assert_eq!(desk.import(&keyed("a=1"), &urgent(0)).await.skipped, 1);
    assert_eq!(desk.import(&keyed("a=1"), &urgent(9)).await.replaced, 1);
    assert_eq!(desk.sql("SELECT id, priority FROM job_state;"), "2|9");
}

#[tokio::test]
async fn ids_are_never_used_again() {
    let desk = Desk::open().await;
    let with_id = |prompt| rows(&[&[(Column::Prompt, prompt), (Column::Id, "7")]]);
    desk.import(&with_id("one"), &rule(OnDuplicate::Error)).await;
    let same = desk.import(&with_id("one"), &rule(OnDuplicate::Skip)).await;
    assert_eq!((same.skipped, same.different), (1, 0));
    let other = desk.import(&with_id("two"), &rule(OnDuplicate::Skip)).await;
    assert_eq!((other.skipped, other.different), (1, 1));
    let other = desk.import(&with_id("two"), &rule(OnDuplicate::Replace)).await;
    let said = "jobs.id: a deleted job had this id; ids are never used again";
    assert_eq!((sentence(&other, 0), other.replaced), ((0, said), 0));
    assert_eq!(desk.sql("SELECT id, prompt FROM jobs;"), "7|one", "it is still there");
}

#[tokio::test]
async fn a_rehearsal_writes_nothing() {
    let desk = Desk::open().await;
    desk.import(&keyed("a=1"), &rule(OnDuplicate::Error)).await;
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    for on_duplicate in [OnDuplicate::Skip, OnDuplicate::Replace, OnDuplicate::Error] {
        let rule = ImportRule { rehearse: true, ..rule(on_duplicate) };
        let done = desk.import(&keyed("a=2 b=2 c="), &rule).await;
        assert_eq!((done.rows, done.refused.last().map(|(row, _)| *row)), (3, Some(2)));
        let left_out: &[usize] = if on_duplicate == OnDuplicate::Skip { &[0] } else { &[] };
        assert_eq!(done.left_out, left_out);
    }
    assert_eq!(witness.version().await, before);
    witness.leave().await;
    assert_eq!(desk.keys(), "a=1");
    assert_eq!(desk.import(&Incoming::default(), &rule(OnDuplicate::Error)).await.rows, 0);
}

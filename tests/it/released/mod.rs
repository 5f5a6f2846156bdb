//! Databases of every version that people have: the present program brings each up to date, loses
//! nothing of it, and keeps what its contract promised.
//!
//! `tests/it/released/X.Y.Z.sql` is a database as the release X.Y.Z left it, in plain SQL. As long
//! as nothing is released, the present schema is all there is.

use crate::helper::schema::{database_of, fill, schema_of};
use crate::helper::{Lab, Settings, TempDb, sql, sqlite3, updates_golden};
use claudeq::simulator;
use std::path::{Path, PathBuf};

const PRESENT: &str = include_str!("../contract_v1.sql");
const ROWS: &str = include_str!("../contract_v1_rows.sql");
const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/released")
}

/// Each with its name: the releases, and what the next one will leave.
fn versions() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut found: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "sql"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("it is text");
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text)
        })
        .collect();
    found.sort();
    found.push(("the present one".to_owned(), present()));
    found
}

fn present() -> String {
    format!("{PRESENT}\n{ROWS}")
}

/// The versions that the changelog names: `## [1.2.3] - 2027-01-01`.
fn releases(changelog: &str) -> Vec<&str> {
    let heads = changelog.lines().filter_map(|line| line.strip_prefix("## ["));
    let names = heads.filter_map(|line| line.split(']').next());
    names.filter(|name| *name != "Unreleased").collect()
}

#[test]
fn every_release_has_its_database_here() {
    for release in releases(CHANGELOG) {
        let path = folder().join(format!("{release}.sql"));
        if updates_golden() && !path.exists() {
            std::fs::write(&path, present()).expect("it can be written");
        }
        assert!(
            path.exists(),
            "CHANGELOG.md has {release}, but tests/it/released/{release}.sql is missing: keep the \
             database that it leaves (CLAUDEQ_UPDATE_GOLDEN=1 cargo test every_release), and never \
             change that file again"
        );
    }
    assert_eq!(releases("## [Unreleased]\n\n## [0.1.0] - 2026-11-24\n"), ["0.1.0"]);
}

/// The place of a test in which such a database takes the place of a new one.
fn lab_with(text: &str) -> Lab {
    let config = simulator::Config { speed: 200.0, ..Default::default() };
    let rest = "[[budget]]\nusd = 5.0\nper = \"day\"\ntimezone = \"UTC\"\nallow_unbounded = true\n";
    let lab = Lab::new(config, &Settings { rest: rest.to_owned(), ..Settings::default() });
    std::fs::remove_file(lab.database()).expect("it is ours");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(fill(lab.database(), &[text]));
    lab
}

/// What had ended before, and how.
const ENDED: &str = "SELECT seq, key, state, error_class, text, error, cost_usd, finished_at
    FROM results WHERE seq <= 4 ORDER BY seq;";

#[test]
fn a_daemon_brings_it_up_to_date_and_goes_on() {
    for (version, text) in versions() {
        let lab = lab_with(&text);
        let ended = sql(lab.database(), ENDED);
        assert_eq!(ended.lines().count(), 4, "{version}: {ended}");
        let daemon = lab.start();
        lab.until("SELECT count(*) = 9 FROM results");
        assert_eq!(daemon.stop(), 0, "{version}");

        assert_eq!(sql(lab.database(), ENDED), ended, "{version}: what has ended is as it was");
        let later = "SELECT key || ' ' || state FROM results WHERE seq > 4 ORDER BY key";
        let all = [
            "due succeeded",
            "expired failed",
            "ready succeeded",
            "retrying succeeded",
            "running succeeded",
        ];
        assert_eq!(lab.texts(later), all, "{version}");
        let waiting = "SELECT key || ' ' || state FROM job_list WHERE seq IS NULL ORDER BY key";
        assert_eq!(
            lab.texts(waiting),
            ["delayed queued", "held held", "paused queued"],
            "{version}"
        );
        // The call that was out when the power went; the job's next one has the next number.
        let calls = "SELECT number || ' ' || outcome || ' ' || settlement FROM attempts
            WHERE job_id = 6 ORDER BY number";
        assert_eq!(
            lab.texts(calls),
            ["1 unknown assumed_spent", "2 succeeded actual"],
            "{version}"
        );
        let summed = "SELECT (SELECT sum(calls) FROM spending)
            = (SELECT count(*) FROM attempts WHERE settlement IS NOT NULL)";
        assert_eq!(lab.number(summed), 1, "{version}");
        let new = TempDb::create_now();
        let (found, wanted) = (schema_of(lab.database()), schema_of(new.path()));
        assert_eq!(found, wanted, "{version}: it is now like a new one");
    }
}

#[test]
fn producers_and_people_go_on_with_it() {
    for (version, text) in versions() {
        let lab = lab_with(&text);
        assert_eq!(lab.start().stop(), 0, "{version}");
        let again = "INSERT INTO jobs (prompt, key) VALUES ('Say hi', 'answered');
            SELECT changes();
            INSERT INTO jobs (prompt, key) VALUES ('free again', 'gone');
            SELECT changes();";
        assert_eq!(lab.sql(again), "0\n1", "{version}");
        let other = "INSERT INTO jobs (prompt, key) VALUES ('Say bye', 'answered');";
        let refused = sqlite3(lab.database(), other);
        assert!(refused.err.contains("the same key and another prompt"), "{version}: {refused:?}");
        lab.claudeq(&["release", "--key", "held"]).unwrap();
        lab.claudeq(&["resume", "elsewhere"]).unwrap();
        lab.claudeq(&["retry", "--key", "refused"]).unwrap();
        lab.claudeq(&["cancel", "--key", "delayed", "-y"]).unwrap();
        assert_eq!(lab.until_empty(), 0, "{version}: none fails in this life");
        assert_eq!(lab.states(), "cancelled 2, failed 2, succeeded 9", "{version}");
        let status = lab.claudeq(&["status", "--json"]).unwrap();
        let counts = r#""counts":{"cancelled":2,"failed":2,"held":0,"queued":0,"running":0,"#;
        assert!(status.contains(counts), "{version}: {status}");
    }
}

/// What a program could rely on and no longer can: columns with their place, kind and default, and
/// sentences.
fn lost(old: &Path, new: &Path) -> Vec<String> {
    const COLUMNS: &str = "SELECT m.name || '.' || c.name || ' ' || c.type || ' '
          || ifnull(replace(c.dflt_value, char(10), ' '), '')
        FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
        WHERE m.type = 'view' OR m.name IN ('jobs', 'attempts', 'responses')
        ORDER BY m.name, c.cid;";
    let refusals = |path: &Path| {
        let triggers = sql(path, "SELECT sql FROM sqlite_master WHERE type = 'trigger';");
        let said = triggers.split("RAISE(ABORT, '").skip(1);
        said.map(|part| part.split("')").next().unwrap_or_default().to_owned()).collect()
    };
    let columns = |path: &Path| sql(path, COLUMNS).lines().map(str::to_owned).collect();
    let gone = |of: &dyn Fn(&Path) -> Vec<String>| {
        let new = of(new);
        of(old).into_iter().filter(|one| !new.contains(one)).collect::<Vec<_>>()
    };
    let mut found = gone(&columns);
    found.extend(gone(&refusals));
    // The old ones among the new ones, which stand in the old order.
    let (before, mut after) = (columns(old), columns(new));
    after.retain(|column| before.contains(column));
    if found.is_empty() && after != before {
        found.push("the order of columns".to_owned());
    }
    found
}

#[tokio::test]
async fn what_was_promised_is_kept() {
    let new = TempDb::create().await;
    for (version, text) in versions() {
        let old = database_of(&[&text]).await;
        assert_eq!(lost(old.path(), new.path()), [""; 0], "{version}");
    }
}

/// The present schema on one line, without comments.
fn plain() -> String {
    let lines = PRESENT.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_broken_promise_is_found() {
    let broken = [
        ("system TEXT,", "system BLOB,", "jobs.system TEXT "),
        ("priority INTEGER NOT NULL DEFAULT 0", "priority INTEGER", "jobs.priority INTEGER 0"),
        ("s.id AS id, j.key AS key,", "j.key AS key, s.id AS id,", "the order of columns"),
        ("g.until AS closed_until,", "", "limits_now.closed_until INTEGER "),
        ("jobs.system must be text", "jobs.system may be text", "jobs.system must be text"),
    ];
    let plain = plain();
    let old = database_of(&[&plain]).await;
    for (was, is, named) in broken {
        assert!(plain.contains(was), "{was}");
        let new = database_of(&[&plain.replacen(was, is, 1)]).await;
        let found = lost(old.path(), new.path());
        assert!(found.len() == 1 && found[0] == named, "{was}: {found:?}");
    }
}

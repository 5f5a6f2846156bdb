//! docs/contract.md against the schema: every column, every refusal, every state.

use super::{CHANGELOG, CONTRACT};
use crate::helper::markdown::{block, code, rows, section};
use crate::helper::{Lab, Settings, TempDb, eventually, needs, sql};
use claudeq::domain::job::{JobEvent, JobState};
use claudeq::simulator;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_contract.sql");

/// Headings that name a table or view, each with the name.
fn documented() -> Vec<(&'static str, String)> {
    let headings = CONTRACT.lines().filter(|line| line.starts_with("##"));
    headings
        .filter_map(|line| Some((line, code(line).first()?.clone())))
        .filter(|(_, name)| !name.contains(' ') && name != "error_class")
        .collect()
}

/// Name, type and default of a table's or view's columns.
fn columns(db: &TempDb, name: &str) -> Vec<[String; 3]> {
    let query = format!(
        "SELECT name || '|' || lower(type) || '|' || CASE
           WHEN name = 'created_at' AND dflt_value LIKE '%strftime%' THEN 'now'
           ELSE ifnull(dflt_value, 'NULL') END FROM pragma_table_info('{name}');"
    );
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        [cells[0].to_owned(), cells[1].to_owned(), cells[2].to_owned()]
    };
    sql(db.path(), &query).lines().map(row).collect()
}

#[test]
fn every_column_is_described() {
    let db = TempDb::create_now();
    for (heading, name) in documented() {
        let part = section(CONTRACT, heading);
        let rows = rows(part, "column");
        let described: Vec<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
        let columns = columns(&db, &name);
        let names: Vec<&str> = columns.iter().map(|column| column[0].as_str()).collect();
        assert_eq!(described, names, "the columns of {name} in their order");
        if name == "jobs" {
            for (row, [_, kind, default]) in rows.iter().zip(&columns) {
                let said = row[2].trim_matches('`').replace("the next one", "NULL");
                assert_eq!((&row[1], &said), (kind, default), "{}", row[0]);
            }
        }
    }
}

#[test]
fn every_table_and_view_is_named() {
    let db = TempDb::create_now();
    let query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')
        AND name NOT LIKE 'sqlite_%';";
    let objects = sql(db.path(), query);
    let described: BTreeSet<String> = documented().into_iter().map(|(_, name)| name).collect();
    let own = code(CONTRACT.split("are the daemon's own").next().unwrap());
    let own: BTreeSet<&String> = own.iter().rev().take(6).collect();
    for name in objects.lines() {
        let name = name.to_owned();
        assert!(described.contains(&name) != own.contains(&name), "{name}: {own:?}");
    }
    assert_eq!(objects.lines().count(), described.len() + own.len(), "{described:?} {own:?}");
}

/// What stands in the schema's `RAISE(ABORT, '…')`.
fn sentences() -> BTreeSet<String> {
    let parts = SCHEMA.split("RAISE(ABORT, '").skip(1);
    let sentence = |part: &str| {
        let marked = part.replace("''", "\0");
        marked.split('\'').next().unwrap_or_default().replace('\0', "'")
    };
    parts.map(sentence).collect()
}

#[test]
fn every_refusal_is_there_word_for_word() {
    let said = sentences();
    assert!(said.len() > 20, "{said:?}");
    let tables = [rows(CONTRACT, "on INSERT"), rows(CONTRACT, "on UPDATE and DELETE")].concat();
    let described: BTreeSet<String> =
        tables.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(described, said);
}

#[test]
fn states_and_what_follows_them() {
    let states: Vec<String> =
        rows(CONTRACT, "state").iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(states, JobState::ALL.map(JobState::as_str));
    let described: BTreeSet<(String, String)> = rows(CONTRACT, "from")
        .iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[2].trim_matches('`').to_owned()))
        .collect();
    let events = [
        JobEvent::Lease,
        JobEvent::Succeed,
        JobEvent::Fail,
        JobEvent::Requeue,
        JobEvent::Hold,
        JobEvent::Release,
        JobEvent::Cancel,
        JobEvent::Retry,
    ];
    let mut possible = BTreeSet::new();
    for state in JobState::ALL {
        let next = events.iter().filter_map(|event| state.next(*event).ok());
        possible.extend(next.map(|next| (state.to_string(), next.to_string())));
    }
    assert_eq!(described, possible);
}

/// Words in small letters between quotes, within one function or `impl` of a source file.
fn words(file: &str, begin: &str) -> BTreeSet<String> {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
    let (_, rest) = source.split_once(begin).unwrap_or_else(|| panic!("{file}: {begin}"));
    let end = if begin.starts_with("impl") { "\n}\n" } else { "\n    }\n" };
    let body = rest.split(end).next().unwrap_or_default();
    let is_word = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    body.split('"').skip(1).step_by(2).filter(is_word).map(str::to_owned).collect()
}

/// Columns whose words come from one place: table, column, file, its begin, further words.
const WORDS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("attempts", "outcome", "src/domain/attempt.rs", "fn word(", &[]),
    ("attempts", "settlement", "src/domain/reservation.rs", "impl SettlementKind {", &[]),
    ("attempts", "wait_reason", "src/domain/reason.rs", "pub fn as_str(", &[]),
    ("gates", "reason", "src/domain/gate.rs", "pub fn as_str(", &[]),
    ("limits_now", "dimension", "src/domain/limit.rs", "impl Dimension {", &["starts"]),
    ("limits_now", "per", "src/domain/limit.rs", "impl Per {", &[]),
    ("limits_now", "source", "src/domain/limit.rs", "impl LimitSource {", &["learned"]),
];

#[test]
fn every_word_of_a_column_is_named() {
    for (table, column, file, begin, further) in WORDS {
        let (heading, _) = documented().into_iter().find(|(_, name)| name == table).unwrap();
        let rows = rows(section(CONTRACT, heading), "column");
        let row = rows.iter().find(|row| row[0] == format!("`{column}`")).unwrap();
        let said: BTreeSet<String> = code(&row[2]).into_iter().collect();
        let mut known = words(file, begin);
        known.extend(further.iter().map(|word| (*word).to_owned()));
        assert!(known.len() > 2, "{file}: {begin}");
        let missing: Vec<&String> = known.difference(&said).collect();
        let invented: Vec<&String> = said.difference(&known).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{table}.{column}: {missing:?} {invented:?}"
        );
    }
}

/// A class that is given to a failure stands in the table, and none stands there that is not given.
#[test]
fn every_class_of_errors_is_named() {
    let named: BTreeSet<String> =
        rows(CONTRACT, "class").iter().flat_map(|row| code(&row[0])).collect();
    let mut given = words("src/claude/error.rs", "fn class(");
    given.retain(|word| !word.ends_with("_error") || word == "api_error");
    let mut literals = BTreeSet::new();
    for folder in ["src/claude", "src/daemon", "src/store"] {
        for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            given.extend(source.split("class: \"").skip(1).map(first_word));
            literals.extend(source.split(['"', '\'']).map(str::to_owned));
        }
    }
    let missing: Vec<&String> = given.difference(&named).collect();
    assert!(given.len() > 15 && missing.is_empty(), "{missing:?}");
    let invented: Vec<&String> = named.difference(&literals).collect();
    assert!(invented.is_empty(), "{invented:?}");
}

fn first_word(text: &str) -> String {
    text.split('"').next().unwrap_or_default().to_owned()
}

/// The text of every source file below a folder, those of tests left out.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if !path.to_string_lossy().ends_with("tests.rs") {
            found.push(std::fs::read_to_string(&path).expect("a source file is UTF-8"));
        }
    }
    found
}

#[test]
fn the_marks_of_the_file() {
    let db = TempDb::create_now();
    let marks = sql(db.path(), "PRAGMA application_id; PRAGMA user_version;");
    let (id, version) = marks.split_once('\n').unwrap();
    let part = section(CONTRACT, "## Versions");
    assert!(part.contains(&format!("({id}, \"claq\")")), "{marks}");
    assert!(part.contains(&format!("{:#x}", id.parse::<u32>().unwrap())), "{marks}");
    assert!(part.contains(&format!("{version} is 1.0")), "{marks}");
    let released = CHANGELOG.lines().any(|line| line.starts_with("## [") && line.contains("] - "));
    assert!(part.contains("Nothing is released yet") != released, "what is true now");
}

#[test]
fn opening_it_as_told() {
    let db = TempDb::create_now();
    let script = block(CONTRACT, "How to open the file", "sql");
    let said = sql(db.path(), &format!("{script}PRAGMA wal_autocheckpoint; PRAGMA busy_timeout;"));
    assert!(said.ends_with("0\n5000"), "{said}");
}

/// The program of "To wait in plain SQL". It goes on for ever, and ends with the test.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn waiting_in_plain_sql() {
    needs!("python3");
    let config = simulator::Config { speed: 500.0, ..Default::default() };
    let lab = Lab::new(config, &Settings::default());
    let program = block(CONTRACT, "To wait in plain SQL", "python");
    let path = lab.dir().join("waiting.out");
    let out = File::create(&path).expect("it can be written");
    let mut command = Command::new("python3");
    command.args(["-c", &program]).current_dir(lab.dir()).stdin(Stdio::null()).stdout(out);
    let _waiting = Waiting(command.spawn().expect("there is a python3"));
    for key in ["a", "b"] {
        lab.insert([(key, "")]);
        assert_eq!(lab.until_empty(), 0);
        let row = format!("'{key}', 'succeeded'");
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually(&row, || read().contains(&row).then_some(()));
    }
}

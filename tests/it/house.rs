//! The rules of the house, checked over the source text: which room may use what, how large a
//! file may grow, what may not be left lying about.
//!
//! The rules are data, each with its reason. What the checker itself would miss is found by the
//! planted snippets at the end.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a room may go for help: every other room is closed to it.
struct Door {
    room: &'static str,
    may_use: &'static [&'static str],
    why: &'static str,
}

/// A library that only some rooms may touch.
struct Library {
    name: &'static str,
    rooms: &'static [&'static str],
    why: &'static str,
}

/// A library, module or name that one room must never touch.
struct Ban {
    room: &'static str,
    /// As a path from its crate; one word alone is banned wherever it stands in a path.
    path: &'static [&'static str],
    why: &'static str,
}

const DOORS: &[Door] = &[
    Door {
        room: "domain",
        may_use: &[],
        why: "it is the pure core: whatever it needs is a parameter",
    },
    Door {
        room: "clock",
        may_use: &["domain::time"],
        why: "it reads time and draws jitter, and knows nothing of what for",
    },
    Door {
        room: "store",
        may_use: &["domain"],
        why: "it writes what others decide; a decision is handed in as a function",
    },
    Door {
        room: "claude",
        may_use: &["domain", "clock"],
        why: "it makes one call and says how it ended; what follows is not its business",
    },
    Door {
        room: "config",
        may_use: &["domain", "clock::calendar"],
        why: "it turns text into checked values, with no side effects",
    },
    Door {
        room: "simulator",
        may_use: &["clock", "domain::time"],
        why: "it is an independent witness: a mistake shared with the ledger would hide",
    },
    Door {
        room: "daemon",
        may_use: &["domain", "store", "claude", "config", "clock", "telemetry"],
        why: "it runs loops; SQL, HTTP and printing have rooms of their own",
    },
    Door {
        room: "cli",
        may_use: &[
            "store",
            "config",
            "daemon",
            "claude",
            "simulator",
            "clock",
            "domain",
            "telemetry",
        ],
        why: "it is the outermost room",
    },
    Door {
        room: "main",
        may_use: &["cli", "telemetry"],
        why: "the binary parses, calls cli and ends",
    },
];

/// May use and be used by whoever wants.
const FREE: &[&str] = &["telemetry", "lib"];

const LIBRARIES: &[Library] = &[
    Library { name: "sqlx", rooms: &["store"], why: "the store is the only SQL" },
    Library { name: "libsqlite3_sys", rooms: &["store"], why: "the store is the only SQL" },
    Library { name: "reqwest", rooms: &["claude"], why: "claude is the only outgoing HTTP" },
    Library { name: "rustls", rooms: &["claude"], why: "claude is the only outgoing HTTP" },
    Library {
        name: "webpki_root_certs",
        rooms: &["claude"],
        why: "claude is the only outgoing HTTP",
    },
    Library { name: "axum", rooms: &["simulator"], why: "the simulator is the only server" },
    Library { name: "clap", rooms: &["cli", "main"], why: "arguments are the command line's" },
    Library {
        name: "anyhow",
        rooms: &["cli", "main"],
        why: "errors are typed per room and chained at the edge only",
    },
];

const NO_EFFECTS: &str = "the pure core has no side effects: the same input, the same plan";
const NO_CLOCK: &str = "`now` is a parameter in domain";
const NO_SQL_TIME: &str = "`now` is a parameter in store: it is read once per turn in daemon";

const BANS: &[Ban] = &[
    Ban { room: "domain", path: &["tokio"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["tracing"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["rand"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["std", "env"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["std", "fs"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["std", "net"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["std", "process"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["std", "thread"], why: NO_EFFECTS },
    Ban { room: "domain", path: &["SystemTime"], why: NO_CLOCK },
    Ban { room: "domain", path: &["Instant"], why: NO_CLOCK },
    Ban { room: "store", path: &["SystemTime"], why: NO_SQL_TIME },
    Ban { room: "store", path: &["Instant"], why: NO_SQL_TIME },
    Ban { room: "config", path: &["tokio"], why: "parsing a file needs no runtime" },
];

const NO_TODO: &str = "what is not done yet is not merged";
const TOO_LONG: &str = "a file that long holds two things";
const NO_DOC: &str = "a reader wants to know what lives here before reading it";

/// Lines of a file, its tests not counted.
const MOST_LINES: usize = 500;

/// Files that may be longer, and why. The aim is an empty list.
const LONG_FILES: &[(&str, &str)] = &[];

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    rule: String,
    why: &'static str,
    cure: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}\n    why: {}\n    cure: {}",
            self.file, self.line, self.rule, self.why, self.cure
        )
    }
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 20, "the sources are not where they should be");
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a source file is UTF-8");
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        findings.extend(check(&name, &text));
    }
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

#[test]
fn exceptions_are_needed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in LONG_FILES {
        let text = std::fs::read_to_string(root.join(name)).expect("the exception names a file");
        let lines = lines_without_tests(&text);
        assert!(lines > MOST_LINES, "{name} has {lines} lines: take it off the list");
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Everything that is wrong with one file; `name` is its path from the root of the repository.
fn check(name: &str, text: &str) -> Vec<Finding> {
    let code = tokens(text);
    let paths = paths(&code);
    let mut findings = Vec::new();
    for path in &paths {
        findings.extend(closed_door(name, path));
        findings.extend(foreign_library(name, path));
        findings.extend(banned(name, path));
    }
    // `use axum::{a, b}` is one offence.
    findings.dedup_by(|one, other| (one.line, one.why) == (other.line, other.why));
    findings.extend(left_undone(name, &code));
    findings.extend(undocumented(name, text));
    findings.extend(too_long(name, text));
    findings
}

fn finding(
    name: &str,
    line: usize,
    rule: String,
    why: &'static str,
    cure: &'static str,
) -> Finding {
    Finding { file: name.to_owned(), line, rule, why, cure }
}

/// `src/store/sqlite/queue.rs` is of the room `store`; `src/clock.rs` of `clock`.
fn room_of(name: &str) -> &str {
    let inner = name.trim_start_matches("src/");
    let first = inner.split('/').next().unwrap_or(inner);
    first.trim_end_matches(".rs")
}

/// The modules above the names in a file: `src/store/mod.rs` gives `store`,
/// `src/store/file.rs` gives `store`, `file`.
fn module_of(name: &str) -> Vec<&str> {
    let inner = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<&str> = inner.split('/').collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    parts
}

/// The path from the root of the crate, if it is one of ours.
fn from_root<'a>(name: &'a str, path: &'a CodePath) -> Option<Vec<&'a str>> {
    let words: Vec<&str> = path.words.iter().map(String::as_str).collect();
    match *words.first()? {
        "crate" | "claudeq" => Some(words[1..].to_vec()),
        "super" => {
            let ups = words.iter().take_while(|word| **word == "super").count();
            let mut full = module_of(name);
            full.truncate(full.len().saturating_sub(ups));
            full.extend(&words[ups..]);
            Some(full)
        }
        _ => None,
    }
}

fn closed_door(name: &str, path: &CodePath) -> Option<Finding> {
    let room = room_of(name);
    let words = from_root(name, path)?;
    let first = *words.first()?;
    let known = DOORS.iter().any(|door| door.room == first) || FREE.contains(&first);
    // `super::*` is left alone: from an inline `mod tests` it leads to the file itself.
    if first == "*" && path.words[0] != "super" {
        let rule = "the whole crate is taken in, so that no one sees which rooms are used".into();
        return Some(finding(name, path.line, rule, NO_DOC, "name the rooms"));
    }
    if first == room || !known || FREE.contains(&room) || FREE.contains(&first) {
        return None;
    }
    let door = DOORS.iter().find(|door| door.room == room)?;
    let used = words.join("::");
    let open = door
        .may_use
        .iter()
        .any(|allowed| used == *allowed || used.starts_with(&format!("{allowed}::")));
    (!open).then(|| {
        let rule = format!("`{room}` uses `{used}`; it may use: {}", door.may_use.join(", "));
        finding(name, path.line, rule, door.why, "pass the value in, or move the code")
    })
}

fn foreign_library(name: &str, path: &CodePath) -> Option<Finding> {
    let room = room_of(name);
    let first = path.words.first()?;
    let library = LIBRARIES.iter().find(|library| library.name == first)?;
    let meant = path.words.len() > 1 || path.is_import;
    (meant && !library.rooms.contains(&room)).then(|| {
        let rule = format!(
            "`{room}` uses the library `{first}`, which belongs to: {}",
            library.rooms.join(", ")
        );
        finding(name, path.line, rule, library.why, "give that room a verb for it and call that")
    })
}

fn banned(name: &str, path: &CodePath) -> Option<Finding> {
    let room = room_of(name);
    let words: Vec<&str> = path.words.iter().map(String::as_str).collect();
    let meant = words.len() > 1 || path.is_import;
    let ban = BANS.iter().filter(|ban| ban.room == room).find(|ban| {
        let type_name = ban.path.len() == 1 && ban.path[0].starts_with(char::is_uppercase);
        (meant && words.starts_with(ban.path)) || (type_name && words.contains(&ban.path[0]))
    })?;
    let rule = format!("`{room}` uses `{}`", words.join("::"));
    Some(finding(name, path.line, rule, ban.why, "take it as a parameter"))
}

fn left_undone(name: &str, code: &[Token]) -> Vec<Finding> {
    let undone = code.windows(2).filter(|pair| {
        matches!(pair[0].text.as_str(), "todo" | "unimplemented") && pair[1].text == "!"
    });
    undone
        .map(|pair| {
            let rule = format!("`{}!` is left in the code", pair[0].text);
            finding(name, pair[0].line, rule, NO_TODO, "write it, or refuse it with an error")
        })
        .collect()
}

fn undocumented(name: &str, text: &str) -> Option<Finding> {
    (!text.starts_with("//!") && !is_test_file(name)).then(|| {
        let rule = "the file does not begin with `//!`".to_owned();
        finding(name, 1, rule, NO_DOC, "say in a sentence what lives here")
    })
}

fn too_long(name: &str, text: &str) -> Option<Finding> {
    let lines = lines_without_tests(text);
    let excused = LONG_FILES.iter().any(|(file, _)| *file == name) || is_test_file(name);
    (lines > MOST_LINES && !excused).then(|| {
        let rule = format!("{lines} lines without tests; at most {MOST_LINES}");
        finding(name, lines, rule, TOO_LONG, "split it by what belongs together")
    })
}

/// Files that hold nothing but tests; their parent declares them under `#[cfg(test)]`.
fn is_test_file(name: &str) -> bool {
    let parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    parts.iter().any(|part| *part == "tests" || part.ends_with("_tests"))
        || name == "src/store/sqlite/statements.rs"
}

/// Lines up to the inline test module, which stands last.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

/// A word, `::`, or a single other character.
#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// A path with its groups taken apart: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug)]
struct CodePath {
    words: Vec<String>,
    line: usize,
    is_import: bool,
}

/// The code without comments and without what stands in quotes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let skipped = quoted_or_comment(&chars, at);
        let end = if skipped > at { skipped } else { token_end(&chars, at) };
        let piece: String = chars[at..end].iter().collect();
        if skipped == at && !piece.trim().is_empty() {
            found.push(Token { text: piece.clone(), line });
        }
        line += piece.matches('\n').count();
        at = end;
    }
    found
}

fn token_end(chars: &[char], at: usize) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if is_word(chars[at]) {
        let rest = chars[at..].iter().take_while(|c| is_word(**c));
        return at + rest.count();
    }
    let double = chars[at] == ':' && chars.get(at + 1) == Some(&':');
    at + if double { 2 } else { 1 }
}

/// The end of the comment, string or character that begins at `at`; `at` itself when none does.
fn quoted_or_comment(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c));
    let before_is_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        let length = rest.iter().take_while(|c| **c != '\n').count();
        return at + length;
    }
    if starts("/*") {
        return after(chars, at + 2, "*/");
    }
    if rest[0] == '"' {
        return string_end(chars, at + 1, '"');
    }
    if !before_is_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let prefix = rest.iter().take_while(|c| **c == 'b' || **c == 'r').count();
        let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
        if rest.get(prefix + hashes) == Some(&'"') {
            let close = format!("\"{}", "#".repeat(hashes));
            return after(chars, at + prefix + hashes + 1, &close);
        }
    }
    // A character, not a lifetime.
    let is_char = rest[0] == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\''));
    if is_char { string_end(chars, at + 1, '\'') } else { at }
}

fn string_end(chars: &[char], from: usize, close: char) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == close => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn after(chars: &[char], from: usize, close: &str) -> usize {
    let close: Vec<char> = close.chars().collect();
    let found = (from..chars.len()).find(|at| chars[*at..].starts_with(&close));
    found.map_or(chars.len(), |at| at + close.len())
}

fn paths(code: &[Token]) -> Vec<CodePath> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut is_import = false;
    while at < code.len() {
        match code[at].text.as_str() {
            "use" => is_import = true,
            ";" => is_import = false,
            _ => {}
        }
        if code[at].is_word() && code[at].text != "use" || is_import && code[at].text == "{" {
            at = tree(code, at, &[], is_import, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path or group that begins at `at`, and gives the place after it.
fn tree(
    code: &[Token],
    at: usize,
    prefix: &[String],
    is_import: bool,
    found: &mut Vec<CodePath>,
) -> usize {
    let mut words = prefix.to_vec();
    let mut at = at;
    let line = code[at].line;
    while let Some(token) = code.get(at) {
        if token.text == "{" {
            return group(code, at + 1, &words, is_import, found);
        }
        if !token.is_word() && token.text != "*" {
            break;
        }
        words.push(token.text.clone());
        at += 1;
        let goes_on = code.get(at).is_some_and(|next| next.text == "::")
            && code.get(at + 1).is_some_and(|next| {
                next.is_word() || next.text == "{" && is_import || next.text == "*"
            });
        if !goes_on {
            break;
        }
        at += 1;
    }
    found.push(CodePath { words, line, is_import });
    at
}

fn group(
    code: &[Token],
    mut at: usize,
    prefix: &[String],
    is_import: bool,
    found: &mut Vec<CodePath>,
) -> usize {
    while let Some(token) = code.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            "as" => at += 2,
            _ if token.is_word() || token.text == "{" || token.text == "*" => {
                at = tree(code, at, prefix, is_import, found);
            }
            _ => at += 1,
        }
    }
    at
}

/// Snippets that must be found, and by which words of the rule.
const OFFENCES: &[(&str, &str, &str)] = &[
    ("src/domain/x.rs", "use sqlx::query;", "library `sqlx`"),
    ("src/domain/x.rs", "use sqlx;", "library `sqlx`"),
    ("src/daemon/x.rs", "fn f() { ::sqlx::query(\"x\"); }", "library `sqlx`"),
    ("src/cli/x.rs", "use {std::fmt, reqwest::Client};", "library `reqwest`"),
    ("src/daemon/x.rs", "fn f() -> rustls::Error {}", "library `rustls`"),
    ("src/claude/x.rs", "use axum::{Router, routing::get};", "library `axum`"),
    ("src/store/x.rs", "use anyhow::Context as _;", "library `anyhow`"),
    ("src/domain/x.rs", "#[tokio::test]\nasync fn f() {}", "uses `tokio::test`"),
    ("src/domain/x.rs", "fn f() { tracing::info!(\"x\"); }", "uses `tracing::info`"),
    ("src/domain/x.rs", "use rand::Rng;", "uses `rand::Rng`"),
    ("src/domain/x.rs", "use std::{env, fmt};", "uses `std::env`"),
    ("src/domain/x.rs", "use std::{fmt, fs::{self, File}};", "uses `std::fs::self`"),
    ("src/domain/x.rs", "use std::time::{Duration, Instant};", "uses `std::time::Instant`"),
    ("src/domain/x.rs", "fn f() { SystemTime::now(); }", "uses `SystemTime::now`"),
    ("src/store/x.rs", "fn f(at: Instant) {}", "uses `Instant`"),
    ("src/config/mod.rs", "use tokio::fs;", "uses `tokio::fs`"),
    ("src/domain/x.rs", "use crate::store::Store;", "`domain` uses `store::Store`"),
    ("src/domain/x.rs", "use super::super::clock::Clock;", "`domain` uses `clock::Clock`"),
    ("src/store/x.rs", "use crate::{domain::job, config};", "`store` uses `config`"),
    ("src/store/sqlite/x.rs", "use crate::clock::Clock;", "`store` uses `clock::Clock`"),
    ("src/claude/x.rs", "fn f(s: &crate::store::Store) {}", "`claude` uses `store::Store`"),
    ("src/daemon/mod.rs", "use crate::simulator::run;", "`daemon` uses `simulator::run`"),
    ("src/daemon/mod.rs", "use crate::cli::render;", "`daemon` uses `cli::render`"),
    (
        "src/simulator/x.rs",
        "use crate::domain::bucket::Bucket;",
        "`simulator` uses `domain::bucket",
    ),
    ("src/simulator/x.rs", "use crate::domain::{time, price};", "`simulator` uses `domain::price`"),
    ("src/simulator/x.rs", "use crate::domain::*;", "`simulator` uses `domain::*`"),
    ("src/config/mod.rs", "use crate::clock::Clock;", "`config` uses `clock::Clock`"),
    ("src/clock.rs", "use crate::domain::job::JobId;", "`clock` uses `domain::job::JobId`"),
    ("src/main.rs", "use claudeq::store::Store;", "`main` uses `store::Store`"),
    ("src/daemon/x.rs", "use crate::*;", "the whole crate"),
    ("src/daemon/x.rs", "fn f() { todo!() }", "`todo!`"),
    ("src/daemon/x.rs", "fn f() { unimplemented!(\"x\") }", "`unimplemented!`"),
];

/// Snippets with nothing wrong about them.
const INNOCENT: &[(&str, &str)] = &[
    ("src/domain/x.rs", "// use sqlx::query;\nfn f() {}"),
    ("src/domain/x.rs", "/// See [`crate::store::Store`].\nfn f() {}"),
    ("src/domain/x.rs", "const S: &str = \"use sqlx::query; \\\" todo!()\";"),
    (
        "src/domain/x.rs",
        "const S: &str = r#\"crate::store::X \" \"#;\nfn f<'a>(c: char) { c == '\"'; }",
    ),
    ("src/domain/x.rs", "use super::time::Timestamp;\nuse std::time::Duration;"),
    ("src/domain/x.rs", "fn f(clap: u8) { let axum = clap; axum.min(clap); }"),
    (
        "src/clock/mod.rs",
        "use std::time::{Instant, SystemTime};\nuse crate::domain::time::Timestamp;",
    ),
    (
        "src/store/sqlite/x.rs",
        "use crate::store::error::Doing;\nuse crate::domain::job::JobId;\nuse sqlx::Row;",
    ),
    ("src/store/x.rs", "mod tests { use super::*; }"),
    ("src/cli/x.rs", "use crate::{daemon, store::{self, Store}};"),
    ("src/config/mod.rs", "use crate::clock::calendar::zone;"),
    ("src/lib.rs", "pub mod store;\npub use crate::store::Store;"),
    ("src/main.rs", "fn main() { claudeq::cli::run(); }"),
];

#[test]
fn every_planted_offence_is_found() {
    for (name, code, words) in OFFENCES {
        let text = format!("//! Planted.\n{code}\n");
        let findings = check(name, &text);
        assert_eq!(findings.len(), 1, "{name}: {code}: {findings:#?}");
        assert!(findings[0].rule.contains(words), "{name}: {code}: {}", findings[0]);
        let place = format!("{name}:2: ");
        assert!(findings[0].to_string().starts_with(&place), "{}", findings[0]);
    }
}

#[test]
fn what_is_allowed_is_let_be() {
    for (name, code) in INNOCENT {
        let text = format!("//! Planted.\n{code}\n");
        assert_eq!(check(name, &text), [], "{name}: {code}");
    }
}

#[test]
fn every_door_library_and_ban_is_tried() {
    for door in DOORS {
        let tried = OFFENCES.iter().any(|(name, _, rule)| {
            room_of(name) == door.room && rule.starts_with(&format!("`{}` uses", door.room))
        });
        assert!(tried || door.room == "cli", "nobody tries the door of {}", door.room);
    }
    let rules: Vec<String> = OFFENCES.iter().map(|(_, code, _)| (*code).to_owned()).collect();
    let untried = ["libsqlite3_sys", "webpki_root_certs", "clap"];
    for library in LIBRARIES.iter().filter(|library| !untried.contains(&library.name)) {
        let tried = rules.iter().any(|code| code.contains(library.name));
        assert!(tried, "nobody tries {}", library.name);
    }
}

#[test]
fn long_and_undocumented_files_are_found() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(MOST_LINES));
    let found = check("src/daemon/x.rs", &long);
    assert_eq!(found.len(), 1);
    assert!(found[0].rule.starts_with("501 lines"), "{}", found[0]);
    let tested = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(check("src/daemon/x.rs", &tested), []);
    let silent = check("src/daemon/x.rs", "fn f() {}\n");
    assert!(silent[0].rule.contains("`//!`"), "{}", silent[0]);
}

//! docs/guarantees.md: each promise of the README is there, and each test that it names.

use super::{GUARANTEES, README};
use crate::helper::markdown::{code, rows, section};
use std::path::Path;

/// File and function of every test that a text names.
fn tests(text: &str) -> Vec<(String, String)> {
    let spans = code(text).into_iter();
    spans
        .filter_map(|span| {
            let (file, name) = span.split_once("::")?;
            file.ends_with(".rs").then(|| (file.to_owned(), name.to_owned()))
        })
        .collect()
}

/// Whether a source text has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            marked = true;
        } else if line.starts_with(&function) || line.starts_with(&format!("async {function}")) {
            return marked;
        } else if line.is_empty() || line == "}" {
            marked = false;
        }
    }
    false
}

#[test]
fn every_test_that_is_named_exists() {
    let named = tests(GUARANTEES);
    assert!(named.len() > 40, "{named:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, name) in named {
        let source = std::fs::read_to_string(root.join(&file));
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(has_test(&source, &name), "{file} has no test {name}");
    }
}

#[test]
fn every_guarantee_names_a_test() {
    for part in GUARANTEES.split("\n### ").skip(1) {
        let title = part.lines().next().unwrap_or_default();
        let part = part.split("\n## ").next().unwrap_or_default();
        assert!(!tests(part).is_empty(), "nothing proves: {title}");
    }
}

#[test]
fn every_row_of_the_readme_is_a_guarantee() {
    let promised: Vec<String> = rows(README, "…").into_iter().map(|row| row[0].clone()).collect();
    let part = section(GUARANTEES, "## What happens if …");
    let explained: Vec<&str> = part.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(explained, promised);
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source = "#[test]\n#[ignore = \"slow\"]\nfn one() {\n}\nfn two() {}\n\n\
        #[tokio::test]\nasync fn three() {}\n";
    assert!(has_test(source, "one") && has_test(source, "three"));
    assert!(!has_test(source, "two") && !has_test(source, "four"));
}

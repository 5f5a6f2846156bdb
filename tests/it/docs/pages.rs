//! What holds for every page: links lead somewhere, lines are short.

use std::fs;
use std::path::{Path, PathBuf};

const WIDTH: usize = 100;

/// Every page of the repository for people, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [".", "docs", "examples"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        let paths = entries.map(|entry| entry.expect("it can be listed").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    found.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a page is UTF-8");
        (path, text)
    };
    found.into_iter().map(read).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for (path, text) in pages() {
        let folder = path.parent().expect("a file lies in a folder");
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            assert!(folder.join(file).exists(), "{}: {target}", path.display());
            links += 1;
        }
    }
    assert!(links > 8, "{links} links");
}

#[test]
fn lines_are_short() {
    for (path, text) in pages() {
        for (number, line) in text.lines().enumerate() {
            // A row of a table is one line, however long.
            let short = line.starts_with('|') || line.chars().count() <= WIDTH;
            let is_quoted = line.starts_with("claudeq: ");
            assert!(short || is_quoted, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

//! What stands in a page of documentation: its blocks of code, its tables, its code in a sentence.

/// A block between two fences.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The heading it stands under.
    pub(crate) heading: String,
    /// What follows the opening fence.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// Every block of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut heading = String::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => {
                let (heading, language) = (heading.clone(), language.to_owned());
                open = Some(Block { heading, language, text: String::new() });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) if line.starts_with('#') => {
                heading = line.trim_start_matches('#').trim().to_owned();
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a fence is not closed");
    found
}

/// The one block of this language under this heading.
pub(crate) fn block(page: &str, heading: &str, language: &str) -> String {
    let fits = |block: &Block| block.heading == heading && block.language == language;
    let mut found: Vec<Block> = blocks(page).into_iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "blocks of {language:?} under {heading:?}");
    found.remove(0).text
}

/// The page without its blocks.
pub(crate) fn prose(page: &str) -> String {
    let mut inside = false;
    let outside = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    outside.map(|line| format!("{line}\n")).collect()
}

/// Code within sentences and tables, each on one line.
pub(crate) fn code(page: &str) -> Vec<String> {
    let one_line = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
    prose(page).split('`').skip(1).step_by(2).map(one_line).collect()
}

/// The part below a heading of the second or third level, up to the next one of its level.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let begin = page.find(&format!("\n{heading}\n")).map(|at| at + heading.len() + 2);
    let begin = begin.unwrap_or_else(|| panic!("there is no heading {heading:?}"));
    let level = heading.split(' ').next().unwrap_or_default();
    let end = page[begin..].find(&format!("\n{level} ")).map_or(page.len(), |at| begin + at);
    &page[begin..end]
}

/// The rows of every table whose head begins with this cell; the heads are left out.
pub(crate) fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let cells = cells(line);
        match cells.first() {
            None => inside = false,
            Some(first) if first == head => inside = true,
            Some(first) if first.starts_with("---") => {}
            Some(_) if inside => found.push(cells),
            Some(_) => {}
        }
    }
    assert!(!found.is_empty(), "there is no table with the head {head:?}");
    found
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    let cell = |text: &str| text.trim().replace('\u{0}', "|");
    inner.map_or_else(Vec::new, |line| line.replace("\\|", "\0").split('|').map(cell).collect())
}

#[test]
fn a_page_is_taken_apart() {
    let page = "# Title\n\n## One\nSay `a\n  b` and\n```sql\nSELECT `1`;\n```\n### Two\n\
        | x | y |\n|---|---|\n| `p\\|q` | r |\n\n| z |\n|---|\n| no |\n## Three\n`end`\n";
    assert_eq!(block(page, "One", "sql"), "SELECT `1`;\n");
    assert_eq!(code(page), ["a b", "p\\|q", "end"]);
    assert_eq!(rows(page, "x"), [["`p|q`", "r"]]);
    assert!(section(page, "## One").ends_with("| no |"));
    assert_eq!(section(page, "## Three"), "`end`\n");
}

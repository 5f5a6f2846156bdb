//! "From a file": its two lines, and what it says of JSON.

use super::{README, lab};
use crate::helper::markdown::{block, code, section};
use crate::helper::{Said, with_claudeq};

#[test]
fn a_table_is_looked_at_and_imported() {
    let lab = lab();
    lab.write("texts.csv", "id,text\nt-1,\"One,\ntwo\"\nt-2,Three\n");
    let said: Vec<Said> = block(README, "From a file", "sh")
        .lines()
        .map(|line| {
            let mut command = with_claudeq("sh");
            Said::of(&command.args(["-c", line]).current_dir(lab.dir()).output().expect("a shell"))
        })
        .collect();
    assert!(said[0].out.starts_with("would add 2 jobs; \u{2248} "), "{said:?}");
    assert_eq!((said[1].code, said[1].out.as_str()), (0, "added 2 jobs"));
    assert_eq!(lab.until_empty(), 0);
    let rows = "SELECT key || ' ' || batch || ' ' || state FROM results ORDER BY key";
    assert_eq!(lab.texts(rows), ["t-1 nightly succeeded", "t-2 nightly succeeded"]);
}

#[test]
fn the_lines_of_json_are_good() {
    let lab = lab();
    let shown = code(section(README, "## From a file"));
    let lines: Vec<String> = shown
        .into_iter()
        .filter(|code| code.starts_with('{'))
        .map(|code| {
            code.replace("...", "").replace("[]", "[{\"role\": \"user\", \"content\": \"Hi\"}]")
        })
        .map(|code| {
            code.replace("{}", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}")
        })
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    lab.write("shown.jsonl", &lines.join("\n"));
    // The third has the key of the first, and is another job.
    let mut command = with_claudeq("claudeq");
    command.args(["import", "shown.jsonl", "--keep-going"]).current_dir(lab.dir());
    let said = Said::of(&command.output().expect("it starts"));
    assert_eq!((said.code, said.out.as_str()), (65, "added 2 jobs; 1 bad line"), "{said:?}");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.texts("SELECT DISTINCT state FROM results"), ["succeeded"]);
}

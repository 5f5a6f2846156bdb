//! The blocks for producers, each in its own program, before and after the daemon has worked.

use super::{README, lab};
use crate::helper::markdown::block;
use crate::helper::{Lab, NODE_LEAST, Said, has_node, needs, with_tools};
use std::process::Stdio;

/// Runs a program where its `queue.db` lies.
fn run(lab: &Lab, program: &str, args: &[&str]) -> Said {
    let mut command = with_tools(program);
    let output = command.args(args).current_dir(lab.dir()).stdin(Stdio::null()).output();
    Said::of(&output.unwrap_or_else(|error| panic!("{program}: {error}")))
}

fn work(lab: &Lab) {
    assert_eq!(lab.until_empty(), 0);
}

#[test]
fn sql() {
    let lab = lab();
    let script = block(README, "Use it", "sql");
    assert_eq!(lab.sql(&script), "", "nothing is finished yet");
    work(&lab);
    let answers = lab.sql(&script);
    let rows: Vec<Vec<&str>> = answers.lines().map(|line| line.split('|').collect()).collect();
    let mut keys: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["doc-17", "doc-18"], "once each, though inserted twice: {answers}");
    for row in rows {
        assert!(!row[1].is_empty() && row[2].starts_with("0.0"), "{answers}");
    }
}

#[test]
fn bash() {
    needs!("sqlite3");
    needs!("bash");
    let lab = lab();
    let said = run(&lab, "bash", &["-euc", &block(README, "Use it", "bash")]);
    assert_eq!(said.unwrap(), "");
    assert_eq!(lab.texts("SELECT prompt FROM jobs"), ["Say hi"]);
}

#[test]
fn python() {
    needs!("python3");
    let lab = lab();
    let program = block(README, "Use it", "python");
    assert_eq!(run(&lab, "python3", &["-c", &program]).unwrap(), "");
    work(&lab);
    let said = run(&lab, "python3", &["-c", &program]).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2, "{said}");
    for (line, begin) in lines.iter().zip(["t-1 succeeded ", "t-2 succeeded "]) {
        assert!(line.starts_with(begin) && line.len() > begin.len(), "{said}");
    }
}

#[test]
fn node() {
    if !has_node() {
        return;
    }
    let lab = lab();
    let program = block(README, "Use it", "js");
    lab.write("insert.mjs", &program);
    let said = run(&lab, "node", &["insert.mjs"]);
    // It warns on standard error while the module is new.
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    work(&lab);
    let done = "SELECT queue || ' ' || state || ' ' || model FROM results";
    assert_eq!(lab.texts(done), ["rivers succeeded claude-haiku-4-5"]);
}

#[test]
fn node_is_as_new_as_the_readme_asks_for() {
    let (major, minor) = NODE_LEAST;
    assert!(README.contains(&format!("**Node** ({major}.{minor} or newer)")));
}

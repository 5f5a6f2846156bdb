//! "Use it" and "Overnight", typed as a person would type them.

use super::{README, lab};
use crate::helper::markdown::{block, code};
use crate::helper::{Lab, Said, eventually, with_claudeq};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A shell in a folder; what runs in its background ends with it.
struct Shell<'a> {
    folder: &'a Path,
    variables: Vec<(String, String)>,
    background: Option<Child>,
}

impl Shell<'_> {
    fn at<'a>(folder: &'a Path, lab: &Lab) -> Shell<'a> {
        let variables = vec![("ANTHROPIC_BASE_URL".to_owned(), lab.simulator().url())];
        Shell { folder, variables, background: None }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = with_claudeq("sh");
        command.args(["-c", line]).current_dir(self.folder).envs(self.variables.clone());
        command
    }

    fn run(&self, line: &str) -> Said {
        Said::of(&self.command(line).output().expect("there is a shell"))
    }

    /// Types one line of a console block, and gives what it printed.
    fn types(&mut self, line: &str) -> Said {
        if let Some(variable) = line.strip_prefix("export ") {
            let (name, value) = variable.split_once('=').expect("a variable has a value");
            self.variables.push((name.to_owned(), value.to_owned()));
            return Said { code: 0, out: String::new(), err: String::new() };
        }
        match line.strip_suffix(" &") {
            Some(line) => self.in_background(line),
            None => self.run(line),
        }
    }

    /// A person types the next line when it is up.
    fn in_background(&mut self, line: &str) -> Said {
        let log = self.folder.join("background.log");
        let file = File::create(&log).expect("the log can be written");
        let out = file.try_clone().expect("a descriptor can be doubled");
        let mut command = self.command(&format!("exec {line}"));
        let child = command.stdout(out).stderr(Stdio::from(file)).spawn();
        self.background = Some(child.expect("there is a shell"));
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let out = eventually(line, || Some(read()).filter(|log| log.contains("started")));
        Said { code: 0, out, err: String::new() }
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is typed after `$ `, and whether something is shown below it.
fn typed(block: &str) -> Vec<(String, bool)> {
    let mut lines: Vec<(String, bool)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), lines.last_mut()) {
            (Some(line), _) => lines.push((line.to_owned(), false)),
            (None, Some((_, shown))) => *shown = true,
            (None, None) => panic!("{line} comes from nowhere"),
        }
    }
    lines
}

#[test]
fn from_nothing_to_an_answer() {
    let lab = lab();
    let home = tempfile::tempdir().unwrap();
    let mut shell = Shell::at(home.path(), &lab);
    let lines = typed(&block(README, "Use it", "console"));
    assert!(lines.len() >= 4 && lines.iter().any(|(_, shown)| *shown), "{lines:?}");
    for (line, shown) in lines {
        let said = shell.types(&line);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}: {said:?}");
        assert!(!shown || !said.out.is_empty(), "{line} shows nothing");
    }
    for file in ["daemon.toml", "queue.db"] {
        assert!(README.contains(file) && home.path().join(file).exists(), "{file}");
    }
    let done = shell.run("claudeq list --state succeeded --json");
    assert_eq!(done.out.lines().count(), 1, "{done:?}");
}

#[test]
fn the_simulator_is_where_the_readme_says() {
    let export = code(README)
        .into_iter()
        .find_map(|code| code.strip_prefix("export ANTHROPIC_BASE_URL=").map(ToOwned::to_owned));
    let url = export.expect("the README says how to use the simulator");
    let help = Said::of(&with_claudeq("claudeq").args(["sim", "--help"]).output().unwrap());
    let address = url.strip_prefix("http://").unwrap();
    let help = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: {address}]")), "{url}\n{help}");
}

/// Jobs to look at: one answered, one failed, both of the batch that the README names.
fn a_night() -> Lab {
    let lab = lab();
    lab.sql(
        "INSERT INTO jobs (prompt, batch) VALUES ('Say hi', 'nightly');
         INSERT INTO jobs (prompt, batch) VALUES ('Say hi [[fault=400]]', 'nightly');",
    );
    lab
}

#[test]
fn until_empty_says_how_it_went() {
    let line = "claudeq daemon --until-empty; claudeq status";
    assert!(code(README).iter().any(|code| code == line), "{line}");
    let line = line.replace(';', "; echo \"ended with $?\";");
    let lab = lab();
    let shell = Shell::at(lab.dir(), &lab);
    for (job, expected) in [
        ("INSERT INTO jobs (prompt) VALUES ('Say hi');", "0 all done"),
        ("INSERT INTO jobs (prompt) VALUES ('Say hi [[fault=400]]');", "1 some failed"),
        ("UPDATE job_state SET state = 'held' WHERE id = 3;", "8 something waits for you"),
    ] {
        assert!(README.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected));
        if expected.starts_with('8') {
            lab.sql("INSERT INTO jobs (prompt) VALUES ('Say hi');");
        }
        lab.sql(job);
        let said = shell.run(&line);
        let code = expected.split(' ').next().unwrap();
        assert!(said.out.starts_with(&format!("ended with {code}\nclaudeq ")), "{said:?}");
    }
}

/// Whatever the README tells to type within a sentence is understood.
#[test]
fn commands_in_sentences() {
    let lab = a_night();
    assert_eq!(lab.until_empty(), 1);
    let shell = Shell::at(lab.dir(), &lab);
    let is_command = |line: &String| line.starts_with("claudeq ") || line.starts_with("sqlite3 ");
    let lines: Vec<String> = code(README).into_iter().filter(is_command).collect();
    assert!(lines.len() > 5, "{lines:?}");
    for line in lines {
        // The one serves until it is stopped; the other is not everywhere.
        let without = line.starts_with("sqlite3") && !crate::helper::has("sqlite3");
        if line == "claudeq sim" || without {
            continue;
        }
        let said = shell.run(&line);
        let negative = said.code == 1 && said.err.contains("no job fits");
        assert!(said.code == 0 || negative, "{line}: {said:?}");
    }
    let answers = fs::read_to_string(lab.dir().join("answers.jsonl")).unwrap();
    assert_eq!(answers.lines().count(), 2, "{answers}");
}

#[test]
#[ignore = "a quarter of a minute of its own; .ci/run has it alone, behind the other tests"]
fn the_demo_ends_as_the_readme_shows() {
    let said = Said::of(&with_claudeq("claudeq").arg("demo").output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    let shown = block(README, "The first minute", "text");
    let last: Vec<&str> = said.out.lines().rev().take(shown.lines().count()).collect();
    for (shown, said) in shown.lines().zip(last.into_iter().rev()) {
        assert_eq!(super::shown::words(shown), super::shown::words(said));
    }
}

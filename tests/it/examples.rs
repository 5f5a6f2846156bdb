//! The programs in `examples/`, each against a daemon at work and the simulator.

use crate::helper::markdown::{code, rows};
use crate::helper::{Lab, Said, Settings, eventually, tools_are_required, with_tools};
use claudeq::simulator;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const README: &str = include_str!("../../examples/README.md");
const RUN_ALL: &str = include_str!("../../examples/run-all.sh");
/// Where Debian has it.
const JDBC: &str = "/usr/share/java/sqlite-jdbc.jar";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Language and command of each row of the README's table.
fn commands() -> Vec<(String, String)> {
    let rows = rows(README, "language");
    let name = |cell: &str| cell.trim_start_matches('[').split(']').next().unwrap().to_owned();
    rows.iter().map(|row| (name(&row[0]), code(&row[1]).remove(0))).collect()
}

/// Whether this machine has what an example needs; where the tools are required, it must.
fn has(language: &str) -> bool {
    let mut ask = Command::new("bash");
    ask.arg(folder().join("run-all.sh")).args(["--has", language]).stdin(Stdio::null());
    let found = ask.status().is_ok_and(|status| status.success());
    assert!(
        found || !tools_are_required(),
        "install what {language} needs: examples/run-all.sh {language}"
    );
    if !found {
        eprintln!("left out: what {language} needs is not on this machine");
    }
    found
}

/// Runs an example to its end, as the README says; prints come back.
fn run(lab: &Lab, language: &str) -> Said {
    let (_, line) = commands().into_iter().find(|(name, _)| name == language).unwrap();
    let line = line.replace("queue.db", "\"$db\"").replace("sqlite-jdbc.jar", JDBC);
    let out = |name: &str| File::create(lab.dir().join(name)).expect("it can be written");
    let mut command = with_tools("bash");
    command.args(["-euc", &line]).current_dir(folder().join(language)).env("db", lab.database());
    command.stdin(Stdio::null()).stdout(out("example.out")).stderr(out("example.err"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{language}: {error}"));
    let end = eventually(language, || child.try_wait().expect("a child can be asked"));
    let read = |name: &str| std::fs::read_to_string(lab.dir().join(name)).expect("it is text");
    Said {
        code: end.code().unwrap_or(-1),
        out: read("example.out").trim_end().to_owned(),
        err: read("example.err").trim_end().to_owned(),
    }
}

/// What each of them prints and leaves behind.
fn shows_everything(language: &str) {
    if !has(language) {
        return;
    }
    let config = simulator::Config { speed: 100.0, ..Default::default() };
    let lab = Lab::new(config, &Settings::default());
    let daemon = lab.start();
    let said = run(&lab, language);
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    let begin = [
        "inserted job 1",
        "inserted 3 jobs in one transaction",
        "inserted by key: 1 new",
        "inserted by key: 0 new",
    ];
    assert_eq!(lines[..4], begin, "{said:?}");
    assert_eq!(lines.len(), 10, "{said:?}");
    let mut jobs: Vec<&str> = lines[4..9].to_vec();
    jobs.sort_unstable();
    for (line, id) in jobs.iter().zip(1..) {
        let begin = format!("job {id} succeeded: ");
        assert!(line.starts_with(&begin) && line.len() > begin.len(), "{said:?}");
    }
    assert_eq!(lines[9], "done");
    let prompts = lab.texts("SELECT prompt FROM jobs ORDER BY id");
    let hello = ["Oslo", "Lima", "Hanoi"].map(|city| format!("Say hello to {city}"));
    assert_eq!(prompts, [&["What's up?".to_owned()], &hello[..], &["Say hi".to_owned()]].concat());
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.simulator().stats().requests, 5, "none was called twice");
}

/// Those whose runtime is cheap to have; `examples/run-all.sh` runs the others, too.
macro_rules! examples {
    ($($language:ident)*) => {
        const TRIED: &[&str] = &[$(stringify!($language)),*];
        $(
            #[test]
            fn $language() {
                shows_everything(stringify!($language));
            }
        )*
    };
}
examples! { bash python node ruby php java perl }

/// A refusal ends them with an error, and not with waiting.
#[test]
fn a_file_that_is_no_queue_ends_them() {
    let lab = Lab::new(simulator::Config::default(), &Settings::default());
    for language in TRIED.iter().filter(|language| has(language)) {
        std::fs::remove_file(lab.database()).expect("it is ours");
        let said = run(&lab, language);
        let words = format!("{}{}", said.out, said.err);
        assert!(said.code != 0 && words.contains("no such table: jobs"), "{language}: {said:?}");
    }
}

#[test]
fn every_folder_is_in_the_table_and_in_the_script() {
    let entries = std::fs::read_dir(folder()).expect("it can be listed");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let names = paths.filter(|path| path.is_dir()).map(|path| path.file_name().unwrap().to_owned());
    let mut folders: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    folders.sort();
    let mut named: Vec<String> = commands().into_iter().map(|(language, _)| language).collect();
    let all = format!("all=({})\n", named.join(" "));
    assert!(RUN_ALL.contains(&all), "{all}");
    named.sort();
    assert_eq!(named, folders);
    for (language, command) in commands() {
        let command =
            command.replace("queue.db", "\"$db\"").replace("sqlite-jdbc.jar", "\"$jdbc\"");
        // Rust's compiler has something to say, too.
        let command = command.replace("cargo run", "cargo run --quiet");
        assert!(RUN_ALL.contains(&command), "{language}: {command}");
    }
}

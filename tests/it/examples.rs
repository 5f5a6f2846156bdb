//! The programs in `examples/`, each against a daemon at work and the simulator.

use crate::helper::{Lab, Said, Settings, eventually, has_node, needs};
use claudeq::simulator;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs an example to its end, with the database as its argument; prints come back.
fn run(lab: &Lab, program: &str, file: &str) -> Said {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
    let out = |name: &str| File::create(lab.dir().join(name)).expect("it can be written");
    let mut command = Command::new(program);
    command.arg(path).arg(lab.database()).stdin(Stdio::null());
    command.stdout(out("example.out")).stderr(out("example.err"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let end = eventually(file, || child.try_wait().expect("a child can be asked"));
    let read = |name: &str| std::fs::read_to_string(lab.dir().join(name)).expect("it is text");
    Said {
        code: end.code().unwrap_or(-1),
        out: read("example.out").trim_end().to_owned(),
        err: read("example.err").trim_end().to_owned(),
    }
}

/// What each of them prints and leaves behind.
fn shows_everything(program: &str, file: &str) {
    let config = simulator::Config { speed: 100.0, ..Default::default() };
    let lab = Lab::new(config, &Settings::default());
    let daemon = lab.start();
    let said = run(&lab, program, file);
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

#[test]
fn bash() {
    needs!("sqlite3");
    needs!("bash");
    shows_everything("bash", "bash/example.sh");
}

#[test]
fn python() {
    needs!("python3");
    shows_everything("python3", "python/example.py");
}

#[test]
fn node() {
    if has_node() {
        shows_everything("node", "node/example.mjs");
    }
}

/// A refusal ends them with an error, and not with waiting.
#[test]
fn a_file_that_is_no_queue_ends_them() {
    let lab = Lab::new(simulator::Config::default(), &Settings::default());
    std::fs::remove_file(lab.database()).expect("it is ours");
    for (program, file) in [("bash", "bash/example.sh"), ("python3", "python/example.py")] {
        if crate::helper::has(program) && crate::helper::has("sqlite3") {
            let said = run(&lab, program, file);
            assert!(said.code != 0 && said.err.contains("no such table: jobs"), "{said:?}");
        }
    }
}

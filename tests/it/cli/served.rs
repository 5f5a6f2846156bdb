//! The first minute: simulator, daemon, a job and its answer, all of them the real binary.

use super::stage::{Stage, said};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// A process of the binary that runs until it is told to stop.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn sim(stage: &Stage, args: &[&str]) -> Served {
        let all = [&["sim", "--listen", "127.0.0.1:0", "--speed", "500"], args].concat();
        let mut command = stage.command(&all);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut url = String::new();
        let out = child.stdout.take().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut url).expect("it can be read");
        Served { child, url: url.trim().to_owned() }
    }

    /// Ctrl-C; what it said on standard error, and its exit code.
    fn stop(mut self) -> (String, Option<i32>) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
        assert!(sent.success());
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().expect("its errors are a pipe");
        stderr.read_to_string(&mut err).expect("they can be read");
        (err, self.child.wait().expect("it ends").code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_first_minute() {
    let stage = Stage::ready();
    let sim = Served::sim(&stage, &[]);
    assert!(sim.url.starts_with("http://127.0.0.1:"), "{}", sim.url);
    stage.ok(&["add", "Say hi [[out=3]]", "--batch", "b"]);
    stage.ok(&["add", "[[fault=400]]", "--batch", "b"]);
    let mut daemon = stage.command(&["daemon", "--until-empty"]);
    daemon.env("ANTHROPIC_BASE_URL", &sim.url);
    let daemon = said(daemon);
    assert_eq!((daemon.code, daemon.out.as_str()), (1, ""), "{daemon:?}");
    assert_eq!(stage.run(&["wait", "--batch", "b"]).code, 1);
    assert!(!stage.ok(&["results", "1", "--text"]).is_empty());
    let status = stage.ok(&["status"]);
    assert!(status.contains("  Done      1 ok (50 %) · 1 failed"), "{status}");
    let (err, code) = sim.stop();
    assert_eq!(code, Some(0));
    assert!(err.starts_with("export ANTHROPIC_BASE_URL=http://127.0.0.1:"), "{err}");
    assert!(
        err.contains("2 requests: 1 ok, 0 refused with 429, 1 other errors; 1 billed"),
        "{err}"
    );
}

#[test]
fn an_answer_is_waited_for() {
    let stage = Stage::ready();
    let sim = Served::sim(&stage, &[]);
    let mut daemon = stage.command(&["daemon"]);
    daemon.env("ANTHROPIC_BASE_URL", &sim.url).stderr(Stdio::piped());
    let mut child = daemon.spawn().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("its errors are a pipe"));
    let mut line = String::new();
    log.read_line(&mut line).expect("it says that it started");
    assert!(line.contains("started"), "{line}");
    let running = Served { child, url: String::new() };
    // The rest of the log goes where nobody waits for it.
    let drain = std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let answer = stage.run(&["add", "--wait", "Say hi [[out=3]]"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
    assert!(!answer.out.is_empty());
    let failed = stage.run(&["add", "--wait", "[[fault=400]]"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{failed:?}");
    assert!(failed.err.starts_with("claudeq: job 2 failed: invalid_request: "), "{}", failed.err);
    let json = stage.run(&["add", "--wait", "Say hi [[out=3]]", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&value["id"], &value["state"]), (&3.into(), &"succeeded".into()));
    drop(running);
    let _ = drain.join();
}

#[test]
fn a_simulator_that_cannot_be_meant() {
    let stage = Stage::empty();
    assert_eq!(stage.run(&["sim", "--tier", "gold"]).code, 2);
    assert_eq!(stage.run(&["sim", "--fault", "meteor=0.5"]).code, 2);
    assert_eq!(stage.run(&["sim", "--speed", "0"]).code, 2);
    assert_eq!(stage.run(&["sim", "--config-file", "gone.toml"]).code, 66);
    std::fs::write(stage.path().join("sim.toml"), "sped = 1\n").unwrap();
    assert_eq!(stage.run(&["sim", "--config-file", "sim.toml"]).code, 78);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = stage.run(&["sim", "--listen", &address]);
    assert_eq!(said.code, 69, "{said:?}");
}

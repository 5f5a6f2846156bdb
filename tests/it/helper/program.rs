//! The programs the tests run: `claudeq` itself, and what producers use.
//!
//! Invariant: where `CLAUDEQ_TEST_TOOLS=required` is set, as `.ci/run` does, a missing program
//! fails the test. Elsewhere `sqlite3` is stood in for by the SQLite that claudeq brings along, and
//! tests of other programs are left out with a word on standard error.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The exit code; −1 after a signal.
    pub(crate) code: i32,
    /// Standard output without the last line break.
    pub(crate) out: String,
    /// Standard error without the last line break.
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// What it printed, if all went well.
    pub(crate) fn unwrap(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }
}

/// The real binary, with an environment that leads it nowhere.
pub(crate) fn claudeq() -> Command {
    nowhere(Command::new(env!("CARGO_BIN_EXE_claudeq")))
}

/// A program for which the command `claudeq` is the real binary, with an environment that leads
/// it nowhere.
pub(crate) fn with_claudeq(program: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_claudeq"));
    let mut path = binary.parent().expect("it lies in a folder").as_os_str().to_owned();
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    let mut command = nowhere(Command::new(program));
    command.env("PATH", path).env("LC_ALL", "C.UTF-8");
    command
}

fn nowhere(mut command: Command) -> Command {
    for name in ["CLAUDEQ_DB", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a script through the command `sqlite3`, going on after errors.
///
/// It waits up to five seconds for other writers, as the README tells producers to.
pub(crate) fn sqlite3(database: &Path, script: &str) -> Said {
    if !has("sqlite3") {
        return super::stand_in::run(database, script);
    }
    sqlite3_of(Path::new("sqlite3"), database, script)
}

/// As [`sqlite3`], through another shell.
pub(crate) fn sqlite3_of(program: &Path, database: &Path, script: &str) -> Said {
    let mut command = Command::new(program);
    command.args(["-batch", "-init", "/dev/null", "-cmd", ".timeout 5000"]).arg(database);
    run(command, script)
}

/// Runs a script that must succeed, and gives what it prints.
pub(crate) fn sql(database: &Path, script: &str) -> String {
    let said = sqlite3(database, script);
    assert!(said.code == 0 && said.err.is_empty(), "{script}\n{said:?}");
    said.out
}

/// Runs a Python program; its arguments are in `sys.argv[1:]`.
pub(crate) fn python(program: &str, args: &[&str]) -> Said {
    let mut command = Command::new("python3");
    command.arg("-").args(args);
    run(command, program)
}

fn run(mut command: Command, input: &str) -> Said {
    command.stdin(Stdio::from(file_of(input)));
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output();
    Said::of(&output.unwrap_or_else(|error| panic!("these tests need the program {name}: {error}")))
}

/// Whether a program is on this machine; it must be where the tools are required.
pub(crate) fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    assert!(found || !tools_are_required(), "these tests need the program {program}");
    found
}

/// Whether golden files are to be written anew before they are compared.
pub(crate) fn updates_golden() -> bool {
    std::env::var("CLAUDEQ_UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

/// Node has `node:sqlite` without a flag from this on.
pub(crate) const NODE_LEAST: (u32, u32) = (22, 5);

/// Whether there is a Node that knows SQLite; there must be where the tools are required.
pub(crate) fn has_node() -> bool {
    let output = with_tools("node").arg("--version").output();
    let version = output.map(|output| Said::of(&output).out).unwrap_or_default();
    let found = node_version(&version).is_some_and(|version| version >= NODE_LEAST);
    let (major, minor) = NODE_LEAST;
    assert!(found || !tools_are_required(), "these tests need a node of {major}.{minor} or newer");
    if !found {
        eprintln!("left out: there is no node of {major}.{minor} or newer on this machine");
    }
    found
}

/// Whether what is missing fails a test.
pub(crate) fn tools_are_required() -> bool {
    std::env::var("CLAUDEQ_TEST_TOOLS").is_ok_and(|value| value == "required")
}

/// A program that finds what `examples/run-all.sh` installs where the system has nothing like it.
pub(crate) fn with_tools(program: &str) -> Command {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node/node_modules/.bin");
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&others));
    let path = std::env::join_paths(folders).expect("a folder of PATH has no colon");
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Leaves a test out on a machine without a program.
macro_rules! needs {
    ($program:literal) => {
        if !$crate::helper::has($program) {
            eprintln!("left out: there is no {} on this machine", $program);
            return;
        }
    };
}
pub(crate) use needs;

/// A file, not a pipe: neither side can block the other.
fn file_of(text: &str) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(text.as_bytes()).expect("it can be written");
    file.rewind().expect("it can be rewound");
    file
}

/// Holds the daemon's lock on a file until it is dropped, as a daemon would.
///
/// Locks of `flock` belong to the open file, so that this process keeps even itself out.
pub(crate) struct FlockHolder(File);

impl FlockHolder {
    /// Returns once the lock is held.
    pub(crate) fn of(path: &Path) -> FlockHolder {
        let file = File::open(path).expect("the file can be opened");
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .expect("the lock is to be had");
        FlockHolder(file)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        let _ = &self.0;
        std::process::id()
    }
}

#[test]
fn versions_of_node_are_read() {
    assert_eq!(node_version("v22.5.1"), Some((22, 5)));
    assert!(node_version("v20.20.2").is_some_and(|version| version < NODE_LEAST));
    assert_eq!(node_version(""), None);
}

#[test]
fn the_binary_is_built_and_starts() {
    let output = claudeq().arg("--help").output().expect("the binary starts");
    assert!(output.status.success(), "{:?}", Said::of(&output));
}

#[test]
fn scripts_go_on_after_errors_and_say_them() {
    let db = super::TempDb::nothing();
    let said = sqlite3(db.path(), "SELECT 1;\nSELECT nonsense;\nSELECT 2;");
    assert_eq!(said.out, "1\n2");
    assert!(said.code != 0 && said.err.contains("no such column: nonsense"), "{said:?}");
    needs!("python3");
    let said = python("import sys\nprint(sys.argv[1:])\nsys.exit(3)", &["a", "b"]);
    assert_eq!((said.code, said.out.as_str()), (3, "['a', 'b']"));
}

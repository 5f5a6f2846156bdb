//! A producer that goes on inserting whatever happens to the daemon.

use crate::helper::Lab;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Inserts until its standard input ends, unless too many jobs wait; prints the keys of every
/// commit, once it is one.
const PROGRAM: &str = r"
import random, select, sqlite3, sys
path, seed, pause, text = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
dice = random.Random(seed)
db = sqlite3.connect(path, timeout=30, isolation_level=None)
db.execute('PRAGMA wal_autocheckpoint=0')
number = 0
while not select.select([sys.stdin], [], [], dice.uniform(0, 2 * pause))[0]:
    keys = []
    if db.execute('SELECT count(*) FROM job_state WHERE finished_seq IS NULL').fetchone()[0] > 400:
        continue
    db.execute('BEGIN IMMEDIATE')
    for _ in range(dice.randint(1, 8)):
        number += 1
        keys.append(f'p{number}')
        markers = text.replace('OUT', str(dice.randint(20, 400)))
        db.execute('INSERT INTO jobs (key, prompt) VALUES (?, ?)',
                   (keys[-1], f'[[id={keys[-1]}]] {markers}'))
    db.execute('COMMIT')
    print('\n'.join(keys), flush=True)
";

/// The producer at work.
pub(super) struct Producer {
    child: Child,
    out: PathBuf,
}

impl Producer {
    /// Starts it: `pause` seconds between two transactions on average, `markers` in each prompt
    /// (`OUT` stands for a number of tokens).
    pub(super) fn start(lab: &Lab, seed: u64, pause: f64, markers: &str) -> Producer {
        let out = lab.dir().join("producer.out");
        let file = File::create(&out).expect("a file can be made");
        let errors = File::create(lab.dir().join("producer.err")).expect("a file can be made");
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).arg(lab.database());
        command.args([&seed.to_string(), &pause.to_string(), markers]);
        let child = command.stdin(Stdio::piped()).stdout(file).stderr(errors).spawn();
        Producer { child: child.expect("these tests need the program python3"), out }
    }

    /// The keys committed so far.
    pub(super) fn committed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.out).expect("it can be read");
        // A line that is not whole yet will be there the next time.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Lets it end and gives all keys.
    pub(super) fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("a child can be waited for");
        let errors = std::fs::read_to_string(self.out.with_extension("err")).unwrap_or_default();
        assert!(status.success(), "the producer failed: {errors}");
        self.committed()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

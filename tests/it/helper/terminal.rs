//! A terminal of the test's own (a pty), so that nothing stands between it and the program:
//! `script` gives up ten milliseconds after its child's end, with or without its last bytes.

use super::Said;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// Both ends of a terminal.
pub(crate) struct Terminal {
    /// What the person before it sees and types.
    person: File,
    /// What a program has for its three streams.
    program: File,
}

impl Terminal {
    /// So many columns wide; what is typed is not echoed, and an interrupt throws nothing away.
    pub(crate) fn open(columns: u16) -> Terminal {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("there are terminals");
        grantpt(&person).expect("it is ours");
        unlockpt(&person).expect("it can be opened");
        let path = ptsname(&person, Vec::new()).expect("it has a name");
        let path = path.to_str().expect("the name is plain");
        let program =
            File::options().read(true).write(true).open(path).expect("its other end opens");
        let mut modes = tcgetattr(&program).expect("it is a terminal");
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::NOFLSH);
        tcsetattr(&program, OptionalActions::Now, &modes).expect("its modes can be set");
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person, size).expect("its size can be set");
        Terminal { person: File::from(person), program }
    }

    /// A program with this as its controlling terminal: what is typed may become a signal.
    pub(crate) fn command(&self, program: &str) -> Command {
        let end = || Stdio::from(self.program.try_clone().expect("it can be shared"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", program]).stdin(end()).stdout(end()).stderr(end());
        command
    }

    /// Runs it to its end. The second text is typed once the first one has appeared.
    pub(crate) fn run(self, mut command: Command, mut typing: Option<(&str, &str)>) -> Said {
        let Terminal { mut person, program } = self;
        let mut child = command.spawn().expect("these tests need the program setsid");
        // Only the program has them open now, so its end is ours.
        drop((command, program));
        let mut seen = Vec::new();
        let mut some = [0_u8; 4_096];
        // The last one to close it makes reading an error (EIO).
        while let Ok(read) = person.read(&mut some)
            && read > 0
        {
            seen.extend_from_slice(&some[..read]);
            if let Some((text, typed)) = typing
                && String::from_utf8_lossy(&seen).contains(text)
            {
                person.write_all(typed.as_bytes()).expect("it takes what is typed");
                typing = None;
            }
        }
        let out = String::from_utf8_lossy(&seen).into_owned();
        assert_eq!(typing, None, "{out:?}");
        let code = child.wait().expect("it ends").code().unwrap_or(-1);
        Said { code, out, err: String::new() }
    }
}

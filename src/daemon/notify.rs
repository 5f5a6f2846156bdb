//! systemd's notification socket (sd_notify(3)): ready, status, watchdog, stopping.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// A connection to the service manager, or none.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// `address` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(super) fn new(address: Option<&str>) -> Notifier {
        let connect = |address: &str| -> std::io::Result<(UnixDatagram, SocketAddr)> {
            let to = match address.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(Path::new(address))?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, to))
        };
        let socket = address.and_then(|address| {
            connect(address)
                .inspect_err(|error| tracing::warn!(%error, "cannot reach the service manager"))
                .ok()
        });
        Notifier { socket }
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    pub(super) fn alive(&self, status: &str) {
        // One line: a newline would begin another assignment.
        let status = status.replace('\n', " ");
        self.send(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    fn send(&self, message: &str) {
        if let Some((socket, to)) = &self.socket {
            // A manager that does not listen must not stop the work.
            let _ = socket.send_to_addr(message.as_bytes(), to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str());
        notifier.ready();
        notifier.alive("64 running\nEVIL=1");
        let mut buffer = [0; 200];
        let mut next = || {
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1");
        assert_eq!(next(), "WATCHDOG=1\nSTATUS=64 running EVIL=1");
    }
}

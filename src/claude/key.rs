//! Where the API key comes from.
//!
//! Invariant: the key is never part of an error or of `Debug` output.

use secrecy::SecretString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The file's name in systemd's credentials directory.
const CREDENTIAL: &str = "anthropic-api-key";
/// No key is nearly as long; what is longer is the wrong file.
const KEY_BYTES_MAX: u64 = 16 * 1024;

/// Where to look; the first that is there counts, in this order.
#[derive(Clone, Copy, Default)]
pub struct KeySources<'a> {
    /// `$CREDENTIALS_DIRECTORY`; passed over when it has no `anthropic-api-key`.
    pub credentials_directory: Option<&'a Path>,
    /// The value of `ANTHROPIC_API_KEY`; an empty one counts as absent.
    pub environment: Option<&'a str>,
    /// `provider.api_key_file`.
    pub api_key_file: Option<&'a Path>,
}

impl fmt::Debug for KeySources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySources")
            .field("credentials_directory", &self.credentials_directory)
            .field("environment", &self.environment.map(|_| "[key]"))
            .field("api_key_file", &self.api_key_file)
            .finish()
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing names one.
    #[error("no API key: set ANTHROPIC_API_KEY or provider.api_key_file")]
    None,
    /// The file cannot be read.
    #[error("failed to read the API key from {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("the API key file {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Group or others have access.
    #[error("the API key file {path} is open to other users (mode {mode:03o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nothing in it.
    #[error("the API key from {0} is empty")]
    Empty(String),
    /// It could not be sent in a header.
    #[error("the API key from {0} has a space or a character that is not visible ASCII")]
    BadCharacter(String),
    /// The wrong file.
    #[error("the API key file {} is too large to be one", .0.display())]
    TooLarge(PathBuf),
}

/// Reads the key from the first source that is there.
pub fn load(sources: &KeySources) -> Result<SecretString, KeyError> {
    let credential = sources
        .credentials_directory
        .map(|directory| directory.join(CREDENTIAL))
        .filter(|path| path.exists());
    if let Some(path) = credential {
        // systemd keeps others out by the directory; the file's own mode says nothing.
        return from_file(&path, false);
    }
    let environment = sources.environment.map(str::trim);
    if let Some(value) = environment.filter(|value| !value.is_empty()) {
        return checked(value, "ANTHROPIC_API_KEY");
    }
    match sources.api_key_file {
        Some(path) => from_file(path, true),
        None => Err(KeyError::None),
    }
}

fn from_file(path: &Path, must_be_private: bool) -> Result<SecretString, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    // Looked at before it is opened as well: opening a pipe would block.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    if must_be_private {
        refuse_exposed(path, &file.metadata().map_err(failed)?)?;
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > KEY_BYTES_MAX {
        return Err(KeyError::TooLarge(path.to_owned()));
    }
    checked(&text, &path.display().to_string())
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &std::fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyError::Exposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _metadata: &std::fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

fn checked(text: &str, origin: &str) -> Result<SecretString, KeyError> {
    let key = text.trim();
    if key.is_empty() {
        return Err(KeyError::Empty(origin.to_owned()));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::BadCharacter(origin.to_owned()));
    }
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::fs;

    fn key_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CREDENTIAL);
        fs::write(&path, text).unwrap();
        set_mode(&path, mode);
        (directory, path)
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn set_mode(_path: &Path, _mode: u32) {}

    fn from_path(path: &Path) -> Result<SecretString, KeyError> {
        load(&KeySources { api_key_file: Some(path), ..KeySources::default() })
    }

    #[test]
    fn systemd_then_the_environment_then_the_file() {
        let (credentials, _) = key_file("from-systemd\n", 0o644);
        let (_keep, path) = key_file(" from-file \r\n", 0o600);
        let mut sources = KeySources {
            credentials_directory: Some(credentials.path()),
            environment: Some("from-environment\n"),
            api_key_file: Some(&path),
        };
        let read = |sources: &KeySources| load(sources).unwrap().expose_secret().to_owned();
        assert_eq!(read(&sources), "from-systemd");
        fs::remove_file(credentials.path().join(CREDENTIAL)).unwrap();
        assert_eq!(read(&sources), "from-environment");
        sources.environment = Some(" ");
        assert_eq!(read(&sources), "from-file");
        sources.api_key_file = None;
        assert!(matches!(load(&sources), Err(KeyError::None)));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_open_to_others_is_refused_with_the_cure() {
        for mode in [0o640, 0o604, 0o666, 0o620] {
            let (_keep, path) = key_file("sk-canary", mode);
            let error = from_path(&path).unwrap_err().to_string();
            let cure = format!("chmod 600 {}", path.display());
            assert!(error.contains(&cure), "{error}");
            assert!(!error.contains("canary"));
        }
    }

    #[test]
    fn nonsense_is_refused_without_being_shown() {
        for text in ["", " \n", "sk canary", "sk-canary\u{7}", "sk-canary-ä", "a\nsk-canary"] {
            let (_keep, path) = key_file(text, 0o600);
            let error = from_path(&path).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text:?}");
        }
        let (directory, path) = key_file(&"x".repeat(20_000), 0o600);
        assert!(matches!(from_path(&path), Err(KeyError::TooLarge(_))));
        assert!(matches!(from_path(directory.path()), Err(KeyError::NotAFile(_))));
        let missing = directory.path().join("missing");
        assert!(matches!(from_path(&missing), Err(KeyError::Read { .. })));
    }

    #[test]
    fn sources_do_not_print_the_key() {
        let sources = KeySources { environment: Some("sk-canary"), ..KeySources::default() };
        assert!(!format!("{sources:?}").contains("canary"));
    }
}

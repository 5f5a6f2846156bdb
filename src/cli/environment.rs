//! The environment's variables, read once and in one place.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What the environment says.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// `CLAUDEQ_DB`.
    pub(crate) database: Option<PathBuf>,
    /// `ANTHROPIC_BASE_URL`.
    pub(crate) base_url: Option<String>,
    /// `ANTHROPIC_API_KEY`.
    pub(crate) api_key: Option<String>,
    /// `CREDENTIALS_DIRECTORY`, from systemd.
    pub(crate) credentials_directory: Option<PathBuf>,
    /// `NOTIFY_SOCKET`, from systemd.
    pub(crate) notify_socket: Option<String>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `NO_COLOR` is there and not empty (<https://no-color.org>).
    pub(crate) no_color: bool,
    /// `TERM` says that the terminal can do nothing.
    pub(crate) dumb_terminal: bool,
    /// `COLUMNS`, for who wants another width than the terminal's.
    pub(crate) columns: Option<usize>,
    /// Whether the locale is UTF-8; where none is set it is taken for that.
    pub(crate) utf8: bool,
}

impl Environment {
    /// Reads it; an empty variable counts as absent.
    pub(crate) fn read() -> Environment {
        // What is not UTF-8 is kept as such, to be refused: it does not count as absent.
        let text = |name: &str| given(name).map(|value| value.to_string_lossy().into_owned());
        let path = |name: &str| given(name).map(PathBuf::from);
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text);
        Environment {
            database: path("CLAUDEQ_DB"),
            base_url: text("ANTHROPIC_BASE_URL"),
            api_key: text("ANTHROPIC_API_KEY"),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            notify_socket: text("NOTIFY_SOCKET"),
            home: path("HOME"),
            no_color: given("NO_COLOR").is_some(),
            dumb_terminal: text("TERM").is_some_and(|term| term == "dumb"),
            columns: text("COLUMNS").and_then(|columns| columns.parse().ok()),
            utf8: locale.is_none_or(|locale| is_utf8(&locale)),
        }
    }
}

fn given(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

impl fmt::Debug for Environment {
    // Written by hand so that the key does not print itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("database", &self.database)
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_told_apart() {
        assert!(is_utf8("de_DE.UTF-8") && is_utf8("C.utf8"));
        assert!(!is_utf8("C") && !is_utf8("POSIX") && !is_utf8("de_DE.ISO-8859-1"));
    }

    #[test]
    fn the_key_does_not_print_itself() {
        let environment =
            Environment { api_key: Some("sk-canary".to_owned()), ..Environment::default() };
        assert!(!format!("{environment:?}").contains("canary"));
    }
}

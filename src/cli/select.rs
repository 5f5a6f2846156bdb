//! Which jobs are meant: the same selectors in every command.

use super::exit::{Exit, failure};
use super::render::format;
use crate::domain::job::{JobId, JobState};
use crate::store::Selector;
use clap::Args;

/// Selectors; those that are given must all hold.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SelectArgs {
    /// Jobs by their id
    #[arg(value_name = "ID", help_heading = "Selectors")]
    pub(crate) ids: Vec<i64>,
    /// Jobs of this batch
    #[arg(long, value_name = "NAME", help_heading = "Selectors")]
    pub(crate) batch: Option<String>,
    /// Jobs of this queue
    #[arg(long, value_name = "NAME", help_heading = "Selectors")]
    pub(crate) queue: Option<String>,
    /// Jobs in this state: queued, running, succeeded, failed, cancelled, held; several with commas
    #[arg(
        long = "state",
        value_name = "STATE",
        value_delimiter = ',',
        value_parser = parse_state,
        help_heading = "Selectors"
    )]
    pub(crate) states: Vec<JobState>,
    /// Jobs that ended with this error class, such as refusal
    #[arg(long, value_name = "CLASS", help_heading = "Selectors")]
    pub(crate) error_class: Option<String>,
    /// Jobs whose answer stopped for this reason, such as max_tokens or tool_use
    #[arg(long, value_name = "REASON", help_heading = "Selectors")]
    pub(crate) stop_reason: Option<String>,
    /// The job with this key
    #[arg(long, value_name = "KEY", help_heading = "Selectors")]
    pub(crate) key: Option<String>,
    /// Every job
    #[arg(long, help_heading = "Selectors")]
    pub(crate) all: bool,
}

fn parse_state(word: &str) -> Result<JobState, String> {
    JobState::parse(word).ok_or_else(|| {
        let words: Vec<&str> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        format!("there are {}", words.join(", "))
    })
}

impl SelectArgs {
    /// The selector; nothing given means every job.
    pub(crate) fn selector(&self) -> anyhow::Result<Selector> {
        let mut ids: Vec<JobId> = self.ids.iter().copied().map(JobId).collect();
        ids.sort_unstable();
        ids.dedup();
        let selector = Selector {
            ids,
            batch: self.batch.clone(),
            queue: self.queue.clone(),
            states: self.states.clone(),
            error_class: self.error_class.clone(),
            key: self.key.clone(),
            stop_reason: self.stop_reason.clone(),
        };
        if self.all && !selector.is_everything() {
            let message = "--all means every job; leave it out next to other selectors";
            return Err(failure(Exit::Usage, message));
        }
        Ok(selector)
    }

    /// The selector of a command that changes or prints much: it must be said which jobs.
    pub(crate) fn explicit(&self, doing: &str) -> anyhow::Result<Selector> {
        let selector = self.selector()?;
        if selector.is_everything() && !self.all {
            return Err(failure(
                Exit::Usage,
                format!(
                    "which jobs? name them (ID, --batch, --queue, --state, --error-class, \
                     --stop-reason, --key), or {doing} every job with --all"
                ),
            ));
        }
        Ok(selector)
    }

    /// Whether only ids are given: then a person has named each job.
    pub(crate) fn only_ids(&self) -> bool {
        !self.ids.is_empty()
            && self.batch.is_none()
            && self.queue.is_none()
            && self.states.is_empty()
            && self.error_class.is_none()
            && self.stop_reason.is_none()
            && self.key.is_none()
    }

    /// The same selectors as they are typed, for a hint.
    pub(crate) fn typed(&self) -> String {
        let mut words: Vec<String> = self.ids.iter().map(ToString::to_string).collect();
        let named = [
            ("--batch", &self.batch),
            ("--queue", &self.queue),
            ("--error-class", &self.error_class),
            ("--stop-reason", &self.stop_reason),
            ("--key", &self.key),
        ];
        for (flag, value) in named {
            words.extend(value.iter().map(|value| format!("{flag} {}", quoted(value))));
        }
        words.join(" ")
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `there is no job 7`, `there are no jobs 7, 8`.
pub(crate) fn no_such(ids: &[JobId]) -> String {
    let list: Vec<String> = ids.iter().take(10).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(list.len());
    let more = if more > 0 {
        format!(" and {} more", format::count(i64::try_from(more).unwrap_or(i64::MAX)))
    } else {
        String::new()
    };
    match ids.len() {
        1 => format!("there is no job {}", list.concat()),
        _ => format!("there are no jobs {}{more}", list.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_selected_is_not_everything() {
        let none = SelectArgs::default();
        assert!(none.selector().unwrap().is_everything());
        assert!(none.explicit("retry").unwrap_err().to_string().contains("--all"));
        let all = SelectArgs { all: true, ..SelectArgs::default() };
        assert!(all.explicit("retry").unwrap().is_everything());
        let both = SelectArgs { queue: Some("a".into()), ..all };
        assert!(both.selector().is_err());
    }

    #[test]
    fn selectors_are_typed_back_for_a_shell() {
        let select = SelectArgs {
            batch: Some("it's".into()),
            queue: Some("nightly".into()),
            ..SelectArgs::default()
        };
        assert_eq!(select.typed(), "--batch 'it'\\''s' --queue nightly");
    }

    #[test]
    fn missing_jobs_are_named() {
        assert_eq!(no_such(&[JobId(7)]), "there is no job 7");
        let many: Vec<JobId> = (1..=12).map(JobId).collect();
        assert!(no_such(&many).ends_with("9, 10 and 2 more"));
    }
}

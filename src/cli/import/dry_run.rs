//! What a file would cost and how long it would take, by the forecast of `claudeq plan`.
//!
//! Invariant: memory does not grow with the number of rows: they are counted, and some of them
//! are kept by way of example.

use crate::cli::context::Context;
use crate::cli::plan;
use crate::cli::render::format;
use crate::cli::status::held_back_by;
use crate::daemon::forecast::{Basis, WhatIf};
use crate::domain::forecast::Forecast;
use crate::domain::price::in_usd;
use crate::domain::time::Timestamp;
use crate::store::{Backlog, BacklogGroup, Column, Defaults, IncomingRow, JobSample, Store};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Groups that are told apart; the rest counts to the last of them.
const GROUPS_MAX: usize = 10_000;
/// Rows kept by way of example, in all.
const SAMPLES_MAX: usize = 20_000;

/// What one row is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    queue: String,
    priority: i64,
    run_at: Option<i64>,
    sample: JobSample,
    /// By which it is known again, when it has a key.
    pub(super) mark: Option<Mark>,
}

/// What a row is called, and what it says, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) name: u64,
    pub(super) content: u64,
}

impl Mark {
    fn of(row: &IncomingRow<'_>, queue: &str) -> Option<Mark> {
        let key = row.get(Column::Key)?;
        let mut content = DefaultHasher::new();
        Column::ALL.map(|column| row.get(column)).hash(&mut content);
        let mut name = DefaultHasher::new();
        (queue, key).hash(&mut name);
        Some(Mark { name: name.finish(), content: content.finish() })
    }
}

/// What a body says of itself.
#[derive(Default, Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    max_tokens: Option<i64>,
}

impl Shape {
    pub(super) fn of(row: &IncomingRow<'_>, defaults: &Defaults) -> Shape {
        let number = |column, default| row.get(column).map_or(default, |text| text.parse().ok());
        let request = row.get(Column::Request);
        let asked: Asked<'_> =
            request.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        let system = row.get(Column::System).or(defaults.system.as_deref());
        let given = [row.get(Column::Prompt), request, system];
        let bytes = given.into_iter().flatten().map(str::len).sum::<usize>();
        let model = row.get(Column::Model).or(defaults.model.as_deref());
        let queue = row.get(Column::Queue).unwrap_or(&defaults.queue);
        Shape {
            mark: Mark::of(row, queue),
            queue: queue.to_owned(),
            priority: number(Column::Priority, Some(defaults.priority)).unwrap_or_default(),
            run_at: number(Column::RunAt, defaults.run_at.map(|at| at.0)),
            sample: JobSample {
                bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
                model: asked.model.as_deref().or(model).map(str::to_owned),
                max_tokens: asked.max_tokens.or(number(Column::MaxTokens, defaults.max_tokens)),
                is_request: request.is_some(),
                has_system: system.is_some(),
            },
        }
    }
}

/// Rows counted in groups.
#[derive(Debug, Default)]
pub(super) struct Census {
    places: HashMap<(String, i64, bool), usize>,
    groups: Vec<BacklogGroup>,
    /// Each so many rows of a group one is kept.
    stride: i64,
    samples: usize,
}

impl Census {
    pub(super) fn add(&mut self, shape: Shape) {
        let Shape { queue, priority, run_at, sample, mark: _ } = shape;
        let known = (queue, priority, run_at.is_some());
        let place = match self.places.get(&known) {
            Some(place) => *place,
            None if self.groups.len() == GROUPS_MAX => GROUPS_MAX - 1,
            None => {
                let queue = known.0.clone();
                self.groups.push(BacklogGroup { queue, priority, ..BacklogGroup::default() });
                self.places.insert(known, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        self.stride = self.stride.max(1);
        let group = &mut self.groups[place];
        if let Some(at) = run_at.map(Timestamp) {
            let (first, last) = group.due.unwrap_or((at, at));
            group.due = Some((first.min(at), last.max(at)));
        }
        if group.jobs % self.stride == 0 {
            group.samples.push(sample);
            self.samples += 1;
        }
        group.jobs += 1;
        if self.samples > SAMPLES_MAX {
            self.thin_out();
        }
    }

    /// Keeps every second of the samples of each group.
    fn thin_out(&mut self) {
        self.stride *= 2;
        self.samples = 0;
        for group in &mut self.groups {
            let mut at = 0;
            group.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.samples += group.samples.len();
        }
    }

    /// As what is left to do.
    fn backlog(mut self) -> Backlog {
        self.groups.sort_by_key(|group| std::cmp::Reverse(group.jobs));
        Backlog { groups: self.groups, open: Vec::new() }
    }
}

/// The jobs of a file alone, and the queue with them.
pub(super) struct Outlook {
    basis: Basis,
    alone: Forecast,
    together: Forecast,
}

impl Outlook {
    pub(super) async fn of(
        census: Census,
        store: &Store,
        context: &Context,
    ) -> anyhow::Result<Outlook> {
        let config = context.config()?;
        let backlog = census.backlog();
        let mut basis = Basis::read(store, &config, None, None, context.now()).await?;
        let alone = basis.forecast_alone(&backlog);
        basis.add(&backlog);
        let together = basis.forecast(&WhatIf::default());
        Ok(Outlook { basis, alone, together })
    }

    /// `: ≈ 250M input and 120M output tokens, $248`
    pub(super) fn sizes(&self) -> String {
        let alone = &self.alone;
        if alone.jobs == 0 {
            return String::new();
        }
        let (input, output) =
            (format::short(alone.input_tokens), format::short(alone.output_tokens));
        format!("; ≈ {input} input and {output} output tokens, {}", plan::cost(alone))
    }

    /// `with all that waits: done in 24 m (09:33), held back by output tokens`
    pub(super) fn finish(&self, now: Timestamp) -> Option<String> {
        let together = &self.together;
        if self.alone.jobs == 0 {
            return None;
        }
        let (takes, at) = plan::ends(together, now);
        let mut text = match together.finishes_at {
            Some(_) => format!("with all that waits: done in {takes} ({at})"),
            None => "with all that waits: not done by itself".to_owned(),
        };
        if let Some(reason) = together.bottleneck {
            text += &format!(", held back by {}", held_back_by(reason));
        }
        if !together.stuck.is_empty() {
            text += &format!("; stuck: {}", plan::stuck(together));
        }
        Some(text)
    }

    /// What somebody should know of the numbers.
    pub(super) fn remarks(&self) {
        if self.alone.jobs > 0 {
            plan::unlearned(&self.basis);
        }
    }

    /// Members for programs.
    pub(super) fn json(&self, now: Timestamp) -> Map<String, Value> {
        let members = json!({
            "input_tokens": self.alone.input_tokens,
            "output_tokens": self.alone.output_tokens,
            "usd": self.alone.rest_nanousd.map(in_usd),
            "finishes_at": self.together.finishes_at,
            "takes_ms": self.together.finishes_at.map(|at| at.since(now)),
            "bottleneck": self.together.bottleneck,
            "as_of": self.together.as_of,
        });
        members.as_object().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(cells: &[(Column, &'static str)], defaults: &Defaults) -> Shape {
        let mut row = IncomingRow::default();
        for (column, value) in cells {
            row.set(*column, *value);
        }
        Shape::of(&row, defaults)
    }

    #[test]
    fn a_body_says_more_than_the_columns_and_these_more_than_the_defaults() {
        let defaults = Defaults {
            queue: "q".into(),
            model: Some("by default".into()),
            max_tokens: Some(7),
            run_at: Some(Timestamp(5)),
            ..Defaults::default()
        };
        let body = r#"{"model":"in the body","messages":[]}"#;
        let one = shape(&[(Column::Request, body), (Column::Model, "of the row")], &defaults);
        assert_eq!((one.queue.as_str(), one.priority, one.run_at), ("q", 0, Some(5)));
        assert_eq!(one.sample.model.as_deref(), Some("in the body"));
        assert_eq!((one.sample.max_tokens, one.sample.bytes), (Some(7), 37));
        let cells = [(Column::Prompt, "four"), (Column::System, "s"), (Column::MaxTokens, "9")];
        let two = shape(&cells, &defaults);
        let sample = two.sample;
        assert_eq!((sample.bytes, sample.max_tokens), (5, Some(9)));
        assert!(sample.has_system && !sample.is_request);
    }

    #[test]
    fn a_million_rows_are_counted_and_few_are_kept() {
        let defaults = Defaults { queue: "q".into(), ..Defaults::default() };
        let one = shape(&[(Column::Prompt, "x")], &defaults);
        let rare = shape(&[(Column::Prompt, "x"), (Column::Queue, "rare")], &defaults);
        let mut census = Census::default();
        for _ in 0..100_000 {
            census.add(one.clone());
        }
        census.add(rare);
        let backlog = census.backlog();
        let counts: Vec<(i64, usize)> =
            backlog.groups.iter().map(|group| (group.jobs, group.samples.len())).collect();
        assert_eq!(counts, [(100_000, 12_500), (1, 1)]);
    }
}

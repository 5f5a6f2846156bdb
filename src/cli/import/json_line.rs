//! One line of JSON as a row: ours, a bare Messages body, or a line of a batch file.
//!
//! Invariant: bodies are taken as they are written, byte for byte.

use super::template::Template;
use crate::store::{Column, IncomingRow};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The member that only a Messages body has.
const MESSAGES: &str = "messages";
/// The members of a line of a batch file.
const CUSTOM_ID: &str = "custom_id";
const PARAMS: &str = "params";
/// Columns that a Messages body has as well.
const SHARED: [Column; 4] = [Column::Model, Column::MaxTokens, Column::System, Column::Metadata];
pub(super) const NO_REQUEST: &str =
    "`request` must be a JSON object: the body of a Messages API call";
/// Characters of a name that are shown.
const NAME_SHOWN: usize = 60;
/// Names that are shown.
const NAMES_SHOWN: usize = 20;

/// Fills a row from a line, or says what is wrong with that.
pub(super) fn parse<'a>(line: &'a str, row: &mut IncomingRow<'a>) -> Result<(), String> {
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    let members = Members::of(line)?;
    if members.has(MESSAGES) {
        return bare(&members, line, row);
    }
    match members.twice() {
        Some(name) => Err(format!("{} is given twice", shown(name))),
        None if members.has(CUSTOM_ID) || members.has(PARAMS) => batch(&members, row),
        None => ours(&members, row),
    }
}

/// A prompt made of an object's members, whatever they are called.
pub(super) struct FromMembers {
    template: Template,
    names: Vec<String>,
    key: Option<String>,
}

impl FromMembers {
    pub(super) fn new(template: &str, key: Option<&str>) -> Result<FromMembers, String> {
        let (template, names) = Template::over_any(template)?;
        Ok(FromMembers { template, names, key: key.map(str::to_owned) })
    }

    /// Fills a row from a line, or says what is wrong with that.
    pub(super) fn fill<'a>(&self, line: &'a str, row: &mut IncomingRow<'a>) -> Result<(), String> {
        let members = Members::of(line.trim_matches([' ', '\t', '\r', '\n']))?;
        let values: Result<Vec<Cow<'_, str>>, String> =
            self.names.iter().map(|name| members.spelled(name)).collect();
        let values = values?;
        row.set(Column::Prompt, self.template.fill(|place| Ok::<_, String>(&*values[place]))?);
        if let Some(name) = &self.key {
            let key = scalar(name, members.one(name)?.get())?;
            row.set(Column::Key, key.ok_or_else(|| format!("{} is null", shown(name)))?);
        }
        Ok(())
    }
}

/// The whole line is the body.
fn bare<'a>(members: &Members<'a>, line: &'a str, row: &mut IncomingRow<'a>) -> Result<(), String> {
    // It would be sent, and the API would refuse every one of them.
    let is_ours = |name: &str| {
        let column = Column::parse(name).filter(|column| !SHARED.contains(column));
        column.is_some() || name == CUSTOM_ID || name == PARAMS
    };
    match members.0.iter().find(|(name, _)| is_ours(name)) {
        Some((name, _)) => Err(format!(
            "`{name}` beside `messages`: a line is either a whole Messages body, or it has the \
             body in `request`"
        )),
        None => {
            row.set(Column::Request, line);
            Ok(())
        }
    }
}

fn batch<'a>(members: &Members<'a>, row: &mut IncomingRow<'a>) -> Result<(), String> {
    let (mut key, mut body) = (None, None);
    for (name, value) in &members.0 {
        match &**name {
            CUSTOM_ID => key = scalar(CUSTOM_ID, value.get())?,
            PARAMS => body = Some(value.get()).filter(|value| value.starts_with('{')),
            name => {
                let name = shown(name);
                return Err(format!("{name} beside `custom_id` and `params`, which stand alone"));
            }
        }
    }
    row.set(Column::Key, key.ok_or("`custom_id` must be text")?);
    row.set(Column::Request, body.ok_or("`params` must be a JSON object")?);
    Ok(())
}

fn ours<'a>(members: &Members<'a>, row: &mut IncomingRow<'a>) -> Result<(), String> {
    for (name, value) in &members.0 {
        let Some(column) = Column::parse(name) else {
            let columns = Column::ALL.map(Column::name).join(", ");
            return Err(format!("unknown member {}; there are: {columns}", shown(name)));
        };
        if let Some(value) = value_of(column, value.get())? {
            row.set(column, value);
        }
    }
    Ok(())
}

/// What a member gives its column; nothing for `null`.
fn value_of(column: Column, json: &str) -> Result<Option<Cow<'_, str>>, String> {
    match (column, json.as_bytes().first()) {
        (Column::Request, Some(b'{')) | (Column::Metadata, Some(b'{' | b'[')) => {
            Ok(Some(Cow::Borrowed(json)))
        }
        (Column::Request, _) => {
            let request = scalar(column.name(), json)?;
            // The daemon would fail it with the same words, but only when its turn has come.
            match request {
                Some(text) if !is_object(&text) => Err(NO_REQUEST.to_owned()),
                request => Ok(request),
            }
        }
        _ => scalar(column.name(), json),
    }
}

/// Text, or a number as it is spelled; nothing for `null`.
fn scalar<'a>(name: &str, json: &'a str) -> Result<Option<Cow<'a, str>>, String> {
    match json.as_bytes().first() {
        Some(b'"') => text(json).map(Some).map_err(|error| format!("`{name}`: {error}")),
        Some(b'n') => Ok(None),
        Some(b't' | b'f' | b'{' | b'[') | None => Err(format!("`{name}` must be text or a number")),
        Some(_) => Ok(Some(Cow::Borrowed(json))),
    }
}

fn text(json: &str) -> Result<Cow<'_, str>, String> {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner.filter(|inner| !inner.contains('\\')) {
        Some(inner) => Ok(Cow::Borrowed(inner)),
        None => serde_json::from_str(json).map(Cow::Owned).map_err(|error| words(&error)),
    }
}

/// Whether a text is a JSON object, as a request must be.
pub(super) fn is_object(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn no_json(error: &serde_json::Error) -> String {
    format!("no JSON object: {} (column {})", words(error), error.column())
}

/// The parser's words without its place: each line is read by itself.
fn words(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    message.replace("EOF", "the line ends").replace("invalid type: ", "it is of the type ")
}

/// A member's name, however long it is.
fn shown(name: &str) -> String {
    match name.char_indices().nth(NAME_SHOWN) {
        None => format!("`{name}`"),
        Some((end, _)) => format!("`{}…`", &name[..end]),
    }
}

/// The members of an object in their order, duplicates included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn of(line: &'a str) -> Result<Members<'a>, String> {
        if line.starts_with('[') {
            return Err("a JSON array; one object a line is wanted (jq -c '.[]' makes such)".into());
        }
        serde_json::from_str(line).map_err(|error| no_json(&error))
    }

    /// The value of a member that must be there, once.
    fn one(&self, name: &str) -> Result<&'a RawValue, String> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            (Some(_), Some(_)) => Err(format!("{} is given twice", shown(name))),
            (None, _) => {
                let names: Vec<String> =
                    self.0.iter().take(NAMES_SHOWN).map(|(name, _)| shown(name)).collect();
                Err(format!("there is no member {}; there are: {}", shown(name), names.join(", ")))
            }
        }
    }

    /// The same as text: that of a string, anything else as it is spelled, but no `null`.
    fn spelled(&self, name: &str) -> Result<Cow<'a, str>, String> {
        let value = self.one(name)?.get();
        match value.as_bytes().first() {
            Some(b'"') => text(value).map_err(|error| format!("{}: {error}", shown(name))),
            Some(b'n') => Err(format!("{} is null", shown(name))),
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Members are few where this is asked, and each is known: no need for a set.
    fn twice(&self) -> Option<&str> {
        let known =
            |name: &str| Column::parse(name).is_some() || name == CUSTOM_ID || name == PARAMS;
        let names = self.0.iter().map(|(name, _)| &**name).filter(|name| known(name));
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if seen.contains(&name) {
                return Some(name);
            }
            seen.push(name);
        }
        None
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values of the columns that a line gives.
    fn row(line: &str) -> Result<String, String> {
        let mut row = IncomingRow::default();
        parse(line, &mut row)?;
        let given = Column::ALL
            .into_iter()
            .filter_map(|column| row.get(column).map(|value| format!("{}={value}", column.name())));
        Ok(given.collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn our_own_lines_have_columns_as_members() {
        for (line, given) in [
            (r#"{"prompt": "Say \"hi\"", "key": 17}"#, "prompt=Say \"hi\"|key=17"),
            (r#" {"\u0070rompt":"\ud83c\udf89","priority":-5} "#, "prompt=🎉|priority=-5"),
            (r#"{"prompt":"x","batch":null,"max_tokens":"7"}"#, "prompt=x|max_tokens=7"),
            (
                r#"{"request":{"messages": [1],  "stream":1},"metadata":{"a": [1]}}"#,
                r#"request={"messages": [1],  "stream":1}|metadata={"a": [1]}"#,
            ),
            (
                r#"{"request":"{\"messages\":[]}","run_at":1e3}"#,
                "request={\"messages\":[]}|run_at=1e3",
            ),
            (r#"{"key":12345678901234567890123}"#, "key=12345678901234567890123"),
            ("{}", ""),
        ] {
            assert_eq!(row(line).as_deref(), Ok(given), "{line}");
        }
    }

    #[test]
    fn a_body_is_the_line_itself() {
        let line = r#"{"model": "m",  "max_tokens":1,"metadata":{},"messages":[], "top_k": 1e0}"#;
        assert_eq!(row(&format!("  {line}\t")), Ok(format!("request={line}")));
        for name in ["key", "prompt", "queue", "custom_id"] {
            let said = row(&format!(r#"{{"messages":[],"{name}":"x"}}"#)).unwrap_err();
            assert!(said.starts_with(&format!("`{name}` beside `messages`")), "{said}");
        }
    }

    #[test]
    fn a_line_of_a_batch_has_its_key_outside() {
        let line = r#"{"custom_id":"a-1","params":{"messages":[ ]}}"#;
        assert_eq!(row(line).as_deref(), Ok(r#"request={"messages":[ ]}|key=a-1"#));
        for (line, said) in [
            (r#"{"custom_id":"a"}"#, "`params` must be a JSON object"),
            (r#"{"custom_id":"a","params":"x"}"#, "`params` must be a JSON object"),
            (r#"{"params":{}}"#, "`custom_id` must be text"),
            (r#"{"custom_id":null,"params":{}}"#, "`custom_id` must be text"),
            (r#"{"custom_id":true,"params":{}}"#, "`custom_id` must be text or a number"),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1","body":{}}"#,
                "`method` beside `custom_id` and `params`, which stand alone",
            ),
        ] {
            assert_eq!(row(line).unwrap_err(), said, "{line}");
        }
    }

    #[test]
    fn a_prompt_is_made_of_members() {
        let filled = |line: &str| {
            let made = FromMembers::new("{{ q }}|{{n}}|{{q}}", Some("id")).unwrap();
            let mut row = IncomingRow::default();
            made.fill(line, &mut row)?;
            let value = |column| row.get(column).unwrap_or_default().to_owned();
            Ok::<_, String>((value(Column::Prompt), value(Column::Key)))
        };
        let good = |prompt: &str, key: &str| Ok((prompt.to_owned(), key.to_owned()));
        let line = r#" {"q":"a \"b\"","n":1.50,"id":17,"prompt":"other"} "#;
        assert_eq!(filled(line), good("a \"b\"|1.50|a \"b\"", "17"));
        let line = r#"{"q":{"a": [1]},"n":true,"id":"x"}"#;
        assert_eq!(filled(line), good(r#"{"a": [1]}|true|{"a": [1]}"#, "x"));
        for (line, said) in [
            (r#"{"q":1,"id":2}"#, "there is no member `n`; there are: `q`, `id`"),
            (r#"{"q":1,"n":null,"id":2}"#, "`n` is null"),
            (r#"{"q":1,"n":1,"n":2,"id":2}"#, "`n` is given twice"),
            (r#"{"q":1,"n":1,"id":null}"#, "`id` is null"),
            (r#"{"q":1,"n":1,"id":[2]}"#, "`id` must be text or a number"),
            (r#"{"q":1,"n":1}"#, "there is no member `id`; there are: `q`, `n`"),
            ("[1]", "a JSON array; one object a line is wanted (jq -c '.[]' makes such)"),
        ] {
            assert_eq!(filled(line).unwrap_err(), said, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("Say hi", "no JSON object: expected value (column 1)"),
            (
                r#"{"prompt": "x"#,
                "no JSON object: the line ends while parsing a string (column 13)",
            ),
            (r#"{"prompt": "x"} {"#, "no JSON object: trailing characters (column 17)"),
            ("7", "no JSON object: it is of the type integer `7`, expected an object (column 1)"),
            ("[{}]", "a JSON array; one object a line is wanted (jq -c '.[]' makes such)"),
            (r#"{"prompt":"a","prompt":"b"}"#, "`prompt` is given twice"),
            (r#"{"prompt":{"a":1}}"#, "`prompt` must be text or a number"),
            (r#"{"request":[1]}"#, "`request` must be text or a number"),
            (r#"{"request":"Say hi"}"#, NO_REQUEST),
            (r#"{"priority":true}"#, "`priority` must be text or a number"),
        ] {
            assert_eq!(row(line).unwrap_err(), said, "{line}");
        }
        let unknown = row(r#"{"promt":"x"}"#).unwrap_err();
        assert!(unknown.starts_with("unknown member `promt`; there are: prompt, "), "{unknown}");
        let lone = row(r#"{"prompt":"\ud800 x"}"#).unwrap_err();
        assert!(lone.starts_with("`prompt`: "), "{lone}");
        let control = row("{\"prompt\":\"a\u{0}b\"}").unwrap_err();
        assert!(control.contains("control character"), "{control}");
        let long = row(&format!(r#"{{"{}":1}}"#, "ü".repeat(1_000))).unwrap_err();
        assert!(long.chars().count() < 300, "{long}");
    }

    #[test]
    fn requests_are_objects() {
        assert!(is_object(" {\"a\": [1]}\n"));
        for bad in ["", "x", "[]", "{", "{} {}", "{a: 1}"] {
            assert!(!is_object(bad), "{bad}");
        }
    }
}

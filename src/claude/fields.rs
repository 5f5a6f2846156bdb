//! A JSON object as it was written: its keys in their order, its values as raw text.
//!
//! Invariant: values are neither parsed nor written anew, so numbers keep their spelling and
//! no depth of nesting can overflow the stack.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// The members of an object, duplicates included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Reads an object; an error for anything else.
    pub(crate) fn parse(json: &str) -> Result<Fields, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The first member of that name.
    pub(crate) fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// The member of that name when it is a string.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(as_text)
    }

    /// The member of that name when it is an object.
    pub(crate) fn object(&self, key: &str) -> Option<Fields> {
        self.get(key).and_then(|value| Fields::parse(value.get()).ok())
    }

    /// Replaces the first member of that name in its place, or appends one.
    pub(crate) fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Sets a string.
    pub(crate) fn set_text(&mut self, key: &str, value: &str) {
        self.set(key, raw_text(value));
    }

    /// Sets a list.
    pub(crate) fn set_list<'a>(&mut self, key: &str, items: impl Iterator<Item = &'a str>) {
        let joined = items.collect::<Vec<_>>().join(",");
        self.set(key, raw(format!("[{joined}]")));
    }

    /// Takes every member of that name out.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// A key that occurs more than once.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
    }

    /// Names and raw values, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// The object as compact JSON.
    pub(crate) fn to_json(&self) -> String {
        let size: usize = self.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum();
        let mut json = String::with_capacity(size + 2);
        json.push('{');
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            json.push_str(raw_text(name).get());
            json.push(':');
            json.push_str(value.get());
        }
        json.push('}');
        json
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A string value's text; `None` for other values.
pub(crate) fn as_text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Text as a JSON string.
pub(crate) fn raw_text(text: &str) -> Box<RawValue> {
    // Writing a string to memory cannot fail.
    serde_json::value::to_raw_value(text).unwrap_or_default()
}

/// JSON that is known to be well formed; `null` if it is not after all.
pub(crate) fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_spelling_and_depth_are_kept() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(r#"{{"z":1.50e+3,"a\"":{deep},"a":{{"b": 2}}}}"#);
        let fields = Fields::parse(&json).unwrap();
        assert_eq!(fields.to_json(), json);
        assert_eq!(fields.get("z").unwrap().get(), "1.50e+3");
    }

    #[test]
    fn set_replaces_in_place_and_remove_takes_all() {
        let mut fields = Fields::parse(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(fields.duplicate(), Some("a"));
        fields.set_text("b", "x\ny");
        fields.remove("a");
        fields.set_list("c", ["1", "2"].into_iter());
        assert_eq!(fields.to_json(), r#"{"b":"x\ny","c":[1,2]}"#);
        assert!(fields.duplicate().is_none());
    }

    #[test]
    fn only_objects_are_read() {
        for other in ["[]", "1", "\"x\"", "null", "", "{", "{\"a\":1} x"] {
            assert!(Fields::parse(other).is_err(), "{other}");
        }
    }
}

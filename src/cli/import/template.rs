//! A text with `{{columns}}` in it.

/// Pieces of text and what stands between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A column by its place.
    Column(usize),
}

impl Template {
    /// Reads a template over these columns.
    pub(super) fn parse(text: &str, columns: &[String]) -> Result<Template, String> {
        Template::read(text, |name| place_of(name, columns))
    }

    /// Reads a template over whatever it names; the names in the order of their places.
    pub(super) fn over_any(text: &str) -> Result<(Template, Vec<String>), String> {
        let mut names: Vec<String> = Vec::new();
        let template = Template::read(text, |name| {
            let known = names.iter().position(|known| known == name);
            Ok(known.unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            }))
        })?;
        Ok((template, names))
    }

    fn read(
        text: &str,
        mut place: impl FnMut(&str) -> Result<usize, String>,
    ) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, behind)) = after.split_once("}}") else {
                return Err(format!("the template has {{{{ without }}}} in \"{{{{{after}\""));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Column(place(name.trim())?));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Column(_))) {
            return Err("the template has no {{column}}: every job would be the same".to_owned());
        }
        Ok(Template(pieces))
    }

    /// The text with the columns' values in their places.
    pub(super) fn fill<'a, E>(
        &self,
        value: impl Fn(usize) -> Result<&'a str, E>,
    ) -> Result<String, E> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Column(place) => text.push_str(value(*place)?),
            }
        }
        Ok(text)
    }
}

/// Where a column stands.
pub(super) fn place_of(name: &str, columns: &[String]) -> Result<usize, String> {
    let mut places = columns.iter().enumerate().filter(|(_, column)| *column == name);
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some(_), Some(_)) => Err(format!("there are two columns \"{name}\"")),
        (None, _) => {
            Err(format!("there is no column \"{name}\"; there are: {}", columns.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn filled(template: &str, values: &[&str]) -> Result<String, String> {
        let template = Template::parse(template, &columns(&["id", "the text"]))?;
        let value = |place: usize| Ok::<_, String>(values[place]);
        template.fill(value)
    }

    #[test]
    fn columns_are_put_in_their_places() {
        for (template, text) in [
            ("{{id}}", "7"),
            ("Summarise {{ id }}: {{the text}}!", "Summarise 7: a {{id}} }}!"),
            ("{\"a\": {\"b\": {{id}}}}", "{\"a\": {\"b\": 7}}"),
            ("{{id}}{{id}}", "77"),
        ] {
            assert_eq!(filled(template, &["7", "a {{id}} }}"]).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, said) in [
            ("{{ide}}", "there is no column \"ide\"; there are: id, the text"),
            ("{{}}", "there is no column \"\"; there are: id, the text"),
            ("a {{id", "the template has {{ without }} in \"{{id\""),
            ("", "the template has no {{column}}: every job would be the same"),
            ("hi }}", "the template has no {{column}}: every job would be the same"),
        ] {
            assert_eq!(filled(template, &["", ""]).unwrap_err(), said);
        }
        let (template, names) = Template::over_any("{{b}} {{ a }} {{b}}").unwrap();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(template.fill(|place| Ok::<_, String>(["B", "A"][place])).unwrap(), "B A B");
        let twice = Template::parse("{{a}}", &columns(&["a", "b", "a"]));
        assert_eq!(twice.unwrap_err(), "there are two columns \"a\"");
    }
}

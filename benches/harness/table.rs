//! One table, or with `--json` a line of JSON for each row.

/// Rows of figures under a head.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    json: bool,
}

impl Table {
    /// Begins it: the head is printed at once, each row when it is known.
    #[must_use]
    pub(crate) fn new(columns: &[&'static str]) -> Table {
        let json = std::env::args().any(|arg| arg == "--json");
        let table = Table { columns: columns.to_vec(), json };
        if !json {
            let head: String = columns.iter().map(|column| format!("{column:>14}")).collect();
            println!("{:<44}{head}", "");
        }
        table
    }

    /// A row: what was measured, and a figure for each column (`NaN`: none).
    pub(crate) fn row(&self, name: &str, figures: &[f64]) {
        if self.json {
            let mut row = serde_json::Map::new();
            row.insert("name".into(), name.into());
            for (column, figure) in self.columns.iter().zip(figures) {
                row.insert((*column).into(), (*figure).into());
            }
            println!("{}", serde_json::Value::Object(row));
            return;
        }
        let cells: String =
            figures.iter().map(|figure| format!("{:>14}", shown(*figure))).collect();
        println!("{name:<44}{cells}");
    }
}

/// Three digits that mean something.
fn shown(figure: f64) -> String {
    match figure.abs() {
        _ if figure.is_nan() => "–".into(),
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        middle if middle >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

//! Tables: a head, aligned columns, one of which gives way when the screen is narrow.

use super::escape;
use super::line::{Line, cut, width};
use super::screen::{Screen, Tone};

/// Between two columns.
const GAP: usize = 2;
/// A column is not cut below this, unless it says more …
const COLUMN_LEAST: usize = 6;
/// … and spare columns go before another is cut below this.
const COLUMN_FAIR: usize = 24;

/// A column's head and how its cells stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// Whether it goes, with all its cells, when none of them says anything.
    optional: bool,
    /// Whether it goes before others are cut short.
    spare: bool,
    /// Whether it goes rather than that others fall off the edge.
    dispensable: bool,
    /// Whether its cells are never cut.
    whole: bool,
    /// Below this they are not cut.
    least: usize,
}

/// Rows under a head.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Column {
    /// Text, from the left.
    pub(crate) const fn left(title: &'static str) -> Column {
        let (right, optional, spare, dispensable, whole) = (false, false, false, false, false);
        Column { title, right, optional, spare, dispensable, whole, least: COLUMN_LEAST }
    }

    /// Numbers, to the right.
    pub(crate) const fn right(title: &'static str) -> Column {
        Column { right: true, whole: true, ..Column::left(title) }
    }

    /// Left out when all its cells are empty.
    pub(crate) const fn optional(self) -> Column {
        Column { optional: true, ..self }
    }

    /// Never cut.
    pub(crate) const fn whole(self) -> Column {
        Column { whole: true, ..self }
    }

    /// Left out when the screen is too narrow for all columns.
    pub(crate) const fn spare(self) -> Column {
        Column { spare: true, ..self }
    }

    /// Left out when not even cut columns have room beside it.
    pub(crate) const fn dispensable(self) -> Column {
        Column { dispensable: true, ..self }
    }

    /// Cut to this many characters at the most.
    pub(crate) const fn least(self, least: usize) -> Column {
        Column { least, ..self }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<(Tone, String)>) {
        let cells = cells
            .into_iter()
            .map(|(tone, text)| (tone, escape::line(&text).into_owned()))
            .collect();
        self.rows.push(cells);
    }

    /// The head and the rows as lines, laid out for the screen.
    pub(crate) fn lines(mut self, screen: &Screen) -> Vec<String> {
        self.drop_empty_columns();
        self.drop_spare_columns(screen);
        let widths = self.widths(screen);
        let head: Vec<(Tone, String)> =
            self.columns.iter().map(|column| (Tone::Faint, column.title.to_owned())).collect();
        std::iter::once(&head)
            .chain(&self.rows)
            .map(|cells| self.line(cells, &widths, screen).render(screen))
            .collect()
    }

    fn drop_empty_columns(&mut self) {
        for at in (0..self.columns.len()).rev() {
            let silent = |row: &Vec<(Tone, String)>| row.get(at).is_none_or(|(_, t)| t.is_empty());
            if self.columns[at].optional && self.rows.iter().all(silent) {
                self.drop_column(at);
            }
        }
    }

    fn drop_spare_columns(&mut self, screen: &Screen) {
        while full(&self.fair_widths()) > screen.width {
            match self.columns.iter().rposition(|column| column.spare) {
                Some(at) => self.drop_column(at),
                None => break,
            }
        }
        while full(&self.least_widths()) > screen.width {
            match self.columns.iter().rposition(|column| column.dispensable) {
                Some(at) => self.drop_column(at),
                None => break,
            }
        }
    }

    fn drop_column(&mut self, at: usize) {
        self.columns.remove(at);
        for row in &mut self.rows {
            if at < row.len() {
                row.remove(at);
            }
        }
    }

    /// The widest cell of each column.
    fn natural_widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> =
            self.columns.iter().map(|column| width(column.title)).collect();
        for row in &self.rows {
            for (most, (_, text)) in widths.iter_mut().zip(row) {
                *most = (*most).max(width(text));
            }
        }
        widths
    }

    /// The same, long texts only as far as they can ask for room.
    fn fair_widths(&self) -> Vec<usize> {
        let fair = |(column, width): (&Column, usize)| {
            if column.whole { width } else { width.min(COLUMN_FAIR) }
        };
        self.columns.iter().zip(self.natural_widths()).map(fair).collect()
    }

    /// The same, everything cut as far as it may be.
    fn least_widths(&self) -> Vec<usize> {
        let least = |(column, width): (&Column, usize)| {
            if column.whole { width } else { width.min(column.least) }
        };
        self.columns.iter().zip(self.natural_widths()).map(least).collect()
    }

    /// The widest columns of text give way until all fit.
    fn widths(&self, screen: &Screen) -> Vec<usize> {
        let mut widths = self.natural_widths();
        while full(&widths) > screen.width {
            let widest = (0..widths.len())
                .filter(|at| !self.columns[*at].whole && widths[*at] > self.columns[*at].least)
                .max_by_key(|at| widths[*at]);
            match widest {
                Some(at) => widths[at] -= 1,
                None => break,
            }
        }
        widths
    }

    fn line(&self, cells: &[(Tone, String)], widths: &[usize], screen: &Screen) -> Line {
        let mut line = Line::default();
        for (at, (tone, text)) in cells.iter().enumerate() {
            let (Some(column), Some(most)) = (self.columns.get(at), widths.get(at)) else {
                break;
            };
            if at > 0 {
                line.push(Tone::Plain, " ".repeat(GAP));
            }
            let cell = Line::default().and(*tone, cut(text, *most, screen));
            line.append(if column.right { cell.align_right(*most) } else { cell.pad_to(*most) });
        }
        line
    }
}

fn full(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::right("ID"),
            Column::left("QUEUE"),
            Column::left("BATCH").optional(),
            Column::left("ERROR"),
        ]);
        let plain = |text: &str| (Tone::Plain, text.to_owned());
        table.row(vec![plain("7"), plain("default"), plain(""), plain("a sentence that is long")]);
        table.row(vec![plain("1024"), plain("n\u{1b}"), plain(""), plain("")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let lines = table().lines(&Screen::plain(80));
        assert_eq!(
            lines,
            ["  ID  QUEUE    ERROR", "   7  default  a sentence that is long", "1024  n\\x1b"]
        );
    }

    #[test]
    fn text_gives_way_on_a_narrow_screen() {
        let lines = table().lines(&Screen::plain(40));
        assert!(lines.iter().all(|line| width(line) <= 40), "{lines:?}");
        let lines = table().lines(&Screen::plain(24));
        assert_eq!(lines[1], "   7  default  a senten…");
    }

    #[test]
    fn columns_go_before_others_fall_off_the_edge() {
        let mut table = Table::new(&[
            Column::left("NAME").least(8),
            Column::right("COUNT").dispensable(),
            Column::left("WHEN").whole(),
        ]);
        let plain = |text: &str| (Tone::Plain, text.to_owned());
        table.row(vec![plain("a long name"), plain("1,024"), plain("12 s old")]);
        let lines = |width| table.clone().lines(&Screen::plain(width));
        assert_eq!(lines(25)[1], "a long …  1,024  12 s old");
        assert_eq!(lines(24)[1], "a long name  12 s old");
    }
}

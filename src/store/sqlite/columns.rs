//! Rows that statements read from JSON: each an array, its values in the order of their names.

/// A struct that is written as an array, and the names of its fields in that order.
macro_rules! columns {
    ($(#[$doc:meta])* struct $name:ident<$life:lifetime> { $($field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        struct $name<$life> {
            $($field: $type,)+
        }

        impl $name<'_> {
            #[cfg(test)]
            const NAMES: &'static [&'static str] = &[$(stringify!($field),)+];
        }

        impl serde::Serialize for $name<'_> {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeSeq as _;
                let mut row = to.serialize_seq(None)?;
                $(row.serialize_element(&self.$field)?;)+
                row.end()
            }
        }
    };
}

pub(super) use columns;

/// Whether a statement names these columns, in this order, and takes each from its place.
#[cfg(test)]
pub(super) fn are_read(names: &[&str], statement: &str) -> bool {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let places: Vec<String> = (0..names.len()).map(|at| format!("row ->> {at}")).collect();
    let expected = format!("v ({}) AS (SELECT {} FROM rows)", names.join(", "), places.join(", "));
    words.join(" ").contains(&expected)
}

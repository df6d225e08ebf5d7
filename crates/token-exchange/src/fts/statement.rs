//! A statement and its values, to be run on either kind of database.

use sqlx::mysql::{MySql, MySqlArguments};
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Arguments as _, AssertSqlSafe};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// A statement. What is written here comes from the program only: values are bound.
#[derive(Clone)]
pub(super) struct Statement {
    sql: String,
    values: Vec<Value>,
    /// Its length goes by its values, so it is not kept prepared.
    varies: bool,
}

impl Statement {
    /// A statement, or how one begins.
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), varies: false }
    }

    /// Gives a value to the next placeholder that has none.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Goes on.
    pub(super) fn then(mut self, sql: &str) -> Self {
        self.sql.push_str(sql);
        self
    }

    /// Goes on with `(?, ?, …)`, a placeholder a value.
    pub(super) fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.varies = true;
        let before = self.values.len();
        self.values.extend(values.into_iter().map(Into::into));
        let marks = vec!["?"; self.values.len() - before].join(", ");
        self.then(&format!("({marks})"))
    }

    /// Goes on with `CASE column WHEN ? THEN ? … END`: a value for each of the column's.
    pub(super) fn chosen(mut self, column: &str, values: &[(i64, String)]) -> Self {
        self.varies = true;
        for (when, then) in values {
            self.values.extend([Value::from(*when), Value::from(then)]);
        }
        self.then(&format!("CASE {column}{} END", " WHEN ? THEN ?".repeat(values.len())))
    }

    /// Goes on with `VALUES (?, ?), (?, ?), …`.
    pub(super) fn rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        for (at, row) in rows.into_iter().enumerate() {
            self = self.then(if at == 0 { "VALUES " } else { ", " }).list(row);
        }
        self
    }

    pub(super) fn sqlite(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(number) => arguments.add(number),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), arguments).persistent(!self.varies))
    }

    pub(super) fn mysql(self) -> Result<sqlx::query::Query<'static, MySql, MySqlArguments>, sqlx::Error> {
        let mut arguments = MySqlArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(number) => arguments.add(number),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), arguments).persistent(!self.varies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_a_placeholder_in_its_order() {
        let rows = [["a", "b"], ["c", "d"]].map(|row| row.map(Value::from));
        let statement = Statement::new("INSERT INTO t (x, y) ").rows(rows).then(" WHERE z = ?").with(1);
        assert_eq!(statement.sql, "INSERT INTO t (x, y) VALUES (?, ?), (?, ?) WHERE z = ?");
        let values: Vec<String> = statement.values.iter().map(|value| format!("{value:?}")).collect();
        assert_eq!(values, [r#"Text("a")"#, r#"Text("b")"#, r#"Text("c")"#, r#"Text("d")"#, "Integer(1)"]);
    }
}

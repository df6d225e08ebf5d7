//! A statement and its values, to be run on either database. Placeholders are `$1`, `$2`, … in both.

use std::fmt::Write as _;
use std::str::FromStr as _;

use sqlx::postgres::{PgArguments, Postgres};
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::types::Uuid;
use sqlx::types::time::PrimitiveDateTime;
use sqlx::{Arguments as _, AssertSqlSafe};

use super::stamp::Stamp;
use crate::request::RequestId;
use crate::topology::RseId;

/// A value, by what it means: ids and times are text on SQLite and have types of their own on PostgreSQL.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Id(Option<String>),
    Time(Stamp),
    Text(Option<String>),
    Integer(Option<i64>),
    /// Written into the statement as it stands: letters of states, which PostgreSQL takes as literals only, and constants.
    Literal(&'static str),
}

impl From<&RequestId> for Value {
    fn from(id: &RequestId) -> Self {
        Self::Id(Some(id.0.clone()))
    }
}

impl From<&RseId> for Value {
    fn from(id: &RseId) -> Self {
        Self::Id(Some(id.0.clone()))
    }
}

impl From<Option<&RseId>> for Value {
    fn from(id: Option<&RseId>) -> Self {
        Self::Id(id.map(|id| id.0.clone()))
    }
}

impl From<&Stamp> for Value {
    fn from(at: &Stamp) -> Self {
        Self::Time(at.clone())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    /// A statement, or how one begins. What is written here comes from the program only: values are bound.
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new() }
    }

    /// Gives a value to the next placeholder that stands in the text already.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a value where the text has come to.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        match value.into() {
            Value::Literal(sql) => self.sql.push_str(sql),
            value => {
                self.values.push(value);
                // Writing to a String does not fail.
                let _ = write!(self.sql, "${}", self.values.len());
            }
        }
        self
    }

    /// Adds `(a, b, …)`.
    pub(super) fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at == 0 { "(" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// Adds `VALUES (a, b), (c, d), …`.
    pub(super) fn rows<const N: usize>(&mut self, rows: impl IntoIterator<Item = [Value; N]>) -> &mut Self {
        for (at, row) in rows.into_iter().enumerate() {
            self.push(if at == 0 { "VALUES " } else { ", " }).list(row);
        }
        self
    }

    /// For SQLite.
    pub(super) fn sqlite(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Id(text) | Value::Text(text) => arguments.add(text),
                Value::Time(stamp) => arguments.add(stamp.0),
                Value::Integer(number) => arguments.add(number),
                Value::Literal(_) => Ok(()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), arguments))
    }

    /// For PostgreSQL. Statements whose length goes by the batch are not kept prepared.
    pub(super) fn postgres(self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            match value {
                Value::Id(id) => {
                    let id = id.as_deref().map(Uuid::from_str).transpose();
                    arguments.add(id.map_err(|error| sqlx::Error::Encode(error.into()))?)
                }
                Value::Time(stamp) => arguments.add(PrimitiveDateTime::try_from(&stamp)?),
                Value::Text(text) => arguments.add(text),
                Value::Integer(number) => arguments.add(number),
                Value::Literal(_) => Ok(()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), arguments).persistent(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_counted_and_literals_are_not() {
        let mut statement = Statement::new("INSERT INTO t (a, b, c) ");
        let row = |a: &str, b| [Value::from(a), Value::Literal("TRUE"), Value::from(b)];
        statement.rows([row("x", 1), row("y", 2)]).push(" WHERE d = ").bind("z");
        assert_eq!(
            statement.sql,
            "INSERT INTO t (a, b, c) VALUES ($1, TRUE, $2), ($3, TRUE, $4) WHERE d = $5"
        );
        assert_eq!(statement.values.len(), 5);
    }
}

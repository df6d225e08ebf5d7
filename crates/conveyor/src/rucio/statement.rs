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

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

/// One column of rows that are given to a statement.
#[derive(Clone, Debug)]
pub(super) enum Column {
    Ids(Vec<Option<String>>),
    Texts(Vec<Option<String>>),
    Integers(Vec<Option<i64>>),
    /// The same value in every row.
    Each(Value),
}

impl Column {
    pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a RequestId>) -> Self {
        Self::Ids(ids.into_iter().map(|id| Some(id.0.clone())).collect())
    }

    pub(super) fn rses<'a>(ids: impl IntoIterator<Item = Option<&'a RseId>>) -> Self {
        Self::Ids(ids.into_iter().map(|id| id.map(|id| id.0.clone())).collect())
    }

    pub(super) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Texts(texts.into_iter().map(|text| Some(text.to_owned())).collect())
    }

    fn len(&self) -> Option<usize> {
        match self {
            Self::Ids(values) | Self::Texts(values) => Some(values.len()),
            Self::Integers(values) => Some(values.len()),
            Self::Each(_) => None,
        }
    }

    /// The value of a row.
    fn value(&self, row: usize) -> Value {
        let text = |values: &[Option<String>]| values.get(row).cloned().flatten();
        match self {
            Self::Ids(values) => Value::Id(text(values)),
            Self::Texts(values) => Value::Text(text(values)),
            Self::Integers(values) => Value::Integer(values.get(row).copied().flatten()),
            Self::Each(value) => value.clone(),
        }
    }
}

/// A piece of a statement, in the order of its text.
#[derive(Debug)]
enum Part {
    Sql(String),
    Value(Value),
    Among(Vec<String>),
    Rows(Vec<Column>),
}

/// A statement. How many values it has may go by the batch: SQLite is given each for itself, PostgreSQL an array for each column, so that
/// the text stays the same and short.
#[derive(Debug)]
pub(super) struct Statement {
    /// Those whose placeholders stand in the text already.
    given: Vec<Value>,
    parts: Vec<Part>,
}

impl Statement {
    /// A statement, or how one begins. What is written here comes from the program only: values are bound.
    pub(super) fn new(sql: &str) -> Self {
        Self { given: Vec::new(), parts: vec![Part::Sql(sql.to_owned())] }
    }

    /// Gives a value to the next placeholder that stands in the text already; before any that is added.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.given.push(value.into());
        self
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.parts.push(Part::Sql(sql.to_owned()));
        self
    }

    /// Adds a value where the text has come to.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.parts.push(Part::Value(value.into()));
        self
    }

    /// Adds `(a, b, …)`: a few values, of which the configuration says how many.
    pub(super) fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at == 0 { "(" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// Adds that what stands before is one of these ids.
    pub(super) fn among<'a>(&mut self, ids: impl IntoIterator<Item = &'a RequestId>) -> &mut Self {
        self.parts.push(Part::Among(ids.into_iter().map(|id| id.0.clone()).collect()));
        self
    }

    /// Adds rows, whose columns are called `column1`, `column2`, … One column at least is not the same in every row.
    pub(super) fn rows<const N: usize>(&mut self, columns: [Column; N]) -> &mut Self {
        self.parts.push(Part::Rows(columns.into()));
        self
    }

    /// For SQLite.
    pub(super) fn sqlite(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        let mut add = |value| {
            match value {
                Value::Id(text) | Value::Text(text) => arguments.add(text),
                Value::Time(stamp) => arguments.add(stamp.0),
                Value::Integer(number) => arguments.add(number),
                Value::Literal(_) => Ok(()),
            }
            .map_err(sqlx::Error::Encode)
        };
        let mut text = Text { sql: String::new(), bound: self.given.len() };
        self.given.into_iter().try_for_each(&mut add)?;
        for part in self.parts {
            match part {
                Part::Sql(sql) => text.sql.push_str(&sql),
                Part::Value(value) => {
                    text.placeholder(&value);
                    add(value)?;
                }
                Part::Among(ids) => {
                    text.sql.push_str(" IN (");
                    for (at, id) in ids.into_iter().enumerate() {
                        let id = Value::Id(Some(id));
                        text.comma(at);
                        text.placeholder(&id);
                        add(id)?;
                    }
                    text.sql.push(')');
                }
                Part::Rows(columns) => {
                    for row in 0..columns.iter().find_map(Column::len).unwrap_or_default() {
                        text.sql.push_str(if row == 0 { "VALUES (" } else { ", (" });
                        for (at, column) in columns.iter().enumerate() {
                            let value = column.value(row);
                            text.comma(at);
                            text.placeholder(&value);
                            add(value)?;
                        }
                        text.sql.push(')');
                    }
                }
            }
        }
        Ok(sqlx::query_with(AssertSqlSafe(text.sql), arguments))
    }

    /// For PostgreSQL. Not kept prepared, for poolers between it and us that know nothing of that.
    pub(super) fn postgres(self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        let mut text = Text { sql: String::new(), bound: self.given.len() };
        self.given.into_iter().try_for_each(|value| add(&mut arguments, value))?;
        for part in self.parts {
            match part {
                Part::Sql(sql) => text.sql.push_str(&sql),
                Part::Value(value) => {
                    text.placeholder(&value);
                    add(&mut arguments, value)?;
                }
                Part::Among(ids) => {
                    let ids = ids.iter().map(|id| uuid(id)).collect::<Result<Vec<_>, _>>()?;
                    text.sql.push_str(" = ANY (");
                    text.next();
                    text.sql.push(')');
                    arguments.add(ids).map_err(sqlx::Error::Encode)?;
                }
                Part::Rows(columns) => unnest(columns, &mut text, &mut arguments)?,
            }
        }
        Ok(sqlx::query_with(AssertSqlSafe(text.sql), arguments).persistent(false))
    }
}

/// `SELECT u.c1 AS column1, $3 AS column2, … FROM unnest($1, $2) AS u (c1, …)`.
fn unnest(columns: Vec<Column>, text: &mut Text, arguments: &mut PgArguments) -> Result<(), sqlx::Error> {
    let (mut arrays, mut names) = (Vec::new(), Vec::new());
    for (at, column) in columns.into_iter().enumerate() {
        text.sql.push_str(if at == 0 { "SELECT " } else { ", " });
        match column {
            Column::Each(value) => {
                text.placeholder(&value);
                add(arguments, value)?;
            }
            array => {
                let name = format!("c{}", arrays.len() + 1);
                text.sql.push_str("u.");
                text.sql.push_str(&name);
                names.push(name);
                arrays.push(array);
            }
        }
        let _ = write!(text.sql, " AS column{}", at + 1);
    }
    text.sql.push_str(" FROM unnest(");
    for (at, array) in arrays.into_iter().enumerate() {
        text.comma(at);
        text.next();
        match array {
            Column::Ids(ids) => {
                let ids = ids
                    .iter()
                    .map(|id| id.as_deref().map(uuid).transpose())
                    .collect::<Result<Vec<_>, _>>()?;
                arguments.add(ids)
            }
            Column::Texts(texts) => arguments.add(texts),
            Column::Integers(numbers) => arguments.add(numbers),
            Column::Each(_) => Ok(()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    text.sql.push_str(") AS u (");
    text.sql.push_str(&names.join(", "));
    text.sql.push(')');
    Ok(())
}

fn add(arguments: &mut PgArguments, value: Value) -> Result<(), sqlx::Error> {
    match value {
        Value::Id(id) => arguments.add(id.as_deref().map(uuid).transpose()?),
        Value::Time(stamp) => arguments.add(PrimitiveDateTime::try_from(&stamp)?),
        Value::Text(text) => arguments.add(text),
        Value::Integer(number) => arguments.add(number),
        Value::Literal(_) => Ok(()),
    }
    .map_err(sqlx::Error::Encode)
}

fn uuid(id: &str) -> Result<Uuid, sqlx::Error> {
    Uuid::from_str(id).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// The text of a statement, as far as it is written, and how many placeholders it has.
struct Text {
    sql: String,
    bound: usize,
}

impl Text {
    fn next(&mut self) {
        self.bound += 1;
        // Writing to a String does not fail.
        let _ = write!(self.sql, "${}", self.bound);
    }

    fn placeholder(&mut self, value: &Value) {
        match value {
            Value::Literal(sql) => self.sql.push_str(sql),
            _ => self.next(),
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.sql.push_str(", ");
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Execute as _;

    use super::*;

    fn statement() -> Statement {
        let mut statement = Statement::new("INSERT INTO t (a, b, c, d) ");
        let ids = [RequestId("0".repeat(32)), RequestId("1".repeat(32))];
        let rows = [
            Column::texts(["x", "y"]),
            Column::Each(Value::Literal("TRUE")),
            Column::Integers(vec![Some(1), None]),
            Column::Each("z".into()),
        ];
        statement.rows(rows).push(" WHERE d = ").bind("z").push(" AND e").among(&ids);
        statement
    }

    #[test]
    fn placeholders_are_counted_and_literals_are_not() {
        assert_eq!(
            statement().sqlite().unwrap().sql().as_str(),
            "INSERT INTO t (a, b, c, d) VALUES ($1, TRUE, $2, $3), ($4, TRUE, $5, $6) WHERE d = $7 AND e IN ($8, $9)"
        );
        assert_eq!(
            statement().postgres().unwrap().sql().as_str(),
            "INSERT INTO t (a, b, c, d) SELECT u.c1 AS column1, TRUE AS column2, u.c2 AS column3, $1 AS column4 \
             FROM unnest($2, $3) AS u (c1, c2) WHERE d = $4 AND e = ANY ($5)"
        );
    }
}

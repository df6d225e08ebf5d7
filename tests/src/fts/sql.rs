//! Statements for FTS's database, the same for SQLite and MariaDB but for a word here and there.
//!
//! A `?` stands for one value, `??` for as many as [`Query::bind_all`] is given. Times are read with `CAST(column AS CHAR)`.

use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Decode, MySql, MySqlPool, Row as _, Sqlite, SqlitePool, Transaction, Type,
};

/// A value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

/// A statement and its values.
#[derive(Clone, Debug)]
pub(super) struct Query {
    text: String,
    values: Vec<Value>,
}

/// Connections for reading.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Mysql(MySqlPool),
}

/// A transaction.
pub(super) enum Writing {
    Sqlite(Transaction<'static, Sqlite>),
    Mysql(Transaction<'static, MySql>),
}

/// A row.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Mysql(MySqlRow),
}

/// Where a statement is run.
pub(super) enum Place<'a> {
    Pool(&'a Pool),
    Writing(&'a mut Writing),
}

impl<'a> From<&'a Pool> for Place<'a> {
    fn from(pool: &'a Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'a> From<&'a mut Writing> for Place<'a> {
    fn from(writing: &'a mut Writing) -> Self {
        Self::Writing(writing)
    }
}

impl Writing {
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Mysql(transaction) => transaction.commit().await,
        }
    }

    /// What is put behind a SELECT whose rows are changed next: SQLite has one writer at a time anyway.
    pub(super) fn lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Mysql(_) => " FOR UPDATE",
        }
    }
}

impl Row {
    /// A column.
    ///
    /// # Panics
    /// When it is not of this type: the statement does not fit the table.
    pub(super) fn get<'r, T>(&'r self, index: usize) -> T
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, MySql> + Type<MySql>,
    {
        match self {
            Self::Sqlite(row) => row.get(index),
            Self::Mysql(row) => row.get_unchecked(index),
        }
    }

    /// A column, or none where it is null or of another type.
    pub(super) fn find<'r, T>(&'r self, index: usize) -> Option<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, MySql> + Type<MySql>,
    {
        match self {
            Self::Sqlite(row) => row.try_get::<Option<T>, _>(index).ok().flatten(),
            Self::Mysql(row) => row.try_get_unchecked::<Option<T>, _>(index).ok().flatten(),
        }
    }
}

/// Begins a statement.
pub(super) fn statement(text: impl Into<String>) -> Query {
    Query { text: text.into(), values: Vec::new() }
}

impl Query {
    /// Gives the next `?` its value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Gives the first `??` that is left its values; without any, it is a NULL, which nothing equals.
    pub(super) fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        let before = self.values.len();
        self.values.extend(values.into_iter().map(Into::into));
        let marks = match self.values.len() - before {
            0 => "NULL".to_owned(),
            count => vec!["?"; count].join(", "),
        };
        self.text = self.text.replacen("??", &marks, 1);
        self
    }

    pub(super) async fn execute(self, place: impl Into<Place<'_>>) -> Result<u64, sqlx::Error> {
        let text = AssertSqlSafe(self.text);
        Ok(match place.into() {
            Place::Pool(Pool::Sqlite(pool)) => {
                sqlx::query_with(text, sqlite(self.values)?).execute(pool).await?.rows_affected()
            }
            Place::Pool(Pool::Mysql(pool)) => {
                sqlx::query_with(text, mysql(self.values)?).execute(pool).await?.rows_affected()
            }
            Place::Writing(Writing::Sqlite(write)) => {
                sqlx::query_with(text, sqlite(self.values)?).execute(&mut **write).await?.rows_affected()
            }
            Place::Writing(Writing::Mysql(write)) => {
                sqlx::query_with(text, mysql(self.values)?).execute(&mut **write).await?.rows_affected()
            }
        })
    }

    pub(super) async fn fetch_all(self, place: impl Into<Place<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        let text = AssertSqlSafe(self.text);
        Ok(match place.into() {
            Place::Pool(Pool::Sqlite(pool)) => {
                of_sqlite(sqlx::query_with(text, sqlite(self.values)?).fetch_all(pool).await?)
            }
            Place::Pool(Pool::Mysql(pool)) => {
                of_mysql(sqlx::query_with(text, mysql(self.values)?).fetch_all(pool).await?)
            }
            Place::Writing(Writing::Sqlite(write)) => {
                of_sqlite(sqlx::query_with(text, sqlite(self.values)?).fetch_all(&mut **write).await?)
            }
            Place::Writing(Writing::Mysql(write)) => {
                of_mysql(sqlx::query_with(text, mysql(self.values)?).fetch_all(&mut **write).await?)
            }
        })
    }

    pub(super) async fn fetch_optional(
        self,
        place: impl Into<Place<'_>>,
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch_all(place).await?.into_iter().next())
    }

    pub(super) async fn fetch_one(self, place: impl Into<Place<'_>>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(place).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

fn of_sqlite(rows: Vec<SqliteRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Sqlite).collect()
}

fn of_mysql(rows: Vec<MySqlRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Mysql).collect()
}

fn sqlite(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn mysql(values: Vec<Value>) -> Result<MySqlArguments, sqlx::Error> {
    let mut arguments = MySqlArguments::default();
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        value.as_ref().map_or(Self::Null, Into::into)
    }
}

//! Our table of what was handed over, `token_exchange_token`: how each token was got and when it is to be renewed. It holds no
//! token: access and refresh tokens stand in FTS's own `t_token` and nowhere else.

use token_core::UnixSeconds;

use super::dialect::Dialect;
use super::hand_over::EndpointToken;
use super::statement::{Statement, Value};
use crate::fresh;

/// How a token was got, and so how the next one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By token exchange, of a token that a submitter gave.
    Exchange,
    /// By our own client credentials.
    ClientCredentials,
    /// By a refresh token, in `t_token.refresh_token`.
    Refresh,
}

impl How {
    /// As the table has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::ClientCredentials => "client-credentials",
            Self::Refresh => "refresh",
        }
    }

    /// From the table.
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Exchange, Self::ClientCredentials, Self::Refresh].into_iter().find(|how| how.name() == name)
    }
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// How it was got.
    pub how: How,
    /// Whose token it was exchanged for.
    pub submitter: Option<Submitter>,
}

/// Who gave the token that ours was exchanged for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Submitter {
    /// The `t_token.token_id` of that token.
    pub token_id: String,
    /// Its `sub`; without it nobody knows which other tokens are the same submitter's.
    pub subject: Option<String>,
    /// Its `t_token.audience`.
    pub audience: String,
}

impl Submitter {
    /// One whose `sub` fits the profile: at most 255 ASCII characters.
    pub fn new(token_id: String, subject: Option<&str>, audience: String) -> Self {
        let subject = subject.filter(|sub| sub.is_ascii() && sub.len() <= 255).map(str::to_owned);
        Self { token_id, subject, audience }
    }
}

/// Writes down where tokens, by id, come from, and when they are to be renewed. A row that is there already keeps its times: the
/// token that FTS holds under this id may have been renewed since. Who is about to forget it sees that it was handed over again.
pub(super) fn remember(dialect: Dialect, tokens: &[(String, &EndpointToken)]) -> Statement {
    let rows = tokens.iter().map(|(id, token)| {
        let due = fresh::renew_at(id, token.obtained_at, token.expires_at);
        row(id, &token.origin, token.obtained_at, token.expires_at, due)
    });
    let origin = ["how", "subject_id", "subject_sub", "subject_audience"];
    let changes = origin.map(|column| format!("{column} = {}", dialect.would_be(column))).join(", ");
    insert(rows).then(&dialect.or_update("token_id", &format!("handed = handed + 1, {changes}")))
}

/// A row for a token that is there already and that nobody has written down: one that `fts_token` exchanged.
pub(super) fn adopt(dialect: Dialect, id: &str, expires_at: UnixSeconds, due: UnixSeconds) -> Statement {
    let by_refresh = Origin { how: How::Refresh, submitter: None };
    let row = row(id, &by_refresh, UnixSeconds(0), expires_at, due);
    insert([row]).then(&dialect.or_update("token_id", "turn = turn"))
}

fn insert(rows: impl IntoIterator<Item = [Value; 13]>) -> Statement {
    Statement::new(
        "INSERT INTO token_exchange_token (token_id, obtained_at, expires_at, renew_at, owner, lease_end, turn, \
         attempts, handed, how, subject_id, subject_sub, subject_audience) ",
    )
    .rows(rows)
}

fn row(
    id: &str,
    from: &Origin,
    obtained_at: UnixSeconds,
    expires_at: UnixSeconds,
    due: UnixSeconds,
) -> [Value; 13] {
    let submitter = from.submitter.as_ref();
    [
        id.into(),
        obtained_at.0.into(),
        expires_at.0.into(),
        due.0.into(),
        "".into(),
        0.into(),
        0.into(),
        0.into(),
        1.into(),
        from.how.name().into(),
        submitter.map(|from| from.token_id.as_str()).unwrap_or_default().into(),
        submitter.and_then(|from| from.subject.as_deref()).unwrap_or_default().into(),
        submitter.map(|from| from.audience.as_str()).unwrap_or_default().into(),
    ]
}

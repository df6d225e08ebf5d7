//! `token-exchange status`: how things stand, as far as FTS's database knows. What the workers hold in memory (the breakers'
//! state, what is left of the budgets) shows here only by its effect: why files wait.

use serde::Serialize;
use token_core::UnixSeconds;

use super::ShownIssuer;
use super::page::{Page, span};
use crate::failed;
use crate::fts::failed::Span;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::Planning;

/// In seconds.
const HOUR: i64 = 3600;

/// How things stand.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    schema: i64,
    initialised: bool,
    /// Where `fts_token` was last alive, and how many seconds ago; it must not run beside us.
    fts_token: Option<(String, Option<u64>)>,
    issuers: Vec<IssuerStatus>,
    backlog: Vec<Waiting>,
    leases: LeaseStatus,
    tokens: Vec<TokenStatus>,
    /// Tokens that files use, that nobody renews, and that end soon.
    short_lived: Vec<ShortLived>,
    /// What FTS failed within the last hour for a token's reason.
    failed: Vec<Failed>,
}

#[derive(Clone, Debug, Serialize)]
struct ShortLived {
    issuer: String,
    audience: String,
    tokens: i64,
    files: i64,
    /// How long the first of them still lives.
    first_ends_in_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Failed {
    side: &'static str,
    endpoint: String,
    why: String,
    files: usize,
    /// One of them.
    file_id: i64,
}

#[derive(Clone, Debug, Serialize)]
struct IssuerStatus {
    #[serde(flatten)]
    issuer: ShownIssuer,
    /// Files that wait for a reason that names this issuer.
    files_waiting: i64,
    /// That reason, of the most files.
    why: Option<String>,
    /// Tokens of it that were handed over and live.
    tokens_living: i64,
}

#[derive(Clone, Debug, Serialize)]
struct Waiting {
    why: String,
    files: i64,
    oldest_s: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct LeaseStatus {
    held: i64,
    owners: i64,
    ended: i64,
    put_off: i64,
    next_in_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct TokenStatus {
    issuer: String,
    audience: String,
    tokens: i64,
    /// How long the first and the last of them still live; 0 for one that has ended.
    first_ends_in_s: Option<u64>,
    last_ends_in_s: Option<u64>,
}

/// Looks.
pub(super) async fn status(
    fts: &FtsDatabase,
    planning: &Planning,
    issuers: Vec<ShownIssuer>,
    now: UnixSeconds,
) -> Result<Status, DatabaseError> {
    let (schema, initialised) = fts.shape().await?;
    let ago = |at: UnixSeconds| at.until(now).as_secs();
    let ahead = |at: UnixSeconds| now.until(at).as_secs();
    let beat = fts.fts_token_beat().await?;
    let fts_token = beat.map(|(host, at)| (host, at.map(ago)));
    let (mut backlog, mut leases, mut tokens) = (Vec::new(), LeaseStatus::default(), Vec::new());
    let (mut failed, mut short_lived) = (Vec::new(), Vec::new());
    if initialised {
        for group in fts.backlog(now).await? {
            let why = match (group.leased, group.message) {
                (true, _) => "a worker has them in hand".to_owned(),
                (false, Some(why)) => why,
                (false, None) => "nobody has looked at them yet".to_owned(),
            };
            backlog.push(Waiting { why, files: group.files, oldest_s: group.oldest.map(ago) });
        }
        let seen = fts.leases(now).await?;
        leases = LeaseStatus {
            held: seen.held,
            owners: seen.owners,
            ended: seen.ended,
            put_off: seen.put_off,
            next_in_s: seen.next.map(ahead),
        };
        for held in fts.held().await? {
            tokens.push(TokenStatus {
                issuer: held.issuer,
                audience: held.audience,
                tokens: held.tokens,
                first_ends_in_s: held.first_end.map(ahead),
                last_ends_in_s: held.last_end.map(ahead),
            });
        }
        for short in fts.short_lived(now, planning.needed_life).await? {
            short_lived.push(ShortLived {
                issuer: short.issuer,
                audience: short.audience,
                tokens: short.tokens,
                files: short.files,
                first_ends_in_s: short.first_end.map(ahead),
            });
        }
        let hour = Span { from: UnixSeconds(now.0 - HOUR), to: now };
        for (fault, (files, file_id)) in failed::count(fts, &planning.endpoints, hour).await? {
            let why = fault.words();
            failed.push(Failed { side: fault.side, endpoint: fault.endpoint, why, files, file_id });
        }
    }
    let issuers = issuers.into_iter().map(|issuer| of(issuer, &backlog, &tokens)).collect();
    Ok(Status { schema, initialised, fts_token, issuers, backlog, leases, tokens, short_lived, failed })
}

fn of(issuer: ShownIssuer, backlog: &[Waiting], tokens: &[TokenStatus]) -> IssuerStatus {
    let plain = issuer.url.trim_end_matches('/').to_owned();
    // An issuer's name ends with a slash, a colon or a blank where a message names it.
    let named = |why: &str| {
        why.match_indices(&plain).any(|(at, name)| {
            why[at + name.len()..].starts_with([':', ' ', ';']) || why[at + name.len()..].starts_with("/:")
        })
    };
    let its: Vec<&Waiting> = backlog.iter().filter(|group| named(&group.why)).collect();
    IssuerStatus {
        files_waiting: its.iter().map(|group| group.files).sum(),
        why: its.first().map(|group| group.why.clone()),
        tokens_living: tokens
            .iter()
            .filter(|token| {
                token.issuer.trim_end_matches('/') == plain && token.last_ends_in_s.is_some_and(|s| s > 0)
            })
            .map(|token| token.tokens)
            .sum(),
        issuer,
    }
}

impl Status {
    /// For a person.
    pub(super) fn page(&self) -> Page {
        let mut page = Page::default();
        let ours = if self.initialised { "there" } else { "not there: run `token-exchange init-db` once" };
        page.line("database", format!("FTS schema {}, our tables are {ours}", self.schema));
        if let Some((host, Some(ago))) = &self.fts_token
            && *ago < 120
        {
            page.line(
                "fts_token",
                format!("runs on {host} (last beat {ago} s ago): it must not run beside us"),
            );
        }
        for IssuerStatus { issuer, files_waiting, why, tokens_living } in &self.issuers {
            let client = issuer.client_id.as_deref().map_or_else(String::new, |id| {
                format!(
                    ", client {id} from {}, at most {} calls at a time and {} a second",
                    issuer.client_from, issuer.max_in_flight, issuer.calls_per_s
                )
            });
            page.line("issuer", format!("{}: {}{client}", issuer.url, issuer.mode.name()));
            page.more(format!("{tokens_living} tokens handed over, {files_waiting} files wait for it"));
            if let Some(why) = why {
                page.more(why);
            }
        }
        let files: i64 = self.backlog.iter().map(|group| group.files).sum();
        page.line(
            "backlog",
            match self.initialised {
                true => format!("{files} files"),
                false => "not known without our tables: see `init-db`, and `plan` for what waits".to_owned(),
            },
        );
        for group in &self.backlog {
            let age = group.oldest_s.map_or_else(String::new, |s| format!(" for up to {}", span(s)));
            page.more(format!("{}{age}: {}", group.files, group.why));
        }
        let LeaseStatus { held, owners, ended, put_off, next_in_s } = &self.leases;
        let next = next_in_s.map_or_else(String::new, |s| format!(", the next in {}", span(s)));
        page.line(
            "leases",
            format!("{held} held by {owners}, {ended} ended with their workers, {put_off} put off{next}"),
        );
        for token in &self.tokens {
            let left = |s: Option<u64>| s.map_or_else(|| "?".to_owned(), span);
            page.line(
                "tokens",
                format!(
                    "{} for {}: living another {} to {}",
                    token.tokens,
                    token.audience,
                    left(token.first_ends_in_s),
                    left(token.last_ends_in_s)
                ),
            );
        }
        for ShortLived { audience, tokens, files, first_ends_in_s, .. } in &self.short_lived {
            let left = first_ends_in_s.map_or_else(|| "?".to_owned(), span);
            page.line(
                "short lived",
                format!(
                    "{tokens} for {audience} that nobody renews, of {files} files: the first ends in {left}"
                ),
            );
        }
        for Failed { side, endpoint, why, files, file_id } in &self.failed {
            let side = side.to_lowercase();
            page.line(
                "failed",
                format!("{files} in the last hour at the {side} {endpoint} (file {file_id}): {why}"),
            );
        }
        page
    }
}

//! What is answered to one request: from the database, or after a renewal.

use std::time::Duration;

use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tokio::time::Instant;

use super::message::Response;
use crate::fresh::renewer::{Outcome, Renewer};
use crate::fresh::will_do;

/// While another worker renews the token, so often it is looked whether it has done so.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Answers within `within`, whatever happens.
pub(super) async fn answer(renewer: &Renewer, id: &str, within: Duration) -> Response {
    let end = Instant::now() + within;
    let mut waits = Waits::new(&RetryPolicy {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(8),
        ..RetryPolicy::default()
    });
    // How often the token had been tried when we first saw it, as long as we have not tried it ourselves.
    let mut before: Option<i64> = None;
    loop {
        let (why, rest) = match look(renewer, id, &mut before).await {
            Look::Answer(response) => return response,
            Look::Again(why) => (why, waits.pause()),
            Look::Busy => ("another worker renews it, and it takes long".to_owned(), LOOK_EVERY),
        };
        if Instant::now() + rest > end {
            return Response::failure(id, &why, renewer.clock.now());
        }
        tokio::time::sleep(rest).await;
    }
}

enum Look {
    Answer(Response),
    /// It did not succeed, for now.
    Again(String),
    /// Another has it in hand.
    Busy,
}

async fn look(renewer: &Renewer, id: &str, before: &mut Option<i64>) -> Look {
    let refused = |why: &str, now: UnixSeconds| Look::Answer(Response::failure(id, why, now));
    let now = renewer.clock.now();
    let token = match renewer.fts.renewable(&[id]).await {
        Ok(mut found) => match found.remove(id) {
            Some(token) => token,
            None => return refused("FTS's database has no such token", now),
        },
        Err(error) => return Look::Again(error.to_string()),
    };
    if will_do(token.obtained_at, token.expires_at, renewer.margin, now) {
        return Look::Answer(Response::token(id, &token.token, token.expires_at));
    }
    // Counted, not timed: a failure in the same second is one too.
    match (*before, &token.message) {
        (Some(turn), Some(why)) if turn != token.turn => return refused(why, now),
        (None, _) => *before = Some(token.turn),
        _ => (),
    }
    match renewer.renew_now(&token).await {
        Ok(Some(Outcome::Renewed(new, expires_at))) => Look::Answer(Response::token(id, &new, expires_at)),
        Ok(Some(Outcome::Refused(why))) => refused(&why, renewer.clock.now()),
        Ok(Some(Outcome::NotNow(why))) => {
            *before = None;
            Look::Again(why)
        }
        Ok(None) => Look::Busy,
        Err(error) => Look::Again(error.to_string()),
    }
}

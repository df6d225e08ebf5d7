//! `token-exchange explain FILE_ID`: what becomes of one file, and why.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use token_core::UnixSeconds;

use super::page::{Page, span};
use crate::blame::{Fault, fault};
use crate::fts::look::{SeenFile, SeenLease};
use crate::fts::waiting::Subject;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::{Planning, Side, Sided};

/// A file, its tokens, and what is wanted for it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Explained {
    file_id: i64,
    state: String,
    planned: String,
    job_id: String,
    job_state: String,
    job_type: Option<String>,
    submitted_s_ago: Option<u64>,
    source: SideTold,
    destination: SideTold,
    lease: Option<LeaseTold>,
    reason: Option<String>,
    first_attempt_reason: Option<String>,
    /// What the state and the reason say, in words.
    verdict: String,
}

#[derive(Clone, Debug, Serialize)]
struct SideTold {
    url: String,
    token: Option<TokenTold>,
    /// What is to be got in its place while the file waits, or why nothing is.
    wanted: Option<WantedTold>,
}

#[derive(Clone, Debug, Serialize)]
struct TokenTold {
    /// `t_token.token_id`: the fingerprint of the token that the row was made with.
    token_id: String,
    issuer: String,
    audience: String,
    scope: String,
    /// Seconds it still lives; negative when it has ended.
    lives_s: Option<i64>,
    managed: bool,
    refreshable: bool,
    retired: bool,
    /// How we got it.
    got_by: Option<String>,
    /// The token it was exchanged for.
    subject: Option<String>,
    refresh_message: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct WantedTold {
    /// `exchange`, `client-credentials`, `as it is`, `refused` or `wait`.
    how: String,
    audience: Option<String>,
    scope: Option<String>,
    why: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct LeaseTold {
    held: bool,
    ends_in_s: u64,
    attempts: i64,
    again_in_s: u64,
    message: Option<String>,
}

/// Looks at one file; none when there is no such file.
pub(super) async fn explain(
    fts: &FtsDatabase,
    planning: &Planning,
    id: i64,
    now: UnixSeconds,
) -> Result<Option<Explained>, DatabaseError> {
    let Some(seen) = fts.file(id).await? else { return Ok(None) };
    let ids: BTreeSet<&str> = [&seen.file.source_token, &seen.file.destination_token]
        .into_iter()
        .filter_map(|id| id.as_deref())
        .collect();
    let subjects = fts.subjects(&ids.into_iter().collect::<Vec<_>>()).await?;
    let source = told(fts, planning, &seen, Side::Source, &subjects, now).await?;
    let destination = told(fts, planning, &seen, Side::Destination, &subjects, now).await?;
    let lease = fts.lease_of(&seen.job).await?.map(|lease| lease_told(&lease, now));
    let failure = if seen.state == "FAILED" && fts.shape().await?.1 { fts.failure(id).await? } else { None };
    let theirs = failure.as_ref().filter(|failure| !failure.reason.starts_with("[token-exchange] "));
    let blamed = theirs.and_then(|failure| fault(failure, &planning.endpoints));
    let verdict = verdict(&seen, lease.as_ref(), [&source, &destination], blamed.as_ref());
    Ok(Some(Explained {
        file_id: id,
        planned: seen.file.planned.clone(),
        submitted_s_ago: seen.submitted.map(|at| at.until(now).as_secs()),
        state: seen.state,
        job_id: seen.job,
        job_state: seen.job_state,
        job_type: seen.job_type,
        source,
        destination,
        lease,
        reason: seen.reason,
        first_attempt_reason: seen.first_reason,
        verdict,
    }))
}

async fn told(
    fts: &FtsDatabase,
    planning: &Planning,
    seen: &SeenFile,
    side: Side,
    subjects: &HashMap<String, Subject>,
    now: UnixSeconds,
) -> Result<SideTold, DatabaseError> {
    let (url, id) = match side {
        Side::Source => (&seen.file.source_url, &seen.file.source_token),
        Side::Destination => (&seen.file.destination_url, &seen.file.destination_token),
    };
    let token = match id {
        None => None,
        Some(id) => match fts.token(id).await? {
            None => None,
            Some(row) => {
                let origin = fts.origin_of(id).await?;
                Some(TokenTold {
                    token_id: id.clone(),
                    issuer: row.issuer,
                    audience: row.audience,
                    scope: row.scope,
                    lives_s: row.ends.map(|end| end.0 - now.0),
                    managed: !row.unmanaged,
                    refreshable: row.refreshable,
                    retired: row.retired,
                    got_by: origin.as_ref().map(|(how, _)| how.clone()),
                    subject: origin.map(|(_, subject)| subject).filter(|subject| !subject.is_empty()),
                    refresh_message: row.refresh_message,
                })
            }
        },
    };
    let waits = seen.state == "TOKEN_PREP";
    let wanted = waits.then(|| wanted(&planning.side(&seen.file, side, subjects, now), planning, subjects));
    Ok(SideTold { url: url.clone(), token, wanted })
}

fn wanted(sided: &Sided<'_>, planning: &Planning, subjects: &HashMap<String, Subject>) -> WantedTold {
    let plain = |how: &str, why: Option<&String>| WantedTold {
        how: how.into(),
        audience: None,
        scope: None,
        why: why.cloned(),
    };
    match sided {
        Sided::Given(_) => plain("as it is", None),
        Sided::Refused(why) => plain("refused", Some(why)),
        Sided::Wait(why) => plain("wait", Some(why)),
        Sided::Made(id, request) => {
            let mode = subjects.get(*id).map(|subject| planning.mode(&subject.issuer)).unwrap_or_default();
            WantedTold {
                how: mode.name().into(),
                audience: Some(request.audience.clone()),
                scope: Some(request.scope.to_string()),
                why: None,
            }
        }
    }
}

fn lease_told(lease: &SeenLease, now: UnixSeconds) -> LeaseTold {
    LeaseTold {
        held: lease.ends > now,
        ends_in_s: now.until(lease.ends).as_secs(),
        attempts: lease.attempts,
        again_in_s: now.until(lease.retry_at).as_secs(),
        message: lease.message.clone(),
    }
}

/// What the state and the reason say.
fn verdict(
    seen: &SeenFile,
    lease: Option<&LeaseTold>,
    sides: [&SideTold; 2],
    fault: Option<&Fault>,
) -> String {
    match seen.state.as_str() {
        "TOKEN_PREP" => waits(seen, lease, sides),
        "FAILED" => fault.map_or_else(
            || tells(seen.first_reason.as_deref().or(seen.reason.as_deref())),
            |fault| format!("the {} token: {}", fault.side.to_lowercase(), fault.words()),
        ),
        "CANCELED" => "it was cancelled".into(),
        "NOT_USED" => "it waits for another row of its job, or is not needed any more".into(),
        state => format!("its tokens are handed over; what becomes of it now ({state}) is FTS's"),
    }
}

fn waits(seen: &SeenFile, lease: Option<&LeaseTold>, sides: [&SideTold; 2]) -> String {
    if seen.job_state == "CANCELED" {
        return "its job is cancelled: the next worker ends it".into();
    }
    let refused = sides.iter().any(|side| side.wanted.as_ref().is_some_and(|wanted| wanted.how == "refused"));
    match lease {
        _ if refused => "it will fail: a token that it needs can't be had".into(),
        None => "nobody has looked at it yet".into(),
        Some(lease) if lease.held => {
            format!("a worker has it in hand, for another {} at most", span(lease.ends_in_s))
        }
        Some(lease) if lease.again_in_s > 0 => {
            format!("it is put off; tried again in {}", span(lease.again_in_s))
        }
        Some(_) => "it is due: the next worker takes it".into(),
    }
}

/// What a reason tells that speaks of no token.
fn tells(reason: Option<&str>) -> String {
    match reason {
        None => "FTS gives no reason".into(),
        Some(reason) if reason.starts_with("[token-exchange]") => "we failed it: the reason says why".into(),
        Some(_) => "FTS failed it, for no token's reason".into(),
    }
}

impl Explained {
    /// For a person.
    pub(super) fn page(&self) -> Page {
        let mut page = Page::default();
        let ago = self.submitted_s_ago.map_or_else(String::new, |s| format!(", submitted {} ago", span(s)));
        page.line("file", format!("{} {} (planned: {})", self.file_id, self.state, self.planned));
        let kind = self.job_type.as_deref().unwrap_or("-");
        page.line("job", format!("{} {}, type {kind}{ago}", self.job_id, self.job_state));
        for (name, side) in [("source", &self.source), ("destination", &self.destination)] {
            page.line(name, &side.url);
            match &side.token {
                None => page.more("token: none"),
                Some(token) => {
                    let life = match token.lives_s {
                        None => "of unknown life".into(),
                        Some(s) if s <= 0 => format!("ended {} ago", span(s.unsigned_abs())),
                        Some(s) => format!("lives another {}", span(s.unsigned_abs())),
                    };
                    let managed = if token.managed { "managed" } else { "unmanaged" };
                    page.more(format!("token {} of {}: {life}, {managed}", token.token_id, token.issuer));
                    page.more(format!("  for {}: {}", token.audience, token.scope));
                    if let Some(how) = &token.got_by {
                        let of = token.subject.as_ref().map_or_else(String::new, |id| format!(" of {id}"));
                        page.more(format!("  got by {how}{of}"));
                    }
                    if let Some(why) = &token.refresh_message {
                        page.more(format!("  not renewed: {why}"));
                    }
                }
            }
            match &side.wanted {
                None => (),
                Some(WantedTold { how, audience: Some(audience), scope: Some(scope), .. }) => {
                    page.more(format!("wanted by {how} for {audience}: {scope}"));
                }
                Some(WantedTold { how, why, .. }) => {
                    let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                    page.more(format!("wanted: {how}{why}"));
                }
            }
        }
        if let Some(lease) = &self.lease {
            let state = if lease.held { "held" } else { "free" };
            page.line("lease", format!("{state}, put off {} times", lease.attempts));
            if let Some(message) = &lease.message {
                page.more(message);
            }
        }
        for (name, reason) in [("reason", &self.reason), ("first attempt", &self.first_attempt_reason)] {
            if let Some(reason) = reason {
                page.line(name, reason);
            }
        }
        page.line("so", &self.verdict);
        page
    }
}

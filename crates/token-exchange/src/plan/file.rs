//! What is to be done for both sides of a file, and how many tokens that takes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use token_core::{ANY_AUDIENCE, TokenError, TokenRequest, UnixSeconds};

use super::{Leg, Side, Submitted, Wanted, wanted};
use crate::endpoint::{Endpoints, Granularity};
use crate::fts::waiting::{Subject, WaitingFile};

/// How tokens of an issuer are got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// RFC 8693: the submitted token is exchanged for one of the same or less power.
    #[default]
    Exchange,
    /// RFC 6749 section 4.4: we ask as ourselves, for no more than the transfer needs. Whoever may submit to FTS then writes with
    /// our rights.
    ClientCredentials,
    /// None are got: submitted tokens go to the storage as they are.
    Unmanaged,
}

impl Mode {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::ClientCredentials => "client-credentials",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// What holds for tokens of one issuer.
#[derive(Clone, Debug)]
pub struct IssuerRule {
    /// The issuer; a slash at the end does not count.
    pub issuer: String,
    /// How they are got.
    pub mode: Mode,
    /// How long a token that is used as it is must still live.
    pub min_given_life: Duration,
    /// A scope without which a submitted token is not enough for client credentials (`t_token_provider.required_submission_scope`).
    pub required_scope: Option<String>,
}

/// What tokens files need: the endpoint table and the issuers' rules.
#[derive(Clone, Debug)]
pub struct Planning {
    /// The storage endpoints.
    pub endpoints: Endpoints,
    /// The issuers that have a rule of their own; tokens of others are exchanged.
    pub issuers: Vec<IssuerRule>,
    /// How long a token that nobody renews should live when it is handed over: a transfer waits and runs on it.
    pub needed_life: Duration,
}

/// What is to be done for one side of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Sided<'a> {
    /// Nothing: the token of this id is used as it is.
    Given(&'a str),
    /// This is got in place of the token of this id.
    Made(&'a str, TokenRequest),
    /// It can't be had, for good; in words.
    Refused(String),
    /// Not now; in words.
    Wait(String),
}

/// What makes a token one of its own at the issuer: tokens of equal identity are asked for once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Identity {
    /// The issuer.
    pub issuer: String,
    /// Whose it is: the subject's `sub`, or the fingerprint of a token without one. None with client credentials: ours.
    pub subject: Option<String>,
    /// The audience.
    pub audience: String,
    /// The scopes.
    pub scope: String,
}

impl Planning {
    /// The same with one granularity everywhere: what would be if.
    #[must_use]
    pub fn with_granularity(&self, granularity: Granularity) -> Self {
        Self { endpoints: self.endpoints.with_granularity(granularity), ..self.clone() }
    }

    /// The rule for an issuer.
    pub fn rule(&self, issuer: &str) -> Option<&IssuerRule> {
        let plain = issuer.trim_end_matches('/');
        self.issuers.iter().find(|rule| rule.issuer.trim_end_matches('/') == plain)
    }

    /// How tokens of an issuer are got.
    pub fn mode(&self, issuer: &str) -> Mode {
        self.rule(issuer).map(|rule| rule.mode).unwrap_or_default()
    }

    /// What is to be done for one side of a file.
    pub fn side<'a>(
        &self,
        file: &'a WaitingFile,
        side: Side,
        subjects: &HashMap<String, Subject>,
        now: UnixSeconds,
    ) -> Sided<'a> {
        let (id, url) = match side {
            Side::Source => (&file.source_token, &file.source_url),
            Side::Destination => (&file.destination_token, &file.destination_url),
        };
        let Some(id) = id.as_deref() else {
            let why = "FTS accepted this file without a token, so there is nothing to exchange";
            return Sided::Refused(why.into());
        };
        let Some(subject) = subjects.get(id) else {
            return Sided::Wait("its token row is gone".into());
        };
        let on_both_sides = file.source_token == file.destination_token;
        let Some((_, claims)) = &subject.token else {
            return match subject.unmanaged || (subject.refreshable && storages_own(subject, on_both_sides)) {
                true => Sided::Given(id),
                false => Sided::Refused("what FTS holds is no WLCG token".into()),
            };
        };
        let submitted = Submitted {
            claims,
            unmanaged: subject.unmanaged,
            refreshable: subject.refreshable,
            on_both_sides,
        };
        let leg = Leg {
            url,
            side,
            staging: matches!(file.planned.as_str(), "STAGING" | "ON_HOLD_STAGING"),
            overwrites: file.overwrites,
        };
        let rule = self.rule(&subject.issuer);
        let mode = rule.map(|rule| rule.mode).unwrap_or_default();
        match wanted(&submitted, &leg, mode, &self.endpoints) {
            Ok(Wanted::Given) => {
                let least = rule.map_or(Duration::ZERO, |rule| rule.min_given_life);
                // One with a refresh token can be renewed.
                if subject.refreshable || now.until(claims.exp) > least {
                    return Sided::Given(id);
                }
                Sided::Refused(lives_too_short(claims.exp, least, now))
            }
            Ok(Wanted::Made(request)) => {
                let why = match mode {
                    Mode::ClientCredentials => rule.and_then(|rule| lacking(rule, subject)),
                    Mode::Exchange | Mode::Unmanaged => beyond(subject, &request),
                };
                why.map_or(Sided::Made(id, request), Sided::Refused)
            }
            Err(reason) => Sided::Refused(reason.to_string()),
        }
    }

    /// When a token that is used as it is ends, if nobody renews it.
    pub fn unrenewed_end(
        &self,
        sided: &Sided<'_>,
        subjects: &HashMap<String, Subject>,
    ) -> Option<UnixSeconds> {
        let Sided::Given(id) = sided else { return None };
        let subject = subjects.get(*id).filter(|subject| !subject.refreshable)?;
        subject.token.as_ref().map(|(_, claims)| claims.exp)
    }

    /// How long it lives, if that is shorter than a transfer may wait and run.
    pub fn short_life(
        &self,
        sided: &Sided<'_>,
        subjects: &HashMap<String, Subject>,
        now: UnixSeconds,
    ) -> Option<Duration> {
        let left = now.until(self.unrenewed_end(sided, subjects)?);
        (left < self.needed_life).then_some(left)
    }

    /// The token at the issuer that a side takes; none for one that is given.
    pub fn identity(&self, side: &Sided<'_>, subjects: &HashMap<String, Subject>) -> Option<Identity> {
        let Sided::Made(id, request) = side else { return None };
        let subject = subjects.get(*id)?;
        let own = self.mode(&subject.issuer) == Mode::ClientCredentials;
        Some(Identity {
            issuer: subject.issuer.clone(),
            subject: if own { None } else { subject.identity() },
            audience: request.audience.clone(),
            scope: request.scope.to_string(),
        })
    }

    /// The distinct tokens of these files: as many calls as the issuers get while no such token is kept from before. A file
    /// that fails for one side takes no token for the other.
    pub fn distinct<'a>(
        &self,
        files: impl IntoIterator<Item = &'a WaitingFile>,
        subjects: &HashMap<String, Subject>,
        now: UnixSeconds,
    ) -> BTreeSet<Identity> {
        let mut distinct = BTreeSet::new();
        for file in files {
            let sides = [Side::Source, Side::Destination].map(|side| self.side(file, side, subjects, now));
            if !sides.iter().any(|side| matches!(side, Sided::Refused(_))) {
                distinct.extend(sides.iter().filter_map(|side| self.identity(side, subjects)));
            }
        }
        distinct
    }
}

/// Whether a token that tells nothing of itself was meant for storages, by what FTS wrote down of the one that was submitted. An
/// exchange by `fts_token` may have put such a one in its place; what the bearer of a submission became goes to no storage.
fn storages_own(subject: &Subject, on_both_sides: bool) -> bool {
    !on_both_sides || subject.audience.split(' ').any(|audience| audience == ANY_AUDIENCE)
}

/// What of `request` the subject does not cover, in words: an exchange may only narrow.
fn beyond(subject: &Subject, request: &TokenRequest) -> Option<String> {
    let (_, claims) = subject.token.as_ref()?;
    match claims.scopes() {
        Ok(held) => {
            let missing = request.scope.beyond(&held);
            let issuer = subject.issuer.clone();
            (!missing.is_empty()).then(|| TokenError::BeyondSubject { issuer, missing }.to_string())
        }
        Err(error) => Some(format!("the token it was submitted with: {error}")),
    }
}

fn lives_too_short(exp: UnixSeconds, least: Duration, now: UnixSeconds) -> String {
    if exp <= now {
        let ago = exp.until(now).as_secs();
        return format!("the token it was submitted with is used as it is, and ended {ago} s ago");
    }
    format!(
        "the token it was submitted with is used as it is and lives another {} s, less than the {} s of `min_given_life_s`",
        now.until(exp).as_secs(),
        least.as_secs()
    )
}

/// What a submission lacks before we ask with our own rights, in words.
fn lacking(rule: &IssuerRule, subject: &Subject) -> Option<String> {
    let required = rule.required_scope.as_deref()?;
    let (_, claims) = subject.token.as_ref()?;
    let held = claims.scope.as_deref().unwrap_or_default();
    (!held.split(' ').any(|scope| scope == required)).then(|| {
        format!("the token it was submitted with lacks the scope `{required}`, which FTS wants of this issuer's submissions")
    })
}

#[cfg(test)]
#[path = "file/tests.rs"]
pub(crate) mod tests;

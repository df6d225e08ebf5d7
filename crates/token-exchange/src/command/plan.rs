//! `token-exchange plan`: what the whole queue would take.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use token_core::UnixSeconds;

use super::page::{Page, span};
use crate::endpoint::Granularity;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::{Identity, Planning, Side, Sided};

/// Jobs looked at in one go.
const BATCH: u32 = 1000;
/// The granularities that are compared, besides the configured one.
const OTHERS: [Granularity; 5] = [
    Granularity::Endpoint,
    Granularity::Prefix(1),
    Granularity::Prefix(2),
    Granularity::Directory,
    Granularity::File,
];

/// What the queue would take.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Plan {
    /// Jobs with files in `TOKEN_PREP`, cancelled ones left aside.
    jobs: usize,
    /// Those files.
    files: usize,
    /// Files of cancelled jobs: they take no token.
    cancelled: usize,
    /// Files that would fail, by reason.
    refused: BTreeMap<String, usize>,
    /// Sides that wait, by reason.
    waiting: BTreeMap<String, usize>,
    /// Sides that use the token they were submitted with.
    given: usize,
    /// Those of them that nobody renews and that live shorter than `worker.min_token_life_s`, and the shortest life.
    short_lived: usize,
    shortest_life_s: Option<u64>,
    /// Calls to issuers with the configured table, if nothing is kept from before.
    calls: usize,
    /// Calls if every endpoint had this granularity.
    calls_at: BTreeMap<String, usize>,
    /// Each token that would be asked for.
    tokens: Vec<Asked>,
}

/// A token that would be asked for.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    #[serde(flatten)]
    token: Identity,
    /// Sides of files that would use it.
    sides: usize,
}

/// Looks through the queue, job by job.
pub(super) async fn plan(
    fts: &FtsDatabase,
    planning: &Planning,
    now: UnixSeconds,
) -> Result<Plan, DatabaseError> {
    let others = OTHERS.map(|granularity| (granularity, planning.with_granularity(granularity)));
    let mut distinct: [BTreeSet<Identity>; OTHERS.len()] = Default::default();
    let mut asked: BTreeMap<Identity, usize> = BTreeMap::new();
    let (mut plan, mut last) = (Plan::default(), String::new());
    loop {
        let ids = fts.waiting_jobs(&last, BATCH).await?;
        let Some(end) = ids.last() else { break };
        last.clone_from(end);
        let jobs = fts.waiting(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let (cancelled, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.cancelled);
        plan.cancelled += cancelled.iter().map(|job| job.files.len()).sum::<usize>();
        plan.jobs += jobs.len();
        let files = || jobs.iter().flat_map(|job| &job.files);
        let used: BTreeSet<&str> = files()
            .flat_map(|file| [&file.source_token, &file.destination_token])
            .filter_map(|id| id.as_deref())
            .collect();
        let subjects = fts.subjects(&used.into_iter().collect::<Vec<_>>()).await?;
        for file in files() {
            plan.files += 1;
            let sides = [Side::Source, Side::Destination]
                .map(|side| (side, planning.side(file, side, &subjects, now)));
            let refused = sides.iter().find_map(|(side, sided)| match sided {
                Sided::Refused(why) => Some(format!("{} token: {why}", side.name())),
                _ => None,
            });
            if let Some(why) = refused {
                *plan.refused.entry(why).or_default() += 1;
                continue;
            }
            for (_, sided) in &sides {
                match sided {
                    Sided::Given(_) => {
                        plan.given += 1;
                        if let Some(life) = planning.short_life(sided, &subjects, now) {
                            plan.short_lived += 1;
                            plan.shortest_life_s =
                                plan.shortest_life_s.into_iter().chain([life.as_secs()]).min();
                        }
                    }
                    Sided::Wait(why) => *plan.waiting.entry(why.clone()).or_default() += 1,
                    Sided::Made(..) | Sided::Refused(_) => (),
                }
                if let Some(token) = planning.identity(sided, &subjects) {
                    *asked.entry(token).or_default() += 1;
                }
            }
        }
        for ((_, planning), distinct) in others.iter().zip(&mut distinct) {
            distinct.extend(planning.distinct(files(), &subjects, now));
        }
    }
    plan.calls = asked.len();
    plan.calls_at = others.iter().zip(&distinct).map(|((at, _), set)| (at.to_string(), set.len())).collect();
    plan.tokens = asked.into_iter().map(|(token, sides)| Asked { token, sides }).collect();
    Ok(plan)
}

impl Plan {
    /// For a person: the tokens of each issuer, the most used first.
    pub(super) fn page(&self) -> Page {
        const SHOWN: usize = 200;
        let mut page = Page::default();
        page.line("files waiting", format!("{} in {} jobs", self.files, self.jobs));
        if self.cancelled > 0 {
            page.line("cancelled", format!("{} files, which take no token", self.cancelled));
        }
        for (why, files) in &self.refused {
            page.line("would fail", format!("{files}: {why}"));
        }
        for (why, sides) in &self.waiting {
            page.line("would wait", format!("{sides}: {why}"));
        }
        if self.given > 0 {
            page.line("used as is", format!("{} tokens' uses, by what was submitted", self.given));
        }
        if let Some(life) = self.shortest_life_s {
            page.more(format!(
                "{} of them may end before their transfers do: nobody renews them, and one lives {}",
                self.short_lived,
                span(life)
            ));
        }
        page.line("issuer calls", self.calls);
        for granularity in OTHERS {
            let name = granularity.to_string();
            let calls = self.calls_at.get(&name).copied().unwrap_or_default();
            page.more(format!("{calls} if every endpoint were `{name}`"));
        }
        let mut tokens: Vec<&Asked> = self.tokens.iter().collect();
        tokens.sort_by(|a, b| (&a.token.issuer, b.sides).cmp(&(&b.token.issuer, a.sides)));
        let mut issuer = "";
        for asked in tokens.iter().take(SHOWN) {
            let Identity { issuer: its, subject, audience, scope } = &asked.token;
            if its != issuer {
                page.line("issuer", its);
                issuer = its;
            }
            let whose = subject.as_deref().map_or_else(|| "our own".to_owned(), |sub| format!("of {sub}"));
            page.more(format!("{audience}  {scope}  ({whose}, used {} times)", asked.sides));
        }
        if tokens.len() > SHOWN {
            page.more(format!("and {} more; --json shows them all", tokens.len() - SHOWN));
        }
        page
    }
}

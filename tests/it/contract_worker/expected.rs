//! What has to become of the files and jobs of a recording. Where `fts_token` did right, what it did; each difference from that
//! stands here as a rule that names the defect.

use std::collections::{BTreeMap, BTreeSet};

use super::recording::{Recording, Row, label, number, text};
use super::script::{Meaning, Reply, Script, garbled};

/// The defects, and what is right instead.
pub(crate) mod rule {
    pub(crate) const CRASH: &str =
        "an issuer that can't be reached kills the daemon; the file waits, and so does a worker that lives";
    pub(crate) const CLASSES: &str =
        "every failure fails the files; only a definite refusal may, the rest is tried again";
    pub(crate) const SCHEDULE: &str =
        "a token that failed once is not asked for when it is needed, and after five times never";
    pub(crate) const ENCODING: &str = "the form is not percent-encoded, so the issuer reads another question";
    pub(crate) const NORMAL: &str =
        "a scope whose path is not normal is sent to the issuer; it is never asked for, and the file fails";
    pub(crate) const REFRESH: &str =
        "an answer without refresh token fails the files; the transfer needs none";
    pub(crate) const CANCELLED: &str =
        "a job cancelled in TOKEN_PREP is transferred anyway; its files end with it";
    pub(crate) const TOKENLESS: &str = "a file that FTS accepted without tokens stays in TOKEN_PREP for ever";
    pub(crate) const BEARER: &str =
        "the bearer of a submission is handed to the storage, which takes none for FTS";
    pub(crate) const REPLICAS: &str =
        "when the picked replica's token is refused, the others stay NOT_USED for good";
    pub(crate) const HOPS: &str = "when a later hop's token is refused, the first hop is run for nothing";
    pub(crate) const OLD_TOKEN: &str =
        "who asks for a better token gets its own old one back; it is refreshed first";
    pub(crate) const UNDELIVERED: &str = "a token that lives no longer than the safety period is refreshed and never delivered; it is what there is";
    pub(crate) const WEDGED: &str = "a refusal within the second of the request is never told, and the token is never tried again; it is counted, not timed";
    pub(crate) const TOGETHER: &str =
        "rows of one job are released apart, and FTS passes over the later ones";
}

/// What has to become of one side's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Its row is used as it is.
    Given,
    /// It is exchanged for one of this audience and with these scopes; none: for whatever the plan says of the endpoint.
    Exchanged(Option<(String, BTreeSet<String>)>),
    Refused,
    Waits,
}

/// What has to become of a file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) id: i64,
    pub(crate) job: String,
    pub(crate) state: String,
    /// Whether it was in `TOKEN_PREP` at all.
    pub(crate) waited: bool,
    /// Source and destination.
    pub(crate) tokens: [Token; 2],
}

/// What has to become of everything.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) files: Vec<File>,
    pub(crate) jobs: BTreeMap<String, String>,
    /// The rules that were needed.
    pub(crate) rules: BTreeSet<&'static str>,
}

/// Whether somebody cancelled the job while it waited.
pub(crate) fn cancelled(recording: &Recording, job: &str) -> bool {
    recording.after.job(job).is_some_and(|row| text(row, "job_state") == Some("CANCELED"))
}

impl Expected {
    /// # Errors
    /// A difference from the recording that no rule explains.
    pub(crate) fn of(recording: &Recording, script: &Script) -> Result<Self, String> {
        let mut expected = Self::default();
        for job in &recording.before.jobs {
            let id = text(job, "job_id").ok_or("a job without id")?;
            let before: Vec<&Row> =
                recording.before.files.iter().filter(|file| text(file, "job_id") == Some(id)).collect();
            let mut rules = BTreeSet::new();
            let mut files: Vec<File> =
                before.iter().map(|row| alone(recording, script, row, &mut rules)).collect();
            let waited = files.iter().any(|file| file.waited);
            if waited && cancelled(recording, id) {
                rules = BTreeSet::from([rule::CANCELLED]);
                files
                    .iter_mut()
                    .filter(|file| file.waited)
                    .for_each(|file| "CANCELED".clone_into(&mut file.state));
            } else {
                together(text(job, "job_type"), &mut files, &mut rules);
            }
            let state = job_state(recording, job, id, &files);
            let same_files = files.iter().all(|file| {
                let after = recording.after.file(file.id).and_then(|row| text(row, "file_state"));
                after == Some(&file.state)
            });
            let same_job = recording.after.job(id).and_then(|row| text(row, "job_state")) == Some(&state);
            if !(same_files && same_job) && rules.is_empty() {
                return Err(format!(
                    "job {id} differs from the recording and no rule says why: {state}, {files:?}"
                ));
            }
            expected.jobs.insert(id.to_owned(), state);
            expected.files.append(&mut files);
            expected.rules.append(&mut rules);
        }
        Ok(expected)
    }
}

/// A file for itself.
fn alone(recording: &Recording, script: &Script, row: &Row, rules: &mut BTreeSet<&'static str>) -> File {
    let state = text(row, "file_state").unwrap_or_default();
    let waited = state == "TOKEN_PREP";
    let ids = ["src_token_id", "dst_token_id"].map(|column| text(row, column));
    let mut file = File {
        id: number(row, "file_id"),
        job: text(row, "job_id").unwrap_or_default().to_owned(),
        state: state.to_owned(),
        waited,
        tokens: [Token::Given, Token::Given],
    };
    if !waited {
        return file;
    }
    let both = ids[0].is_some() && ids[0] == ids[1];
    let [source, destination] = [(ids[0], "source_surl"), (ids[1], "dest_surl")].map(|(id, url)| {
        let url = text(row, url).unwrap_or_default();
        token(recording, script, id, both.then_some(url), rules)
    });
    file.tokens = [source, destination];
    file.state = if file.tokens.contains(&Token::Refused) {
        "FAILED".into()
    } else if file.tokens.contains(&Token::Waits) {
        state.to_owned()
    } else {
        text(row, "file_state_initial").filter(|state| !state.is_empty()).unwrap_or("SUBMITTED").to_owned()
    };
    file
}

/// `only`: the URL of this side, if the token is the file's only one.
fn token(
    recording: &Recording,
    script: &Script,
    id: Option<&str>,
    only: Option<&str>,
    rules: &mut BTreeSet<&'static str>,
) -> Token {
    let Some((id, row)) = id.and_then(|id| Some((id, recording.before.token(id)?))) else {
        rules.insert(rule::TOKENLESS);
        return Token::Refused;
    };
    let words = |text: &str| {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut scope = words(text(row, "scope").unwrap_or_default());
    let (unmanaged, offline) = (number(row, "unmanaged") == 1, scope.contains("offline_access"));
    let bearer = only.is_some_and(|url| {
        let named = text(row, "audience").unwrap_or_default().split(' ').any(|one| is_storage(one, url));
        !named && (scope.contains("fts") || !(unmanaged || offline))
    });
    if bearer {
        rules.insert(rule::BEARER);
    } else if unmanaged || text(row, "refresh_token").is_some() {
        return Token::Given;
    }
    if scope.iter().any(|scope| !is_normal(scope)) {
        rules.insert(rule::NORMAL);
        return Token::Refused;
    }
    let label = text(row, "access_token").and_then(label).unwrap_or_default();
    let reply = script.replies.get(label).unwrap_or(&Reply::Granted);
    let meaning = if script.down { Meaning::Trouble } else { reply.meaning(recording, row) };
    // What fts_token made of it.
    let succeeded = recording.after.token(id).is_some_and(|after| text(after, "refresh_token").is_some());
    match recording.exchange(label) {
        _ if !recording.alive => drop(rules.insert(rule::CRASH)),
        None => drop(rules.insert(rule::SCHEDULE)),
        Some(call) if garbled(call.request.body.as_deref().unwrap_or_default(), row) => {
            rules.insert(rule::ENCODING);
        }
        Some(_) if meaning == Meaning::Got && !succeeded => drop(rules.insert(rule::REFRESH)),
        Some(_) if meaning == Meaning::Trouble => drop(rules.insert(rule::CLASSES)),
        Some(_) => (),
    }
    scope.remove("offline_access");
    match meaning {
        Meaning::Got if bearer => Token::Exchanged(None),
        Meaning::Got => Token::Exchanged(Some((text(row, "audience").unwrap_or_default().to_owned(), scope))),
        Meaning::Refused => Token::Refused,
        Meaning::Trouble => Token::Waits,
    }
}

/// Whether an audience names the storage of a URL, or any.
fn is_storage(audience: &str, url: &str) -> bool {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    audience == "https://wlcg.cern.ch/jwt/v1/any" || audience == format!("https://{authority}")
}

/// Whether the path of a storage scope is normal: no element is empty, climbs, or holds a slash.
fn is_normal(scope: &str) -> bool {
    let Some(path) =
        scope.strip_prefix("storage.").and_then(|rest| rest.split_once(':')).map(|(_, path)| path)
    else {
        return !scope.starts_with("storage.");
    };
    let normal =
        |element: &str| !matches!(element, "" | "." | "..") && !element.to_lowercase().contains("%2f");
    path.strip_prefix('/')
        .is_some_and(|rest| rest.is_empty() || rest.trim_end_matches('/').split('/').all(normal))
}

/// The rows of a job with several sources or hops.
fn together(kind: Option<&str>, files: &mut [File], rules: &mut BTreeSet<&'static str>) {
    if !matches!(kind, Some("R" | "H")) || !files.iter().any(|file| file.waited) {
        return;
    }
    let released = |file: &File| file.waited && !matches!(file.state.as_str(), "FAILED" | "TOKEN_PREP");
    if files.iter().any(|file| file.state == "TOKEN_PREP") {
        if files.iter().any(|file| file.state != "TOKEN_PREP") {
            rules.insert(rule::TOGETHER);
        }
        return files.iter_mut().for_each(|file| "TOKEN_PREP".clone_into(&mut file.state));
    }
    if !files.iter().any(|file| file.state == "FAILED") {
        return;
    }
    if kind == Some("H") {
        rules.insert(rule::HOPS);
        files
            .iter_mut()
            .filter(|file| released(file))
            .for_each(|file| "NOT_USED".clone_into(&mut file.state));
    } else if !files.iter().any(|file| released(file) && file.state != "NOT_USED")
        && let Some(next) = files.iter_mut().find(|file| released(file))
    {
        rules.insert(rule::REPLICAS);
        "SUBMITTED".clone_into(&mut next.state);
    }
}

fn job_state(recording: &Recording, job: &Row, id: &str, files: &[File]) -> String {
    let ended = |file: &File| matches!(file.state.as_str(), "FAILED" | "CANCELED" | "NOT_USED" | "FINISHED");
    if files.iter().any(|file| file.waited) && cancelled(recording, id) {
        "CANCELED".into()
    } else if files.iter().any(|file| file.waited && file.state == "FAILED") && files.iter().all(ended) {
        "FAILED".into()
    } else {
        text(job, "job_state").unwrap_or_default().to_owned()
    }
}

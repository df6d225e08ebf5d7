//! Answers as FTS was seen to give them, and as it never should.

use super::*;
use crate::error::Verdict;
use crate::state::FileState;

const A: &str = "8e531ad2-e76a-11f1-b890-02fc00000001";
const B: &str = "8e5809ca-e76a-11f1-aa94-02fc00000001";

fn answer(changes: bool, status: u16, body: &str) -> Answer {
    Answer::new("https://fts.example", "the call", changes, status, body.as_bytes().to_vec())
}

fn ids() -> [JobId; 2] {
    [A, B].map(|id| JobId::parse(id).unwrap())
}

#[test]
fn one_bad_entry_does_not_hide_the_others() {
    let body = format!(
        r#"[{{"job_id":"{B}","job_state":"ACTIVE","http_status":"200 Ok"}},{{"job_id":"{A}","job_state":7,"http_status":"200 Ok"}},17]"#
    );
    let jobs = answer(false, 207, &body).jobs(&ids()).unwrap();
    assert!(jobs[0].outcome.is_err() && matches!(jobs[1].outcome, Ok(Lookup::Known(_))));
}

#[test]
fn one_of_many_is_no_list() {
    let [id, _] = ids();
    let gone = format!(r#"{{"job_id":"{A}","http_status":"404 Not Found","http_message":"x"}}"#);
    for (status, body) in [(404, gone.clone()), (207, format!("[{gone}]"))] {
        let jobs = answer(false, status, &body).jobs(std::slice::from_ref(&id)).unwrap();
        assert!(matches!(&jobs[..], [Answered { outcome: Ok(Lookup::Unknown), .. }]), "{body}");
    }
}

#[test]
fn a_job_is_unknown_only_where_fts_says_so() {
    let [id, _] = ids();
    let gone = format!(r#"{{"job_id":"{A}","http_status":"404 Not Found","http_message":"x"}}"#);
    assert_eq!(answer(false, 404, &gone).job(&id).unwrap(), Lookup::Unknown);
    let other = gone.replace(A, B);
    assert!(matches!(answer(false, 404, &other).job(&id), Err(FtsError::BadAnswer { .. })));
    for page in ["<h1>Not Found</h1>", "", r#"{"message":"No such field"}"#] {
        assert!(matches!(answer(false, 404, page).job(&id), Err(FtsError::NotThere { .. })), "{page}");
    }
}

#[test]
fn the_verdict_depends_on_who_speaks_and_on_what_was_asked() {
    let page = "<h1>Bad Request</h1><p>Unsupported authentication method: method=OAuth2</p>";
    let busy = "<p>The server is temporarily unable to service your request due to maintenance downtime or capacity problems.</p>";
    for (changes, status, body, verdict) in [
        (true, 400, r#"{"message":"Need sid for deterministic"}"#, Verdict::Refused),
        (true, 400, page, Verdict::Mend),
        (true, 404, "", Verdict::Mend),
        (true, 409, r#"{"message":"The submission is duplicated"}"#, Verdict::Refused),
        (true, 419, "{}", Verdict::Mend),
        (true, 500, "{}", Verdict::OutcomeUnknown),
        (false, 500, "{}", Verdict::TryLater),
        (true, 503, busy, Verdict::TryLater),
        (true, 503, "<p>Service Unavailable</p>", Verdict::OutcomeUnknown),
        (true, 502, "", Verdict::OutcomeUnknown),
        (true, 429, "", Verdict::TryLater),
        (true, 302, "", Verdict::OutcomeUnknown),
        (true, 200, "<html>", Verdict::OutcomeUnknown),
        (true, 200, r#"{"job_id":"../all"}"#, Verdict::OutcomeUnknown),
    ] {
        let error = answer(changes, status, body).submitted().unwrap_err();
        assert_eq!(error.verdict(), verdict, "{status} {body}: {error}");
    }
}

#[test]
fn states_of_cancelled_files_are_told_from_refusals() {
    let files = [FileId(1), FileId(2)];
    let read = answer(true, 200, r#"["CANCELED","File does not belong to the job"]"#).cancelled_files(&files);
    let read = read.unwrap();
    assert_eq!(read[0].1, FileCancel::Now(FileState::Canceled));
    assert!(matches!(&read[1].1, FileCancel::Refused(words) if words.starts_with("File")));
    assert!(answer(true, 200, r#""CANCELED""#).cancelled_files(&files).is_err());
}

use token_core::AccessToken;

use crate::fts::remembered::{How, Origin};

use super::*;

fn key(name: &str) -> Key {
    Key { subject: "s".into(), audience: name.into(), scope: String::new() }
}

fn token(name: &str) -> Token<EndpointToken> {
    Token::Got(EndpointToken {
        token: AccessToken::new(name).unwrap(),
        expires_at: UnixSeconds(9),
        issuer: "i".into(),
        scope: String::new(),
        audience: name.into(),
        obtained_at: UnixSeconds(0),
        origin: Origin { how: How::ClientCredentials, submitter: None },
    })
}

fn taken(job: &str, kind: Kind, files: &[[&str; 2]]) -> Taken {
    let files = files.iter().zip(1..).map(|(sides, id)| File {
        id,
        planned: "SUBMITTED".into(),
        sides: sides.map(|name| Side::Open(key(name), "i".into())),
    });
    Taken {
        lease: Lease { job: job.into(), owner: "o".into(), attempts: 3 },
        kind,
        queue_ends: None,
        files: files.collect(),
    }
}

fn out(desk: &mut Desk) -> String {
    let parcels = desk.parcels(100, UnixSeconds);
    let one = |parcel: &Parcel| {
        let files: Vec<String> = parcel.fates.iter().map(|(id, _)| id.to_string()).collect();
        let rest = match &parcel.rest {
            Rest::PutOff { retry_at, why } => format!("put off to {}: {why}", retry_at.0),
            rest => format!("{rest:?}"),
        };
        format!("{} {} {rest}", parcel.lease.job, files.join(","))
    };
    parcels.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_slow_token_holds_up_only_the_files_that_need_it() {
    let mut desk = Desk::default();
    let asked = desk.take(taken("a", Kind::Plain, &[["1", "2"], ["1", "slow"]]));
    assert_eq!(asked, [key("1"), key("2"), key("slow")]);
    assert!(desk.take(taken("b", Kind::Plain, &[["1", "2"]])).is_empty(), "each token is asked for once");
    desk.settled(&key("1"), token("1"));
    assert!(!desk.has_ready());
    desk.settled(&key("2"), token("2"));
    assert_eq!(desk.ready_files(), 2);
    assert_eq!(out(&mut desk), "a 1 Hold; b 1 End");
    assert_eq!((desk.files(), desk.leases().len()), (1, 1));
    desk.settled(&key("slow"), Token::Wait("down".into()));
    assert_eq!(out(&mut desk), "a  put off to 3: down");
    assert!(desk.is_empty() && desk.is_settled() && desk.files() == 0);
    // Now it has to be asked for again.
    assert_eq!(desk.take(taken("a", Kind::Plain, &[["1", "slow"]])).len(), 2);
}

#[test]
fn rows_that_belong_together_leave_together() {
    let mut desk = Desk::default();
    desk.take(taken("a", Kind::Replicas, &[["1", "2"], ["3", "2"]]));
    for name in ["1", "2"] {
        desk.settled(&key(name), token(name));
    }
    assert!(!desk.has_ready());
    desk.settled(&key("3"), token("3"));
    assert_eq!(out(&mut desk), "a 1,2 End");
}

#[test]
fn who_has_too_much_in_hand_is_busy_until_its_tokens_come() {
    let mut desk = Desk::default();
    for job in 0..5 {
        desk.take(taken(&job.to_string(), Kind::Plain, &[["1", "1"]]));
    }
    assert_eq!((desk.busy(5), desk.busy(6)), (vec!["i".to_owned()], vec![]));
    desk.settled(&key("1"), token("1"));
    assert_eq!((desk.busy(1).len(), desk.ready_files()), (0, 5));
}

#[test]
fn a_job_that_is_lost_or_taken_again_leaves_nothing_behind() {
    let mut desk = Desk::default();
    desk.take(taken("a", Kind::Plain, &[["1", "2"], ["1", "1"]]));
    desk.settled(&key("1"), token("1"));
    assert!(desk.take(taken("a", Kind::Plain, &[["3", "2"]])).contains(&key("3")));
    assert_eq!((desk.files(), desk.ready_files()), (1, 0));
    desk.forget("a");
    desk.settled(&key("2"), token("2"));
    desk.settled(&key("3"), token("3"));
    assert_eq!((out(&mut desk).as_str(), desk.files(), desk.is_empty()), ("", 0, true));
    // Nothing waits any more: its lease is ended.
    desk.take(taken("b", Kind::Plain, &[]));
    assert_eq!(out(&mut desk), "b  End");
}

#[test]
fn a_job_is_looked_at_again_when_its_time_in_the_queue_ends() {
    let mut desk = Desk::default();
    desk.take(Taken { queue_ends: Some(UnixSeconds(2)), ..taken("a", Kind::Plain, &[["1", "1"]]) });
    desk.settled(&key("1"), Token::Wait("down".into()));
    assert_eq!(out(&mut desk), "a  put off to 2: down");
}

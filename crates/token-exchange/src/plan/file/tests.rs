use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use token_core::{AccessToken, Claims, StoragePath};

use super::*;
use crate::endpoint::{Entry, Write};

const NOW: UnixSeconds = UnixSeconds(1_000_000);

pub(crate) fn others(base: &str, area: &str, granularity: &str) -> Entry {
    Entry {
        issuer: None,
        audience: None,
        base_path: StoragePath::parse(base).unwrap(),
        area: StoragePath::parse(area).unwrap(),
        granularity: granularity.to_owned().try_into().unwrap(),
        write: Write::Modify,
    }
}

pub(crate) fn endpoints(base: &str, area: &str, granularity: &str) -> Endpoints {
    Endpoints::new(others(base, area, granularity))
}

/// A JWT that nobody signed.
pub(crate) fn unsigned(claims: &str) -> AccessToken {
    let base64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    AccessToken::new(format!("{}.{}.c2ln", base64(r#"{"alg":"RS256"}"#), base64(claims))).unwrap()
}

fn token(iss: &str, sub: &str, aud: &str, scope: &str) -> AccessToken {
    let exp = NOW.0 + 600;
    unsigned(&format!(r#"{{"iss":"{iss}","sub":"{sub}","exp":{exp},"aud":"{aud}","scope":"{scope}"}}"#))
}

pub(crate) fn claims(iss: &str, aud: &str, scope: &str) -> Claims {
    Claims::peek(&token(iss, "s", aud, scope)).unwrap()
}

fn subject(sub: &str, scope: &str) -> Subject {
    let token = token("https://i", sub, "fts", scope);
    let claims = Claims::peek(&token).unwrap();
    Subject {
        id: "t".into(),
        audience: "fts".into(),
        token: Some((token, claims)),
        issuer: "https://i/".into(),
        unmanaged: false,
        refreshable: false,
    }
}

fn file(id: i64, token: &str, source: &str, destination: &str) -> WaitingFile {
    WaitingFile {
        id,
        planned: "SUBMITTED".into(),
        source_url: format!("davs://{source}"),
        destination_url: format!("davs://{destination}"),
        source_token: Some(token.into()),
        destination_token: Some(token.into()),
        overwrites: false,
    }
}

fn planning(granularity: &str, mode: Mode, required: Option<&str>) -> Planning {
    let rule = IssuerRule {
        issuer: "https://i".into(),
        mode,
        min_given_life: Duration::from_secs(300),
        required_scope: required.map(str::to_owned),
    };
    Planning {
        endpoints: endpoints("/", "/data", granularity),
        issuers: vec![rule],
        needed_life: Duration::from_secs(500),
    }
}

#[test]
fn as_many_calls_are_foretold_as_there_are_distinct_tokens() {
    let wide = "fts storage.read:/ storage.modify:/";
    let subjects: HashMap<String, Subject> = [
        ("a", subject("rucio", wide)),
        ("b", subject("rucio", wide)),
        ("c", subject("dirac", wide)),
        ("d", subject("rucio", "fts storage.create:/")),
    ]
    .map(|(id, subject)| (id.to_owned(), subject))
    .into();
    let mut files = vec![
        file(1, "a", "s/data/x/1/f", "d/data/x/1/f"),
        file(2, "b", "s/data/x/1/g", "d/data/x/1/g"),
        file(3, "b", "s/data/x/2/f", "d/data/x/2/f"),
        // Beyond its token, or beyond reach: not asked for.
        file(4, "d", "s/data/x/3/f", "d/data/x/3/f"),
        file(5, "a", "s/data/y/f", "d/elsewhere/y/f"),
    ];
    let calls = |files: &[WaitingFile], granularity, mode| {
        planning(granularity, mode, None).distinct(files, &subjects, NOW).len()
    };
    for (granularity, expected) in [("endpoint", 2), ("prefix:1", 2), ("prefix:2", 4), ("directory", 4)] {
        assert_eq!(calls(&files[..4], granularity, Mode::Exchange), expected, "{granularity}");
    }
    assert_eq!(calls(&files[..4], "file", Mode::Exchange), 3 + 2);
    assert_eq!(calls(&files[4..], "endpoint", Mode::Exchange), 0);
    files.push(file(6, "c", "s/data/x/1/f", "d/data/x/1/f"));
    assert_eq!(calls(&files, "endpoint", Mode::Exchange), 4, "another subject's are its own");
    assert_eq!(calls(&files, "endpoint", Mode::ClientCredentials), 2, "all are ours");
}

#[test]
fn a_token_used_as_it_is_must_live_long_enough() {
    let mut given = subject("rucio", "storage.read:/");
    given.unmanaged = true;
    let subjects: HashMap<String, Subject> =
        [("a".to_owned(), given), ("b".to_owned(), subject("rucio", "storage.read:/"))].into();
    let file = WaitingFile { destination_token: Some("b".into()), ..file(1, "a", "s/f", "d/f") };
    let planning = planning("endpoint", Mode::Exchange, None);
    let side = |at| planning.side(&file, Side::Source, &subjects, UnixSeconds(NOW.0 + at));
    assert_eq!(side(299), Sided::Given("a"));
    assert!(matches!(side(300), Sided::Refused(why) if why.contains("another 300 s, less than the 300 s")));
    assert!(matches!(side(700), Sided::Refused(why) if why.contains("ended 100 s ago")));
    let short = |id: &str, at| {
        planning.short_life(&Sided::Given(id), &subjects, UnixSeconds(NOW.0 + at)).map(|left| left.as_secs())
    };
    assert_eq!((short("a", 100), short("a", 101), short("a", 700)), (None, Some(499), Some(0)));
    let renewed = Subject { refreshable: true, ..subjects["a"].clone() };
    let subjects: HashMap<String, Subject> = [("a".to_owned(), renewed)].into();
    assert_eq!(planning.short_life(&Sided::Given("a"), &subjects, UnixSeconds(NOW.0 + 599)), None);
}

#[test]
fn our_own_rights_are_used_for_submissions_that_have_the_scope_fts_wants() {
    let subjects: HashMap<String, Subject> = [("a".to_owned(), subject("rucio", "fts"))].into();
    let file = file(1, "a", "s/data/f", "d/data/f");
    let side = |required| {
        let planning = planning("endpoint", Mode::ClientCredentials, required);
        matches!(planning.side(&file, Side::Source, &subjects, NOW), Sided::Made(..))
    };
    assert!(side(None) && side(Some("fts")) && !side(Some("fts:submit-transfer")));
}

#[test]
fn an_opaque_token_that_was_exchanged_before_is_used_beside_a_new_one() {
    let opaque = |unmanaged, refreshable, audience: &str| Subject {
        token: None,
        unmanaged,
        refreshable,
        audience: audience.into(),
        ..subject("rucio", "fts")
    };
    let side = |opaque: Subject, destination: &str| {
        let subjects: HashMap<String, Subject> =
            [("a".to_owned(), opaque), ("b".to_owned(), subject("rucio", "storage.modify:/"))].into();
        let file = WaitingFile { destination_token: Some(destination.into()), ..file(1, "a", "s/f", "d/f") };
        planning("endpoint", Mode::Exchange, None).side(&file, Side::Source, &subjects, NOW)
            == Sided::Given("a")
    };
    assert!(side(opaque(false, true, "https://s"), "b"), "exchanged by fts_token");
    assert!(side(opaque(true, false, "fts"), "a"), "its submitter sees to it");
    assert!(side(opaque(false, true, token_core::ANY_AUDIENCE), "a"), "for any storage");
    assert!(!side(opaque(false, true, "fts"), "a"), "what the bearer became goes to no storage");
    assert!(!side(opaque(false, false, "https://s"), "b"), "never exchanged");
}

//! Tokens of the grid in a box, good and bad, as three libraries see them: token-core, Debian's libscitokens and PyPI's
//! scitokens. token-core must be right in all of them; where another differs from the profile is listed in faults.rs.
//!
//! Needs `SCITOKENS_PYTHON`, a Python that has scitokens, and libscitokens; `./tests/run` installs both.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use testbed::issuer::Issuer;
use testbed::pki::Pki;
use token_core::SystemClock;
use tokio_util::sync::CancellationToken;

#[path = "interop/answer.rs"]
mod answer;
#[path = "interop/cases.rs"]
mod cases;
#[path = "interop/faults.rs"]
mod faults;
#[path = "interop/forge.rs"]
mod forge;
#[path = "interop/needed.rs"]
mod needed;

use answer::{Answer, Library, Said, ask_others, ask_token_core, fetch_jwks};
use cases::Case;
use faults::{BARE, CPP, FAULTS, Fault, PYTHON};
use forge::Forge;
use needed::{needed, not_run, say};

#[tokio::test(flavor = "multi_thread")]
async fn three_libraries_agree_on_every_token_but_for_known_faults() {
    let folder =
        tempfile::Builder::new().prefix("scitokens").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pki = Pki::create(folder.path()).unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let forge = Forge::start(&pki, stop.child_token()).await;
    let grid = Issuer::start(&pki, Vec::new(), Arc::new(SystemClock), stop.child_token()).await.unwrap();
    let cases = cases::cases(&forge, &grid);
    let ids: BTreeSet<_> = cases.iter().map(|case| case.id).collect();
    assert_eq!(ids.len(), cases.len(), "two cases have the same id");

    check_table(&cases);

    let ours = ask_token_core(pki.ca_file(), &cases).await;
    let mut wrong = differences("token-core", &ours, &cases, |_| None);

    if let Some(interpreter) = needed("SCITOKENS_PYTHON", "PyPI's scitokens") {
        let issuers =
            json!({&forge.name: forge.jwks, grid.name(): fetch_jwks(pki.ca_file(), grid.name()).await});
        let others = ask_others(&interpreter, pki.ca_file(), folder.path(), issuers, &cases).await;
        for library in [CPP, PYTHON] {
            if let Some(answers) = installed(&others, library) {
                let fault = |id: &str| {
                    FAULTS.iter().find(|fault| fault.library == library && fault.cases.contains(&id))
                };
                wrong.extend(differences(library.0, answers, &cases, fault));
            }
        }
        if let Some(answers) = installed(&others, BARE) {
            let taken: Vec<_> = answers.iter().filter(|(_, said)| said.0 != Answer::Refuses).collect();
            if !matches!(taken[..], [(id, _)] if id == "ver-missing") {
                wrong.push(format!(
                    "scitokens as it comes refuses every token with `wlcg.ver`, but: {taken:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A fault is one: its cases exist, the profile answers them otherwise, and none is listed twice for a library.
fn check_table(cases: &[Case]) {
    let mut seen = BTreeSet::new();
    for fault in FAULTS {
        for id in fault.cases {
            let case = cases.iter().find(|case| case.id == *id);
            let case = case.unwrap_or_else(|| panic!("{}: there is no case {id}", fault.id));
            assert_ne!(case.right, fault.does, "{}: {id} is no fault", fault.id);
            assert!(seen.insert((fault.library, id)), "{}: {id} is listed twice", fault.id);
        }
    }
}

/// The answers of a library, if it is installed in the version whose faults are known.
fn installed<'a>(
    others: &'a BTreeMap<String, Option<Library>>,
    (name, version): (&str, &str),
) -> Option<&'a BTreeMap<String, Said>> {
    let why = match &others[name] {
        Some(library) if library.version == version => return Some(&library.answers),
        Some(library) => format!("{name} is {}, and its faults are known for {version}", library.version),
        None => format!("{name} {version} is not installed; ./tests/run does it"),
    };
    not_run(&why);
    None
}

/// What a library answers otherwise than the profile, or than its known faults have it.
fn differences<'f>(
    library: &str,
    answers: &BTreeMap<String, Said>,
    cases: &[Case],
    fault: impl Fn(&str) -> Option<&'f Fault>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut faulty = 0;
    for case in cases {
        let (said, why) = &answers[case.id];
        let fault = fault(case.id);
        faulty += usize::from(fault.is_some());
        let known = fault.map_or(case.right, |fault| fault.does);
        // One that writes beyond its memory dies mostly; what it says when it lives is chance.
        if *said != known && known != Answer::Dies {
            let instead = match fault {
                Some(Fault { id, what, section, .. }) => {
                    format!("its known fault {id} is gone ({what}; section {section}): strike it out")
                }
                None => format!("the profile says {known:?} (section {})", case.section),
            };
            wrong.push(format!("{library}: {}: it {said:?} ({why}); {instead}", case.id));
        }
    }
    say(&format!(
        "{library}: {} cases, {} as the profile says, {faulty} known faults, {} differences",
        cases.len(),
        cases.len() - faulty - wrong.len(),
        wrong.len()
    ));
    wrong
}

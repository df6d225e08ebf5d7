//! Verification: token-core and the others in turns, a few milliseconds each, so that whatever else the machine does meets all of
//! them alike.

use std::cell::RefCell;
use std::error::Error;

use serde_json::Value;
use token_core::KeySet;

use crate::issuer::{Signed, jwks, signed};
use crate::others::{Library, Others};
use crate::ours::{Block, Plain, jsonwebtoken, token_core};
use crate::progress;
use crate::report::{Figure, Goal, Report, quantile};

const ROUNDS: usize = 300;
/// Verifications in one turn.
const TURN: u32 = 50;

pub(crate) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let signed = signed()?;
    let keys = KeySet::parse(jwks(&signed).to_string().as_bytes())?;
    let others = Others::start(&signed);
    let found = match &others {
        Ok(others) => [("python", others.found.python.clone()), ("library", others.found.library.clone())],
        Err(why) => ["python", "library"].map(|kind| (kind, Library::Not { missing: why.to_string() })),
    };
    let others = others.ok().map(RefCell::new);
    for signed in &signed {
        progress(&format!("verification by {}", signed.name));
        one(report, signed, &keys, others.as_ref(), &found)?;
    }
    Ok(())
}

fn one(
    report: &mut Report,
    signed: &Signed,
    keys: &KeySet,
    others: Option<&RefCell<Others>>,
    found: &[(&'static str, Library)],
) -> Result<(), Box<dyn Error>> {
    let goal = Some(Goal::AtLeast(0.9));
    // The first is the one that the others are compared with.
    let mut contestants: Vec<(String, Option<Goal>, Block<'_>)> = vec![
        ("token_core::verify".into(), None, token_core(signed, keys)),
        ("jsonwebtoken into a struct".into(), goal, jsonwebtoken::<Plain>(signed)?),
        ("jsonwebtoken into a Value".into(), None, jsonwebtoken::<Value>(signed)?),
    ];
    let mut absent = Vec::new();
    for (kind, library) in found {
        match (library, others) {
            (Library::There { name }, Some(others)) => {
                let block = |count| others.borrow_mut().block(kind, signed.name, count);
                contestants.push((name.clone(), None, Box::new(block)));
            }
            (Library::There { .. }, None) => (),
            (Library::Not { missing }, _) => absent.push((*kind, missing)),
        }
    }

    // Seconds for each token, by contestant and round. Who begins, and who comes after whom, changes from round to round.
    let many = contestants.len();
    let mut times = vec![Vec::with_capacity(ROUNDS); many];
    for round in 0..ROUNDS {
        for turn in 0..many {
            let at = (round + if round % 2 == 0 { turn } else { many - 1 - turn }) % many;
            times[at].push(contestants[at].2(TURN)? / f64::from(TURN));
        }
    }
    let micros = |times: &[f64]| quantile(&mut times.to_vec(), 0.5) * 1e6;
    let mut results = contestants.iter().zip(&times);
    let Some(((name, ..), ours)) = results.next() else { return Ok(()) };
    let note = format!("{:.0} tokens/s on one core", 1e6 / micros(ours));
    let figure = Figure { value: micros(ours), unit: "us", note, goal: None };
    report.add(format!("{} {name}", signed.name), Ok(figure));
    for ((name, goal, _), times) in results {
        // The two turns of one round met the same machine.
        let mut ratios: Vec<f64> = times.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
        let note = format!("{:.2} us there", micros(times));
        let figure = Figure { value: quantile(&mut ratios, 0.5), unit: "times", note, goal: *goal };
        report.add(format!("{} speed as to {name}", signed.name), Ok(figure));
    }
    for (kind, why) in absent {
        let name = if kind == "python" { "PyPI scitokens" } else { "libscitokens" };
        report.add(format!("{} speed as to {name}", signed.name), Err(why.clone()));
    }
    Ok(())
}

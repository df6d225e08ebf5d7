//! Up to three scope strings, one a line: what is refused, that text and set are the same thing, and what "within" means.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_core::{Scope, ScopeSet};
use token_core_fuzz::model;

fuzz_target!(|text: &str| {
    let mut sets: Vec<ScopeSet> = Vec::new();
    for line in text.split('\n').take(3) {
        let parsed = ScopeSet::parse(line);
        assert_eq!(parsed.is_ok(), model::storage_scopes(line).is_some(), "{line:?}: {parsed:?}");
        let Ok(set) = parsed else { continue };
        let written = set.to_string();
        assert_eq!(ScopeSet::parse(&written).as_ref(), Ok(&set), "{line:?} became {written:?}");
        for scope in set.iter() {
            assert_eq!(Scope::parse(&scope.to_string()).as_ref(), Ok(scope));
            assert!(scope.covers(scope));
        }
        assert!(set.beyond(&set).is_empty());
        assert!(ScopeSet::default().beyond(&set).is_empty());
        assert_eq!(set.beyond(&ScopeSet::default()), set);
        sets.push(set);
    }
    let [a, b, ..] = sets.as_slice() else { return };
    let beyond = a.beyond(b);
    assert_eq!(beyond.beyond(b), beyond, "what is beyond stays beyond");
    assert!(beyond.beyond(a).is_empty(), "and was there");
    let joined: ScopeSet = a.iter().chain(b.iter()).cloned().collect();
    assert!(a.beyond(&joined).is_empty() && b.beyond(&joined).is_empty());
    if let [_, _, c] = sets.as_slice()
        && beyond.is_empty()
        && b.beyond(c).is_empty()
    {
        assert!(a.beyond(c).is_empty(), "within is transitive");
    }
});

//! Where other libraries differ from the profile. A fault that is mended, or a new one, makes the test fail.

use crate::answer::Answer;
use crate::answer::Answer::{Accepts, Dies, Refuses};

pub(crate) struct Fault {
    pub(crate) id: &'static str,
    /// Its name and version.
    pub(crate) library: (&'static str, &'static str),
    /// What it does, and how that is known.
    pub(crate) what: &'static str,
    /// The section of the profile (or RFC) that it breaks.
    pub(crate) section: &'static str,
    pub(crate) does: Answer,
    /// The cases that show it.
    pub(crate) cases: &'static [&'static str],
}

/// Debian's libscitokens0, at the version whose faults are listed.
pub(crate) const CPP: (&str, &str) = ("scitokens-cpp", "0.7.3");
/// PyPI's scitokens, likewise, with validators added that take any `wlcg.ver` and `wlcg.groups`.
pub(crate) const PYTHON: (&str, &str) = ("scitokens", "1.9.7");
/// The same as it comes.
pub(crate) const BARE: (&str, &str) = ("scitokens-bare", "1.9.7");

/// All of them; the evidence is the answer to the cases.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "cpp-newer-minor",
        library: CPP,
        what: "refuses newer minor versions: \"Unknown WLCG profile version in token\"",
        section: "2.1.1 (since 1.1)",
        does: Refuses,
        cases: &["ver-1.1", "ver-1.2", "ver-1.3", "ver-1.99"],
    },
    Fault {
        id: "cpp-nbf-mandatory",
        library: CPP,
        what: "asks for `nbf`, which is optional: \"'nbf' claim is mandatory\"",
        section: "2.1.1",
        does: Refuses,
        cases: &["nbf-missing"],
    },
    Fault {
        id: "cpp-crit",
        library: CPP,
        what: "takes a critical header extension that it does not know",
        section: "RFC 7515 4.1.11",
        does: Accepts,
        cases: &["crit"],
    },
    Fault {
        id: "cpp-boundary",
        library: CPP,
        what: "compares paths as strings, so that /data covers /database",
        section: "2.2.1",
        does: Accepts,
        cases: &["boundary", "boundary-below", "create-boundary"],
    },
    Fault {
        id: "cpp-slash",
        library: CPP,
        what: "takes a path with a slash at its end for a file of that name",
        section: "2.2.1",
        does: Accepts,
        cases: &["slash-file"],
    },
    Fault {
        id: "cpp-no-path",
        library: CPP,
        what: "reads a storage scope without a path as the root, and takes a token that has one",
        section: "2.2.1",
        does: Accepts,
        cases: &["path-missing", "path-empty", "path-missing-of-other"],
    },
    Fault {
        id: "cpp-over-root",
        library: CPP,
        what: "its process dies of a scope that climbs over the root (signals 6 and 11 seen), or lives and accepts it",
        section: "2.2.1",
        does: Dies,
        cases: &["dots-over-root", "dots-far-over-root"],
    },
    Fault {
        id: "cpp-escape",
        library: CPP,
        what: "does not decode a scope's path",
        section: "2.2.1",
        does: Refuses,
        cases: &["escape"],
    },
    Fault {
        id: "cpp-modify",
        library: CPP,
        what: "compares the names of rights; that modify holds create is left to the caller",
        section: "2.2.1",
        does: Refuses,
        cases: &["modify-is-create"],
    },
    Fault {
        id: "py-any-audience",
        library: PYTHON,
        what: "does not know the any-audience of WLCG",
        section: "2.1.1",
        does: Refuses,
        cases: &["aud-any", "aud-any-in-list"],
    },
    Fault {
        id: "py-any",
        library: PYTHON,
        what: "takes the audience \"ANY\", which is SciTokens' own, from a WLCG token",
        section: "2.1.1",
        does: Accepts,
        cases: &["aud-any-of-scitokens"],
    },
    Fault {
        id: "py-claims-missing",
        library: PYTHON,
        what: "asks for no claim but `scope`: a token without `aud` fits everywhere, one without `exp` never ends",
        section: "2.1.1",
        does: Accepts,
        cases: &["aud-missing", "exp-missing"],
    },
    Fault {
        id: "py-exp-text",
        library: PYTHON,
        what: "takes `exp` as a text (PyJWT turns it into a number)",
        section: "2.1.1, RFC 7519 4.1.4",
        does: Accepts,
        cases: &["exp-text"],
    },
    Fault {
        id: "py-version",
        library: PYTHON,
        what: "knows nothing of `wlcg.ver`: the caller has to look at it",
        section: "2.1.1",
        does: Accepts,
        cases: &["ver-2.0", "ver-malformed", "ver-number", "ver-missing"],
    },
    Fault {
        id: "py-kid",
        library: PYTHON,
        what: "tries the first key it holds of the issuer when the header has no `kid`",
        section: "4.2.1",
        does: Accepts,
        cases: &["kid-missing"],
    },
    Fault {
        id: "py-no-path",
        library: PYTHON,
        what: "wants paths for `read` and `write` only, and reads `storage.read` as the root",
        section: "2.2.1",
        does: Accepts,
        cases: &["path-missing", "path-missing-of-other"],
    },
    Fault {
        id: "py-modify",
        library: PYTHON,
        what: "compares the names of rights; that modify holds create is left to the caller",
        section: "2.2.1",
        does: Refuses,
        cases: &["modify-is-create"],
    },
];

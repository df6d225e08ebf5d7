//! One thing that was looked at, and what was found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Serialize;

/// How it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Green,
    /// It works, or may be meant so; to be looked at by somebody who knows.
    Yellow,
    /// It does not work.
    Red,
    /// It could not be looked at, since something else did not work.
    Skipped,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The party: an issuer, an FTS, a database, a storage.
    pub of: String,
    /// What of it.
    pub check: &'static str,
    /// How it looks.
    pub level: Level,
    /// What was found, in words.
    pub found: String,
    /// What to do about it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
    /// Whether it may be better by itself next time: a party that is away or busy.
    pub may_pass: bool,
}

impl Finding {
    fn new(of: impl Into<String>, check: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self { of: of.into(), check, level, found: found.into(), todo: None, may_pass: false }
    }

    /// As it should be.
    pub fn good(of: impl Into<String>, check: &'static str, found: impl Into<String>) -> Self {
        Self::new(of, check, Level::Green, found)
    }

    /// Doubtful.
    pub fn doubt(
        of: impl Into<String>,
        check: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { todo: Some(todo.into()), ..Self::new(of, check, Level::Yellow, found) }
    }

    /// Not right until somebody mends it.
    pub fn bad(
        of: impl Into<String>,
        check: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { todo: Some(todo.into()), ..Self::new(of, check, Level::Red, found) }
    }

    /// Not right now, and maybe so later.
    pub fn passing(
        of: impl Into<String>,
        check: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { may_pass: true, ..Self::bad(of, check, found, todo) }
    }

    /// Not looked at, since something else is in the way.
    pub fn skipped(of: impl Into<String>, check: &'static str, because: impl Into<String>) -> Self {
        Self::new(of, check, Level::Skipped, format!("not looked at: {}", because.into()))
    }
}

/// The files of secrets that others may read.
pub fn secrets<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<Finding> {
    let open = |path: &&Path| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
    let open: BTreeSet<String> =
        files.into_iter().filter(open).map(|path| path.display().to_string()).collect();
    let open: Vec<String> = open.into_iter().collect();
    let found = (!open.is_empty()).then(|| format!("others may read {}", listed(&open)))?;
    Some(Finding::doubt("our configuration", "secrets", found, "take that right from them: chmod o-rwx"))
}

/// The exit code of all of it: 0, 1 when what is wrong may pass, 2 when somebody has to mend something.
pub(super) fn exit_code(findings: &[Finding]) -> u8 {
    let red = || findings.iter().filter(|finding| finding.level == Level::Red);
    match (red().count(), red().all(|finding| finding.may_pass)) {
        (0, _) => 0,
        (_, true) => 1,
        (_, false) => 2,
    }
}

/// Some of many names, and how many more there are.
pub fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 if shown.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let good = Finding::good("a", "b", "c");
        let doubt = Finding::doubt("a", "b", "c", "d");
        let passing = Finding::passing("a", "b", "c", "d");
        let bad = Finding::bad("a", "b", "c", "d");
        let skipped = Finding::skipped("a", "b", "c");
        let code = |some: &[&Finding]| exit_code(&some.iter().map(|f| (*f).clone()).collect::<Vec<_>>());
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[&good, &doubt, &skipped]), 0);
        assert_eq!(code(&[&good, &passing, &doubt]), 1);
        assert_eq!(code(&[&passing, &bad, &good]), 2);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..9).map(|n| format!("R{n}")).collect();
        assert_eq!(listed(&names[..0]), "none");
        assert_eq!(listed(&names[..2]), "R0, R1");
        assert_eq!(listed(&names), "R0, R1, R2, R3, R4, R5 and 3 more");
    }
}

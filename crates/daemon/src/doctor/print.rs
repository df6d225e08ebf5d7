//! All findings for a person, or as JSON, and how the process ends.

use std::io::IsTerminal as _;

use serde_json::json;
use token_core::http::printable;

use super::finding::{Finding, Level, exit_code};
use crate::Failure;
use crate::terminal::say;

/// Prints all that was found: a line each, in colours on a terminal, or one JSON object.
///
/// # Errors
/// When something is red.
pub fn finish(findings: &[Finding], json: bool) -> Result<(), Failure> {
    let exit_code = exit_code(findings);
    if json {
        say(&json!({ "findings": findings, "exit_code": exit_code }).to_string());
    } else {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for finding in findings {
            say(&line(finding, colours));
        }
        say(&sum(findings));
    }
    let red = findings.iter().filter(|finding| finding.level == Level::Red).count();
    match exit_code {
        0 => Ok(()),
        1 => Err(Failure::Runtime(format!("not right now: {red}; it may pass, look again"))),
        _ => Err(Failure::Configuration(format!("not right: {red}; what to do is said above"))),
    }
}

fn line(finding: &Finding, colours: bool) -> String {
    let (mark, colour) = match finding.level {
        Level::Green => ("ok", "32"),
        Level::Yellow => ("??", "33"),
        Level::Red => ("NO", "31"),
        Level::Skipped => ("--", "2"),
    };
    let mark = if colours { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
    let todo = finding.todo.as_ref().map(|todo| format!(" -> {todo}")).unwrap_or_default();
    let Finding { of, check, found, .. } = finding;
    format!("{mark}  {of}: {check}: {found}{todo}")
}

fn sum(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    format!(
        "{} good, {} doubtful, {} not right, {} not looked at",
        count(Level::Green),
        count(Level::Yellow),
        count(Level::Red),
        count(Level::Skipped)
    )
}

/// Words of another party, or of a library about it, in one line.
pub(super) fn words(text: &str) -> String {
    printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_what_to_do() {
        let bad = Finding::bad("issuer https://i/", "clock", "it is late", "set it");
        assert_eq!(line(&bad, false), "NO  issuer https://i/: clock: it is late -> set it");
        assert!(line(&bad, true).starts_with("\u{1b}[31mNO\u{1b}[0m  issuer"));
        let skipped = Finding::skipped("FTS", "whoami", "there is no token");
        assert_eq!(line(&skipped, false), "--  FTS: whoami: not looked at: there is no token");
        assert_eq!(sum(&[bad, skipped]), "0 good, 0 doubtful, 1 not right, 1 not looked at");
    }
}

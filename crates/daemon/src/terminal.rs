//! What a command prints: its data, and in it words of others: names of files, reasons of storages, rows of a database.

use std::io::{ErrorKind, Write as _};

/// Writes a line of data, or several, to standard output. A reader that has had enough, as `head`, is no error.
#[expect(clippy::print_stderr, reason = "the data can't be had, and logs may not be set up")]
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => eprintln!("standard output: {error}"),
        _ => (),
    }
}

/// One line without control characters, which a terminal would obey; each is a space instead.
pub fn line(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_the_words_of_others() {
        assert_eq!(line("a\u{1b}[2Jb\r\nc\u{9b}31m\u{7f}é"), "a [2Jb  c 31m é");
    }
}

//! Words of others on a person's terminal: names of files, reasons of storages, rows of a database.

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

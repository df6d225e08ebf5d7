//! The annotated configuration file as a table of keys, defaults and explanations. It is held equal to the code by tests, so it can
//! speak for it.

use std::collections::HashMap;

use super::schema::{Section, Shape, below};

/// What an annotated file says of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The value when it is not set, as TOML.
    pub(super) default: Option<String>,
    /// A value to show how it is written, as TOML.
    pub(super) example: Option<String>,
    /// What it means.
    pub(super) text: String,
}

/// An annotated file.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotated {
    /// By the name of the section's type and the key's: the same section may stand at several places.
    notes: HashMap<(&'static str, &'static str), Note>,
    /// What stands above each section's header, by its place.
    sections: HashMap<String, String>,
    /// What stands at the top.
    pub(super) top: String,
}

impl Annotated {
    /// Reads `text`, whose keys are those of `shape`. A commented `# key = value` shows a default, unless the key is optional or stands
    /// in a section that is commented itself, where everything is an example.
    pub(super) fn read(text: &str, shape: &Shape) -> Self {
        let mut read = Self::default();
        let mut comment = String::new();
        let (mut section, mut commented) = (shape.section(), false);
        let mut free = None;
        for line in text.lines() {
            let (bare, is_comment) = match line.strip_prefix("# ") {
                Some(bare) => (bare, true),
                None => (line, false),
            };
            if let Some(place) = header(bare) {
                let found = find(shape, place);
                if found.is_some() || !is_comment {
                    commented = is_comment;
                    free = found.filter(|shape| shape.section().is_none()).map(|_| place.to_owned());
                    section = found.and_then(Shape::section);
                    read.sections.entry(place.to_owned()).or_insert_with(|| std::mem::take(&mut comment));
                    comment.clear();
                    continue;
                }
            }
            if let (Some(place), Some(_)) = (&free, bare.split_once(" = ")) {
                // A table with free keys: what stands in it is its default.
                read.free(shape, place, bare);
                continue;
            }
            if let Some((section, key, optional, value)) = key(section, bare) {
                let note = read.notes.entry((section, key)).or_default();
                if note.text.is_empty() {
                    note.text = std::mem::take(&mut comment);
                }
                let shown = match is_comment && !commented && !optional && note.example.is_none() {
                    true => &mut note.default,
                    false => &mut note.example,
                };
                shown.get_or_insert_with(|| value.to_owned());
                comment.clear();
            } else if line == "#" || line.is_empty() {
                if read.top.is_empty() {
                    read.top = std::mem::take(&mut comment);
                } else if !is_comment && line.is_empty() {
                    comment.clear();
                }
            } else if is_comment {
                if !comment.is_empty() {
                    comment.push(' ');
                }
                comment.push_str(bare.trim());
            }
        }
        read
    }

    fn free(&mut self, shape: &Shape, place: &str, line: &str) {
        let (above, name) = place.rsplit_once('.').unwrap_or(("", place));
        let section =
            if above.is_empty() { shape.section() } else { find(shape, above).and_then(Shape::section) };
        let key = section.and_then(|s| Some((s.name, s.keys.iter().find(|key| key.name == name)?.name)));
        if let Some(key) = key {
            let text = self.sections.get(place).cloned().unwrap_or_default();
            let note = self.notes.entry(key).or_default();
            note.text = text;
            note.default = Some(match note.default.take() {
                Some(others) => format!("{}, {line} }}", others.trim_end_matches(" }")),
                None => format!("{{ {line} }}"),
            });
        }
    }

    /// What it says of a key.
    pub(super) fn note(&self, section: &Section, key: &str) -> Option<&Note> {
        let key = section.keys.iter().find(|known| known.name == key)?.name;
        self.notes.get(&(section.name, key))
    }

    /// The keys of `shape` that it does not speak of.
    pub(super) fn missing(&self, shape: &Shape) -> Vec<String> {
        let mut missing = Vec::new();
        self.missing_below(shape, "", &mut missing);
        missing
    }

    fn missing_below(&self, shape: &Shape, place: &str, missing: &mut Vec<String>) {
        let Some(section) = shape.section() else { return };
        for key in &section.keys {
            let place = below(place, key.name);
            match key.shape.section() {
                Some(_) => self.missing_below(&key.shape, &place, missing),
                None if self.notes.contains_key(&(section.name, key.name)) => (),
                None => missing.push(place),
            }
        }
    }

    /// The reference in Markdown: a part for each section, an entry for each key.
    pub(super) fn markdown(&self, shape: &Shape) -> String {
        let mut text = String::new();
        self.markdown_below(shape, "", &mut text);
        text
    }

    fn markdown_below(&self, shape: &Shape, place: &str, text: &mut String) {
        let Some(section) = shape.section() else { return };
        let values: Vec<_> = section.keys.iter().filter(|key| key.shape.section().is_none()).collect();
        if !values.is_empty() {
            let list = matches!(shape, Shape::List(_));
            let shown = if list { format!("[[{place}]]") } else { format!("[{place}]") };
            let title = if place.is_empty() { "(top)".to_owned() } else { format!("`{shown}`") };
            text.push_str(&format!("## {title}\n\n"));
            match self.sections.get(place).map_or("", String::as_str) {
                "" => (),
                intro => text.push_str(&format!("{intro}\n\n")),
            }
            for key in values {
                text.push_str(&self.entry(section, key.name, &key.shape, key.optional));
            }
            text.push('\n');
        }
        for key in &section.keys {
            self.markdown_below(&key.shape, &below(place, key.name), text);
        }
    }

    fn entry(&self, section: &Section, key: &'static str, shape: &Shape, optional: bool) -> String {
        let note = self.notes.get(&(section.name, key)).cloned().unwrap_or_default();
        let default = match (&note.default, &note.example, optional) {
            (Some(default), _, _) => format!("default `{default}`"),
            (None, Some(example), true) => format!("not set; for example `{example}`"),
            (None, None, true) => "not set".to_owned(),
            (None, Some(example), false) => format!("for example `{example}`"),
            (None, None, false) => "must be given".to_owned(),
        };
        let words = match shape {
            Shape::Value([_, ..]) => format!(" One of {shape}."),
            _ => String::new(),
        };
        let text = if note.text.is_empty() { String::new() } else { format!(" {}", note.text) };
        format!("- `{key}` ({default}).{text}{words}\n")
    }
}

/// The place that a `[header]` or `[[header]]` names.
fn header(line: &str) -> Option<&str> {
    let line = line.split(" #").next().unwrap_or(line).trim_end();
    let inner = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]"));
    let inner = inner.or_else(|| line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')))?;
    let plain = inner.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    (plain && !inner.is_empty()).then_some(inner)
}

/// The shape at a place.
pub(super) fn find<'a>(shape: &'a Shape, place: &str) -> Option<&'a Shape> {
    place.split('.').try_fold(shape, |shape, name| {
        Some(&shape.section()?.keys.iter().find(|key| key.name == name)?.shape)
    })
}

/// The key that a line sets: its section's name, its own, whether it is optional, and the value.
fn key<'a>(section: Option<&Section>, line: &'a str) -> Option<(&'static str, &'static str, bool, &'a str)> {
    let (name, value) = line.split_once(" = ")?;
    let section = section?;
    let key = section.keys.iter().find(|key| key.name == name)?;
    Some((section.name, key.name, key.optional, value.trim()))
}

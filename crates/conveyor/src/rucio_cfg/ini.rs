//! INI files as Python's configparser reads them, with its basic interpolation.

use std::collections::BTreeMap;

/// Sections, and the options of each, whose names are of lower case.
#[derive(Debug)]
pub(super) struct Ini(BTreeMap<String, BTreeMap<String, String>>);

/// How deep a value may name others.
const DEPTH: u8 = 10;

impl Ini {
    /// Reads a file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let (mut section, mut last): (Option<String>, Option<(String, usize)>) = (None, None);
        for (number, line) in text.lines().enumerate() {
            let content = line.trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            let bad = || format!("line {} is neither a section nor an option", number + 1);
            let moved_in = line.len() - line.trim_start().len();
            // A line that is moved in further than the option before it goes on with that.
            if let (Some(section), Some((key, _))) =
                (&section, last.as_ref().filter(|(_, at)| moved_in > *at))
            {
                let value = sections.get_mut(section).and_then(|options| options.get_mut(key));
                if let Some(value) = value {
                    value.push('\n');
                    value.push_str(content);
                }
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                sections.entry(name.0.to_owned()).or_default();
                (section, last) = (Some(name.0.to_owned()), None);
                continue;
            }
            let (key, value) = match content.split_once(['=', ':']) {
                Some((key, value)) => (key.trim().to_lowercase(), value.trim().to_owned()),
                None => return Err(bad()),
            };
            let options = section.as_ref().and_then(|section| sections.get_mut(section)).ok_or_else(bad)?;
            options.insert(key.clone(), value);
            last = Some((key, moved_in));
        }
        Ok(Self(sections))
    }

    /// An option, with what it names put in: `%(other)s` of the same section or `[DEFAULT]`, and `%%` for `%`.
    pub(super) fn get(&self, section: &str, key: &str) -> Result<Option<String>, String> {
        if !self.0.contains_key(section) {
            return Ok(None);
        }
        match self.raw(section, key) {
            None => Ok(None),
            Some(raw) => self.whole(section, raw, 0).map(Some).ok_or_else(|| {
                format!("`[{section}] {key}`: a `%` is neither `%%` nor `%(option)s` of one that is there")
            }),
        }
    }

    /// The options of a section, without those of `[DEFAULT]`.
    pub(super) fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        self.0.get(section).into_iter().flat_map(|options| options.keys().map(String::as_str))
    }

    /// Adds an option that is not there, as it stands; whether it was not.
    pub(super) fn add(&mut self, section: &str, key: &str, value: String) -> bool {
        let options = self.0.entry(section.to_owned()).or_default();
        let new = !options.contains_key(key);
        if new {
            options.insert(key.to_owned(), value.replace('%', "%%"));
        }
        new
    }

    fn raw(&self, section: &str, key: &str) -> Option<&String> {
        let of = |section: &str| self.0.get(section).and_then(|options| options.get(key));
        of(section).or_else(|| of("DEFAULT"))
    }

    fn whole(&self, section: &str, raw: &str, depth: u8) -> Option<String> {
        let mut whole = String::new();
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('%') {
            whole += before;
            rest = if let Some(after) = after.strip_prefix('%') {
                whole.push('%');
                after
            } else {
                let (name, after) = after.strip_prefix('(')?.split_once(")s")?;
                let named = self.raw(section, &name.to_lowercase()).filter(|_| depth < DEPTH)?;
                whole += &self.whole(section, named, depth + 1)?;
                after
            };
        }
        Some(whole + rest)
    }
}

/// Python's words for true.
pub(super) fn truth(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "yes" | "true" | "on")
}

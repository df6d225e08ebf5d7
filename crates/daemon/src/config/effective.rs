//! The values that count, and where each came from.

use std::fmt;

use config::{Value, ValueKind};
use serde::Serialize;

use super::annotated::Annotated;
use super::beneath::Beneath;
use super::nearest::nearest;
use super::schema::{Section, Shape, below};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// The code.
    Default,
    /// The configuration file.
    File,
    /// A file of Rucio's or FTS's, by name, beneath ours.
    Beneath(String),
    /// The environment, by this variable.
    Environment(String),
    /// Nowhere: it has no value.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Beneath(place) => write!(f, "beneath: {place}"),
            Self::Environment(variable) => write!(f, "environment: {variable}"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Its place, `submit.batch` or `issuer[0].url`.
    pub(super) key: String,
    /// The value as TOML, passwords in URLs masked.
    pub(super) value: Option<String>,
    /// Where it came from.
    pub(super) origin: Origin,
}

/// All keys with the values that count.
pub(super) fn entries(
    shape: &Shape,
    values: &Value,
    annotated: &Annotated,
    prefix: &str,
    beneath: &Beneath,
) -> Vec<Entry> {
    let mut entries = all(shape, values, &Walk { annotated, prefix, beneath: &beneath.file, text: masked });
    for answer in &beneath.answers {
        let open = |entry: &&mut Entry| {
            entry.key == answer.key && matches!(entry.origin, Origin::Unset | Origin::Beneath(_))
        };
        if let Some(entry) = entries.iter_mut().find(open) {
            (entry.value, entry.origin) =
                (Some(format!("{:?}", answer.shown)), Origin::Beneath(answer.place.clone()));
        }
    }
    entries
}

/// The same with passwords as they are: to be compared, never to be shown.
pub(super) fn plain_entries(
    shape: &Shape,
    values: &Value,
    annotated: &Annotated,
    prefix: &str,
) -> Vec<Entry> {
    all(shape, values, &Walk { annotated, prefix, beneath: "", text: str::to_owned })
}

fn all(shape: &Shape, values: &Value, walk: &Walk<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some(section) = shape.section() {
        walk_section(section, Some(values), "", walk, &mut entries);
    }
    entries
}

struct Walk<'a> {
    annotated: &'a Annotated,
    prefix: &'a str,
    /// The file that holds beneath ours.
    beneath: &'a str,
    /// How a text is shown.
    text: fn(&str) -> String,
}

fn walk_section(
    section: &Section,
    value: Option<&Value>,
    place: &str,
    walk: &Walk<'_>,
    out: &mut Vec<Entry>,
) {
    for key in &section.keys {
        let (place, value) = (below(place, key.name), value.and_then(|value| child(value, key.name)));
        match (&key.shape, value) {
            (Shape::Section(_), None) if key.optional => out.push(unset(place)),
            (Shape::Section(inner), value) => walk_section(inner, value, &place, walk, out),
            (Shape::List(inner), value) if inner.section().is_some() => {
                match value.map(|value| &value.kind) {
                    Some(ValueKind::Array(items)) => {
                        for (index, item) in items.iter().enumerate() {
                            if let Some(inner) = inner.section() {
                                walk_section(inner, Some(item), &format!("{place}[{index}]"), walk, out);
                            }
                        }
                    }
                    _ => out.push(unset(place)),
                }
            }
            (_, Some(value)) if !is_bare(value) => {
                let origin = origin(value, &place, walk);
                out.push(Entry { key: place, value: Some(shown(value, walk.text)), origin });
            }
            _ => {
                let default = walk.annotated.note(section, key.name).and_then(|note| note.default.clone());
                out.push(match default {
                    Some(default) => Entry { key: place, value: Some(default), origin: Origin::Default },
                    None => unset(place),
                });
            }
        }
    }
}

fn unset(key: String) -> Entry {
    Entry { key, value: None, origin: Origin::Unset }
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

pub(super) fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match &mut value.kind {
        ValueKind::Table(table) => table.get_mut(key),
        _ => None,
    }
}

/// A header with nothing below it.
fn is_bare(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::Table(table) if table.is_empty())
}

fn origin(value: &Value, place: &str, walk: &Walk<'_>) -> Origin {
    // A table has come together from wherever its keys are from.
    if let ValueKind::Table(table) = &value.kind
        && let Some(first) = table.values().next()
    {
        return origin(first, place, walk);
    }
    match value.origin() {
        Some(ENVIRONMENT) => Origin::Environment(variable(place, walk.prefix)),
        Some(_) => Origin::File,
        None => Origin::Beneath(walk.beneath.to_owned()),
    }
}

/// What the library calls its own source of variables.
pub(super) const ENVIRONMENT: &str = "the environment";

pub(super) fn variable(place: &str, prefix: &str) -> String {
    format!("{prefix}__{}", place.replace('.', "__").to_uppercase())
}

/// A value as TOML would have it.
fn shown(value: &Value, as_text: fn(&str) -> String) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{:?}", as_text(text)),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(|item| shown(item, as_text)).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(table) => {
            let mut pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", shown(value, as_text))).collect();
            pairs.sort();
            format!("{{ {} }}", pairs.join(", "))
        }
        ValueKind::Nil => "\"\"".into(),
        other => other.to_string(),
    }
}

/// A text without the password of a URL in it: everything from the user's colon to the last `@`, since a password may hold anything.
pub fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    // An `@` behind the `?`: then the `?` was part of a password.
    let (before, query) =
        if query.is_some_and(|query| query.contains('@')) { (rest, None) } else { (before, query) };
    let before = match before.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => before.to_owned(),
        },
        None => before.to_owned(),
    };
    let query = query.map(|query| {
        let secret = |name: &str| ["password", "passwd", "pwd", "secret", "token"].contains(&name);
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if secret(&name.to_lowercase()) => format!("{name}=***"),
            _ => pair.to_owned(),
        };
        format!("?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{before}{}", query.unwrap_or_default())
}

/// The first key that nobody knows, in words that say what may have been meant.
pub(super) fn unknown(shape: &Shape, values: &Value, prefix: &str) -> Option<String> {
    unknown_below(shape, shape, values, "", prefix)
}

fn unknown_below(whole: &Shape, shape: &Shape, value: &Value, place: &str, prefix: &str) -> Option<String> {
    match (shape, &value.kind) {
        (Shape::List(inner), ValueKind::Array(items)) => {
            items.iter().find_map(|item| unknown_below(whole, inner, item, place, prefix))
        }
        (Shape::Map(inner), ValueKind::Table(table)) => {
            table.values().find_map(|value| unknown_below(whole, inner, value, place, prefix))
        }
        (Shape::Section(section), ValueKind::Table(table)) => {
            let mut names: Vec<&String> = table.keys().collect();
            names.sort();
            names.into_iter().find_map(|name| {
                let (here, value) = (below(place, name), table.get(name)?);
                match section.keys.iter().find(|key| key.name == name) {
                    Some(key) => unknown_below(whole, &key.shape, value, &here, prefix),
                    None => Some(stranger(whole, section, place, name, value, prefix)),
                }
            })
        }
        _ => None,
    }
}

fn stranger(
    whole: &Shape,
    section: &Section,
    place: &str,
    name: &str,
    value: &Value,
    prefix: &str,
) -> String {
    let here = below(place, name);
    let whence = match value.origin() {
        Some(ENVIRONMENT) => format!(" (environment variable {})", variable(&here, prefix)),
        _ => String::new(),
    };
    let known = section.keys.iter().map(|key| key.name);
    let near = nearest(name, known.clone()).map(|near| below(place, near));
    // Right, but in the wrong section.
    let elsewhere = || whole.leaves().into_iter().find(|leaf| leaf.rsplit('.').next() == Some(name));
    match near.or_else(elsewhere) {
        Some(meant) => format!("unknown key `{here}`{whence}: did you mean `{meant}`?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("unknown key `{here}`{whence}; known here: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (url, shown) in [
            ("mysql://u:can@ary@h:3306/d", "mysql://u:***@h:3306/d"),
            ("postgresql://u:c?n/ary@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
            ("postgresql://u@h/d?Password=canary&a=b", "postgresql://u@h/d?Password=***&a=b"),
            ("postgresql://:canary@h/d", "postgresql://:***@h/d"),
            ("https://iam.example:8443/", "https://iam.example:8443/"),
            ("sqlite:////a/b", "sqlite:////a/b"),
            ("plain", "plain"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}

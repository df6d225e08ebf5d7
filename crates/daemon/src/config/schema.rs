//! Which keys a configuration has, learnt from the types that it is read into: each type is asked, through `serde`, what it
//! would like to read, place by place. So the list can't fall behind the code.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
    value::Error as Aside,
};
use serde::forward_to_deserialize_any;

/// What a configuration file is read into.
pub trait Configuration: DeserializeOwned {
    /// Sections that have keys of a second type among their own (`#[serde(flatten)]`), which nothing but the code itself can tell.
    fn flattened() -> Vec<Flattened> {
        Vec::new()
    }
}

/// A section that has keys of a second type among its own.
#[derive(Clone, Debug)]
pub struct Flattened {
    place: &'static str,
    own: &'static [&'static str],
    others: Section,
}

impl Flattened {
    /// The section at `place` has the keys `own`, and those of `Other`.
    pub fn new<Other: DeserializeOwned>(place: &'static str, own: &'static [&'static str]) -> Self {
        let others = match at::<Other>(&mut Vec::new(), &[]).1 {
            Shape::Section(section) => section,
            _ => Section { name: place, keys: Vec::new() },
        };
        Self { place, own, others }
    }
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A value; of these, when it is one of few words.
    Value(&'static [&'static str]),
    /// A whole number.
    Number {
        /// Whether it may be below 0.
        signed: bool,
    },
    /// `true` or `false`.
    Truth,
    /// `[[section]]`s, or a list of values.
    List(Box<Self>),
    /// A table whose keys are free.
    Map(Box<Self>),
    /// A section with these keys.
    Section(Section),
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The name of its type: the same sections at several places have the same keys.
    pub(super) name: &'static str,
    /// Its keys, in the order of the code.
    pub(super) keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it may be left out and then has no value.
    pub(super) optional: bool,
    /// What stands there.
    pub(super) shape: Shape,
}

impl Shape {
    /// The shape of a type.
    pub(super) fn of<T: Configuration>() -> Self {
        Self::with::<T>(&T::flattened())
    }

    /// The shape of a type with these sections of two types.
    pub(super) fn with<T: DeserializeOwned>(flattened: &[Flattened]) -> Self {
        at::<T>(&mut Vec::new(), flattened).1
    }

    /// The section in this shape, through lists and free tables.
    pub(super) fn section(&self) -> Option<&Section> {
        match self {
            Self::Section(section) => Some(section),
            Self::List(inner) | Self::Map(inner) => inner.section(),
            Self::Value(_) | Self::Number { .. } | Self::Truth => None,
        }
    }

    /// All keys with a value, with their places.
    pub(super) fn leaves(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.leaves_below("", &mut all);
        all
    }

    /// Lists of values, with their places; not those in one of several sections, which have no place of their own.
    pub(super) fn lists(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.lists_below("", &mut all);
        all
    }

    fn lists_below(&self, place: &str, all: &mut Vec<String>) {
        match self {
            Self::List(inner) if inner.section().is_none() => all.push(place.to_owned()),
            Self::Section(section) => {
                for key in &section.keys {
                    key.shape.lists_below(&below(place, key.name), all);
                }
            }
            _ => (),
        }
    }

    fn leaves_below(&self, place: &str, all: &mut Vec<String>) {
        match self.section() {
            None => all.push(place.to_owned()),
            Some(section) => {
                for key in &section.keys {
                    key.shape.leaves_below(&below(place, key.name), all);
                }
            }
        }
    }
}

/// A key's place below another.
pub(super) fn below(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

/// What stands at `path` in `T`, and whether it may be left out.
fn at<T: DeserializeOwned>(path: &mut Vec<Step>, flattened: &[Flattened]) -> (bool, Shape) {
    let mut seen = Seen::default();
    // Always ends aside: nothing is really read.
    let _ = T::deserialize(Probe { path, seen: &mut seen });
    let optional = seen.optional;
    let place = place(path);
    let mut inside = |step| {
        path.push(step);
        let found = at::<T>(path, flattened);
        path.pop();
        found
    };
    let key = |name: &&'static str| {
        let (optional, shape) = inside(Step::Field(name));
        Key { name, optional, shape }
    };
    let shape = match seen.kind {
        Kind::Value(words) => Shape::Value(words),
        Kind::Number { signed } => Shape::Number { signed },
        Kind::Truth => Shape::Truth,
        Kind::List => Shape::List(Box::new(inside(Step::Item).1)),
        Kind::Map => match flattened.iter().find(|section| section.place == place) {
            Some(Flattened { own, others, .. }) => {
                let keys = own.iter().map(key).chain(others.keys.iter().cloned()).collect();
                Shape::Section(Section { name: others.name, keys })
            }
            None => Shape::Map(Box::new(inside(Step::Item).1)),
        },
        Kind::Section(name, fields) => {
            Shape::Section(Section { name, keys: fields.iter().map(key).collect() })
        }
    };
    (optional, shape)
}

fn place(path: &[Step]) -> String {
    let names = path.iter().filter_map(|step| match step {
        Step::Field(name) => Some(*name),
        Step::Item => None,
    });
    names.collect::<Vec<_>>().join(".")
}

#[derive(Clone, Copy)]
enum Step {
    Field(&'static str),
    Item,
}

#[derive(Default)]
struct Seen {
    optional: bool,
    kind: Kind,
}

enum Kind {
    Value(&'static [&'static str]),
    Number { signed: bool },
    Truth,
    List,
    Map,
    Section(&'static str, &'static [&'static str]),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Value(&[])
    }
}

/// Walks one path into a type and notes what it asks for at the end.
struct Probe<'a> {
    path: &'a [Step],
    seen: &'a mut Seen,
}

fn aside() -> Aside {
    serde::de::Error::custom("seen")
}

impl<'de> Probe<'_> {
    fn end<V: Visitor<'de>>(self, kind: Kind) -> Result<V::Value, Aside> {
        self.seen.kind = kind;
        Err(aside())
    }
}

macro_rules! ends_as {
    ($kind:expr => $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Aside> {
            self.end::<V>($kind)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Aside;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Aside> {
        self.end::<V>(Kind::Value(&[]))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Aside> {
        self.end::<V>(Kind::Truth)
    }

    ends_as! {
        Kind::Number { signed: true } => deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    }
    ends_as! {
        Kind::Number { signed: false } => deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Aside> {
        self.seen.optional |= self.path.is_empty();
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Aside> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Aside> {
        self.end::<V>(Kind::Value(variants))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Aside> {
        match self.path.split_first() {
            None => self.end::<V>(Kind::Section(name, fields)),
            Some((Step::Field(field), path)) => {
                visitor.visit_map(One { key: Some(field), path, seen: self.seen })
            }
            Some((Step::Item, _)) => Err(aside()),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Aside> {
        match self.path.split_first() {
            None => self.end::<V>(Kind::Map),
            Some((step, path)) => {
                let key = match step {
                    Step::Field(name) => name,
                    Step::Item => "any",
                };
                visitor.visit_map(One { key: Some(key), path, seen: self.seen })
            }
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Aside> {
        match self.path.split_first() {
            None => self.end::<V>(Kind::List),
            Some((_, path)) => visitor.visit_seq(One { key: None, path, seen: self.seen }),
        }
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// A table or list with one entry.
struct One<'a> {
    key: Option<&'static str>,
    path: &'a [Step],
    seen: &'a mut Seen,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Aside;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Aside> {
        self.key.take().map(|key| seed.deserialize(key.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Aside> {
        seed.deserialize(Probe { path: self.path, seen: self.seen })
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Aside;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Aside> {
        seed.deserialize(Probe { path: self.path, seen: self.seen }).map(Some)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value([]) => f.write_str("a value"),
            Self::Number { .. } => f.write_str("a whole number"),
            Self::Truth => f.write_str("`true` or `false`"),
            Self::Value(words) => write!(f, "`{}`", words.join("`, `")),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a table"),
            Self::Section(_) => f.write_str("a section"),
        }
    }
}

#[cfg(test)]
mod tests;

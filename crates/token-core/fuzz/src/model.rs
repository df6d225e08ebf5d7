//! The path rules and the table of rights of the profile (section 2.2.1), written once more: with strings where token-core has
//! elements, and slowly where it is quick. What the two disagree on is a mistake of one of them.

use token_core::Profile;

/// A path below an issuer's base path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Each element, decoded, behind a slash; nothing for the root. No element has a slash in it, so this is unambiguous.
    pub text: String,
    /// Whether a slash stood at the end.
    pub directory: bool,
}

impl Path {
    /// A path as it stands in a scope, if it is absolute and normal.
    pub fn of_scope(text: &str) -> Option<Self> {
        if text == "/" {
            return Some(Self { text: String::new(), directory: false });
        }
        let directory = text.ends_with('/');
        let trimmed = if directory { &text[..text.len() - 1] } else { text };
        let mut decoded = String::new();
        for element in trimmed.strip_prefix('/')?.split('/') {
            if element.contains(char::is_whitespace) {
                return None;
            }
            let element = decode(element)?;
            let forbidden = element.chars().any(|c| c == '/' || c.is_control());
            if forbidden || ["", ".", ".."].contains(&element.as_str()) {
                return None;
            }
            decoded = decoded + "/" + &element;
        }
        Some(Self { text: decoded, directory })
    }

    /// The path of a request, as a file system resolves it; nothing when it climbs over the root.
    pub fn of_request(text: &str) -> Option<Self> {
        if !text.starts_with('/') {
            return None;
        }
        let mut resolved = String::new();
        for element in text.split('/') {
            match element {
                "" | "." => (),
                ".." => {
                    let up = resolved.rfind('/')?;
                    resolved.truncate(up);
                }
                name if name.contains('\0') => return None,
                name => resolved = resolved + "/" + name,
            }
        }
        let directory = text.ends_with('/') && !resolved.is_empty();
        Some(Self { text: resolved, directory })
    }

    /// The path of a transfer URL: slashes may be doubled, escapes may be wrong, and blanks may stand raw.
    pub fn of_url(text: &str) -> Option<Self> {
        let mut decoded = String::new();
        for raw in text.split('/').filter(|raw| !raw.is_empty()) {
            // Wrong escapes stand for themselves.
            let element = decode(raw).unwrap_or_else(|| raw.to_owned());
            let blank = raw.chars().any(|c| c != ' ' && c.is_whitespace());
            let forbidden = element.chars().any(|c| c == '/' || c.is_control());
            if blank || forbidden || element == "." || element == ".." {
                return None;
            }
            decoded = decoded + "/" + &element;
        }
        Some(Self { text: decoded, directory: false })
    }

    /// Whether a grant of this path is good for `wanted`.
    pub fn covers(&self, wanted: &Self) -> bool {
        let same = self.text == wanted.text && (wanted.directory || !self.directory);
        same || wanted.is_below(self)
    }

    fn is_below(&self, above: &Self) -> bool {
        self.text.strip_prefix(above.text.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Percent-decoding, once; nothing when an escape is wrong or makes no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let hex = piece.get(..2)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Read a file.
    Read,
    /// Ask for its size.
    Stat,
    /// Make it.
    Create,
    /// Make a directory.
    MakeDirectory,
    /// Write over it.
    Overwrite,
    /// Remove it.
    Delete,
    /// Bring it from tape.
    Stage,
    /// Ask whether it is on disk.
    Poll,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Stat,
        Self::Create,
        Self::MakeDirectory,
        Self::Overwrite,
        Self::Delete,
        Self::Stage,
        Self::Poll,
    ];

    /// The names of the scopes that allow it on and below their path.
    fn names(self, profile: Profile) -> &'static [&'static str] {
        match self {
            Self::Read if profile < Profile::V1_2 => &["storage.read", "storage.stage"],
            Self::Read => &["storage.read"],
            Self::Stat => &["storage.read", "storage.create", "storage.modify", "storage.stage"],
            Self::Create | Self::MakeDirectory => &["storage.create", "storage.modify"],
            Self::Overwrite | Self::Delete => &["storage.modify"],
            Self::Stage => &["storage.stage"],
            Self::Poll => &["storage.poll", "storage.stage"],
        }
    }
}

/// The storage scopes of a scope string: name and path. Nothing when one of them stands without a normal path.
pub fn storage_scopes(scope: &str) -> Option<Vec<(&str, Path)>> {
    const NAMES: [&str; 5] =
        ["storage.read", "storage.create", "storage.modify", "storage.stage", "storage.poll"];
    let mut held = Vec::new();
    for item in scope.split(' ') {
        for name in NAMES {
            if item == name {
                return None;
            }
            if let Some(path) = item.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')) {
                held.push((name, Path::of_scope(path)?));
            }
        }
    }
    Some(held)
}

/// Whether these storage scopes allow the deed.
pub fn permits(held: &[(&str, Path)], deed: Deed, path: &Path, profile: Profile) -> bool {
    held.iter().filter(|(name, _)| deed.names(profile).contains(name)).any(|(_, granted)| match deed {
        // A directory may be made where something below it may be written.
        Deed::MakeDirectory => granted.text == path.text || path.is_below(granted) || granted.is_below(path),
        _ => granted.covers(path),
    })
}

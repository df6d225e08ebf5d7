//! Paths of storage scopes (profile section 2.2.1).

use std::fmt;

/// Why a path may not stand in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Does not begin with a slash.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// Has `.`, `..` or an empty element. XRootD 5.5.3 dies of a scope that climbs over the root.
    #[error("the path is not normal: it has an empty element, `.` or `..`")]
    NotNormal,
    /// A percent sign that is not followed by two hex digits, or an escape that makes no UTF-8.
    #[error("the path has a bad percent-escape")]
    BadEscape,
    /// A slash, a blank or a control character inside an element.
    #[error("the path has a forbidden character in an element")]
    Forbidden,
}

/// A normal, absolute path below an issuer's base path at a storage. Equality and order are those of the elements
/// after percent-decoding.
///
/// ```
/// use token_core::StoragePath;
///
/// let area = StoragePath::parse("/data")?;
/// assert!(area.covers(&StoragePath::parse("/data/run1/f")?));
/// assert!(!area.covers(&StoragePath::parse("/database")?));
/// assert!(StoragePath::parse("/data/../etc").is_err());
/// assert_eq!(StoragePath::from_url_path("//data/a b")?.to_string(), "/data/a%20b");
/// # Ok::<(), token_core::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoragePath {
    elements: Vec<String>,
    directory: bool,
}

impl StoragePath {
    /// The root: everything of that issuer at that storage.
    pub fn root() -> Self {
        Self { elements: Vec::new(), directory: false }
    }

    /// Reads a path as it stands in a scope: each element percent-encoded once.
    ///
    /// # Errors
    /// When the path is not absolute and normal, or an escape is wrong.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self::root());
        }
        let (rest, directory) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let elements = rest.split('/').map(element).collect::<Result<_, _>>()?;
        Ok(Self { elements, directory })
    }

    /// Reads the path of a request as a file system would, after the URL has been decoded: `.` and `..` are resolved, empty
    /// elements dropped, and nothing is decoded again.
    ///
    /// # Errors
    /// When it is not absolute, or climbs above the root.
    pub fn from_request(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let mut elements: Vec<String> = Vec::new();
        for element in rest.split('/') {
            match element {
                "" | "." => (),
                ".." => drop(elements.pop().ok_or(PathError::NotNormal)?),
                name if name.contains('\0') => return Err(PathError::Forbidden),
                name => elements.push(name.to_owned()),
            }
        }
        Ok(Self { directory: rest.ends_with('/') && !elements.is_empty(), elements })
    }

    /// This path as that of a directory.
    #[must_use]
    pub fn as_directory(&self) -> Self {
        Self { elements: self.elements.clone(), directory: !self.elements.is_empty() }
    }

    /// Whether this is a directory on the way from the root to `other`, and not `other` itself.
    pub fn leads_to(&self, other: &Self) -> bool {
        self.elements.len() < other.elements.len() && other.elements.starts_with(&self.elements)
    }

    /// Reads the path of a transfer URL, which nobody has promised to be well encoded: Rucio encodes nothing, and doubles
    /// slashes. Empty elements are dropped, right escapes are decoded, and wrong ones stand for themselves.
    ///
    /// # Errors
    /// When an element is `.` or `..`, or can't stand in a scope.
    pub fn from_url_path(text: &str) -> Result<Self, PathError> {
        let plain = |raw: &str| match element(raw) {
            Err(PathError::BadEscape) => element(&raw.replace('%', "%25").replace(' ', "%20")),
            // What a URL holds raw, a scope holds escaped.
            Err(PathError::Forbidden) if raw.contains(' ') => element(&raw.replace(' ', "%20")),
            other => other,
        };
        let elements = text.split('/').filter(|raw| !raw.is_empty()).map(plain).collect::<Result<_, _>>()?;
        Ok(Self { elements, directory: false })
    }

    /// Whether this path, granted in a scope, covers `wanted`: equal, or above it at an element's boundary. A granted
    /// path with a slash at its end is a directory and does not cover a file of that name.
    pub fn covers(&self, wanted: &Self) -> bool {
        let below = wanted.elements.starts_with(&self.elements);
        let same = wanted.elements.len() == self.elements.len();
        below && !(same && self.directory && !wanted.directory)
    }

    /// The directory that holds this path; the root for the root.
    pub fn parent(&self) -> Self {
        let keep = self.elements.len().saturating_sub(1);
        Self { elements: self.elements[..keep].to_vec(), directory: false }
    }

    /// As much of this path as stands in a scope without an escape. Some storages compare a scope's path as it is written with the
    /// decoded path of a request (XRootD 5.5.3, observed).
    #[must_use]
    pub fn unescaped(&self) -> Self {
        let keep = self.elements.iter().take_while(|element| element.bytes().all(stays)).count();
        Self { elements: self.elements[..keep].to_vec(), directory: self.directory && keep == self.depth() }
    }

    /// How many elements it has: none for the root.
    pub fn depth(&self) -> usize {
        self.elements.len()
    }

    /// What is left of this path below `base`, if it is below: the path that a scope names when the storage gives
    /// `base` to the issuer (profile section 2.2.3).
    pub fn below(&self, base: &Self) -> Option<Self> {
        base.covers(self).then(|| Self {
            elements: self.elements[base.elements.len()..].to_vec(),
            directory: self.directory && self.elements.len() > base.elements.len(),
        })
    }
}

fn element(text: &str) -> Result<String, PathError> {
    let decoded = percent_decode(text)?;
    if decoded.is_empty() || decoded == "." || decoded == ".." {
        return Err(PathError::NotNormal);
    }
    if decoded.contains('/') || decoded.chars().any(char::is_control) || text.contains(char::is_whitespace) {
        return Err(PathError::Forbidden);
    }
    Ok(decoded)
}

fn percent_decode(text: &str) -> Result<String, PathError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = bytes.get(at + 1..at + 3).ok_or(PathError::BadEscape)?;
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit(digits[0]), digit(digits[1]));
            out.push(high.zip(low).map(|(h, l)| h * 16 + l).ok_or(PathError::BadEscape)?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).map_err(|_| PathError::BadEscape)
}

/// What stands in a scope as it is: `pchar` of RFC 3986 section 3.3.
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

impl fmt::Display for StoragePath {
    /// The path with what may not stand in a scope escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.elements.is_empty() {
            return f.write_str("/");
        }
        for element in &self.elements {
            f.write_str("/")?;
            for byte in element.bytes() {
                match byte {
                    b if stays(b) => write!(f, "{}", char::from(b))?,
                    b => write!(f, "%{b:02X}")?,
                }
            }
        }
        if self.directory { f.write_str("/") } else { Ok(()) }
    }
}

impl fmt::Debug for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoragePath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StoragePath {
        StoragePath::parse(text).unwrap()
    }

    #[test]
    fn what_is_not_normal_is_refused() {
        for bad in [
            "",
            "a",
            "//",
            "//a",
            "/a//b",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2e/a",
            "/a%2fb",
            "/a%",
            "/a%zz",
            "/a b",
            "/a%00",
            "/%ff",
        ] {
            assert!(StoragePath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn boundaries_are_elements() {
        assert!(path("/foo").covers(&path("/foo")));
        assert!(path("/foo").covers(&path("/foo/bar")));
        assert!(path("/").covers(&path("/foo")));
        assert!(path("/foo/").covers(&path("/foo/bar")));
        assert!(path("/f%6fo").covers(&path("/foo")));
        assert!(!path("/foo").covers(&path("/foobar")));
        assert!(!path("/foo/bar").covers(&path("/foo")));
        assert!(!path("/foo/").covers(&path("/foo")));
    }

    #[test]
    fn urls_are_read_as_they_come() {
        for (url, scope) in [
            ("//rucio/a%20b", "/rucio/a%20b"),
            ("/a b", "/a%20b"),
            ("/100%/x", "/100%25/x"),
            ("/100% b", "/100%25%20b"),
        ] {
            assert_eq!(StoragePath::from_url_path(url).unwrap().to_string(), scope);
        }
        for bad in ["/a/../b", "/a/./b", "/%2e%2e/b", "/a%2fb"] {
            assert!(StoragePath::from_url_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_needs_no_escape_goes_up_to_the_first_that_does() {
        for (whole, part) in [
            ("/a/b%25/c", "/a"),
            ("/a/b/c+d/", "/a/b/c+d/"),
            ("/a/b%20/", "/a"),
            ("/%C3%A9/a", "/"),
            ("/", "/"),
        ] {
            assert_eq!(path(whole).unescaped().to_string(), part);
        }
    }

    #[test]
    fn below_takes_the_base_away() {
        assert_eq!(path("/vo/data/f").below(&path("/vo")), Some(path("/data/f")));
        assert_eq!(path("/vo").below(&path("/vo")), Some(StoragePath::root()));
        assert_eq!(path("/vox/f").below(&path("/vo")), None);
    }
}

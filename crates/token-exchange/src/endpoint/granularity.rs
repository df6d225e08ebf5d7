//! How wide tokens are.

use std::fmt;

use serde::{Deserialize, Serialize};
use token_core::StoragePath;

/// How wide the tokens of an endpoint are: `endpoint`, `prefix:2`, `directory` or `file`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Granularity {
    /// One token for reading and one for writing in the endpoint's area: the fewest issuer calls.
    #[default]
    Endpoint,
    /// One token for each directory so many levels below the endpoint's area.
    Prefix(u8),
    /// One token a directory.
    Directory,
    /// One read token a file; writing needs the file's directory, where FTS looks before it copies.
    File,
}

impl Granularity {
    /// The path that a token for `file` is for; none when the file is not below `area` and should be. But for the area's own, its
    /// elements stand in a scope as they are: XRootD 5.5.3 does not know one that is escaped there (observed).
    pub fn reach(self, area: &StoragePath, file: &StoragePath) -> Option<StoragePath> {
        self.wanted(area, file).map(|path| plain(area, path))
    }

    fn wanted(self, area: &StoragePath, file: &StoragePath) -> Option<StoragePath> {
        match self {
            Self::Endpoint => area.covers(file).then(|| area.clone()),
            Self::Prefix(depth) => {
                let mut path = file.parent();
                let levels = |path: &StoragePath| path.below(area).map_or(0, |below| below.depth());
                while levels(&path) > usize::from(depth) {
                    path = path.parent();
                }
                // A file beside the area's own directory has a parent above it.
                area.covers(file).then(|| if area.covers(&path) { path } else { area.clone() })
            }
            Self::Directory => Some(file.parent()),
            Self::File => Some(file.clone()),
        }
    }
}

/// The nearest path that has no element to be escaped, of `path` and those above it down from `area`; `path` itself when the area has
/// such an element. Beside the area, at least one element stays.
fn plain(area: &StoragePath, path: StoragePath) -> StoragePath {
    let least = if area.covers(&path) { area.depth() } else { 1 };
    let plain = path.unescaped();
    if plain.depth() < path.depth() && plain.depth() >= least { plain } else { path }
}

impl TryFrom<String> for Granularity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let depth = |text: &str| text.parse().ok().filter(|depth| *depth > 0);
        match (text.as_str(), text.strip_prefix("prefix:").and_then(depth)) {
            ("endpoint", _) => Ok(Self::Endpoint),
            ("directory", _) => Ok(Self::Directory),
            ("file", _) => Ok(Self::File),
            (_, Some(depth)) => Ok(Self::Prefix(depth)),
            _ => Err(format!(
                "`{text}` is no granularity: `endpoint`, `prefix:N` (N levels below the area), `directory` or `file`"
            )),
        }
    }
}

impl From<Granularity> for String {
    fn from(granularity: Granularity) -> Self {
        granularity.to_string()
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint => f.write_str("endpoint"),
            Self::Prefix(depth) => write!(f, "prefix:{depth}"),
            Self::Directory => f.write_str("directory"),
            Self::File => f.write_str("file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_above_what_would_be_escaped() {
        let reach = |granularity: &str, area: &str, url: &str| {
            let granularity = Granularity::try_from(granularity.to_owned()).unwrap();
            let file = StoragePath::from_url_path(url).unwrap();
            granularity.reach(&StoragePath::parse(area).unwrap(), &file).unwrap().to_string()
        };
        for granularity in ["prefix:2", "directory", "file"] {
            let reach = |area: &str, url: &str| reach(granularity, area, url);
            assert_eq!(reach("/data", "/data/a/per%25cent/f"), "/data/a", "{granularity}");
            assert_eq!(reach("/data", "/data/a b/f"), "/data", "{granularity}");
            assert_eq!(reach("/", "/\u{e9}/f"), "/", "{granularity}");
            assert!(
                reach("/d%25", "/d%25/a/b/f").starts_with("/d%25/a/b"),
                "{granularity}: the area has one"
            );
        }
        assert_eq!(reach("file", "/data", "/data/a/x y"), "/data/a");
        assert_eq!(reach("file", "/data", "/data/a/x+y=z"), "/data/a/x+y=z", "stands as it is");
        assert_eq!(reach("directory", "/data", "/a/b c/f"), "/a", "beside the area");
        assert_eq!(reach("directory", "/data", "/b c/f"), "/b%20c", "and not everything");
        assert_eq!(reach("endpoint", "/d%25", "/d%25/f"), "/d%25");
    }

    #[test]
    fn a_token_reaches_as_far_as_its_granularity_says() {
        let reach = |granularity: &str, area: &str, file: &str| {
            let granularity = Granularity::try_from(granularity.to_owned()).unwrap();
            assert_eq!(Granularity::try_from(granularity.to_string()), Ok(granularity));
            let path = |text| StoragePath::parse(text).unwrap();
            granularity.reach(&path(area), &path(file)).map(|path| path.to_string())
        };
        let is = |path: &str| Some(path.to_owned());
        for (granularity, path) in [
            ("endpoint", "/data"),
            ("prefix:1", "/data/a"),
            ("prefix:2", "/data/a/b"),
            ("prefix:9", "/data/a/b/c"),
            ("directory", "/data/a/b/c"),
            ("file", "/data/a/b/c/f"),
        ] {
            assert_eq!(reach(granularity, "/data", "/data/a/b/c/f"), is(path), "{granularity}");
        }
        assert_eq!(reach("prefix:2", "/data", "/data/f"), is("/data"), "no deeper than the file's directory");
        assert_eq!(reach("prefix:2", "/", "/f"), is("/"));
        assert_eq!(reach("prefix:2", "/", "/a/b/c/f"), is("/a/b"));
        assert_eq!(reach("prefix:1", "/data", "/data"), is("/data"), "the area itself");
        for outside in ["endpoint", "prefix:1"] {
            assert_eq!(reach(outside, "/data", "/database/f"), None, "{outside}");
        }
        for bad in ["", "prefix", "prefix:", "prefix:0", "prefix:x", "prefix:256", "Endpoint"] {
            assert!(Granularity::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}

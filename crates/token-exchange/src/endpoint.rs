//! Storage endpoints: what a transfer URL's storage is called as an audience, and which paths its scopes have.

use std::collections::HashMap;

use serde::Deserialize;
use token_core::StoragePath;

/// How wide the tokens of an endpoint are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// One token for reading and one for writing in the endpoint's area: the fewest issuer calls.
    #[default]
    Endpoint,
    /// One token a directory.
    Directory,
    /// One read token a file; writing needs the file's directory, where FTS looks before it copies.
    File,
}

/// What is known of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The audience of its tokens.
    pub audience: String,
    /// The path that the storage gives to the issuer; scopes are relative to it (profile section 2.2.3).
    pub base_path: StoragePath,
    /// The path below the base path that tokens of granularity `endpoint` are for. A bare `/` is refused by storages with
    /// restricted paths (XRootD, observed).
    pub area: StoragePath,
    /// How wide its tokens are.
    pub granularity: Granularity,
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    host: String,
    port: u16,
}

impl Authority {
    /// Splits a transfer URL into its authority and its path, which is taken as it is: FTS stores what Rucio sends, and
    /// Rucio encodes nothing, so `#` and `?` belong to the path.
    pub fn split(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let slash = rest.find('/')?;
        let (authority, path) = rest.split_at(slash);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, default_port(scheme)?),
        };
        let plain = !host.is_empty() && !host.contains(['@', ' ', '\\', '?', '#']);
        plain.then(|| (Self { host: host.to_ascii_lowercase(), port }, path))
    }

    /// `https://host`, with the port unless it is 443: the audience that the profile suggests (section 2.1.1).
    pub fn origin(&self) -> String {
        match self.port {
            443 => format!("https://{}", self.host),
            port => format!("https://{}:{port}", self.host),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "davs" | "https" => Some(443),
        "dav" | "http" => Some(80),
        "root" | "roots" | "xroot" | "xroots" => Some(1094),
        _ => None,
    }
}

/// The endpoints that have an entry of their own, and what holds for the others.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// By authority.
    pub known: HashMap<Authority, Endpoint>,
    /// Base path, area and granularity of the others; their audience is their origin.
    pub others: (StoragePath, StoragePath, Granularity),
}

impl Endpoints {
    /// The endpoint at `authority`.
    pub fn at(&self, authority: &Authority) -> Endpoint {
        self.known.get(authority).cloned().unwrap_or_else(|| {
            let (base_path, area, granularity) = self.others.clone();
            Endpoint { audience: authority.origin(), base_path, area, granularity }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_origins_without_the_default_port() {
        let origin =
            |url| Authority::split(url).map(|(authority, path)| (authority.origin(), path.to_owned()));
        let is = |origin: &str, path: &str| Some((origin.to_owned(), path.to_owned()));
        assert_eq!(origin("davs://A.example:443/vo/f"), is("https://a.example", "/vo/f"));
        assert_eq!(origin("davs://a.example/vo/f#1?x"), is("https://a.example", "/vo/f#1?x"));
        assert_eq!(origin("https://a:8443//f"), is("https://a:8443", "//f"));
        assert_eq!(origin("davs://[::1]:1094/f"), is("https://[::1]:1094", "/f"));
        for bad in
            ["davs://a", "a/b", "s3s://a/f", "davs:///f", "davs://a:x/f", "davs://u@a/f", "davs://a:99999/f"]
        {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }
}

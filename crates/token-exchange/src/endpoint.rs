//! Storage endpoints: what a transfer URL's storage is called as an audience, which paths its scopes have, and how wide its
//! tokens are.

mod granularity;

use std::collections::HashMap;

use serde::Deserialize;
use token_core::StoragePath;

pub use granularity::Granularity;

/// What a destination's token may do besides reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// `storage.modify`: writes, makes directories, overwrites, retries, and cleans up after a failed copy.
    #[default]
    Modify,
    /// `storage.create` for jobs that overwrite nothing, `storage.modify` for those that do. A copy that fails leaves its file
    /// behind, which the next try stumbles over (observed on XRootD 5.5.3).
    Create,
    /// With granularity `file`: `storage.create` on the directory and `storage.modify` on the file alone, the least that does
    /// all of it (observed). Else as `modify`.
    Least,
}

/// What is known of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The audience of its tokens.
    pub audience: String,
    /// The path that the storage gives to the issuer; scopes are relative to it (profile section 2.2.3).
    pub base_path: StoragePath,
    /// The path below the base path that tokens of granularity `endpoint` are for, and below which prefixes are counted. A bare
    /// `/` is refused by storages with restricted paths (XRootD, observed).
    pub area: StoragePath,
    /// How wide its tokens are.
    pub granularity: Granularity,
    /// What a destination's token may do.
    pub write: Write,
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    host: String,
    port: u16,
}

impl Authority {
    /// Splits a transfer URL into its authority and its path, without a query or fragment: FTS stores what Rucio sends, which adds
    /// `?copy_mode=push` to some, and no storage counts it to the path.
    pub fn split(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let slash = rest.find('/')?;
        let (authority, path) = rest.split_at(slash);
        let path = path.split(['?', '#']).next()?;
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

    /// Whether it is a host, or `*.` and a domain.
    pub fn is_host_or_domain(&self) -> bool {
        let name = self.host.strip_prefix("*.").unwrap_or(&self.host);
        !name.is_empty() && !name.contains('*')
    }

    /// Whether it is `other`, or `*.domain` at the same port and `other` is of that domain.
    fn takes_in(&self, other: &Self) -> bool {
        let Some(domain) = self.host.strip_prefix('*') else { return self == other };
        self.port == other.port && other.host.len() > domain.len() && other.host.ends_with(domain)
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

/// An entry of the endpoint table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The issuer for whose tokens it holds; for all others when there is none. Storages give each issuer an area of its own.
    pub issuer: Option<String>,
    /// The audience, in which `{host}` and `{port}` stand for those of the URL; the origin when there is none.
    pub audience: Option<String>,
    /// See [`Endpoint::base_path`].
    pub base_path: StoragePath,
    /// See [`Endpoint::area`].
    pub area: StoragePath,
    /// See [`Endpoint::granularity`].
    pub granularity: Granularity,
    /// See [`Endpoint::write`].
    pub write: Write,
}

impl Entry {
    fn is_for(&self, issuer: &str) -> bool {
        let plain = |name: &str| name.trim_end_matches('/').to_owned();
        self.issuer.as_ref().is_none_or(|own| plain(own) == plain(issuer))
    }

    fn at(&self, authority: &Authority) -> Endpoint {
        let audience = self.audience.as_ref().map_or_else(
            || authority.origin(),
            |text| text.replace("{host}", &authority.host).replace("{port}", &authority.port.to_string()),
        );
        Endpoint {
            audience,
            base_path: self.base_path.clone(),
            area: self.area.clone(),
            granularity: self.granularity,
            write: self.write,
        }
    }
}

/// Two entries hold for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;

/// The endpoints that have an entry of their own, and what holds for the others.
#[derive(Clone, Debug)]
pub struct Endpoints {
    known: HashMap<Authority, Vec<Entry>>,
    /// Of whole domains, the longest first.
    domains: Vec<(Authority, Entry)>,
    others: Entry,
}

impl Endpoints {
    /// No entries but one for all.
    pub fn new(others: Entry) -> Self {
        Self { known: HashMap::new(), domains: Vec::new(), others }
    }

    /// Takes an entry in; `at` is a host, or `*.` and a domain for all hosts below it.
    ///
    /// # Errors
    /// When there is one for the same host and issuer.
    pub fn add(&mut self, at: Authority, entry: Entry) -> Result<(), Twice> {
        if at.host.starts_with("*.") {
            if self.domains.iter().any(|(other, e)| *other == at && e.issuer == entry.issuer) {
                return Err(Twice);
            }
            self.domains.push((at, entry));
            // The longest domain is the nearest; of one domain, an issuer's own entry comes before that of all.
            self.domains.sort_by_key(|(at, entry)| (usize::MAX - at.host.len(), entry.issuer.is_none()));
            return Ok(());
        }
        let entries = self.known.entry(at).or_default();
        if entries.iter().any(|other| other.issuer == entry.issuer) {
            return Err(Twice);
        }
        entries.push(entry);
        entries.sort_by_key(|entry| entry.issuer.is_none());
        Ok(())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.known.values().map(Vec::len).sum::<usize>() + self.domains.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What holds at `authority` for tokens of `issuer`: the host's own entry, its domain's, or that of all.
    pub fn at(&self, authority: &Authority, issuer: &str) -> Endpoint {
        let own = self.known.get(authority).into_iter().flatten();
        let domains = self.domains.iter().filter(|(at, _)| at.takes_in(authority)).map(|(_, entry)| entry);
        own.chain(domains).find(|entry| entry.is_for(issuer)).unwrap_or(&self.others).at(authority)
    }

    /// The same table with one granularity everywhere: what would be if.
    #[must_use]
    pub fn with_granularity(&self, granularity: Granularity) -> Self {
        let mut changed = self.clone();
        let own = changed.known.values_mut().flatten();
        let domains = changed.domains.iter_mut().map(|(_, entry)| entry);
        own.chain(domains).chain([&mut changed.others]).for_each(|entry| entry.granularity = granularity);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(url: &str) -> Authority {
        Authority::split(url).unwrap().0
    }

    #[test]
    fn audiences_are_origins_without_the_default_port() {
        let origin =
            |url| Authority::split(url).map(|(authority, path)| (authority.origin(), path.to_owned()));
        let is = |origin: &str, path: &str| Some((origin.to_owned(), path.to_owned()));
        assert_eq!(origin("davs://A.example:443/vo/f"), is("https://a.example", "/vo/f"));
        assert_eq!(origin("davs://a.example/vo/f?copy_mode=push"), is("https://a.example", "/vo/f"));
        assert_eq!(origin("davs://a.example/vo/f#1?x=/y"), is("https://a.example", "/vo/f"));
        assert_eq!(origin("https://a:8443//f"), is("https://a:8443", "//f"));
        assert_eq!(origin("davs://[::1]:1094/f"), is("https://[::1]:1094", "/f"));
        for bad in
            ["davs://a", "a/b", "s3s://a/f", "davs:///f", "davs://a:x/f", "davs://u@a/f", "davs://a:99999/f"]
        {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_nearest_entry_holds_and_an_issuers_own_before_that_of_all() {
        let entry = |audience: Option<&str>, issuer: Option<&str>| Entry {
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned),
            base_path: StoragePath::root(),
            area: StoragePath::root(),
            granularity: Granularity::Endpoint,
            write: Write::Modify,
        };
        let mut endpoints = Endpoints::new(entry(None, None));
        endpoints
            .add(authority("https://*.example/"), entry(Some("https://gate/{host}:{port}"), None))
            .unwrap();
        endpoints.add(authority("https://*.cern.example/"), entry(Some("cern"), None)).unwrap();
        endpoints.add(authority("https://a.cern.example/"), entry(Some("a"), None)).unwrap();
        endpoints
            .add(authority("https://a.cern.example/"), entry(Some("a for i"), Some("https://i/")))
            .unwrap();
        let again = endpoints.add(authority("https://A.cern.example/"), entry(None, None));
        assert_eq!((again, endpoints.len()), (Err(Twice), 4));
        let audience =
            |url: &str, issuer: &str| endpoints.at(&authority(&format!("{url}/")), issuer).audience;
        assert_eq!(audience("davs://a.cern.example", "https://other/"), "a");
        assert_eq!(audience("davs://a.cern.example", "https://i"), "a for i");
        assert_eq!(audience("davs://b.cern.example", "https://i"), "cern");
        assert_eq!(audience("davs://b.example", "https://i"), "https://gate/b.example:443");
        assert_eq!(audience("davs://b.example:8443", "https://i"), "https://b.example:8443", "another port");
        assert_eq!(audience("davs://example", "https://i"), "https://example");
    }
}

//! The sections of the configuration about storage endpoints.

use serde::Deserialize;
use token_core::StoragePath;

use crate::endpoint::{Authority, Endpoints, Entry, Granularity, Write};

/// `[endpoints]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointDefaults {
    /// The path that storages give to the issuer.
    pub base_path: String,
    /// The area below it, for granularities `endpoint` and `prefix`.
    pub area: String,
    /// How wide tokens are: `endpoint`, `prefix:N`, `directory` or `file`.
    pub granularity: Granularity,
    /// What a destination's tokens may do: `modify`, `create` or `least`.
    pub write: Write,
}

impl Default for EndpointDefaults {
    fn default() -> Self {
        Self {
            base_path: "/".into(),
            area: "/".into(),
            granularity: Granularity::Endpoint,
            write: Write::Modify,
        }
    }
}

/// `[[endpoint]]`. What is not set is as in `[endpoints]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// Its URL; the scheme only settles the default port. `https://*.example` stands for all hosts below that domain.
    pub url: String,
    /// The issuer for whose tokens this holds; all others without it.
    pub issuer: Option<String>,
    /// Its audience, byte for byte as the storage wants it, with `{host}` and `{port}` for those of the URL;
    /// `https://host[:port]` when it is not set.
    pub audience: Option<String>,
    /// The path that this storage gives to the issuer.
    pub base_path: Option<String>,
    /// The area below it.
    pub area: Option<String>,
    /// How wide its tokens are.
    pub granularity: Option<Granularity>,
    /// What a destination's tokens may do.
    pub write: Option<Write>,
}

fn path(key: &str, text: &str) -> Result<StoragePath, String> {
    StoragePath::parse(text).map_err(|error| format!("`{key}` = `{text}`: {error}"))
}

impl EndpointDefaults {
    /// The endpoint table of these entries.
    ///
    /// # Errors
    /// One line that names the entry and what is wrong with it.
    pub fn table(&self, entries: &[EndpointSettings]) -> Result<Endpoints, String> {
        let others = Entry {
            issuer: None,
            audience: None,
            base_path: path("endpoints.base_path", &self.base_path)?,
            area: path("endpoints.area", &self.area)?,
            granularity: self.granularity,
            write: self.write,
        };
        let mut endpoints = Endpoints::new(others.clone());
        for entry in entries {
            let url = entry.url.trim_end_matches('/').to_owned() + "/";
            let (authority, _) = Authority::split(&url)
                .filter(|(authority, rest)| *rest == "/" && authority.is_host_or_domain())
                .ok_or_else(|| {
                    format!("`endpoint.url` = `{}` is no URL of a storage: https://host[:port]", entry.url)
                })?;
            let own = |key, text: &Option<String>, default: &StoragePath| match text {
                Some(text) => path(key, text),
                None => Ok(default.clone()),
            };
            let known = Entry {
                issuer: entry.issuer.clone(),
                audience: entry.audience.clone(),
                base_path: own("endpoint.base_path", &entry.base_path, &others.base_path)?,
                area: own("endpoint.area", &entry.area, &others.area)?,
                granularity: entry.granularity.unwrap_or(others.granularity),
                write: entry.write.unwrap_or(others.write),
            };
            endpoints
                .add(authority, known)
                .map_err(|_| format!("`endpoint.url` = `{}` stands twice for the same issuer", entry.url))?;
        }
        Ok(endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_entry_is_named() {
        let entry = |url: &str| EndpointSettings {
            url: url.into(),
            issuer: None,
            audience: None,
            base_path: None,
            area: None,
            granularity: None,
            write: None,
        };
        let table = |entries: &[EndpointSettings]| EndpointDefaults::default().table(entries);
        assert_eq!(table(&[entry("https://*.example"), entry("davs://a.example:8443/")]).unwrap().len(), 2);
        for bad in ["a.example", "https://", "https://a.*.example", "https://*", "https://a.example/vo"] {
            assert!(table(&[entry(bad)]).unwrap_err().contains(bad), "{bad}");
        }
        assert!(table(&[entry("https://a"), entry("davs://A:443/")]).unwrap_err().contains("twice"));
        let climbing = EndpointSettings { area: Some("/a/..".into()), ..entry("https://a") };
        assert!(table(&[climbing]).unwrap_err().contains("endpoint.area"));
    }
}

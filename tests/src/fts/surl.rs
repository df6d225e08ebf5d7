//! URLs of files, read the way Python's `urlparse` reads them and checked as `JobBuilder.validate_url` does.

use super::answer::Refusal;

/// Schemes for which Python writes `//` although there is no host.
const WITH_AUTHORITY: [&str; 8] = ["ftp", "http", "https", "file", "sftp", "rsync", "ws", "wss"];

/// A source or destination that passed the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Surl {
    /// As it is stored.
    pub(super) text: String,
    /// The storage element: scheme and host, **without the port**.
    pub(super) storage: String,
}

impl Surl {
    /// Reads and checks one URL.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let Some((scheme, rest)) = scheme(text) else { return Err(refused("Missing scheme", text)) };
        if scheme == "file" {
            return Err(refused("Can not transfer local files", text));
        }
        let rest_without_fragment = rest.split('#').next().unwrap_or_default();
        let (authority, path_query) = match rest_without_fragment.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => ("", rest_without_fragment),
        };
        let shown = if authority.is_empty() && !WITH_AUTHORITY.contains(&scheme.as_str()) {
            format!("{scheme}:{}", rest.strip_prefix("//").unwrap_or(rest))
        } else {
            text.to_owned()
        };
        let (path, query) = path_query.split_once('?').unwrap_or((path_query, ""));
        if path.is_empty() || (path == "/" && query.is_empty()) {
            return Err(refused("Missing path", &shown));
        }
        let host = host(authority);
        if host.is_empty() {
            return Err(refused("Missing host", &shown));
        }
        Ok(Self { text: text.to_owned(), storage: format!("{scheme}://{host}") })
    }
}

fn refused(what: &str, url: &str) -> Refusal {
    Refusal::value(format!("{what} ({url})"))
}

fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut characters = scheme.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic());
    let others = characters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (first && others).then(|| (scheme.to_ascii_lowercase(), rest))
}

fn host(authority: &str) -> String {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next(),
        None => host.split(':').next(),
    };
    host.unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_element_has_no_port() {
        assert_eq!(Surl::parse(" davs://Host.example:1094/a?b ").unwrap().storage, "davs://host.example");
        assert_eq!(Surl::parse("https://[::1]:1/a").unwrap().storage, "https://::1");
        assert_eq!(Surl::parse("wibble://h?x=1/").unwrap_err().entry("")["http_status"], "400 Bad Request");
        assert!(Surl::parse("srm://h/?SFN=/x").is_ok());
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        for (url, message) in [
            ("file:///etc/passwd", "Can not transfer local files (file:///etc/passwd)"),
            ("davs:///x", "Missing host (davs:/x)"),
            ("davs://src.rig.test/", "Missing path (davs://src.rig.test/)"),
            ("x", "Missing scheme (x)"),
        ] {
            let entry = Surl::parse(url).unwrap_err().entry("");
            assert_eq!(
                entry["http_message"],
                format!("Invalid value within the request: {message}"),
                "{url}"
            );
        }
    }
}

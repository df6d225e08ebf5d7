//! From a file's name to its URL: `lfn2pfn` and the protocol's rule (Rucio 41.5.1, observed).

use md5::{Digest as _, Md5};
use token_core::hex;

use crate::request::Request;
use crate::topology::{Protocol, Rse, Topology};

mod dataset;

/// Why no URL can be made here. Rucio's Python may know how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// An `lfn2pfn_algorithm` of a policy package.
    Algorithm,
    /// A protocol class that makes its URLs in a way of its own.
    Implementation,
    /// A non-deterministic RSE without a path for the file.
    NoPath,
}

impl Unnamed {
    /// In words.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Algorithm => "lfn2pfn algorithm of a policy package: left to Rucio's own submitter",
            Self::Implementation => {
                "protocol implementation is not gfal, webdav or xrootd: left to Rucio's own submitter"
            }
            Self::NoPath => "non-deterministic source without a path",
        }
    }
}

/// The URL of a file at a source. `explicit` is the path that its replica has.
pub(crate) fn source_url(
    request: &Request,
    source: &Rse,
    protocol: &Protocol,
    explicit: Option<&str>,
    destination: &Rse,
    topology: &Topology,
) -> Result<String, Unnamed> {
    let mut url = placed(request, source, protocol, explicit, topology)?;
    let web = matches!(protocol.scheme.as_str(), "davs" | "https");
    let mode = match destination.attribute("sign_url") {
        Some("gcs" | "s3") => Some("push"),
        _ => topology.option("conveyor", "webdav_transfer_mode").filter(|mode| !mode.is_empty()),
    };
    if let Some(mode) = mode.filter(|_| web) {
        url = format!("{url}?copy_mode={mode}");
    }
    let unsigned = url.strip_prefix("davs:").or_else(|| url.strip_prefix("https:"));
    if let Some((signed, rest)) = signed(source).zip(unsigned) {
        url = format!("{signed}:{rest}");
    }
    Ok(plain_srm(url))
}

/// The URL that a file is to have at a destination.
pub(crate) fn destination_url(
    request: &Request,
    destination: &Rse,
    protocol: &Protocol,
    topology: &Topology,
) -> Result<String, Unnamed> {
    let explicit = (!destination.deterministic).then(|| {
        if topology.has_policy_package(request.vo()) {
            return Err(Unnamed::Algorithm);
        }
        let path = dataset::path(request.dataset(), &request.name);
        // What was tried before may lie on the tape already, and is not written over there.
        let anew = request.retry_count != 0 || request.activity.as_deref() == Some("Recovery");
        Ok(if destination.is_tape() && anew { format!("{path}_{}", request.seen_at.0) } else { path })
    });
    let explicit = explicit.transpose()?;
    let mut url = placed(request, destination, protocol, explicit.as_deref(), topology)?;
    if let Some(signed) = signed(destination) {
        // Wherever it stands, as Rucio does.
        url = url.replace("davs", signed).replace("https", signed);
    }
    Ok(plain_srm(url))
}

/// The scheme of signed URLs.
fn signed(rse: &Rse) -> Option<&'static str> {
    match rse.attribute("sign_url")? {
        "gcs" => Some("gclouds"),
        "s3" => Some("s3s"),
        _ => None,
    }
}

fn plain_srm(url: String) -> String {
    url.strip_prefix("srm+https://").map(|rest| format!("srm://{rest}")).unwrap_or(url)
}

fn placed(
    request: &Request,
    rse: &Rse,
    protocol: &Protocol,
    explicit: Option<&str>,
    topology: &Topology,
) -> Result<String, Unnamed> {
    let class = Class::of(&protocol.implementation).ok_or(Unnamed::Implementation)?;
    // gfal takes an empty path for none.
    let explicit = explicit.filter(|path| class != Class::Gfal || !path.is_empty());
    let default = Default {
        name: topology.option("policy", "lfn2pfn_algorithm_default").unwrap_or("hash"),
        replaced: topology.has_policy_package(request.vo()),
    };
    let path = path(rse, request.external_scope(), &request.name, explicit, &default)?;
    Ok(url(class, protocol, &path))
}

/// The algorithm of RSEs that name none.
struct Default<'a> {
    name: &'a str,
    /// Whether a policy package may have put another in its place; then it is not Rucio's own where an RSE names it, either.
    replaced: bool,
}

/// The path of a file below the protocol's prefix.
fn path(
    rse: &Rse,
    scope: &str,
    name: &str,
    explicit: Option<&str>,
    default: &Default<'_>,
) -> Result<String, Unnamed> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if !rse.deterministic {
        return Err(Unnamed::NoPath);
    }
    let named = rse.attribute("lfn2pfn_algorithm").filter(|name| !name.is_empty() && *name != "default");
    match named.unwrap_or(default.name) {
        name if default.replaced && name == default.name => Err(Unnamed::Algorithm),
        "hash" => Ok(hash(scope, name)),
        "identity" => Ok(format!("{}/{name}", directories(scope))),
        _ => Err(Unnamed::Algorithm),
    }
}

fn hash(scope: &str, name: &str) -> String {
    let digest = hex(&Md5::digest(format!("{scope}:{name}")));
    format!("{}/{}/{}/{name}", directories(scope), &digest[0..2], &digest[2..4])
}

/// User and group scopes become folders.
fn directories(scope: &str) -> String {
    if scope.starts_with("user") || scope.starts_with("group") {
        scope.replace('.', "/")
    } else {
        scope.to_owned()
    }
}

/// Rucio's protocol classes, as far as their URLs differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Gfal,
    WebDav,
    XRootD,
}

impl Class {
    fn of(implementation: &str) -> Option<Self> {
        match implementation.strip_prefix("rucio.rse.protocols.")? {
            "gfal.Default" | "gfal.NoRename" | "gfal.CLI" => Some(Self::Gfal),
            "webdav.Default" | "webdav.NoRename" => Some(Self::WebDav),
            "xrootd.Default" => Some(Self::XRootD),
            _ => None,
        }
    }
}

/// The URL of a path. Nothing is percent-encoded, as in Rucio.
fn url(class: Class, protocol: &Protocol, path: &str) -> String {
    let Protocol { scheme, hostname, prefix, port, .. } = protocol;
    let before = if prefix.starts_with('/') { "" } else { "/" };
    let after = if prefix.ends_with('/') || (prefix.is_empty() && before == "/") { "" } else { "/" };
    let stripped = path.strip_prefix('/').unwrap_or(path);
    if class != Class::Gfal {
        let path = if class == Class::XRootD { path } else { stripped };
        return format!("{scheme}://{hostname}:{port}{before}{prefix}{after}{path}");
    }
    let path = if scheme == "root" { path } else { stripped };
    let service = protocol.web_service_path.as_deref().unwrap_or("");
    let hostname = hostname.split("://").nth(1).unwrap_or(hostname);
    match port {
        0 => format!("{scheme}://{hostname}{service}{before}{prefix}{after}{path}"),
        _ if is_url(path) => path.to_owned(),
        port => format!("{scheme}://{hostname}:{port}{service}{before}{prefix}{after}{path}"),
    }
}

fn is_url(path: &str) -> bool {
    path.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::topology::RseId;

    fn rse(deterministic: bool, algorithm: Option<&str>) -> Rse {
        let attributes: HashMap<_, _> =
            algorithm.map(|a| ("lfn2pfn_algorithm".to_owned(), a.to_owned())).into_iter().collect();
        Rse {
            id: RseId("r".into()),
            name: "R".into(),
            tape: false,
            deterministic,
            staging_area: false,
            availability_read: true,
            attributes,
            protocols: vec![],
            columns: HashMap::new(),
        }
    }

    fn protocol(class: &str, port: i64, prefix: &str) -> Protocol {
        Protocol {
            scheme: "davs".into(),
            hostname: "h".into(),
            port,
            prefix: prefix.into(),
            implementation: format!("rucio.rse.protocols.{class}.Default"),
            tpc_read: Some(1),
            tpc_write: Some(1),
            web_service_path: None,
        }
    }

    #[test]
    fn paths_are_those_of_rucio() {
        let of = |rse: &Rse, scope: &str, replaced: bool| {
            path(rse, scope, "mc26.simple.000000", None, &Default { name: "hash", replaced })
        };
        let path = |rse: &Rse, scope: &str| of(rse, scope, false);
        assert_eq!(path(&rse(true, None), "test").unwrap(), "test/f0/ea/mc26.simple.000000");
        assert_eq!(path(&rse(true, Some("identity")), "user.jo").unwrap(), "user/jo/mc26.simple.000000");
        assert_eq!(path(&rse(true, Some("belle2")), "test"), Err(Unnamed::Algorithm));
        assert_eq!(path(&rse(false, None), "test"), Err(Unnamed::NoPath));
        // What a policy package may have put in the default's place.
        assert_eq!(of(&rse(true, None), "test", true), Err(Unnamed::Algorithm));
        assert_eq!(of(&rse(true, Some("hash")), "test", true), Err(Unnamed::Algorithm));
        assert_eq!(of(&rse(true, Some("identity")), "test", true).unwrap(), "test/mc26.simple.000000");
    }

    #[test]
    fn urls_are_those_of_rucio() {
        let at = |class, port, prefix, path| {
            let protocol = protocol(class, port, prefix);
            url(Class::of(&protocol.implementation).unwrap(), &protocol, path)
        };
        assert_eq!(at("gfal", 443, "/vo/rucio", "test/f"), "davs://h:443/vo/rucio/test/f");
        assert_eq!(at("gfal", 0, "vo/", "/test/f"), "davs://h/vo/test/f");
        assert_eq!(at("gfal", 1, "/vo", "davs://else/f"), "davs://else/f");
        assert_eq!(at("gfal", 0, "/vo", "davs://else/f"), "davs://h/vo/davs://else/f");
        assert_eq!(at("webdav", 0, "", "/f"), "davs://h:0/f");
        assert_eq!(at("xrootd", 1, "/", "/f"), "davs://h:1//f");
        assert!(Class::of(&protocol("srm", 1, "/").implementation).is_none());
    }
}

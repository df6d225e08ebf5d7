//! From a file's name to its URL: `lfn2pfn` and the protocol's rule (Rucio 41.5.1, observed).

use md5::{Digest as _, Md5};
use token_core::hex;

use crate::topology::{Protocol, Rse};

/// Why no URL can be made here. Rucio's Python may know how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// An `lfn2pfn_algorithm` of a policy package.
    Algorithm,
    /// A protocol class other than gfal's and webdav's.
    Implementation,
    /// A non-deterministic RSE without a path for the file.
    NoPath,
}

/// The path of a file below the protocol's prefix.
pub(crate) fn path(rse: &Rse, scope: &str, name: &str, explicit: Option<&str>) -> Result<String, Unnamed> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if !rse.deterministic {
        return Err(Unnamed::NoPath);
    }
    match rse.attribute("lfn2pfn_algorithm").unwrap_or("hash") {
        "hash" | "default" => Ok(hash(scope, name)),
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

/// The URL of a path. Nothing is percent-encoded, as in Rucio.
pub(crate) fn url(protocol: &Protocol, path: &str) -> Result<String, Unnamed> {
    let class = protocol.implementation.as_str();
    let (web_service, port) = match class {
        "rucio.rse.protocols.gfal.Default" => {
            let port = if protocol.port == 0 { String::new() } else { format!(":{}", protocol.port) };
            (protocol.web_service_path.as_deref().unwrap_or(""), port)
        }
        "rucio.rse.protocols.webdav.Default" => ("", format!(":{}", protocol.port)),
        _ => return Err(Unnamed::Implementation),
    };
    if class.contains(".gfal.") && path.contains("://") {
        return Ok(path.to_owned());
    }
    let Protocol { scheme, hostname, prefix, .. } = protocol;
    let before = if prefix.starts_with('/') { "" } else { "/" };
    let after = if prefix.ends_with('/') || prefix.is_empty() { "" } else { "/" };
    let path = path.strip_prefix('/').unwrap_or(path);
    Ok(format!("{scheme}://{hostname}{port}{web_service}{before}{prefix}{after}{path}"))
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
        let path = |rse: &Rse, scope: &str| path(rse, scope, "mc26.simple.000000", None);
        assert_eq!(path(&rse(true, None), "test").unwrap(), "test/f0/ea/mc26.simple.000000");
        assert_eq!(path(&rse(true, Some("identity")), "user.jo").unwrap(), "user/jo/mc26.simple.000000");
        assert_eq!(path(&rse(true, Some("belle2")), "test"), Err(Unnamed::Algorithm));
        assert_eq!(path(&rse(false, None), "test"), Err(Unnamed::NoPath));
    }

    #[test]
    fn urls_are_those_of_rucio() {
        let at = |class, port, prefix, path| url(&protocol(class, port, prefix), path).unwrap();
        assert_eq!(at("gfal", 443, "/vo/rucio", "test/f"), "davs://h:443/vo/rucio/test/f");
        assert_eq!(at("gfal", 0, "vo/", "/test/f"), "davs://h/vo/test/f");
        assert_eq!(at("gfal", 1, "/vo", "davs://else/f"), "davs://else/f");
        assert_eq!(at("webdav", 0, "/", "f"), "davs://h:0/f");
        assert_eq!(url(&protocol("srm", 1, "/"), "f"), Err(Unnamed::Implementation));
    }
}

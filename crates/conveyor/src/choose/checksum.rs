//! Which checksums FTS compares, and which value it is given.

use fts_client::VerifyChecksum;

use crate::request::Request;
use crate::topology::Rse;

/// Rucio's rule for one hop: what both ends support is compared at both; else what the destination supports, there; else what the
/// source supports. An end that does not verify supports nothing.
pub fn strategy(source: &Rse, destination: &Rse) -> VerifyChecksum {
    let (at_source, at_destination) = (supported(source), supported(destination));
    if at_source.iter().any(|name| at_destination.contains(name)) {
        VerifyChecksum::Both
    } else if !at_destination.is_empty() {
        VerifyChecksum::Target
    } else if !at_source.is_empty() {
        VerifyChecksum::Source
    } else {
        VerifyChecksum::None
    }
}

/// What holds for a way of several hops: an end that one hop can't verify is verified by none.
pub fn along(hops: impl IntoIterator<Item = VerifyChecksum>) -> VerifyChecksum {
    use VerifyChecksum::{Both, None, Source, Target};
    hops.into_iter().fold(Both, |way, hop| match (way, hop) {
        (Both, other) | (other, Both) => other,
        (Target, Target) => Target,
        (Source, Source) => Source,
        _ => None,
    })
}

/// `ALGORITHM:value`, of what `verify` wants compared between these ends; Adler-32 if it can be had.
pub fn value(request: &Request, source: &Rse, destination: &Rse, verify: VerifyChecksum) -> Option<String> {
    let (at_source, at_destination) = (supported(source), supported(destination));
    let usable = |name: &str| {
        let has = |list: &[String]| list.iter().any(|n| n == name);
        match verify {
            VerifyChecksum::Both => has(&at_source) && has(&at_destination),
            VerifyChecksum::Source => has(&at_source),
            VerifyChecksum::Target => has(&at_destination),
            VerifyChecksum::None => false,
        }
    };
    let value = |name: &str, value: &Option<String>| {
        let value = value.as_deref().filter(|value| !value.is_empty())?;
        usable(name).then(|| format!("{}:{value}", name.to_uppercase()))
    };
    value("adler32", &request.adler32).or_else(|| value("md5", &request.md5))
}

/// `supported_checksums`; unset or empty is what Rucio knows, and `none` among them is none.
fn supported(rse: &Rse) -> Vec<String> {
    if rse.is_not("verify_checksum") {
        return Vec::new();
    }
    let text = rse.attribute("supported_checksums").unwrap_or_default();
    let list: Vec<_> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match () {
        () if text.is_empty() => vec!["adler32".into(), "md5".into()],
        () if list.iter().any(|name| name == "none") => Vec::new(),
        () => list,
    }
}

//! Which checksums FTS compares, and which value it is given.

use fts_client::VerifyChecksum;

use crate::request::Request;
use crate::topology::Rse;

/// Rucio's rule: what both ends support is compared at both; what only one supports, there; and an end may opt out.
pub(super) fn strategy(
    request: &Request,
    source: &Rse,
    destination: &Rse,
) -> (VerifyChecksum, Option<String>) {
    let (at_source, at_destination) = (supported(source), supported(destination));
    let common: Vec<_> = at_source.iter().filter(|name| at_destination.contains(name)).cloned().collect();
    let none = |list: &[String]| list.len() == 1 && list[0] == "none";
    let verify = match (none(&at_source), none(&at_destination)) {
        (true, true) => VerifyChecksum::None,
        (true, false) => VerifyChecksum::Target,
        (false, true) => VerifyChecksum::Source,
        (false, false) if common.is_empty() => VerifyChecksum::Target,
        (false, false) => match (source.is_not("verify_checksum"), destination.is_not("verify_checksum")) {
            (true, true) => VerifyChecksum::None,
            (true, false) => VerifyChecksum::Target,
            (false, true) => VerifyChecksum::Source,
            (false, false) => VerifyChecksum::Both,
        },
    };
    let usable = match verify {
        VerifyChecksum::Both => common,
        VerifyChecksum::Source => at_source,
        VerifyChecksum::Target => at_destination,
        VerifyChecksum::None => Vec::new(),
    };
    let value = |name: &str, value: &Option<String>| {
        let value = value.as_deref().filter(|value| !value.is_empty())?;
        usable.iter().any(|n| n == name).then(|| format!("{}:{value}", name.to_uppercase()))
    };
    (verify, value("adler32", &request.adler32).or_else(|| value("md5", &request.md5)))
}

/// `supported_checksums`; unset or empty is what Rucio knows.
fn supported(rse: &Rse) -> Vec<String> {
    let list = rse.attribute("supported_checksums").unwrap_or_default();
    let list: Vec<_> =
        list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if list.is_empty() { vec!["adler32".into(), "md5".into()] } else { list }
}

//! Which protocol of the source goes with which of the destination.

use crate::topology::{Protocol, Rse};

/// What Rucio's fts3 transfertool can carry.
const TRANSFERTOOL: [&str; 11] =
    ["root", "davs", "https", "http", "file", "storm", "srm+https", "scp", "rsync", "rclone", "mock"];
/// Schemes that can be copied into each other.
const ALIKE: [&str; 4] = ["https", "davs", "srm+https", "cs3s"];

/// The schemes that transfers may use; empty is all that there are.
#[derive(Clone, Debug, Default)]
pub struct Schemes(pub Vec<String>);

impl Schemes {
    fn allows(&self, scheme: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|s| s == scheme)
    }

    /// Those that the transfertool can carry, of a list that was configured.
    #[must_use]
    pub fn carried(self) -> Self {
        Self(self.0.into_iter().filter(|scheme| TRANSFERTOOL.contains(&scheme.as_str())).collect())
    }

    /// Those that can be copied to `scheme`, for further sources; for one that the transfertool does not know, all are.
    fn alike(scheme: &str) -> Self {
        let known = TRANSFERTOOL.contains(&scheme) && scheme != "mock" || scheme == "magnet";
        let alike = ALIKE.iter().filter(|s| ALIKE.contains(&scheme) && TRANSFERTOOL.contains(s));
        let all = alike.copied().chain([scheme]).map(str::to_owned);
        Self(if known { all.collect() } else { Vec::new() })
    }
}

/// A protocol to read with and one to write with.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) read: &'a Protocol,
    pub(super) write: &'a Protocol,
}

/// The first fitting pair, the destination's order first.
pub(super) fn best<'a>(source: &'a Rse, destination: &'a Rse, schemes: &Schemes) -> Option<Pair<'a>> {
    let reads = ordered(source, schemes, |p| p.tpc_read);
    ordered(destination, schemes, |p| p.tpc_write).into_iter().find_map(|write| {
        let read = reads.iter().find(|read| compatible(&read.scheme, &write.scheme))?;
        Some(Pair { read, write })
    })
}

/// The protocol by which a further source is read when the main one is written with `scheme`.
pub(super) fn further<'a>(source: &'a Rse, destination: &'a Rse, scheme: &str) -> Option<&'a Protocol> {
    best(source, destination, &Schemes::alike(scheme)).map(|pair| pair.read)
}

fn compatible(one: &str, other: &str) -> bool {
    one == other || (ALIKE.contains(&one) && ALIKE.contains(&other))
}

/// The protocols that are on, by rank; Rucio shuffles equal ones, we take them by name.
fn ordered<'a>(
    rse: &'a Rse,
    schemes: &Schemes,
    rank: impl Fn(&Protocol) -> Option<i64>,
) -> Vec<&'a Protocol> {
    let mut list: Vec<_> = rse
        .protocols
        .iter()
        .filter(|protocol| schemes.allows(&protocol.scheme))
        .filter_map(|protocol| {
            Some((rank(protocol)?, &protocol.scheme, &protocol.hostname, protocol.port, protocol))
        })
        .collect();
    list.sort_by(|a, b| (a.0, a.1, a.2, a.3).cmp(&(b.0, b.1, b.2, b.3)));
    list.into_iter().map(|(.., protocol)| protocol).collect()
}

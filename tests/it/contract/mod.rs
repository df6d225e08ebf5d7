//! What both contract suites need: a client that sends a request as it was recorded, an issuer that is what the recorded ones
//! were, a reader for a folder of recordings, and the report.

pub(crate) mod folder;
pub(crate) mod issuer;
pub(crate) mod report;
pub(crate) mod wire;

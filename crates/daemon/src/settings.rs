//! Sections of the configuration that both daemons have. Units stand in the names; secrets are named by file only.

mod cache;
mod issuer;

pub use cache::{CacheSettings, existing, keeper};
pub use issuer::{Authentication, IssuerSettings};

//! What the fuzz targets share: a plain model of the profile's rules to compare with, and tokens that were really signed.

pub mod model;
pub mod signed;

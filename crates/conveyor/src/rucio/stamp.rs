//! Times in Rucio's database: UTC without a zone, to the microsecond.

use sqlx::types::time::PrimitiveDateTime;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use token_core::UnixSeconds;

const FORMAT: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");

/// A time as Rucio's SQLAlchemy writes it on SQLite: text that sorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub(super) String);

impl Stamp {
    /// Before all others.
    pub(super) fn earliest() -> Self {
        Self("0001-01-01 00:00:00.000000".into())
    }

    /// Seconds since 1970.
    pub fn seconds(&self) -> Option<i64> {
        let at = PrimitiveDateTime::parse(&self.0, FORMAT).ok()?;
        Some(at.assume_utc().unix_timestamp())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<UnixSeconds> for Stamp {
    fn from(at: UnixSeconds) -> Self {
        let at = OffsetDateTime::from_unix_timestamp(at.0).ok();
        Self(at.and_then(|at| at.format(FORMAT).ok()).unwrap_or_default())
    }
}

impl TryFrom<PrimitiveDateTime> for Stamp {
    type Error = sqlx::Error;

    fn try_from(at: PrimitiveDateTime) -> Result<Self, sqlx::Error> {
        at.format(FORMAT).map(Self).map_err(|error| sqlx::Error::Decode(error.into()))
    }
}

impl TryFrom<&Stamp> for PrimitiveDateTime {
    type Error = sqlx::Error;

    fn try_from(stamp: &Stamp) -> Result<Self, sqlx::Error> {
        Self::parse(&stamp.0, FORMAT).map_err(|error| sqlx::Error::Encode(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rucio_does() {
        let stamp = Stamp::from(UnixSeconds(1_795_458_026));
        assert_eq!(stamp.as_str(), "2026-11-23 18:20:26.000000");
        for stamp in [stamp, Stamp::earliest(), Stamp("2026-11-23 18:20:26.123450".into())] {
            let read = PrimitiveDateTime::try_from(&stamp).and_then(Stamp::try_from).unwrap();
            assert_eq!(read, stamp);
        }
    }
}

//! The part of the queue that is ours, as conditions of a statement.

use super::Rucio;
use super::database::Database;
use super::statement::Statement;
use crate::share::Part;

impl Rucio {
    /// Adds ` AND …` for requests `r` whose destination is `dest`.
    pub(super) fn narrow(&self, query: &mut Statement, part: &Part) {
        if !part.ignore_availability {
            query.push(" AND dest.availability_write");
        }
        if !part.activities.is_empty() {
            query.push(" AND r.activity IN ").list(part.activities.iter().map(String::as_str));
        }
        if !part.exclude_activities.is_empty() {
            query.push(" AND (r.activity IS NULL OR r.activity NOT IN ");
            query.list(part.exclude_activities.iter().map(String::as_str)).push(")");
        }
        match &part.destinations {
            Some(destinations) if destinations.is_empty() => {
                query.push(" AND 1 = 0");
            }
            Some(destinations) => {
                query.push(" AND r.dest_rse_id IN ").list(destinations);
            }
            None => (),
        }
        // As Rucio does it: the first 32 bits of the MD5 of the id in its written form. On SQLite Rucio divides nothing.
        if let (Some(place), Database::Postgres(_)) = (part.place, &self.database) {
            query.push(&format!(" AND {} = {}", worker(place.by.column(), place.of), place.worker));
        }
    }
}

/// Which of `of` workers a request `r` is for.
pub(super) fn worker(column: &str, of: u32) -> String {
    format!("mod(abs(('x'||md5(r.{column}::text))::bit(32)::bigint), {of})")
}

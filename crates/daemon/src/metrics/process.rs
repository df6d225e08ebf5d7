//! The process itself.

use super::Family;
use crate::vitals::Vitals;

/// The families of a process.
pub(crate) fn of_process(program: &str, version: &str, vitals: &Vitals) -> Vec<Family> {
    let yes = |yes: bool| f64::from(u8::from(yes));
    let build = Family::gauge(
        "token_daemon_build_info",
        &["program", "version"],
        "Always 1: which program of which version this is",
    )
    .measure([program, version], 1.0);
    let started = Family::gauge(
        "token_daemon_start_time_seconds",
        &[],
        "When the process began, in seconds since 1970",
    )
    .measure([], vitals.started_at().0 as f64);
    let mut up = Family::gauge(
        "token_daemon_database_up",
        &["database"],
        "1 while the last statement in Rucio's (`rucio`) or FTS's (`fts`) database succeeded, else 0",
    );
    if let Some((database, usable)) = vitals.database_state() {
        up = up.measure([database], yes(usable.is_ok()));
    }
    let live =
        Family::gauge("token_daemon_live", &[], "1 while `/livez` says yes: all work has moved lately")
            .measure([], yes(vitals.live().iter().all(|check| check.ok)));
    let mut idle = Family::gauge(
        "token_daemon_work_age_seconds",
        &["work"],
        "How long ago each part of the work last moved; `/livez` says no above 300 s",
    );
    for (work, age) in vitals.ages() {
        idle = idle.measure([&work], age.as_secs_f64());
    }
    let reloads = vitals.reloads();
    let reloads = Family::counter(
        "token_daemon_reloads_total",
        &["outcome"],
        "SIGHUPs: the configuration was read again (`ok`) or could not be and the old one holds (`failed`)",
    )
    .count(["ok"], reloads.0)
    .count(["failed"], reloads.1);
    vec![build, started, up, live, idle, reloads]
}

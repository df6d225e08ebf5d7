//! What the service manager is told, where there is one that wants to know (systemd's `NOTIFY_SOCKET`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::watch::Watch;

/// How often the line of status is renewed.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Begins: everything that is needed is open.
pub(crate) fn ready(line: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(line))]);
}

/// The configuration is being read again. [`ready`] follows.
pub(crate) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
}

/// Keeps the service manager informed until `soft` fires, when it is told that we end, and the watchdog fed as long as the work moves until `stop` does: work that is
/// stuck is killed by it and started again.
pub(crate) async fn accompany(watch: &Watch, soft: &CancellationToken, stop: &CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    let every =
        watchdog.map_or(LINE_EVERY, |limit| (limit / 2).min(LINE_EVERY)).max(Duration::from_millis(10));
    ready(&watch.own.line());
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => (),
            () = stop.cancelled() => return,
        }
        if watchdog.is_some() {
            let stuck: Vec<String> =
                watch.liveness().into_iter().filter(|check| !check.ok).map(|check| check.name).collect();
            match stuck.is_empty() {
                true => tell(&[NotifyState::Watchdog]),
                false => warn!(work = stuck.join(", "), "stuck: the service manager's watchdog is not fed"),
            }
        }
        if !soft.is_cancelled() {
            tell(&[NotifyState::Status(&one_line(&watch.own.line()))]);
        }
    }
}

/// A service manager that is not there is no trouble of ours.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

//! SIGHUP: the configuration is read again, and what can change while the daemon runs does.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{About, Configuration, Loaded};
use crate::{Failure, Watch, notify};

/// The configuration of a running daemon.
pub struct Reload<T> {
    about: About,
    /// What a restart would be needed for is compared with what the daemon began with.
    began: Loaded<T>,
    held: Loaded<T>,
    /// Keys that can change; those of lists without a number.
    can_change: &'static [&'static str],
    hangups: Signal,
}

impl<T: Configuration + Clone> Reload<T> {
    /// From now on SIGHUP is heard. `can_change` are keys such as `submit.batch`.
    ///
    /// # Errors
    /// When the system gives no signal handler.
    pub fn new(about: About, began: Loaded<T>, can_change: &'static [&'static str]) -> Result<Self, Failure> {
        let hangups = signal(SignalKind::hangup()).map_err(Failure::runtime)?;
        Ok(Self { about, held: began.clone(), began, can_change, hangups })
    }

    /// Reads again with each SIGHUP until `stop` fires. `read` reads and checks as a start does; `apply` puts what can change in force.
    /// What can't be read, or could not be started with, changes nothing.
    pub async fn run(
        mut self,
        watch: &Watch,
        read: impl Fn() -> Result<Loaded<T>, Failure>,
        apply: impl Fn(&T) -> Result<(), Failure>,
        stop: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                heard = self.hangups.recv() => if heard.is_none() { return },
                () = stop.cancelled() => return,
            }
            notify::reloading();
            match self.again(&read, &apply) {
                Ok(()) => watch.vitals.reloaded(true),
                Err(error) => {
                    watch.vitals.reloaded(false);
                    error!(%error, "the configuration could not be read again: all stays as it was");
                }
            }
            notify::ready(&watch.own.line());
        }
    }

    fn again(
        &mut self,
        read: impl Fn() -> Result<Loaded<T>, Failure>,
        apply: impl Fn(&T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let new = read()?;
        let can_change = |key: &String| self.can_change.contains(&without_numbers(key).as_str());
        let (changed, _): (Vec<_>, Vec<_>) =
            self.about.changed(&self.held, &new).into_iter().partition(can_change);
        let (_, stays): (Vec<_>, Vec<_>) =
            self.about.changed(&self.began, &new).into_iter().partition(can_change);
        apply(&new.settings)?;
        self.held = new;
        info!(changed = changed.join(" "), "configuration read again");
        if !stays.is_empty() {
            warn!(keys = stays.join(" "), "changed keys that count only after a restart");
        }
        Ok(())
    }
}

/// `issuer[0].burst` is `issuer.burst`.
fn without_numbers(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|sign| {
            inside = (inside || *sign == '[') && *sign != ']';
            !inside && *sign != ']'
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_lists_are_one_key() {
        for (key, plain) in [("a.b", "a.b"), ("issuer[12].burst", "issuer.burst"), ("a[0].b[1].c", "a.b.c")] {
            assert_eq!(without_numbers(key), plain);
        }
    }
}

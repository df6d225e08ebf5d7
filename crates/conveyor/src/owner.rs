//! Who made a claim, so that a claim in flight is not taken for one that a crash left behind.
//!
//! The mark stands in `requests.last_processed_by`, which Rucio's own submitter compares with its own name only.

use token_core::random_hex;

/// This process.
#[derive(Clone, Debug)]
pub struct Owner {
    host: String,
    pid: u32,
    instance: String,
}

impl Owner {
    /// The process we are: host, process id, and a random part, since process ids come again.
    pub fn of_this_process() -> Self {
        // The column holds 64 characters.
        let host = host().chars().filter(|c| *c != ':').take(28).collect();
        Self { host, pid: std::process::id(), instance: random_hex().chars().take(12).collect() }
    }

    /// As it stands in the database.
    pub fn mark(&self) -> String {
        format!("conveyor:{}:{}:{}", self.host, self.pid, self.instance)
    }

    /// Whether the claim that `mark` made is ours to resolve: our own, from an earlier pass; a dead process's on this host; or an
    /// old one, whoever made it. `alive` tells whether a process of this host is there.
    pub fn may_resolve(&self, mark: Option<&str>, old: bool, alive: impl Fn(u32) -> bool) -> bool {
        let parts: Vec<&str> = mark.unwrap_or_default().split(':').collect();
        let &[_, host, pid, instance] = parts.as_slice() else { return old };
        if instance == self.instance {
            return true;
        }
        let gone = |pid: u32| pid == self.pid || !alive(pid);
        old || (host == self.host && pid.parse().is_ok_and(gone))
    }
}

/// The name of this host.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Whether a process of this host is there.
pub fn alive(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_works_on_is_resolved() {
        let me = Owner { host: "h".into(), pid: 7, instance: "me".into() };
        let resolve = |mark: &str, old| me.may_resolve(Some(mark), old, |pid| pid == 8);
        assert!(resolve(&me.mark(), false), "our own, from an earlier pass");
        assert!(resolve("conveyor:h:7:before", false), "our process id, before a restart");
        assert!(resolve("conveyor:h:9:x", false), "a dead process");
        assert!(!resolve("conveyor:h:8:x", false), "a living one");
        assert!(!resolve("conveyor:other:9:x", false), "another host's");
        assert!(resolve("conveyor:other:9:x", true) && resolve("conveyor:h:8:x", true), "old ones");
        assert!(!me.may_resolve(None, false, |_| false) && me.may_resolve(None, true, |_| true));
        assert!(Owner::of_this_process().mark().len() <= 64);
    }
}

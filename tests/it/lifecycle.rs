//! Both daemons under a service manager and its signals: what it is told, SIGHUP, and the two ways to end.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "watched_grid.rs"]
mod watched_grid;

use std::time::{Duration, Instant};

use testbed::fts::SubmitFault;
use testbed::grid::{Grid, Signal, signal, terminate};
use testbed::told::{Told, sample};
use tokio::net::UnixDatagram;
use watched_grid::{grid, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_and_its_watchdog_fed() {
    let (_folder, grid) = grid("notify").await;
    let place = tempfile::tempdir().unwrap();
    for daemon in ["conveyor", "token-exchange"] {
        let path = place.path().join(daemon);
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = match daemon {
            "conveyor" => grid.conveyor(&[]),
            _ => grid.token_exchange(&[]),
        };
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
        let child = grid.spawn(command, &format!("{daemon}.log")).unwrap();
        let first = message(&socket).await;
        assert!(
            first.starts_with("READY=1\nSTATUS=") && first.contains("since the start"),
            "{daemon}: {first}"
        );
        for _ in 0..3 {
            await_message(&socket, "WATCHDOG=1", Duration::from_secs(30)).await;
        }
        await_message(&socket, "STATUS=", Duration::from_secs(30)).await;
        signal(child.id().unwrap(), Signal::HUP).unwrap();
        let reloading = await_message(&socket, "RELOADING=1", Duration::from_secs(30)).await;
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        await_message(&socket, "READY=1", Duration::from_secs(30)).await;
        signal(child.id().unwrap(), Signal::TERM).unwrap();
        await_message(&socket, "STOPPING=1", Duration::from_secs(30)).await;
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap();
        assert!(output.unwrap().status.success(), "{daemon}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_changes_what_can_change_and_names_the_rest() {
    let (_folder, grid) = grid("hangup").await;
    for (daemon, config, change, stays) in [
        (
            "conveyor",
            grid.conveyor_config(),
            "[submit]\nbatch = 77\nfiles_per_job = 7\n",
            "submit.files_per_job",
        ),
        ("token-exchange", grid.exchange_config(), "[retire]\nbatch = 77\n", "retire.batch"),
    ] {
        let command = match daemon {
            "conveyor" => grid.conveyor(&[]),
            _ => grid.token_exchange(&[]),
        };
        let log = grid.folder.join(format!("{daemon}.log"));
        let child = grid.spawn(command, &format!("{daemon}.log")).unwrap();
        let (told, pid) = (Told::by_log(&log).await.unwrap(), child.id().unwrap());
        let said = |words: &str| {
            std::fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains(words)).count()
        };
        let before = std::fs::read_to_string(&config).unwrap();
        assert_eq!(said("DEBUG"), 0);

        // What is not right, by its form or by what it names, changes nothing.
        for broken in [format!("{before}\n[log]\nlevel = "), format!("{before}\n[log]\nlevle = \"debug\"\n")]
        {
            let failed = said("could not be read again");
            std::fs::write(&config, broken).unwrap();
            signal(pid, Signal::HUP).unwrap();
            until("it refuses", async || said("could not be read again") > failed).await;
        }
        std::fs::write(&config, format!("{before}\n[log]\nlevel = \"canary=[\"\n")).unwrap();
        signal(pid, Signal::HUP).unwrap();
        until("it refuses a level", async || said("could not be read again") == 3).await;
        assert_eq!((said("configuration read again"), said("DEBUG")), (0, 0));

        std::fs::write(&config, format!("{before}\n{change}\n[log]\nlevel = \"debug\"\n")).unwrap();
        signal(pid, Signal::HUP).unwrap();
        until("it is in force", async || said("DEBUG") > 0 || said("configuration read again") > 0).await;
        until("it says so", async || said("only after a restart") == 1).await;
        let line = |words: &str| {
            let text = std::fs::read_to_string(&log).unwrap();
            text.lines().find(|line| line.contains(words)).unwrap().to_owned()
        };
        let changed = line("configuration read again");
        assert!(changed.contains("log.level") && !changed.contains(stays), "{changed}");
        assert!(
            line("only after a restart").contains(stays)
                && !line("only after a restart").contains("log.level")
        );
        if daemon == "conveyor" {
            assert!(changed.contains("submit.batch"), "{changed}");
        }
        until("debug lines come", async || said("DEBUG") > 0).await;
        let metrics = told.metrics().await.unwrap();
        let reloads = ["failed", "ok"].map(|outcome| {
            sample(&metrics, &format!("token_daemon_reloads_total{{outcome=\"{outcome}\"}}")).unwrap()
        });
        assert_eq!(reloads, [3.0, 1.0]);
        terminate(child).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_ends_what_is_in_flight_and_the_second_ends_at_once() {
    let (_folder, grid) = grid("signals").await;
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(2)));
    let conveyor = || {
        let mut command = grid.conveyor(&[]);
        command.env("CONVEYOR__SUBMIT__FILES_PER_JOB", "1");
        command
    };
    let child = grid.spawn(conveyor(), "first.log").unwrap();
    until("jobs are being posted", async || grid.fts.submissions() > 0).await;
    signal(child.id().unwrap(), Signal::TERM).unwrap();
    // 460 jobs, eight at a time, would take two minutes.
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
    assert_eq!(states(&grid, "G").await, 0, "what was not posted yet is given back");
    let submitted = states(&grid, "S").await;
    assert!((1..100).contains(&submitted), "{submitted}");
    assert_eq!(grid.fts.counts().await.unwrap().jobs, submitted as u64, "and what was posted is known");

    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(40)));
    let before = grid.fts.submissions();
    let child = grid.spawn(conveyor(), "second.log").unwrap();
    until("jobs are being posted", async || grid.fts.submissions() > before).await;
    let pid = child.id().unwrap();
    signal(pid, Signal::TERM).unwrap();
    let log = || std::fs::read_to_string(grid.folder.join("second.log")).unwrap();
    until("the first is heard", async || log().contains("a second signal stops at once")).await;
    signal(pid, Signal::INT).unwrap();
    let output =
        tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(log().lines().last().unwrap().contains("stopped in the middle of work"), "{}", log());
    assert!(states(&grid, "G").await > 0, "the next start goes on with them");
}

/// The next message.
async fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut bytes)).await;
    let length = received.unwrap().unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// The next message that begins so.
async fn await_message(socket: &UnixDatagram, begins: &str, within: Duration) -> String {
    let end = Instant::now() + within;
    loop {
        let message = message(socket).await;
        if message.starts_with(begins) {
            return message;
        }
        assert!(Instant::now() < end, "no {begins} in time: {message}");
    }
}

async fn states(grid: &Grid, state: &str) -> usize {
    let states = grid.rucio.states().await.unwrap();
    states.get(state).map_or(0, |count| usize::try_from(*count).unwrap())
}

//! The cases with processes of their own, and what those processes do.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, getrlimit, setrlimit};
use token_core::{CachedToken, TokenCache as _, UnixSeconds};

use super::store::{NOW, Service, key, open, round_of, token};

const KEYS: usize = 50;

/// This program, as a child that does `what`.
fn child_command(what: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", what]).arg(folder).stdout(Stdio::piped());
    command
}

/// What a child does.
pub(crate) fn child(what: &str, folder: &Path, rest: &[String]) {
    match what {
        "write" => write_for_ever(folder, rest[0].parse().unwrap()),
        "hold" => hold(folder),
        "fill" => fill(folder),
        _ => panic!("no such child: {what}"),
    }
}

/// Puts tokens, and says of each that has been taken: key and edition.
fn write_for_ever(folder: &Path, first: u64) {
    let cache = open(folder);
    assert_eq!(cache.health().trouble, None);
    let mut out = std::io::stdout();
    for round in first.. {
        for n in 0..KEYS {
            cache.put(&key(n), &token(n, round)).unwrap();
            if writeln!(out, "{n} {round}").is_err() {
                return;
            }
        }
    }
}

/// 100 processes are killed with SIGKILL after some number of writes; what they reported is there.
pub(crate) fn killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = vec![0_u64; KEYS];
    let mut acknowledged = 0;
    for iteration in 0..100_u64 {
        let mut child = child_command("write", folder.path())
            .arg((iteration * 1_000_000 + 1).to_string())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: String| {
            // The last line may be cut.
            if let Some((n, round)) = line.split_once(' ')
                && let (Ok(n), Ok(round)) = (n.parse::<usize>(), round.parse::<u64>())
                && round >= durable[n]
            {
                durable[n] = round;
                acknowledged += 1;
            }
        };
        for _ in 0..=(iteration * 37) % 400 {
            take(lines.next().expect("the child writes on").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(&mut take);
        let cache = open(folder.path());
        assert_eq!(cache.health().trouble, None);
        assert_eq!(cache.health().set_aside, 0, "a kill damages nothing");
        for (n, acknowledged) in durable.iter().enumerate() {
            match cache.get(&key(n)).unwrap() {
                // One more may have been taken than was reported.
                Some(held) => {
                    assert!((*acknowledged..=acknowledged + 1_000_000).contains(&round_of(n, &held)));
                }
                None => assert_eq!(*acknowledged, 0, "what was reported durable is there"),
            }
        }
    }
    println!("cache_trouble killed 100 times, {acknowledged} writes reported, none lost");
}

fn hold(folder: &Path) {
    let cache = open(folder);
    assert_eq!(cache.health().trouble, None);
    cache.put(&key(1), &token(1, 7)).unwrap();
    println!("held");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Another process has the store: tokens come from the issuer. When it is killed, the store is taken over.
pub(crate) fn second_opener() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child_command("hold", folder.path()).stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(first_line(&mut child), "held");
    let service = Service::over(open(folder.path()));
    assert!(service.trouble().unwrap().contains("another process"));
    assert_eq!((service.serve(1), service.serve(2), service.serve(1), service.asked()), (0, 0, 0, 2));
    service.tend();
    assert!(service.trouble().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    service.tend();
    assert_eq!(service.trouble(), None);
    assert_eq!(service.cache.get(&key(2)).unwrap(), Some(token(2, 0)), "what it missed is kept now");
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Another key file: nothing can be read, and nothing is served that could not.
pub(crate) fn another_seal_key() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path());
    (0..20).for_each(|n| cache.put(&key(n), &token(n, 3)).unwrap());
    drop(cache);
    fs::write(folder.path().join("key"), "5e".repeat(32)).unwrap();
    let service = Service::over(open(folder.path()));
    assert!((0..20).all(|n| service.serve(n) == 0));
    assert_eq!((service.asked(), service.trouble()), (20, None));
    service.tend();
    assert_eq!(service.cache.health().entries, 20, "the unreadable ones are gone");
    assert!((0..20).all(|n| service.serve(n) == 0));
    assert_eq!(service.asked(), 20);
}

/// Fills the disk that `folder` is on, goes on serving, and takes the store into use again when there is room.
fn fill(folder: &Path) {
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let service = Service::over(open(folder));
    assert_eq!(service.trouble(), None);
    let ended = CachedToken { expires_at: UnixSeconds(NOW.0 - 1), ..token(0, 9) };
    service.cache.put(&key(0), &ended).unwrap();
    let full = (1..100_000).find(|n| service.cache.put(&key(*n), &token(*n, 5)).is_err());
    let full = full.expect("the disk is full some time");
    let reason = service.trouble().expect("and then the store is out of use");
    assert_eq!(service.serve(0), 0, "a token that has ended is not served");
    assert_eq!((service.serve(1), service.serve(full)), (0, 0), "the issuer is asked instead");
    let asked = service.asked();
    assert_eq!((service.serve(1), service.asked()), (0, asked), "and what it gave is in memory");
    fs::remove_file(&ballast).unwrap();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    service.tend();
    assert_eq!(service.trouble(), None, "there is room again");
    assert_eq!(service.cache.get(&key(1)).unwrap(), Some(token(1, 0)), "what it missed is kept now");
    service.cache.put(&key(full), &token(full, 6)).unwrap();
    drop(service);
    let again = open(folder);
    assert_eq!((again.health().trouble, again.health().set_aside), (None, 0));
    assert_eq!(again.get(&key(full)).unwrap(), Some(token(full, 6)));
    println!("filled at {full}: {reason}");
}

/// A small file system of its own, in a mount namespace that ends with the child. Where that is not allowed, the next case
/// stands alone.
pub(crate) fn full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=6m,mode=0700 none "$1""#;
    let run = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("{mount} {then}"), "sh"]).arg(folder.path());
        command.arg(std::env::current_exe().unwrap()).stdout(Stdio::piped()).output()
    };
    if !run("").is_ok_and(|output| output.status.success()) {
        println!(
            "cache_trouble a_full_disk: NOT RUN: mounting a tmpfs is not allowed here; see a_file_size_limit"
        );
        return;
    }
    let output = run(r#"&& exec "$2" child fill "$1""#).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("no storage space"), "ENOSPC: {said}");
    print!("cache_trouble a_full_disk: {said}");
}

/// The same by a limit on file sizes, which needs no rights: EFBIG instead of ENOSPC.
pub(crate) fn file_size_limit() {
    let folder = tempfile::tempdir().unwrap();
    let limited = r#"trap "" XFSZ; ulimit -S -f 6000; exec "$1" child fill "$2""#;
    let output = Command::new("sh")
        .args(["-c", limited, "sh"])
        .arg(std::env::current_exe().unwrap())
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("file too large"), "EFBIG: {said}");
    print!("cache_trouble a_file_size_limit: {said}");
}

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::scope::ScopeSet;

fn key(audience: &str) -> CacheKey {
    CacheKey {
        issuer: "https://i".into(),
        client_id: "c".into(),
        subject: "s".into(),
        audience: audience.into(),
        scope: ScopeSet::parse("storage.read:/").unwrap(),
    }
}

fn token(text: &str) -> CachedToken {
    ending(text, 100)
}

fn ending(text: &str, expires_at: i64) -> CachedToken {
    let token = AccessToken::new(text).unwrap();
    CachedToken { token, obtained_at: UnixSeconds(1), expires_at: UnixSeconds(expires_at) }
}

fn settings(folder: &Path) -> SledSettings {
    SledSettings::new(folder.join("tokens"), SealKeys::from_file(&folder.join("key")).unwrap())
}

fn open(folder: &Path) -> SledCache {
    SledCache::open(settings(folder)).unwrap()
}

/// Everything below `folder`, as bytes.
fn contents(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { contents(&path) } else { fs::read(&path).unwrap() });
    }
    all
}

#[test]
fn survives_a_restart_and_shows_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).put(&key("canary-audience"), &token("canary.token")).unwrap();
    let cache = open(folder.path());
    assert_eq!(cache.get(&key("canary-audience")).unwrap(), Some(token("canary.token")));
    assert_eq!(cache.get(&key("other")).unwrap(), None);
    assert_eq!(cache.health(), CacheHealth { entries: 1, ..CacheHealth::default() });
    drop(cache);
    let disk = contents(folder.path());
    assert!(!disk.windows(6).any(|window| window == b"canary"));
}

#[test]
fn keys_change_without_losing_a_token_and_a_lost_key_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, new) = (folder.path().join("key"), "5e".repeat(32));
    open(folder.path()).put(&key("a"), &token("t")).unwrap();
    let old = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{new}\n{old}\n")).unwrap();
    assert_eq!(open(folder.path()).get(&key("a")).unwrap(), Some(token("t")), "the old key opens");
    fs::write(&file, &new).unwrap();
    let cache = open(folder.path());
    assert_eq!(
        cache.get(&key("a")).unwrap(),
        Some(token("t")),
        "and what was asked for moved to the new one"
    );
    assert_eq!(cache.health().entries, 1);
    drop(cache);
    fs::write(&file, "a1".repeat(32)).unwrap();
    let cache = open(folder.path());
    assert_eq!(cache.get(&key("a")).unwrap(), None);
    cache.put(&key("a"), &token("t")).unwrap();
    assert_eq!(cache.tend(UnixSeconds(50)).unwrap().removed, 1, "the value of the lost key goes");
    assert_eq!(cache.tend(UnixSeconds(100)).unwrap().removed, 1, "the expired one goes");
    assert_eq!(cache.health().entries, 0);
}

#[test]
fn no_more_than_so_many_and_those_that_end_first_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = SledCache::open(SledSettings { max_entries: 32, ..settings(folder.path()) }).unwrap();
    for n in 0..100 {
        cache.put(&key(&n.to_string()), &ending("t", 1000 - n)).unwrap();
        assert!(cache.health().entries <= 32);
    }
    let kept: Vec<i64> = (0..100).filter(|n| cache.get(&key(&n.to_string())).unwrap().is_some()).collect();
    assert_eq!(kept.len(), cache.health().entries);
    assert!(kept.len() >= 30 && kept[..29] == (0..29).collect::<Vec<_>>(), "{kept:?}");
    drop(cache);
    let cache = SledCache::open(SledSettings { max_entries: 4, ..settings(folder.path()) }).unwrap();
    assert_eq!(cache.health().entries, kept.len());
    cache.tend(UnixSeconds(0)).unwrap();
    assert!((3..=4).contains(&cache.health().entries), "a smaller bound holds for what was there");
}

#[test]
fn a_second_opener_goes_without_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let held = open(folder.path());
    let second = open(folder.path());
    assert!(second.health().trouble.unwrap().contains("another process has it open"));
    assert!(matches!(second.get(&key("a")), Err(CacheError::Away(_))));
    assert!(matches!(second.put(&key("a"), &token("t")), Err(CacheError::Away(_))));
    assert_eq!(second.tend(UnixSeconds(0)).unwrap(), Tended::default());
    drop(held);
    assert_eq!(second.tend(UnixSeconds(0)).unwrap(), Tended { removed: 0, mended: true });
    second.put(&key("a"), &token("t")).unwrap();
    assert_eq!(second.health(), CacheHealth { entries: 1, errors: 1, ..CacheHealth::default() });
}

#[test]
fn a_folder_of_others_is_refused_or_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    drop(open(folder.path()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(SledCache::open(settings(folder.path())), Err(CacheError::Open { mode: 0o755, .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(path.join("important.txt"), "not ours").unwrap();
    let cache = open(folder.path());
    assert!(cache.health().trouble.unwrap().contains("important.txt"));
    assert_eq!(fs::read(path.join("important.txt")).unwrap(), b"not ours");
    fs::remove_file(path.join("important.txt")).unwrap();
    assert!(cache.tend(UnixSeconds(0)).unwrap().mended);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a sled store that is somebody else's")]
fn a_store_of_others_is_set_aside_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    sled::open(&path).unwrap().insert("theirs", "precious").unwrap();
    let cache = open(folder.path());
    assert_eq!(cache.health(), CacheHealth { set_aside: 1, ..CacheHealth::default() });
    cache.put(&key("a"), &token("t")).unwrap();
    let theirs = sled::open(folder.path().join("tokens.corrupt-1")).unwrap();
    assert_eq!(theirs.get("theirs").unwrap().unwrap(), "precious");
}

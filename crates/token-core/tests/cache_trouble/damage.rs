//! Files that are not as they were written.

use std::fs;
use std::path::{Path, PathBuf};

use token_core::TokenCache as _;

use super::store::{Service, key, open, token};

const KEYS: usize = 200;
const COPIES: usize = 30;

/// A small generator, so that each run damages the same places.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

type Damage = fn(Vec<u8>, &mut Dice) -> Vec<u8>;

fn flip_a_bit(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    bytes
}

fn truncate(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    bytes.truncate(dice.below(bytes.len()));
    bytes
}

fn zero_a_block(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let from = dice.below(bytes.len().div_ceil(4096)) * 4096;
    let to = (from + 4096).min(bytes.len());
    bytes[from..to].fill(0);
    bytes
}

/// The files of one kind.
fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let store = fs::read_dir(folder.join("tokens")).unwrap();
    store
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.file_name().unwrap().to_str().unwrap().starts_with(kind))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Damaged copies of a store: each serves every key, with what it held or from the issuer, and keeps tokens again.
pub(crate) fn damaged() {
    // sled panics on some of these; the cache takes that for damage. Its words are not those of a failure here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("sled-0.34")) {
            hook(panic);
        }
    }));
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound");
    fs::create_dir(&sound).unwrap();
    let cache = open(&sound);
    for round in 1..=3 {
        (0..KEYS).for_each(|n| cache.put(&key(n), &token(n, round)).unwrap());
    }
    drop(cache);
    // At each opening sled takes a snapshot.
    drop(open(&sound));
    let ways: [(&str, &str, Damage); 7] = [
        ("a bit of the log", "db", flip_a_bit),
        ("a cut log", "db", truncate),
        ("a zeroed block of the log", "db", zero_a_block),
        ("a bit of the snapshot", "snap.", flip_a_bit),
        ("a cut snapshot", "snap.", truncate),
        ("a bit of sled's settings", "conf", flip_a_bit),
        ("cut settings", "conf", truncate),
    ];
    for (what, kind, damage) in ways {
        let (mut set_aside, mut asked, mut away) = (0, 0, 0);
        for n in 0..COPIES {
            let mut dice = Dice(u64::try_from(n).unwrap() + 1);
            let hurt = folder.path().join("hurt");
            copy(&sound, &hurt);
            let list = files(&hurt, kind);
            assert!(!list.is_empty(), "sled has a file {kind}");
            let file = &list[dice.below(list.len())];
            fs::write(file, damage(fs::read(file).unwrap(), &mut dice)).unwrap();

            let service = Service::over(open(&hurt));
            for n in 0..KEYS {
                let round = service.serve(n);
                assert!(round <= 3, "a token that was kept, or a new one");
            }
            asked += service.asked();
            service.tend();
            set_aside += service.cache.health().set_aside;
            away += u32::from(service.trouble().is_some());
            service.cache.put(&key(0), &token(0, 8)).unwrap();
            drop(service);
            assert_eq!(
                Service::over(open(&hurt)).serve(0),
                8,
                "what is kept after the damage is there later"
            );
            fs::remove_dir_all(&hurt).unwrap();
        }
        println!(
            "cache_trouble {COPIES} x {what}: {set_aside} set aside, {away} out of use, {asked} of {} tokens asked for again",
            COPIES * KEYS
        );
    }
}

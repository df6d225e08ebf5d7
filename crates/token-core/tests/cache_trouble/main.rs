//! What a token cache lives through: `kill -9` in the middle of writes, damaged files, a full disk, a second opener, another
//! seal key. Each time the service goes on: who asks for a token gets one, from the cache or from the issuer, and never one
//! that has ended, that is cut, or that is another key's.
//!
//! Prints `cache_trouble: passed/total`. The program is also the child processes of its own cases.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

mod cases;
mod damage;
mod store;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, child, what, folder, rest @ ..] = arguments.as_slice()
        && child == "child"
    {
        cases::child(what, folder.as_ref(), rest);
        return ExitCode::SUCCESS;
    }
    let all: [(&str, fn()); 6] = [
        ("killed_in_the_middle_of_writes_a_hundred_times", cases::killed),
        ("damaged_files", damage::damaged),
        ("a_full_disk", cases::full_disk),
        ("a_file_size_limit", cases::file_size_limit),
        ("a_second_opener", cases::second_opener),
        ("another_seal_key", cases::another_seal_key),
    ];
    let mut passed = 0;
    for (name, case) in all {
        match std::panic::catch_unwind(case) {
            Ok(()) => {
                passed += 1;
                println!("cache_trouble {name} ... ok");
            }
            Err(_) => println!("cache_trouble {name} ... FAILED"),
        }
    }
    println!("cache_trouble: {passed}/{}", all.len());
    if passed == all.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

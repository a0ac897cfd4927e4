//! What a test needs of the machine. One that lacks it fails, unless the environment says that it is to do without:
//! TESTS_WITHOUT, a list of words, which `.ci/run` does not let pass. The suites in Erlang do the same.
#![allow(dead_code, reason = "each test file uses its part")]

/// Whether the machine has it; panics if it has not and nobody said so.
fn need(name: &str, there: bool, what: &str) -> bool {
    if !there {
        let without = std::env::var("TESTS_WITHOUT").unwrap_or_default();
        assert!(
            without.split([',', ' ']).any(|word| word == name),
            "this test needs {what}; TESTS_WITHOUT={name} leaves it out"
        );
        println!("left out: there is no {name}");
    }
    there
}

/// Whether the test may become another user, and give files away.
pub fn root() -> bool {
    need("root", nix::unistd::geteuid().is_root(), "to be run by root, who alone can become another user")
}

/// Whether instructions have been counted before on a processor like this one.
pub fn baseline(there: bool) -> bool {
    need("baseline", there, "counts of a processor like this one (`make baseline` makes them)")
}

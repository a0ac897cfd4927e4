//! What a test needs of the machine. If it is missing the test fails, unless the environment allows
//! to do without: TESTS_WITHOUT, a list of words, which `.ci/run` does not accept. The suites in
//! Erlang do the same.

/// Says whether the machine has it; panics if it does not and doing without was not allowed.
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

/// Says whether the test may become another user, and give files away.
pub fn root() -> bool {
    need("root", nix::unistd::geteuid().is_root(), "to be run by root, who alone can become another user")
}

/// Says whether instructions have been counted before on a processor like this one.
pub fn baseline(there: bool) -> bool {
    need("baseline", there, "counts of a processor like this one (`make baseline` makes them)")
}

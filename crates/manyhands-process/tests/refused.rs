//! What cannot be called in another process, and how the compiler says so.

#[test]
fn what_cannot_be_called_is_refused_with_what_to_do_instead() {
    let cases = trybuild::TestCases::new();
    // A program that must build has the others built too: some are refused only then.
    cases.pass("tests/accepted/*.rs");
    // What a closure owns that cannot be copied is in the doc tests of `Callable`: what the compiler
    // says of it depends on the length of the path to this crate.
    cases.compile_fail("tests/refused/*.rs");
}

//! What cannot be called in another process, and how the compiler says so.

#[test]
fn what_cannot_be_called_is_refused_with_what_to_do_instead() {
    let cases = trybuild::TestCases::new();
    // A program that must build has the others built too: some are refused only then.
    cases.pass("tests/accepted/*.rs");
    cases.compile_fail("tests/refused/*.rs");
}

//! What users see of the compiler.

/// Each file of `tests/ui` has its messages beside it.
#[test]
fn what_cannot_be_is_refused_in_its_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

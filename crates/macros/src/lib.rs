//! Procedural macros of the Trine service crates.
//!
//! Nobody depends on this crate directly: each service crate re-exports the
//! macros that belong to it, and their expansion names that crate.
//!
//! # Example
//!
//! [`macro@test`] is `#[trine_testkit::test]`:
//!
//! ```
//! # mod trine_testkit { pub use trine_macros::test; }
//! #[trine_testkit::test(timeout = "5s")]
//! async fn adds() {
//!     assert_eq!(1 + 1, 2);
//! }
//! ```
//!
//! # Guarantees
//!
//! * Misuse is a compile error at the place of the mistake that says what is
//!   expected, never a panic of the macro.
//!
//! # Not provided
//!
//! Macros for crates of others: expansions name Trine crates by their own name.
//!
//! # Feature flags
//!
//! None.

mod test;

use proc_macro::TokenStream;

/// Turns an `async fn` into a test on a runtime of its own, with a hard limit
/// on its time.
///
/// Use it as `#[trine_testkit::test]`. The function takes nothing, or one
/// `trine_testkit::Rng` whose seed is printed when the test fails, and returns
/// nothing or whatever a `#[test]` may return. Other attributes, such as
/// `#[ignore]` and `#[should_panic]`, keep their meaning.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `timeout = "120s"` | the test fails once this much real time is over; units `ms`, `s`, `m` | `"60s"` |
/// | `threads = 4` | worker threads of the runtime | 2 |
/// | `start_paused = true` | one thread, and tokio's clock stands until all tasks wait for it | `false` |
///
/// The limit counts real time, also for a test whose clock is paused or whose
/// threads are blocked.
///
/// A function that is not `async` is refused:
///
/// ```compile_fail
/// # mod trine_testkit { pub use trine_macros::test; }
/// #[trine_testkit::test]
/// fn not_async() {}
/// ```
///
/// An option that does not exist is refused:
///
/// ```compile_fail
/// # mod trine_testkit { pub use trine_macros::test; }
/// #[trine_testkit::test(timout = "5s")]
/// async fn misspelt() {}
/// ```
///
/// A paused clock needs a single thread:
///
/// ```compile_fail
/// # mod trine_testkit { pub use trine_macros::test; }
/// #[trine_testkit::test(start_paused = true, threads = 4)]
/// async fn contradictory() {}
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(options.into(), item.into())
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

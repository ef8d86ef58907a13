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
//! [`macro@locked`] is `#[trine_lock::locked]`; its example is there.
//!
//! # Guarantees
//!
//! * Misuse is a compile error at the place of the mistake that says what is
//!   expected, never a panic of the macro (`what_cannot_be_is_refused_in_its_place`).
//! * A body sees the names that it has without the attribute, and no others
//!   (`trine-lock`: `a_body_sees_its_own_names_only`).
//!
//! # Not provided
//!
//! Macros for crates of others: expansions name Trine crates by their own name.
//!
//! # Feature flags
//!
//! None.

mod locked;
mod test;
mod time;

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

/// Runs the body of an `async fn` while it holds a key.
///
/// Use it as `#[trine_lock::locked]`, on functions and methods that return
/// `Result<T, E>` with `E: From<trine_lock::Error>`:
///
/// ```ignore
/// #[trine_lock::locked(with = self.locks, key = "order:{user_id}", ttl = "60s", wait = "30s")]
/// async fn pay(&self, user_id: u64) -> Result<Receipt, AppError> {
///     // `?` and `return` are as in any function.
/// }
/// ```
///
/// It is `with_lock(key).options(…).fencing(…).run(async |guard| …)` of
/// `LockService` in the function's place, with all that says of losses and
/// errors: the body begins with the key only, and its future is dropped where it
/// waits when the lock is lost.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `with = self.locks` | the locks: a `LockService`, or what derefs to one | |
/// | `key = "order:{user_id}"` | the key; see below | |
/// | `read` | beside others who read; no `fencing` | alone |
/// | `permits = 10` | beside others, at most so many: a number, or a `NonZeroU32` | alone |
/// | `ttl = "60s"` | how long the store keeps the key without a renewal, 100ms to 1d | the configuration's |
/// | `wait = "30s"` | longest wait for the key; `"0s"` asks once | the configuration's |
/// | `at_least = "5s"`, `at_most = "10m"` | how long the key stays taken at least, and is held at most | none |
/// | `owner = request.id()` | who asks, for calls within calls | none |
/// | `label = "nightly import"` | what others are told of the holder | none |
/// | `fencing = [&self.db.global()]` | the resources that are shown the new fence before the body begins | none |
/// | `guard = lock` | the name of the `&Guard` (`&ReadGuard`, `&Permit`) in the body | not visible |
///
/// A time is a text with a unit (`ms`, `s`, `m`, `h`, `d`), which is checked
/// here, or an expression of type `Duration`. The other values are expressions;
/// they are evaluated at each call before the key is asked for, in the order of
/// `with`, the options as written, the key, the resources.
///
/// In a key, `{name}` shows an argument by its `Display`, and `{self.tenant}`,
/// `{order.id}` and `{pair.0}` a field of one; `{{` and `}}` are braces. There
/// are no formats (`{id:04}`). What the arguments make of it is checked at the
/// call: a key that is empty, longer than 200 bytes, or with a `#` or control
/// character is `Error::Key`. Separate arguments by what they cannot contain, or
/// two orders share a lock.
///
/// In an `impl` under `#[async_trait]`, functions are no longer `async` when
/// this attribute sees them: have them call one that is.
///
/// A key that names no argument is refused:
///
/// ```compile_fail
/// # mod trine_lock { pub use trine_macros::locked; }
/// #[trine_lock::locked(with = locks, key = "order:{user}")]
/// async fn pay(locks: &Locks, user_id: u64) -> Result<(), Error> {}
/// ```
///
/// A time needs a unit:
///
/// ```compile_fail
/// # mod trine_lock { pub use trine_macros::locked; }
/// #[trine_lock::locked(with = locks, key = "import", ttl = 60)]
/// async fn import(locks: &Locks) -> Result<(), Error> {}
/// ```
#[proc_macro_attribute]
pub fn locked(options: TokenStream, item: TokenStream) -> TokenStream {
    locked::expand(options.into(), item.into()).into()
}

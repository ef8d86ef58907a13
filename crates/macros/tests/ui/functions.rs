//! What cannot run while a key is held.

mod trine_lock {
    pub use trine_macros::locked;
}

struct Error;
struct Locks;

#[trine_lock::locked(with = locks, key = "a")]
fn not_async(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a")]
async fn no_result(locks: &Locks) {}

#[trine_lock::locked(with = locks, key = "a")]
struct NoFunction;

trait Import {
    #[trine_lock::locked(with = self.locks, key = "a")]
    async fn no_body(&self) -> Result<(), Error>;
}

fn main() {}

//! Keys that can never be one.

mod trine_lock {
    pub use trine_macros::locked;
}

struct Error;
struct Locks;

#[trine_lock::locked(with = locks, key = "")]
async fn empty(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{user}")]
async fn unknown_name(locks: &Locks, user_id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{self.id}")]
async fn no_self(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = LOCKS, key = "order:{id}")]
async fn no_arguments() -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{id")]
async fn not_closed(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{{id}")]
async fn not_opened(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{}")]
async fn no_name(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{id:04}")]
async fn a_format(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order:{id + 1}")]
async fn an_expression(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order#{id}")]
async fn a_hash(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "order\n{id}")]
async fn a_control_character(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = id)]
async fn no_text(locks: &Locks, id: u64) -> Result<(), Error> {
    Ok(())
}

fn main() {
    // What is refused is there nevertheless.
    let _ = (empty(&Locks), no_text(&Locks, 7), no_arguments());
}

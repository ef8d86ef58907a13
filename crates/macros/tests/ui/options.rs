//! Options that can never be one.

mod trine_lock {
    pub use trine_macros::locked;
}

struct Error;
struct Locks;

#[trine_lock::locked(with = locks, key = "a", tll = "60s")]
async fn misspelt(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", ttl = "60s", ttl = "30s")]
async fn twice(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(key = "a")]
async fn without_locks(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks)]
async fn without_key(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked]
async fn without_anything(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", ttl = 60)]
async fn without_unit(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", wait = "3 weeks")]
async fn unknown_unit(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", ttl = "99ms")]
async fn too_short(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", ttl = "25h")]
async fn too_long(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", at_most = "0s")]
async fn never(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", at_least = "10s", at_most = "5s")]
async fn contradictory(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", label = "")]
async fn no_label(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", owner = 7)]
async fn no_text(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", fencing = sink)]
async fn no_list(locks: &Locks, sink: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", guard = "lock")]
async fn no_name(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", read = true)]
async fn read_with_value(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", read, read)]
async fn read_twice(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", read, permits = 3)]
async fn read_and_permit(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", fencing = [locks], read)]
async fn fenced_reader(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", permits = 0)]
async fn no_permits(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", ttl)]
async fn no_value(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

#[trine_lock::locked(with = locks, key = "a", write)]
async fn unknown_word(locks: &Locks) -> Result<(), Error> {
    Ok(())
}

fn main() {}

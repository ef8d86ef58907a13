use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_core::{CallContext, Deadline, Secret, Tasks};

use crate::error::{Error, Result};
use crate::random::fill_random;

/// Most callers that wait for their turn; more are refused at once.
const WAITING: usize = 256;

/// Makes and checks Argon2id hashes with 19 MiB each.
///
/// At most as many run at once as there are cores, and each takes the memory
/// of one that is over. Cloning shares both.
#[derive(Clone)]
pub(crate) struct Passwords {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Tasks,
    /// Places for callers that hash or wait.
    places: Arc<Semaphore>,
    /// Turns for callers that hash.
    turns: Arc<Semaphore>,
    longest_wait: Duration,
    memory: Mutex<Vec<Vec<Block>>>,
    /// Checked in place of the hash of an account that does not exist, so that
    /// both answers take the same time.
    decoy: PasswordHash,
}

/// The right to hash now. Work that must not outrun the hashing, such as
/// counting a login as failed until it succeeds, is done before the right is
/// used.
pub(crate) struct Turn {
    shared: Arc<Shared>,
    held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Passwords {
    /// Returns a hasher that runs at most `at_once` hashes on threads of
    /// `tasks`, and lets nobody wait longer than `longest_wait` for a turn.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if the system has no random bits to give.
    pub(crate) fn new(at_once: usize, longest_wait: Duration, tasks: &Tasks) -> Result<Self> {
        let mut random = [0; Params::DEFAULT_OUTPUT_LEN];
        fill_random(&mut random)?;
        let decoy = stored(&Params::DEFAULT, &random_salt()?, &random)?;
        let shared = Shared {
            tasks: tasks.clone(),
            places: Arc::new(Semaphore::new(at_once.saturating_add(WAITING))),
            turns: Arc::new(Semaphore::new(at_once)),
            longest_wait,
            memory: Mutex::default(),
            decoy,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for a turn.
    ///
    /// Cancel-safe: dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Fails with `Exhausted` if too many wait already, and after the longest
    /// wait or at the deadline of the call.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        let shared = &self.shared;
        let place = Arc::clone(&shared.places).try_acquire_owned();
        let Ok(place) = place else { return Err(Error::TooManyHashes) };
        let waiting = Arc::clone(&shared.turns).acquire_owned();
        let deadline = Deadline::after(shared.longest_wait);
        match deadline.or_earlier(CallContext::current().deadline()).limit(waiting).await {
            Some(Ok(turn)) => Ok(Turn { shared: Arc::clone(shared), held: (place, turn) }),
            _ => Err(Error::TooManyHashes),
        }
    }
}

impl Turn {
    /// Returns the text to store for `password`.
    ///
    /// # Errors
    ///
    /// Fails with `Internal` if hashing fails.
    pub(crate) async fn hash(self, password: Secret) -> Result<String> {
        let hash = move |shared: &Shared| {
            let salt = random_salt()?;
            let output = shared.compute(&Params::DEFAULT, password.expose(), &salt)?;
            Ok(stored(&Params::DEFAULT, &salt, output.as_bytes())?.to_string())
        };
        self.run(hash).await
    }

    /// Tells whether `password` is the one that `hash` was made of. Takes as
    /// long without a hash as with one. `refused` runs if it is not, also for a
    /// caller that has gone away meanwhile.
    ///
    /// # Errors
    ///
    /// Fails with `Internal` if `hash` is none of [`hash`](Self::hash).
    pub(crate) async fn matches(
        self,
        password: Secret,
        hash: Option<String>,
        refused: impl FnOnce() + Send + 'static,
    ) -> Result<bool> {
        let check = move |shared: &Shared| {
            let known = hash.as_deref().map(PasswordHash::new).transpose().map_err(hashing)?;
            let expected = known.as_ref().unwrap_or(&shared.decoy);
            let params = Params::try_from(expected).map_err(hashing)?;
            let (Some(salt), Some(output)) = (&expected.salt, &expected.hash) else {
                return Err(hashing("the stored hash is not complete"));
            };
            // `Output` compares in constant time.
            let is_equal = shared.compute(&params, password.expose(), salt)? == *output;
            let is_right = is_equal && known.is_some();
            if !is_right {
                refused();
            }
            Ok(is_right)
        };
        self.run(check).await
    }

    /// Runs `work` on a thread of its own. The turn goes with it: a caller
    /// that is dropped does not let the next one in early.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Self { shared, held } = self;
        let tasks = shared.tasks.clone();
        let done = tasks.spawn_blocking("password", move || {
            let result = work(&shared);
            drop(held);
            result
        });
        done.await.map_err(hashing)?
    }
}

impl Shared {
    fn compute(&self, params: &Params, password: &str, salt: &[u8]) -> Result<Output> {
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut memory = self.lock().pop().unwrap_or_default();
        if memory.len() < params.block_count() {
            memory.resize(params.block_count(), Block::new());
        }
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let result = argon.hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            &mut output,
            &mut memory,
        );
        self.lock().push(memory);
        result.map_err(hashing)?;
        Output::new(&output).map_err(hashing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Block>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.shared.turns.available_permits();
        f.debug_struct("Passwords").field("free", &free).finish_non_exhaustive()
    }
}

fn random_salt() -> Result<Salt> {
    let mut salt = [0; Salt::RECOMMENDED_LENGTH];
    fill_random(&mut salt)?;
    Salt::new(&salt).map_err(hashing)
}

fn stored(params: &Params, salt: &Salt, output: &[u8]) -> Result<PasswordHash> {
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(hashing)?,
        salt: Some(*salt),
        hash: Some(Output::new(output).map_err(hashing)?),
    })
}

fn hashing(cause: impl Into<trine_core::BoxError>) -> Error {
    Error::Internal { what: "password hashing", cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use trine_core::ErrorKind;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(9);

    fn passwords(at_once: usize) -> Passwords {
        Passwords::new(at_once, LONGEST, &Tasks::new("test")).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = passwords(1);
        let hash = passwords.turn().await.unwrap().hash(Secret::new("correct horse")).await;
        let hash = hash.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        for (password, expected) in [("correct horse", true), ("correct horsf", false), ("", false)]
        {
            let turn = passwords.turn().await.unwrap();
            let matches =
                turn.matches(Secret::new(password), Some(hash.clone()), || {}).await.unwrap();
            assert_eq!(matches, expected, "{password}");
        }
    }

    #[tokio::test]
    async fn two_hashes_of_one_password_differ() {
        let passwords = passwords(1);
        let mut hashes = Vec::new();
        for _ in 0..2 {
            hashes.push(passwords.turn().await.unwrap().hash(Secret::new("same")).await.unwrap());
        }
        assert_ne!(hashes[0], hashes[1]);
    }

    #[tokio::test]
    async fn an_unknown_account_costs_a_hash_and_never_matches() {
        let passwords = passwords(1);
        let (refused, was_refused) = std::sync::mpsc::channel();
        let tell = move || refused.send(()).unwrap();
        let turn = passwords.turn().await.unwrap();
        assert!(!turn.matches(Secret::new("x"), None, tell).await.unwrap());
        was_refused.try_recv().unwrap();
        assert_eq!(passwords.shared.lock().len(), 1, "nothing was hashed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_hash_at_once_than_allowed_and_their_memory_is_reused() {
        let passwords = passwords(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let hash = |_| {
            let (passwords, running, most) = (passwords.clone(), running.clone(), most.clone());
            async move {
                let work = move |shared: &Shared| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    shared.compute(&Params::DEFAULT, "x", &[7; 16])?;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                passwords.turn().await.unwrap().run(work).await.unwrap();
            }
        };
        futures_util::future::join_all((0..12).map(hash)).await;
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
        assert!(passwords.shared.lock().len() <= 2, "memory was not reused");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_finds_too_many_waiting_is_told_so() {
        let passwords = passwords(1);
        let held = passwords.turn().await.unwrap();
        let kind = |error: Error| trine_core::Fault::kind(&error);
        let late = passwords.turn().await.map(drop).unwrap_err();
        assert_eq!(kind(late), ErrorKind::Exhausted);
        let waiting = futures_util::future::join_all((0..=WAITING).map(|_| passwords.turn()));
        let refused = waiting.await.into_iter().filter(Result::is_err).count();
        assert_eq!(refused, WAITING + 1);
        drop(held);
        assert!(passwords.turn().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_caller_does() {
        let passwords = passwords(1);
        let _held = passwords.turn().await.unwrap();
        let start = tokio::time::Instant::now();
        let impatient = CallContext::default().with_deadline(Deadline::after(LONGEST / 9));
        assert!(impatient.scope(passwords.turn()).await.is_err());
        assert_eq!(start.elapsed(), LONGEST / 9);
        assert!(passwords.turn().await.is_err());
        assert_eq!(start.elapsed(), LONGEST / 9 + LONGEST);
    }
}

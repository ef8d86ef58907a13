use std::future::Future;
use std::time::Duration;

use crate::engine;
use crate::error::{Error, Result};

/// Longest wait for several servers to agree.
const BOUND: Duration = Duration::from_secs(45);
/// Pause between two looks at them.
const LOOK: Duration = Duration::from_millis(20);

/// Asks until `state` has an answer, in real time.
pub(super) async fn until<T, F>(operation: &str, state: impl Fn() -> F + Send) -> Result<T>
where
    F: Future<Output = Result<Option<T>>> + Send,
{
    let deadline = engine::real_sleep(BOUND);
    tokio::pin!(deadline);
    loop {
        if let Some(answer) = state().await? {
            return Ok(answer);
        }
        tokio::select! {
            biased;
            () = &mut deadline => {
                return Err(Error::TimedOut { operation: operation.to_owned(), after: BOUND });
            }
            () = engine::real_sleep(LOOK) => {}
        }
    }
}

use std::future::Future;
use std::time::Duration;

use crate::engine;
use crate::error::{Error, Result};

/// Longest wait for several servers to agree.
const BOUND: Duration = Duration::from_secs(45);
/// Pause between two looks at them.
const LOOK: Duration = Duration::from_millis(20);

/// Asks until `state` has an answer, in real time. A server that cannot be
/// asked is asked again: one that is told of a new master drops its clients.
pub(super) async fn until<T, F>(operation: &str, state: impl Fn() -> F + Send) -> Result<T>
where
    F: Future<Output = Result<Option<T>>> + Send,
{
    let deadline = engine::real_sleep(BOUND);
    tokio::pin!(deadline);
    loop {
        let failed = match state().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        tokio::select! {
            biased;
            () = &mut deadline => {
                let timed_out = Error::TimedOut { operation: operation.to_owned(), after: BOUND };
                return Err(failed.unwrap_or(timed_out));
            }
            () = engine::real_sleep(LOOK) => {}
        }
    }
}

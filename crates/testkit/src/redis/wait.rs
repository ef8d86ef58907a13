use std::future::Future;
use std::io::ErrorKind;
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
        match state().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            // Sentinels end all connections of a server that they reconfigure.
            Err(error) if is_cut(&error) => {}
            Err(error) => return Err(error),
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

/// Tells whether a server ended a connection that it had taken.
fn is_cut(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    matches!(
        source.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_was_ended_is_asked_again() {
        let asked = AtomicU32::new(0);
        let state = || async {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Error::io("ask")(ErrorKind::UnexpectedEof.into())),
                1 => Ok(None),
                n => Ok(Some(n)),
            }
        };
        assert_eq!(until("wait", state).await.unwrap(), 2);
        let refused = || async {
            Err::<Option<()>, _>(Error::io("ask")(ErrorKind::ConnectionRefused.into()))
        };
        assert!(until("wait", refused).await.is_err());
    }
}

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

/// How long the others are waited for once somebody has answered.
const WINDOW: Duration = Duration::from_millis(250);

/// Asks all side by side and returns the answers of those that are not much
/// later than the first; else the last refusal.
pub(super) async fn gather<T, E>(
    asking: impl IntoIterator<Item = BoxFuture<'_, Result<T, E>>>,
) -> Result<Vec<T>, Option<E>> {
    let mut asking: FuturesUnordered<_> = asking.into_iter().collect();
    let mut last = None;
    let first = loop {
        match asking.next().await {
            Some(Ok(first)) => break first,
            Some(Err(refused)) => last = Some(refused),
            None => return Err(last),
        }
    };
    let mut answers = vec![first];
    let end = Instant::now() + WINDOW;
    while let Ok(Some(answered)) = timeout_at(end, asking.next()).await {
        answers.extend(answered);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::sleep;

    use super::*;

    async fn after(millis: u64, answer: Result<u64, u64>) -> Result<u64, u64> {
        sleep(Duration::from_millis(millis)).await;
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_soon_after_the_first_are_heard() {
        let asking = [
            after(1, Err(1)),
            after(2_000, Ok(2)),
            after(2_100, Ok(3)),
            after(2_150, Err(4)),
            after(9_000, Ok(5)),
        ];
        let began = Instant::now();
        assert_eq!(gather(asking.map(FutureExt::boxed)).await, Ok(vec![2, 3]));
        assert_eq!(began.elapsed(), Duration::from_millis(2_250));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_who_cannot_come() {
        let began = Instant::now();
        assert_eq!(
            gather([after(5, Ok(1)), after(7, Ok(2))].map(FutureExt::boxed)).await,
            Ok(vec![1, 2])
        );
        assert_eq!(began.elapsed(), Duration::from_millis(7));
        assert_eq!(
            gather([after(5, Err(1)), after(7, Err(2))].map(FutureExt::boxed)).await,
            Err(Some(2))
        );
    }
}

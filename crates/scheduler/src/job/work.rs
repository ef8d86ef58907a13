use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use trine_core::{BoxError, Report, Tasks};

use crate::{AttemptEnd, JobContext};

/// What a job does. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Work {
    Concurrent(Arc<dyn Fn(JobContext) -> Running + Send + Sync>),
    Blocking(Arc<dyn Fn(JobContext) -> Answer + Send + Sync>),
}

type Answer = Result<(), Box<str>>;
type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How a handler ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Failed(Box<str>),
    Panicked(Box<str>),
}

impl Work {
    pub(super) fn concurrent<H, F, E>(handler: H) -> Self
    where
        H: Fn(JobContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::Concurrent(Arc::new(move |context| {
            let future = handler(context);
            Box::pin(async move { future.await.map_err(|error| text_of(error.into())) })
        }))
    }

    pub(super) fn blocking<H, E>(handler: H) -> Self
    where
        H: Fn(JobContext) -> Result<(), E> + Send + Sync + 'static,
        E: Into<BoxError>,
    {
        Self::Blocking(Arc::new(move |context| {
            handler(context).map_err(|error| text_of(error.into()))
        }))
    }

    pub(crate) fn is_blocking(&self) -> bool {
        matches!(self, Self::Blocking(_))
    }

    /// Begins one attempt; dropping it stops it unless it blocks, which then
    /// goes on on its thread, owned by `threads`.
    pub(crate) fn begin(
        &self,
        context: JobContext,
        threads: &Tasks,
    ) -> Pin<Box<dyn Future<Output = Ended> + Send>> {
        match self {
            Self::Concurrent(handler) => {
                let handler = Arc::clone(handler);
                // The handler itself may panic before it has made a future.
                let work = AssertUnwindSafe(async move { handler(context).await });
                Box::pin(async move { ended(work.catch_unwind().await) })
            }
            Self::Blocking(handler) => {
                let handler = Arc::clone(handler);
                let work = move || ended(catch_unwind(AssertUnwindSafe(|| handler(context))));
                let thread = threads.spawn_blocking("blocking job", work);
                Box::pin(async move {
                    let not_run = |_| Ended::Failed("its thread was not run".into());
                    thread.await.unwrap_or_else(not_run)
                })
            }
        }
    }
}

fn ended(result: Result<Answer, Box<dyn Any + Send>>) -> Ended {
    match result {
        Ok(Ok(())) => Ended::Done,
        Ok(Err(error)) => Ended::Failed(error),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Ended::Panicked(cut(text.unwrap_or_else(|| "not a text".to_owned())))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a boxed error ends here")]
fn text_of(error: BoxError) -> Box<str> {
    cut(Report(&*error).to_string())
}

/// Keeps what a store keeps of a text.
fn cut(mut text: String) -> Box<str> {
    if text.len() > AttemptEnd::MAX_ERROR {
        text.truncate(text.floor_char_boundary(AttemptEnd::MAX_ERROR));
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("import")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_text_of_an_error_has_its_sources_and_is_cut_between_characters() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(&*text_of(error.into()), "import: disk full");
        let long = "é".repeat(AttemptEnd::MAX_ERROR);
        assert_eq!(cut(format!("x{long}")).len(), AttemptEnd::MAX_ERROR - 1);
    }

    #[test]
    fn a_panic_keeps_what_it_said() {
        let said = |panic: Box<dyn Any + Send>| ended(Err(panic));
        assert_eq!(said(Box::new("a")), Ended::Panicked("a".into()));
        assert_eq!(said(Box::new("b".to_owned())), Ended::Panicked("b".into()));
        assert_eq!(said(Box::new(3)), Ended::Panicked("not a text".into()));
    }
}

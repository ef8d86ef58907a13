use std::io;

/// Returns a future that ends when the process is asked to stop: SIGTERM or
/// SIGINT, elsewhere Ctrl-C.
///
/// On Unix the signals are taken over from the moment of the call, even if the
/// future is never polled.
///
/// # Errors
///
/// Fails if the operating system refuses the handlers, or outside of a tokio
/// runtime.
#[cfg(unix)]
pub fn signals() -> io::Result<impl Future<Output = ()> + Send + use<>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Returns a future that ends when the process is asked to stop: Ctrl-C.
///
/// # Errors
///
/// Never fails; the handler is set when the future is first polled.
#[cfg(not(unix))]
pub fn signals() -> io::Result<impl Future<Output = ()> + Send + use<>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

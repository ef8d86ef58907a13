use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use trine_core::{Intensity, Tasks};

use super::place::TAGS;
use super::{FIELDS_PER_SCAN, Store, script};

/// Lets go of what is over and nobody asks for, one script each `interval`.
pub(super) fn begin(tasks: &Tasks, store: Arc<Store>, interval: Duration) {
    let token = tasks.token();
    // Processes that start together begin elsewhere.
    let first = u16::from(uuid::Uuid::new_v4().as_bytes()[0]);
    tasks.supervise("lock sweep", Intensity::default(), move || {
        let (store, token) = (Arc::clone(&store), token.clone());
        async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = sweep(&store, interval, first) => {}
            }
        }
    });
}

async fn sweep(store: &Store, interval: Duration, first: u16) {
    let mut tag = first;
    let mut cursor: Box<str> = "0".into();
    loop {
        sleep(interval).await;
        let command = store.command(&script::SWEEP, tag);
        // What fails is met again in the next round.
        let reply = store.pool.run(&command.arg(&*cursor).arg(FIELDS_PER_SCAN)).await;
        cursor = reply.ok().and_then(|next| next.as_text().map(Into::into)).unwrap_or("0".into());
        if &*cursor == "0" {
            tag = (tag + 1) % TAGS;
        }
    }
}

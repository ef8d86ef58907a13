use std::process::id;
use std::sync::Arc;

use uuid::Uuid;

/// Returns a new name for this process as others see it: host, process id and a
/// random part, so that two services of one process are two.
#[must_use]
pub fn process_name() -> Arc<str> {
    let random = Uuid::new_v4().simple().to_string();
    format!("{}:{}:{}", host(), id(), random.get(..12).unwrap_or_default()).into()
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    "host".to_owned()
}

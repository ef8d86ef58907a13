use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Context, Result};
use crate::run::Run;

/// Longest wait for the keeper to end its server.
const GRACE: Duration = Duration::from_secs(15);

/// Starts what follows the folder as a child, waits until its own input ends
/// and then ends the child. The input ends when this tool closes it or dies,
/// whichever way, so that no server outlives a run.
const SERVE: &str = r#"
trap '' INT TERM HUP
folder=$1
shift
"$@" 2>"$folder/log" </dev/null &
server=$!
exec >/dev/null 2>&1
cat
kill -KILL "$server"
wait "$server"
rm -rf -- "$folder"
"#;

/// Waits until its input ends and then removes a container.
const CONTAIN: &str = r#"
trap '' INT TERM HUP
exec >/dev/null 2>&1
cat
docker rm --force --volumes "$1"
"#;

/// A shell process that owns a server and outlives this tool only to end it.
#[derive(Debug)]
pub(super) struct Keeper {
    shell: Child,
    lifeline: Option<ChildStdin>,
    ended: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts `server`, whose folder is removed after its end.
    pub(super) fn serve(folder: &Folder, server: Run) -> Result<Self> {
        let server = server.into_command();
        let mut command = Command::new("sh");
        command.args(["-c", SERVE, "keeper"]).arg(&folder.0);
        command.arg(server.get_program()).args(server.get_args());
        Self::start(command)
    }

    /// Looks after the container `id`, which runs already.
    pub(super) fn contain(id: &str) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", CONTAIN, "keeper", id]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        // A group of its own: an interrupt from the terminal ends the tests and
        // this tool, and the keeper then ends the server.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().context("start a shell")?;
        let ended = Arc::new(AtomicBool::new(false));
        if let Some(mut output) = shell.stdout.take() {
            let ended = Arc::clone(&ended);
            // Only the server still holds this pipe: its end is the server's.
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while matches!(output.read(&mut chunk), Ok(length) if length > 0) {}
                ended.store(true, Ordering::Release);
            });
        }
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline, ended })
    }

    /// Reports whether the server has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.lifeline = None;
        let end = Instant::now() + GRACE;
        while matches!(self.shell.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = writeln!(
                    std::io::stderr(),
                    "warning: a test server did not end within {GRACE:?}"
                );
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A new folder for one server, which the keeper removes.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder below `parent` that only its owner may enter.
    pub(super) fn create(parent: &std::path::Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("trine-xtask-{}-{number}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .context(format_args!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Returns the folder's path.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Removes the folder of a server that never started.
    pub(super) fn discard(self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn sleeper() -> (Keeper, PathBuf, u32) {
        let folder = Folder::create(&std::env::temp_dir()).unwrap();
        let path = folder.path().to_owned();
        let script = "echo $$ >\"$0/pid.new\" && mv \"$0/pid.new\" \"$0/pid\"; exec sleep 600";
        let server = Run::new("sh").args(["-c", script]).args([&path]);
        let keeper = Keeper::serve(&folder, server).unwrap();
        wait_until("the child writes its id", || path.join("pid").exists());
        let pid = fs::read_to_string(path.join("pid")).unwrap().trim().parse().unwrap();
        (keeper, path, pid)
    }

    fn is_alive(pid: u32) -> bool {
        Run::new("kill").args(["-0".to_owned(), pid.to_string()]).succeeds()
    }

    #[test]
    fn dropping_the_keeper_ends_the_server_and_removes_its_folder() {
        let (keeper, path, pid) = sleeper();
        assert!(is_alive(pid) && !keeper.has_ended());
        drop(keeper);
        assert!(!is_alive(pid));
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_ends_by_itself_is_noticed() {
        let (keeper, _path, pid) = sleeper();
        assert!(Run::new("kill").args(["-KILL".to_owned(), pid.to_string()]).succeeds());
        wait_until("the keeper reports the end", || keeper.has_ended());
    }
}

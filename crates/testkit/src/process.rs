//! Processes that end with this one.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::clock::ClockShim;
use crate::error::{Error, Result};
use crate::scratch::Scratch;
use crate::user::User;
use crate::{engine, env};

/// How often a process is asked whether it has changed.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for a signal to take effect.
const SIGNAL_BOUND: Duration = Duration::from_secs(10);
/// How much of a log an error shows.
const LOG_TAIL: usize = 4_096;

/// How to start a [`Child`].
pub struct ChildBuilder {
    program: PathBuf,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    user: Option<User>,
    ahead: Option<i64>,
    scratch: Option<Arc<Scratch>>,
}

impl ChildBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment; the others are those of this
    /// process.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets the folder it runs in. Default: that of this process.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Appends its output to the file at `path`, which stays. Default: a file
    /// that goes with the [`Child`].
    #[must_use]
    pub fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Has its wall clock, and that of what it starts, so many seconds ahead of
    /// the machine's, behind it if negative; what measures time in other ways
    /// goes on. Needs a C compiler, `cc`. Default: that of the machine.
    #[must_use]
    pub fn clock(mut self, ahead: i64) -> Self {
        self.ahead = Some(ahead);
        self
    }

    /// Runs it with the rights of `user` instead of ours.
    pub(crate) fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Keeps `scratch` until the process is gone.
    pub(crate) fn keep(mut self, scratch: &Arc<Scratch>) -> Self {
        self.scratch = Some(Arc::clone(scratch));
        self
    }

    /// Starts the process, with nothing to read on its standard input.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Io`] if the program or its log cannot be opened, and
    /// with [`Error::NoServer`] where there is no `setpriv`, or no `cc` for a
    /// clock.
    pub fn spawn(self) -> Result<Child> {
        let (scratch, log) = match self.log {
            Some(log) => (self.scratch, log),
            None => {
                let scratch = Arc::new(Scratch::new("child")?);
                let log = scratch.path().join("log");
                (Some(scratch), log)
            }
        };
        let (scratch, clock) = match self.ahead {
            Some(ahead) => {
                let scratch = scratch.map_or_else(|| Scratch::new("child").map(Arc::new), Ok)?;
                let micros = ahead.saturating_mul(1_000_000);
                let clock = ClockShim::make(scratch.path(), self.user, micros)?;
                (Some(scratch), Some(clock))
            }
            None => (scratch, None),
        };
        let name = self.program.display().to_string();
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io(format!("open log {}", log.display())))?;
        let errors = output.try_clone().map_err(Error::io("share the log"))?;

        let mut command = mortal(&self.program, self.user.as_ref())?;
        command
            .args(self.args)
            .envs(self.variables)
            .envs(clock.iter().flat_map(ClockShim::variables))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let process = spawn_from_keeper(command).map_err(Error::io(format!("start {name}")))?;
        let pid = process.id();
        let leader = Leader { process, is_reaped: false };
        Ok(Child { pid, name, process: Mutex::new(Some(leader)), log, scratch })
    }
}

impl fmt::Debug for ChildBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and variables may be secrets.
        f.debug_struct("ChildBuilder").field("program", &self.program).finish_non_exhaustive()
    }
}

/// A process of a test: killed, paused and resumed at will, and gone with the
/// process that started it, even if that is killed itself.
///
/// Dropping it kills it. A kill takes along what it started, unless that made a
/// process group of its own; what it left behind when it ended by itself is only
/// found as long as nobody has noticed the end.
///
/// # Example
///
/// ```
/// # #[trine_testkit::test]
/// # async fn example() {}
/// use std::time::Duration;
/// use trine_testkit::{Child, Result};
///
/// # async fn example_body() -> Result<()> {
/// let child = Child::builder("/bin/sh").args(["-c", "echo up; sleep 60"]).spawn()?;
/// child.wait_for_log("up", Duration::from_secs(10)).await?;
/// child.pause().await?;
/// child.resume()?;
/// child.kill().await?;
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
/// #     .block_on(example_body()).unwrap();
/// ```
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    /// Empty once the drop has taken it away.
    process: Mutex<Option<Leader>>,
    log: PathBuf,
    /// Removed once the process no longer writes there.
    scratch: Option<Arc<Scratch>>,
}

/// The process itself, which leads a group of its own.
#[derive(Debug)]
struct Leader {
    process: std::process::Child,
    /// Its id, and that of its group, is its own until it was waited for.
    is_reaped: bool,
}

impl Leader {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.process.try_wait()?;
        self.is_reaped |= status.is_some();
        Ok(status)
    }

    /// Kills it and what it started.
    fn kill(&self) -> io::Result<()> {
        match pid_of(self.process.id()).filter(|_| !self.is_reaped) {
            Some(group) => kill_process_group(group, Signal::KILL).map_err(Into::into),
            None => Ok(()),
        }
    }
}

impl Child {
    /// Returns how to start `program`, a path or a name to look up.
    #[must_use]
    pub fn builder(program: impl Into<PathBuf>) -> ChildBuilder {
        ChildBuilder {
            program: program.into(),
            args: Vec::new(),
            variables: Vec::new(),
            folder: None,
            log: None,
            user: None,
            ahead: None,
            scratch: None,
        }
    }

    /// Returns the process id. It names nobody once the process was waited for.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells whether the process still runs or is paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// Kills the process and what it started with SIGKILL, and waits until the
    /// process is gone. Succeeds also if it had ended before.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] if it is still there after 10 s.
    pub async fn kill(&self) -> Result<ExitStatus> {
        if let Some(process) = self.lock().as_ref() {
            process.kill().map_err(Error::io(format!("kill {}", self.name)))?;
        }
        self.wait(SIGNAL_BOUND).await
    }

    /// Asks the process to end with SIGTERM, without waiting.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`] if it has ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal("terminate", Signal::TERM)
    }

    /// Asks the process to end with SIGINT, as a terminal does, without waiting.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`] if it has ended.
    pub fn interrupt(&self) -> Result<()> {
        self.signal("interrupt", Signal::INT)
    }

    /// Stops the process with SIGSTOP and waits until it stands: its
    /// connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`] if it has ended.
    pub async fn pause(&self) -> Result<()> {
        self.signal("pause", Signal::STOP)?;
        let stopped = || {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            let pid = pid_of(self.pid)?;
            waitid(WaitId::Pid(pid), options).ok().flatten()
        };
        until(SIGNAL_BOUND, || format!("pause {}", self.name), || Ok(stopped())).await.map(drop)
    }

    /// Lets a paused process go on with SIGCONT.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`] if it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal("resume", Signal::CONT)
    }

    /// Waits for the process to end, for at most `bound` of real time.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] if it still runs.
    pub async fn wait(&self, bound: Duration) -> Result<ExitStatus> {
        until(bound, || format!("wait for the end of {}", self.name), || self.try_wait()).await
    }

    /// Waits until its output has a line with `text` in it, and returns the
    /// line.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Start`] if the process ends before, and with
    /// [`Error::TimedOut`] after `bound`.
    pub async fn wait_for_log(&self, text: &str, bound: Duration) -> Result<String> {
        let found = || {
            // Asked before reading: what it wrote last is then in the text.
            let ended = self.try_wait()?;
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(Some(line.to_owned()));
            }
            match ended {
                None => Ok(None),
                Some(status) => Err(self.failed_to_start(format!("{status} before `{text}`"))),
            }
        };
        until(bound, || format!("wait for `{text}` from {}", self.name), found).await
    }

    /// Returns what the process has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn failed_to_start(&self, reason: String) -> Error {
        let log = self.log();
        let mut from = log.len().saturating_sub(LOG_TAIL);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        let log = log.get(from..).unwrap_or_default().to_owned();
        Error::Start { program: self.name.clone(), reason, log }
    }

    pub(crate) fn try_wait(&self) -> Result<Option<ExitStatus>> {
        match self.lock().as_mut() {
            Some(process) => {
                process.try_wait().map_err(Error::io(format!("wait for {}", self.name)))
            }
            None => Ok(None),
        }
    }

    fn signal(&self, operation: &'static str, signal: Signal) -> Result<()> {
        let ended = || Error::NotRunning { operation, program: self.name.clone() };
        let mut process = self.lock();
        let process = process.as_mut().ok_or_else(ended)?;
        // Under the lock and not yet waited for, so the id is still its own.
        if !matches!(process.try_wait(), Ok(None)) {
            return Err(ended());
        }
        let pid = pid_of(self.pid).ok_or_else(ended)?;
        kill_process(pid, signal)
            .map_err(|error| Error::io(format!("{operation} {}", self.name))(error.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Leader>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut process) = self.lock().take() else {
            return;
        };
        let scratch = self.scratch.take();
        // Fails only if nobody is left.
        let _ = process.kill();
        engine::clean_up(async move {
            let reaped = || Ok(process.try_wait().unwrap_or_default());
            let _ = until(SIGNAL_BOUND, String::new, reaped).await;
            drop(scratch);
        });
    }
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Asks `state` until it answers, for at most `bound` of real time.
pub(crate) async fn until<T>(
    bound: Duration,
    operation: impl FnOnce() -> String,
    mut state: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(answer) = state()? {
            return Ok(answer);
        }
        if waited >= bound {
            return Err(Error::TimedOut { operation: operation(), after: bound });
        }
        engine::real_sleep(POLL).await;
        waited += POLL;
    }
}

/// Returns the path of the first of `names` that is a program on this machine.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let folders = env::program_folders();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// Returns a command for `program` that the kernel kills when this process
/// ends, with the rights of `user` if given.
pub(crate) fn mortal(program: &Path, user: Option<&User>) -> Result<Command> {
    let setpriv = find_program(&["setpriv"]).ok_or_else(|| {
        Error::NoServer(
            "`setpriv` of util-linux is not on this machine: without it a child process \
             would outlive a test that is killed, so none is started"
                .into(),
        )
    })?;
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid()));
        command.arg(format!("--regid={}", user.gid()));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program);
    // A signal from the terminal is for the tests; the kernel passes it on by
    // ending this process.
    command.process_group(0);
    Ok(command)
}

type Job = (Command, mpsc::SyncSender<io::Result<std::process::Child>>);

/// Starts `command` from a thread that lives as long as this process: a
/// parent-death signal is sent when the *thread* that started a child ends.
pub(crate) fn spawn_from_keeper(command: Command) -> io::Result<std::process::Child> {
    static KEEPER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let work = move || {
            for (mut command, reply) in jobs {
                // Whoever asked waits for the answer.
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new().name("trine-testkit-keeper".into()).spawn(work).ok().map(|_| sender)
    });
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (reply, answer) = mpsc::sync_channel(1);
    keeper.as_ref().ok_or_else(gone)?.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{CARGO_TEST, Report};
use crate::failure::{Context, Failure, Result};
use crate::servers::Servers;
use crate::workspace::Workspace;

/// The test binaries of a build, by file name.
#[derive(Debug, Default)]
pub(crate) struct Binaries(BTreeMap<String, Binary>);

/// A test binary.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) package: String,
    /// Whether it is an integration test, as opposed to unit tests.
    pub(crate) integration: bool,
    pub(crate) executable: String,
}

impl Binaries {
    /// Builds the tests without running them.
    ///
    /// # Errors
    ///
    /// Fails if they do not build; cargo has then said why.
    pub(crate) fn build(workspace: &Workspace, args: &[String]) -> Result<Self> {
        let run = workspace
            .cargo()
            .args(CARGO_TEST)
            .args(["--no-run", "--message-format=json-render-diagnostics"])
            .args(args);
        println!("$ {}", run.line());
        let line = run.line().to_owned();
        let mut command = run.into_command();
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context(&line)?;
        if !output.status.success() {
            let code = output.status.code().unwrap_or(1);
            return Err(Failure::new("the tests do not build").with_code(code));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(messages: &str) -> Self {
        let binaries =
            messages.lines().filter_map(|line| Binary::parse(&serde_json::from_str(line).ok()?));
        Self(binaries.filter_map(|binary| Some((file_name(&binary.executable)?, binary))).collect())
    }

    /// Returns the binary that cargo announces by its path.
    pub(crate) fn get(&self, path: &str) -> Option<&Binary> {
        self.0.get(&file_name(path)?)
    }

    /// Returns all binaries in the order of their file names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Binary> {
        self.0.values()
    }
}

impl Binary {
    fn parse(message: &Value) -> Option<Self> {
        let test = message.pointer("/profile/test")?.as_bool()?;
        let kinds = message.pointer("/target/kind")?.as_array()?;
        let manifest = Path::new(message.get("manifest_path")?.as_str()?);
        test.then_some(Self {
            package: package(message.get("package_id")?.as_str()?, manifest)?,
            integration: kinds.iter().any(|kind| kind == "test"),
            executable: message.get("executable")?.as_str()?.to_owned(),
        })
    }
}

/// Reads the name from `path+file:///…/core#trine-core@0.1.0`; it is left out
/// there when the folder has the same name.
fn package(id: &str, manifest: &Path) -> Option<String> {
    let (_, fragment) = id.rsplit_once('#')?;
    Some(match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => manifest.parent()?.file_name()?.to_str()?.to_owned(),
    })
}

fn file_name(path: &str) -> Option<String> {
    Some(Path::new(path).file_name()?.to_str()?.to_owned())
}

/// Runs the built tests and shows what they print as it comes. The second half
/// of the answer is the verdict of `cargo test`.
///
/// # Errors
///
/// Fails if cargo cannot be started.
pub(crate) fn execute(
    workspace: &Workspace,
    args: &[String],
    servers: &Servers,
    variables: &[(&str, String)],
    binaries: &Binaries,
) -> Result<(Report, Result<()>)> {
    let mut run = workspace.cargo().args(CARGO_TEST).args(args);
    for (name, value) in servers.variables() {
        run = run.env(name, value);
    }
    for (name, value) in variables {
        run = run.env(name, value);
    }
    println!("$ {}", run.line());
    let line = run.line().to_owned();
    // One pipe for both streams: cargo names a binary on one of them and the
    // binary answers on the other.
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut command = run.into_command();
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone().context("make a pipe")?).stderr(writer);
    let mut child = command.spawn().context(&line)?;
    // The command holds the writing end, and the pipe would never end.
    drop(command);
    let mut report = Report::default();
    let lines = read_lines(reader);
    let status = loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                let mut output = std::io::stdout().lock();
                let _ = output.write_all(&line);
                let _ = output.flush();
                report.read(String::from_utf8_lossy(&line).trim_end(), binaries);
            }
            Err(RecvTimeoutError::Disconnected) => break child.wait(),
            // A process that a test left behind may hold the pipe for ever.
            Err(RecvTimeoutError::Timeout) => match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(error) => break Err(error),
            },
        }
    };
    report.close();
    let status = status.context(&line)?;
    let verdict = if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{line}` ended with {status}"))
            .with_code(status.code().unwrap_or(1)))
    };
    Ok((report, verdict))
}

fn read_lines(reader: PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1024);
    thread::spawn(move || forward(reader, &sender));
    receiver
}

fn forward(reader: PipeReader, sender: &SyncSender<Vec<u8>>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(length) if length > 0 && sender.send(line).is_ok() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Binaries {
    Binaries::parse(tests::MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///house/crates/core#trine-core@0.1.0","manifest_path":"/house/crates/core/Cargo.toml","target":{"kind":["test"],"name":"it"},"profile":{"test":true},"executable":"/house/target/debug/deps/it-0a1b"}"#;

    #[test]
    fn binaries_are_found_by_the_path_that_cargo_announces() {
        let other = MESSAGE.replace("\"test\":true", "\"test\":false");
        let binaries = Binaries::parse(&format!("{MESSAGE}\nno json\n{other}\n"));
        let found = binaries.get("target/debug/deps/it-0a1b").unwrap();
        assert_eq!(found.package, "trine-core");
        assert!(found.integration);
        assert_eq!(binaries.iter().count(), 1);
    }

    #[test]
    fn a_package_named_like_its_folder_is_found_too() {
        let manifest = Path::new("/house/crates/xtask/Cargo.toml");
        assert_eq!(package("path+file:///house/crates/xtask#0.1.0", manifest).unwrap(), "xtask");
    }
}

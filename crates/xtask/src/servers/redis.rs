use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::account::Account;
use super::docker::{self, Image};
use super::keeper::Folder;
use super::machine::{self, Place};
use super::packages::{self, Package};
use super::url::{Address, credentials};
use super::{Engine, Server, ServerOptions, Tested};
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Names the variable that points the tests at a Redis server.
const URL: &str = "TRINE_TEST_REDIS_URL";
/// Names the variable that points the tests at Redis sentinels.
const SENTINELS: &str = "TRINE_TEST_REDIS_SENTINELS";
/// Names the variable that points the tests at a Redis cluster.
const CLUSTER: &str = "TRINE_TEST_REDIS_CLUSTER";

const PORT: u16 = 6379;
const NAMED: &str = "named by the environment";

/// Where Redis comes from if it is not there.
pub(super) const PACKAGE: Package = Package {
    server: "Redis",
    name: "redis-tools",
    otherwise: "install Redis 7.0 or newer, or set TRINE_TEST_REDIS_URL=redis://host:port",
};

/// The Redis that Debian 12 has too. It keeps nothing, as the test kit's own.
const IMAGE: Image = Image {
    image: "redis:7.0",
    port: PORT,
    variable: None,
    options: &["redis-server", "--save", "", "--enable-debug-command", "yes"],
    named: URL,
};

/// Longest wait for one answer of a server that is up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns a server from the variable, else from the machine, else from Docker;
/// `None` if a package is left. Sentinels and clusters come from a program of
/// the machine only, so where one can be installed it goes before Docker.
pub(super) fn find(options: &ServerOptions) -> Result<Option<Server>> {
    if let Some(url) = super::variable(URL) {
        return named(url).map(Some);
    }
    if let Some(program) = program() {
        return start(&program, "redis-server of this machine").map(Some);
    }
    if !packages::can_install(options.no_install) && docker::engine_answers() {
        println!("no redis-server on this machine; starting {} in Docker", IMAGE.image);
        let (address, version, keeper) =
            docker::start(&IMAGE, |address| version_at(address, None))?;
        let server = server(version, format!("redis://{address}/"), "in Docker");
        return Ok(Some(Server { _keeper: Some(keeper), ..server }));
    }
    Ok(None)
}

/// Starts the server of the package that was installed.
pub(super) fn start_installed() -> Result<Server> {
    let program =
        program().ok_or_else(|| PACKAGE.without("redis-server or redis-check-rdb in PATH"))?;
    start(&program, "redis-server of the package installed now")
}

/// Returns what the tests of each topology run against. Only the single server
/// is handed out; the test kit starts the others from the same program, unless
/// their variables name some.
pub(super) fn tested(server: &Server) -> Vec<Tested> {
    let single = Tested {
        name: "Redis",
        version: server.version.clone(),
        origin: server.origin,
        family: "redis",
    };
    let several = [
        ("Redis Sentinel", "redis_sentinel", SENTINELS),
        ("Redis Cluster", "redis_cluster", CLUSTER),
    ];
    let several = several.map(|(name, family, variable)| {
        let (version, origin) = match super::variable(variable) {
            Some(list) => (version_of_first(&list), NAMED),
            None => (version_of_program(), "started by the tests"),
        };
        Tested { name, version: version.unwrap_or_else(|| "unknown".to_owned()), origin, family }
    });
    [single].into_iter().chain(several).collect()
}

/// Returns the server of this machine. Distributions that split it from its
/// tools install the same program with both; its name decides what it is.
fn program() -> Option<PathBuf> {
    ["redis-server", "redis-check-rdb"]
        .iter()
        .find_map(|name| machine::find(name, &machine::SYSTEM))
}

fn named(url: String) -> Result<Server> {
    let malformed =
        || Failure::new(format!("{URL} is not of the form redis://user:password@host:port"));
    let address = Address::parse(&url, &["redis"], PORT).ok_or_else(malformed)?;
    let version = version_at(&address, credentials(&url).as_ref())
        .context(format_args!("{URL}: no server answers at {address}"))?;
    Ok(server(version, url, NAMED))
}

fn server(version: String, url: String, origin: &'static str) -> Server {
    Server { engine: Engine::Redis, version, variables: vec![(URL, url)], origin, _keeper: None }
}

/// Starts `program` on loopback, on a free port and an empty folder.
fn start(program: &Path, origin: &'static str) -> Result<Server> {
    let account = Account::choose()?;
    let prepare = |place: &Place<'_>| {
        let link = place.folder.join("redis-server");
        symlink(program, &link).context(link.display())?;
        Ok(account.run(&link).args(options(place)))
    };
    // The socket file is this server's own, and it appears after the port is
    // bound: a stranger on the same port cannot have made it.
    let ask = |place: &Place<'_>| {
        std::fs::metadata(place.folder.join("s.sock"))?;
        version_at(&Address { host: "127.0.0.1".to_owned(), port: place.port }, None)
    };
    let (address, version, keeper) = machine::start("redis-server", &account, prepare, ask)?;
    let server = server(version, format!("redis://{address}/"), origin);
    Ok(Server { _keeper: Some(keeper), ..server })
}

/// Returns the options of the server that lives at `place`: those that the test
/// kit gives its own.
fn options(place: &Place<'_>) -> Vec<String> {
    let folder = place.folder.display().to_string();
    let log = place.log().display().to_string();
    let socket = place.folder.join("s.sock").display().to_string();
    let port = place.port.to_string();
    [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--dir", &folder],
        ["--unixsocket", &socket],
        ["--logfile", &log],
        ["--save", ""],
        ["--maxmemory-policy", "noeviction"],
        ["--enable-debug-command", "local"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

fn version_of_first(list: &str) -> Option<String> {
    let address = Address::of_place(list.split(',').next()?.trim(), PORT)?;
    version_at(&address, None).ok()
}

/// Reads `Redis server v=7.0.15 sha=…`.
fn version_of_program() -> Option<String> {
    let folder = Folder::create(&std::env::temp_dir()).ok()?;
    let link = folder.path().join("redis-server");
    let text = symlink(program()?, &link)
        .ok()
        .and_then(|()| Run::new(&link).args(["--version"]).text().ok());
    folder.discard();
    let text = text?;
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

/// Asks the server at `address` for its version.
fn version_at(address: &Address, account: Option<&[String; 2]>) -> io::Result<String> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for place in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return version(&stream, account);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn version(mut stream: &TcpStream, account: Option<&[String; 2]>) -> io::Result<String> {
    let mut answers = BufReader::new(stream);
    if let Some([name, password]) = account {
        send(&mut stream, &["AUTH", name, password])?;
        read(&mut answers)?;
    }
    send(&mut stream, &["INFO", "server"])?;
    let text = read(&mut answers)?;
    let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version.map(|version| version.trim().to_owned()).ok_or_else(stranger)
}

fn send(stream: &mut impl Write, words: &[&str]) -> io::Result<()> {
    let bulk: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    stream.write_all(format!("*{}\r\n{bulk}", words.len()).as_bytes())
}

/// Reads one answer, a line or a text of announced length; a refusal is an error.
fn read(answers: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    match kind {
        "+" => Ok(rest.to_owned()),
        "-" => {
            let reason = format!("the server refuses: {rest}");
            Err(io::Error::new(ErrorKind::ConnectionRefused, reason))
        }
        "$" => {
            let length: usize = rest.parse().map_err(|_| stranger())?;
            let mut text = vec![0; length.min(1 << 20)];
            answers.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Err(stranger()),
    }
}

fn stranger() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is not that of Redis")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers each of `answers` to whatever comes and returns what came.
    fn answering<const N: usize>(
        answers: [&'static str; N],
    ) -> (Address, thread::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            for answer in answers {
                let mut chunk = [0; 1024];
                let length = stream.read(&mut chunk).unwrap();
                asked += &String::from_utf8_lossy(&chunk[..length]);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (Address { host: "127.0.0.1".to_owned(), port }, server)
    }

    #[test]
    fn the_version_is_asked_for_as_the_account_of_the_url() {
        let info = "$40\r\n# Server\r\nredis_version:7.0.15\r\nredis_git\r\n";
        let (address, server) = answering(["+OK\r\n", info]);
        let account = ["bob", "p ss"].map(str::to_owned);
        assert_eq!(version_at(&address, Some(&account)).unwrap(), "7.0.15");
        let asked = server.join().unwrap();
        assert!(asked.starts_with("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$4\r\np ss\r\n"), "{asked}");
    }

    #[test]
    fn a_refusal_and_a_stranger_are_errors() {
        let (address, _server) = answering(["-NOAUTH Authentication required.\r\n"]);
        let refusal = version_at(&address, None).unwrap_err();
        assert!(refusal.to_string().contains("NOAUTH"), "{refusal}");
        let (address, _server) = answering(["HTTP/1.1 400 Bad Request\r\n"]);
        assert!(version_at(&address, None).is_err());
    }

    #[test]
    fn a_server_listens_on_loopback_and_keeps_nothing() {
        let options = options(&Place { folder: Path::new("/srv/one"), port: 3_311 });
        for expected in [["--bind", "127.0.0.1"], ["--save", ""], ["--dir", "/srv/one"]] {
            assert!(options.windows(2).any(|pair| pair == expected), "{expected:?}: {options:?}");
        }
    }
}

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use trine_testkit::{Door, DropPlan, Flow, Protocol, Proxy, Result, Side};

/// Longest wait for what must happen.
const SOON: Duration = Duration::from_secs(10);
/// Wait for what must not happen.
const WHILE: Duration = Duration::from_millis(150);

/// A server that sends back what it gets, and tells how each connection ended:
/// the error, or how many bytes came before the end.
struct Echo {
    addr: SocketAddr,
    ends: tokio::sync::mpsc::UnboundedReceiver<io::Result<u64>>,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, ends) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::runtime::Handle::current().spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let told = told.clone();
                connections.spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let copied = tokio::io::copy(&mut reader, &mut writer).await;
                    let _ = writer.shutdown().await;
                    let _ = told.send(copied);
                });
            }
        });
        Self { addr, ends, task }
    }

    async fn end(&mut self) -> io::Result<u64> {
        timeout(SOON, self.ends.recv()).await.expect("the server was not told").unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pair() -> (Echo, Proxy, TcpStream) {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.addr).await.unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await.unwrap(), b"hello");
    (echo, proxy, stream)
}

async fn ask(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await.expect("no answer")?;
    Ok(answer)
}

/// Reads until the end or an error, and returns what came before.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("no end");
    (bytes, end.map(drop))
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(WHILE, stream.read_u8()).await.is_err()
}

/// Connects and returns how that connection ends, which may be before it is
/// known to be there.
async fn end_of_a_new_one(proxy: &Proxy) -> io::Result<()> {
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    rest(&mut stream).await.1
}

fn is_reset(end: &io::Result<()>) -> bool {
    end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[trine_testkit::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let (_echo, proxy, mut stream) = pair().await;
    let large = vec![7; 5 << 20];
    let (mut reader, mut writer) = stream.split();
    let mut answer = vec![0; large.len()];
    let (sent, read) = tokio::join!(writer.write_all(&large), reader.read_exact(&mut answer));
    sent.unwrap();
    read.unwrap();
    assert!(answer == large);
    let all = 5 + (5 << 20);
    timeout(SOON, async {
        // The last bytes may be here before they are counted.
        while (proxy.bytes().requests, proxy.bytes().replies) != (all, all) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("miscounted");
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
}

#[trine_testkit::test]
async fn a_half_close_passes_and_the_other_direction_goes_on() {
    let (mut echo, proxy, mut stream) = pair().await;
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    let (bytes, end) = rest(&mut stream).await;
    assert_eq!(bytes, b"last");
    end.unwrap();
    assert_eq!(echo.end().await.unwrap(), 9);
    drop(stream);
    timeout(SOON, async {
        while proxy.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("a closed connection is still counted");
}

#[trine_testkit::test]
async fn a_refusing_door_refuses_new_connections_only() -> Result<()> {
    let (_echo, proxy, mut stream) = pair().await;
    proxy.set_door(Door::Refuse).await?;
    let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut stream, b"still").await.unwrap(), b"still");
    proxy.set_door(Door::Open).await?;
    let mut second = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut second, b"again").await.unwrap(), b"again");
    Ok(())
}

#[trine_testkit::test]
async fn a_resetting_door_accepts_and_resets() -> Result<()> {
    let (_echo, proxy, _stream) = pair().await;
    proxy.set_door(Door::Reset).await?;
    let end = end_of_a_new_one(&proxy).await;
    assert!(is_reset(&end), "{end:?}");
    Ok(())
}

#[trine_testkit::test]
async fn a_silent_door_leaves_connects_hanging() -> Result<()> {
    let (_echo, proxy, _stream) = pair().await;
    proxy.set_door(Door::Silent).await?;
    let connecting = timeout(2 * WHILE, TcpStream::connect(proxy.addr())).await;
    assert!(connecting.is_err(), "{connecting:?}");
    proxy.set_door(Door::Open).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut stream, b"again").await.unwrap(), b"again");
    Ok(())
}

#[trine_testkit::test]
async fn doors_can_change_many_times() -> Result<()> {
    let (_echo, proxy, _stream) = pair().await;
    for _ in 0..20 {
        for door in [Door::Refuse, Door::Silent, Door::Reset, Door::Open] {
            proxy.set_door(door).await?;
        }
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, b"again").await.unwrap(), b"again");
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_is_away_resets_its_clients() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::to(gone).await.unwrap();
    let end = end_of_a_new_one(&proxy).await;
    assert!(is_reset(&end), "{end:?}");
}

#[trine_testkit::test]
async fn hanging_requests_never_reach_the_server_until_they_pass_again() {
    let (_echo, proxy, mut stream) = pair().await;
    proxy.set_requests(Flow::Hang);
    stream.write_all(b"held").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(proxy.bytes().requests, 5, "bytes passed though they hang");
    proxy.set(Flow::Pass);
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"held");
}

#[trine_testkit::test]
async fn hanging_replies_are_held_though_the_server_got_the_request() {
    let (_echo, proxy, mut stream) = pair().await;
    proxy.set_replies(Flow::Hang);
    stream.write_all(b"held").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!((proxy.bytes().requests, proxy.bytes().replies), (9, 5));
}

#[trine_testkit::test]
async fn a_new_connection_hangs_too() {
    let (_echo, proxy, _stream) = pair().await;
    proxy.set(Flow::Hang);
    let mut second = TcpStream::connect(proxy.addr()).await.unwrap();
    second.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut second).await);
}

#[trine_testkit::test]
async fn a_cut_passes_its_bytes_and_closes_in_order() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.set_replies(Flow::CutAfter(3));
    stream.write_all(b"abcdef").await.unwrap();
    let (bytes, end) = rest(&mut stream).await;
    assert_eq!(bytes, b"abc");
    end.unwrap();
    assert_eq!(echo.end().await.unwrap(), 11);
}

#[trine_testkit::test]
async fn a_cut_of_requests_counts_what_the_client_sends() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.set_requests(Flow::CutAfter(2));
    stream.write_all(b"abcdef").await.unwrap();
    assert_eq!(echo.end().await.unwrap(), 7);
    rest(&mut stream).await.1.unwrap();
}

#[trine_testkit::test]
async fn a_cut_delivers_its_bytes_though_requests_are_unread() {
    let (_echo, proxy, mut stream) = pair().await;
    let large = vec![7; 1 << 20];
    proxy.set_replies(Flow::Hang);
    stream.write_all(&large).await.unwrap();
    timeout(SOON, async {
        while proxy.bytes().requests < 5 + large.len() as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the server did not get the request");
    proxy.set_requests(Flow::Hang);
    stream.write_all(b"unread").await.unwrap();
    proxy.set_replies(Flow::CutAfter(large.len() as u64));
    tokio::time::sleep(WHILE).await;
    let (bytes, end) = rest(&mut stream).await;
    end.unwrap();
    assert!(bytes == large, "only {} bytes came", bytes.len());
}

#[trine_testkit::test]
async fn every_connection_has_a_cut_of_its_own() {
    let (_echo, proxy, _stream) = pair().await;
    proxy.set_replies(Flow::CutAfter(3));
    for _ in 0..2 {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_all(b"abcdef").await.unwrap();
        assert_eq!(rest(&mut stream).await.0, b"abc");
    }
}

#[trine_testkit::test]
async fn a_reset_passes_its_bytes_and_resets_both_ends() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.set_requests(Flow::ResetAfter(4));
    stream.write_all(b"abcdef").await.unwrap();
    let (_, end) = rest(&mut stream).await;
    assert!(is_reset(&end), "{end:?}");
    assert!(is_reset(&echo.end().await.map(drop)));
    assert_eq!(proxy.bytes().requests, 9);
}

#[trine_testkit::test]
async fn a_reset_after_nothing_resets_idle_connections_at_once() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.set(Flow::ResetAfter(0));
    let (_, end) = rest(&mut stream).await;
    assert!(is_reset(&end), "{end:?}");
    assert!(is_reset(&echo.end().await.map(drop)));
}

#[trine_testkit::test]
async fn killing_all_resets_all_and_lets_new_ones_in() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.kill_all();
    assert!(is_reset(&rest(&mut stream).await.1));
    assert!(is_reset(&echo.end().await.map(drop)));
    let mut second = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut second, b"again").await.unwrap(), b"again");
}

#[trine_testkit::test]
async fn dropping_the_proxy_resets_its_connections() {
    let (mut echo, proxy, mut stream) = pair().await;
    drop(proxy);
    assert!(is_reset(&rest(&mut stream).await.1));
    assert!(is_reset(&echo.end().await.map(drop)));
}

#[trine_testkit::test]
async fn a_lost_server_leaves_the_client_half_open() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.lose(Side::Server);
    assert!(is_reset(&echo.end().await.map(drop)));
    stream.write_all(b"anybody there").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(proxy.connections(), 1);
    proxy.kill_all();
    assert!(is_reset(&rest(&mut stream).await.1));
}

#[trine_testkit::test]
async fn a_lost_client_leaves_the_server_half_open() {
    let (mut echo, proxy, mut stream) = pair().await;
    proxy.lose(Side::Client);
    assert!(is_reset(&rest(&mut stream).await.1));
    assert!(timeout(WHILE, echo.ends.recv()).await.is_err(), "the server was told");
    proxy.kill_all();
    assert!(is_reset(&echo.end().await.map(drop)));
}

#[trine_testkit::test]
async fn a_delay_holds_each_piece_and_keeps_their_order() {
    let (_echo, proxy, mut stream) = pair().await;
    proxy.set_replies(Flow::Delay(Duration::from_millis(120)));
    let start = Instant::now();
    stream.write_all(b"a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(b"b").await.unwrap();
    let mut answer = [0; 2];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ab");
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}

#[trine_testkit::test]
async fn a_throttle_spreads_bytes_over_time() {
    let (_echo, proxy, mut stream) = pair().await;
    proxy.set_requests(Flow::Throttle(10_000));
    let start = Instant::now();
    let bytes = vec![1; 3_000];
    assert_eq!(ask(&mut stream, &bytes).await.unwrap(), bytes);
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    proxy.set_requests(Flow::Throttle(0));
    stream.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut stream).await);
}

fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}

#[trine_testkit::test]
async fn a_step_passes_one_packet() {
    let mysql = [packet(b"first"), packet(b""), packet(&[9; 3_000])];
    let redis: [&[u8]; 4] = [
        b"+OK\r\n",
        b"*2\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n",
        b"%1\r\n+a\r\n$2\r\n\r\n\r\n",
        &[b"$3000\r\n", [b'x'; 3_000].as_slice(), b"\r\n"].concat(),
    ];
    step_through(Protocol::Mysql, &mysql.each_ref().map(Vec::as_slice)).await;
    step_through(Protocol::Redis, &redis).await;
}

async fn step_through(protocol: Protocol, packets: &[&[u8]]) {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.addr).await.unwrap().speaking(protocol);
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.set_replies(Flow::Step);
    stream.write_all(&packets.concat()).await.unwrap();
    for packet in packets {
        assert!(is_silent(&mut stream).await, "{protocol:?}");
        proxy.step();
        let mut answer = vec![0; packet.len()];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, packet);
    }
    assert!(is_silent(&mut stream).await, "{protocol:?}");
}

/// A client that waits for five replies is polled for each of them.
#[trine_testkit::test]
async fn a_future_is_dropped_between_any_two_replies() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.addr).await.unwrap().speaking(Protocol::Redis);
    let reply = b"*2\r\n$1\r\na\r\n:1\r\n";
    let slot = std::cell::RefCell::new(None);
    let connect = async || {
        proxy.kill_all();
        proxy.set_replies(Flow::Pass);
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        ask(&mut stream, reply).await.unwrap();
        *slot.borrow_mut() = Some(stream);
        proxy.set_replies(Flow::Step);
    };
    connect().await;
    let work = || {
        let mut stream = slot.borrow_mut().take().unwrap();
        async move { ask(&mut stream, &reply.repeat(5)).await.unwrap() }
    };
    let plan = DropPlan::every_await().feeding(|| proxy.step());
    let report = plan.run(work, async |_| connect().await).await.unwrap();
    assert!(report.confirmed >= 5, "{report:?}");
    assert_eq!(report.finished, 1);
}

#[trine_testkit::test]
async fn stepping_begins_at_the_next_packet_wherever_it_is_switched_on() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.addr).await.unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let first = packet(b"abcdef");
    ask(&mut stream, &first[..7]).await.unwrap();
    proxy.set_replies(Flow::Step);
    proxy.step();
    proxy.set_replies(Flow::Step);
    stream.write_all(&[&first[7..], &packet(b"second")].concat()).await.unwrap();
    let mut answer = [0; 3];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"def");
    assert!(is_silent(&mut stream).await, "an old step was still worth a packet");
}

#[trine_testkit::test]
async fn packets_come_one_by_one_with_a_pause() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.addr).await.unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.set_replies(Flow::Packets(Duration::from_millis(50)));
    stream.write_all(&[packet(b"one"), packet(b"two"), packet(b"three")].concat()).await.unwrap();
    let start = Instant::now();
    let mut bytes = [0; 64];
    for expected in [7, 7, 9] {
        assert_eq!(timeout(SOON, stream.read(&mut bytes)).await.unwrap().unwrap(), expected);
    }
    assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
}

#[trine_testkit::test(start_paused = true)]
async fn a_proxy_works_for_a_test_whose_clock_is_paused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap()).await.unwrap();
    proxy.set_door(Door::Refuse).await.unwrap();
    let refused = std::net::TcpStream::connect(proxy.addr()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trine_axum::{ServeError, serve};
use trine_core::Tasks;

const SECOND: Duration = Duration::from_secs(1);

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends one request and returns all that comes back until the end.
async fn request(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route(
            "/slow",
            get(async || {
                sleep(SECOND).await;
                "slow"
            }),
        )
        .route("/stuck", get(async || pending::<&'static str>().await))
}

#[tokio::test]
async fn handlers_see_the_other_end_of_their_connection() {
    let (listener, address) = listener().await;
    let (stop, tasks) = (CancellationToken::new(), Tasks::new("test"));
    let server =
        tasks.spawn("server", serve(listener, router(), stop.clone().cancelled_owned(), SECOND));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_connections_are_not() {
    let (listener, address) = listener().await;
    let (stop, tasks) = (CancellationToken::new(), Tasks::new("test"));
    let server = tasks
        .spawn("server", serve(listener, router(), stop.clone().cancelled_owned(), SECOND * 30));
    assert!(request(address, "/").await.unwrap().ends_with("hello"));
    let slow = tasks.spawn("slow", request(address, "/slow"));
    sleep(SECOND / 5).await;
    stop.cancel();
    sleep(SECOND / 5).await;
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is accepted");
    assert!(slow.await.unwrap().unwrap().ends_with("slow"));
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_server_up() {
    let (listener, address) = listener().await;
    let (stop, tasks) = (CancellationToken::new(), Tasks::new("test"));
    let server = tasks
        .spawn("server", serve(listener, router(), stop.clone().cancelled_owned(), SECOND * 30));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).await.unwrap();
    stop.cancel();
    timeout(SECOND * 5, server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_counted() {
    let (listener, address) = listener().await;
    let (stop, tasks) = (CancellationToken::new(), Tasks::new("test"));
    let server = tasks
        .spawn("server", serve(listener, router(), stop.clone().cancelled_owned(), SECOND / 2));
    let stuck = tasks.spawn("stuck", request(address, "/stuck"));
    sleep(SECOND / 5).await;
    stop.cancel();
    let error = timeout(SECOND * 10, server).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Cut { connections: 1, .. }), "{error}");
    let answer = timeout(SECOND * 10, stuck).await.unwrap().unwrap();
    assert_eq!(answer.unwrap_or_default(), "", "the connection is closed");
}

#[tokio::test]
async fn a_dropped_server_cuts_its_connections() {
    let (listener, address) = listener().await;
    let tasks = Tasks::new("test");
    let server = tasks.spawn("server", serve(listener, router(), pending(), SECOND * 30));
    let stuck = tasks.spawn("stuck", request(address, "/stuck"));
    sleep(SECOND / 5).await;
    server.abort();
    let answer = timeout(SECOND * 10, stuck).await.unwrap().unwrap();
    assert_eq!(answer.unwrap_or_default(), "");
}

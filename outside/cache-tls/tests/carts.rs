use outside_cache_tls::{Cart, Carts};
use trine_core::{ErrorKind, Secret};
use trine_testkit::Redis;

#[trine_testkit::test]
async fn a_cart_is_kept_behind_tls() {
    let server = Redis::builder().password("secret").tls().start().await.unwrap();
    let authority = server.tls().unwrap().ca_file();
    let carts = Carts::connect(Secret::new(server.url()), &authority).await.unwrap();
    let cart = Cart { articles: vec![("apple".to_owned(), 3)] };
    carts.put(7, &cart).await.unwrap();
    assert_eq!(carts.get(7).await.unwrap(), cart);
    assert_eq!(carts.get(8).await.unwrap(), Cart::default());
    carts.close().await.unwrap();
    assert_eq!(carts.get(7).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[trine_testkit::test]
async fn a_server_of_another_authority_is_refused() {
    let server = Redis::builder().tls().start().await.unwrap();
    let other = Redis::builder().tls().start().await.unwrap();
    let authority = other.tls().unwrap().ca_file();
    let refused = Carts::connect(Secret::new(server.url()), &authority).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
}

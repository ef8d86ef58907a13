//! One server.

use trine_core::{Deadline, ErrorKind, Secret};
use trine_redis::{Command, RedisConfig, RedisService, Script, Value};

fn config(port: u16) -> RedisConfig {
    RedisConfig::single("test:it", Secret::new(format!("redis://127.0.0.1:{port}")))
}

#[trine_testkit::test]
async fn a_command_and_a_script_have_their_replies() -> Result<(), Box<dyn std::error::Error>> {
    let service = RedisService::connect(&config(7391)).await?;
    let redis = service.pool();
    assert_eq!(redis.run(&Command::write("SET").key("k").arg(41)).await?, Value::Ok);
    assert_eq!(redis.run(&Command::write("INCRBY").key("k").arg(1)).await?, Value::Int(42));
    let script = Script::new("return {KEYS[1], ARGV[1], ARGV[2]}");
    let command = script.command(["k"]).arg("a").server_id();
    let reply = redis.run(&command).await?;
    assert_eq!(reply.as_array().unwrap()[0].as_text(), Some("k"));
    let error = redis.run(&Command::read("LLEN").key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let many = (0..2_500).map(|n| Command::write("SET").key(format!("m{n}")).arg(n)).collect();
    assert!(redis.run_all(many).await.iter().all(Result::is_ok));
    service.shutdown(Deadline::after(std::time::Duration::from_secs(5))).await?;
    let error = redis.run(&Command::read("GET").key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    Ok(())
}

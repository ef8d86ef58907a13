//! One Redis connection for all services of a process.

#![forbid(unsafe_code)]

mod command;
mod config;
mod dial;
mod error;
mod facts;
mod link;
mod namespace;
mod node;
mod pool;
mod script;
mod service;
mod slot;
mod topology;
mod value;

pub use command::{Access, Command, CommandArg, CommandArgs};
pub use config::{
    ConfigError, DedicatedConfig, ReconnectConfig, RedisConfig, ServerConfig, TlsConfig,
};
pub use error::{At, Error, Result, ServerError, Unavailable};
pub use facts::{DurabilitySource, Role, ServerFacts};
pub use namespace::{InvalidKey, Namespace};
pub use pool::RedisPool;
pub use script::Script;
pub use service::{RedisDeps, RedisService};
pub use value::Value;

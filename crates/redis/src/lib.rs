//! One Redis connection for all services of a process.

#![forbid(unsafe_code)]

mod command;
mod config;
mod dedicated;
mod dial;
mod error;
mod facts;
#[cfg(feature = "redis-1")]
mod interop;
mod link;
mod namespace;
mod node;
mod pool;
mod script;
mod service;
mod slot;
mod subscription;
mod topology;
mod value;

pub use command::{Access, Command, CommandArg, CommandArgs};
pub use config::{
    ConfigError, DedicatedConfig, ReconnectConfig, RedisConfig, ServerConfig, TlsConfig,
};
pub use dedicated::{Dedicated, Route};
pub use error::{At, Error, Result, ServerError, Unavailable};
pub use facts::{DurabilitySource, Role, ServerFacts};
pub use namespace::{InvalidKey, Namespace};
pub use pool::{RedisPool, ScanCursor, ScanPage};
pub use script::Script;
pub use service::{RedisDeps, RedisService};
pub use subscription::{Subscription, SubscriptionEvent};
pub use value::Value;

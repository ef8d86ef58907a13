mod connection;
#[cfg(feature = "mysql")]
mod mysql;

pub use connection::HostConnection;

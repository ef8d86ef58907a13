use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::mariadb::MariaDb;
use crate::mariadb::admin::Admin;
use crate::mariadb::database::{TestDatabase, drop_named, sweep_leftovers};
use crate::{engine, env};

/// The server that all tests of a process share: see [`MariaDb::shared`].
#[derive(Debug)]
pub struct SharedMariaDb {
    admin: Admin,
    version: String,
    /// Lives as long as the process; `None` if the server is somebody else's.
    own: Option<MariaDb>,
}

impl SharedMariaDb {
    pub(super) async fn get() -> Result<&'static Self> {
        static SHARED: OnceCell<SharedMariaDb> = OnceCell::const_new();
        SHARED.get_or_try_init(|| engine::run(Self::open())).await
    }

    async fn open() -> Result<Self> {
        let Some(url) = env::text(env::MARIADB_URL) else {
            let own = MariaDb::start().await?;
            let (admin, version) = (own.admin.clone(), own.version.clone());
            return Ok(Self { admin, version, own: Some(own) });
        };
        let unusable = |error: Error| {
            let cause = trine_core::Report(&error);
            Error::NoServer(format!("{} cannot be used: {cause}", env::MARIADB_URL))
        };
        let admin = Admin::from_url(&url).map_err(unusable)?;
        let version = admin.version().await.map_err(unusable)?;
        sweep_leftovers(&admin);
        Ok(Self { admin, version, own: None })
    }

    /// Creates a database with an account of its own.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn database(&self) -> Result<TestDatabase> {
        TestDatabase::create(&self.admin).await
    }

    /// Drops the database called `name` with its account; an absent one counts
    /// as dropped.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ForeignDatabase`], touching nothing, unless it is
    /// named as this crate names its own.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        drop_named(&self.admin, name).await
    }

    /// Returns what the server says of its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells whether the server was started for this process, rather than named
    /// by `TRINE_TEST_MARIADB_URL`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

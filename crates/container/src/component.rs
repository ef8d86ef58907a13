use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxFault, Service};

use crate::{Error, Result, Settings};

/// How one kind of service is configured and built, Trine's and the host's
/// alike.
///
/// The value is plain data that the host gives: migrations, handlers, handles
/// of other services.
///
/// # Example
///
/// ```
/// # use async_trait::async_trait;
/// # use schemars::JsonSchema;
/// # use serde::Deserialize;
/// # use trine_core::{BoxFault, Deadline, Health, Service, Snapshot, State};
/// use trine::{Component, Deps, Settings};
///
/// #[derive(Debug, Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct MailerConfig {
///     sender: String,
/// }
///
/// impl Settings for MailerConfig {}
///
/// #[derive(Debug)]
/// struct Mailer {
///     name: String,
///     sender: String,
/// }
/// # #[async_trait]
/// # impl Service for Mailer {
/// #     fn name(&self) -> &str { &self.name }
/// #     fn state(&self) -> State { State::Running }
/// #     async fn start(&self) -> Result<(), BoxFault> { Ok(()) }
/// #     async fn shutdown(&self, _: Deadline) -> Result<(), BoxFault> { Ok(()) }
/// #     async fn health(&self) -> Health { Health::up() }
/// #     fn metrics(&self) -> Snapshot { Snapshot::default() }
/// #     fn reset_metrics(&self) {}
/// # }
///
/// struct Mail;
///
/// impl Component for Mail {
///     const NAME: &'static str = "mail";
///     type Config = MailerConfig;
///     type Service = Mailer;
///
///     fn build(self, config: MailerConfig, deps: &Deps<'_>) -> Result<Mailer, BoxFault> {
///         Ok(Mailer { name: deps.name().to_owned(), sender: config.sender })
///     }
/// }
///
/// # let loader = trine::Loader::new().with_defaults("[mail]\nsender = 'me@here'");
/// let mut builder = trine::Builder::new();
/// let mail = builder.add(Mail);
/// let container = builder.configure(&loader)?.build()?;
/// assert_eq!(container.get(&mail)?.sender, "me@here");
/// # Ok::<(), trine::Error>(())
/// ```
pub trait Component: Send + 'static {
    /// The section of the configuration, such as `"cache"`.
    const NAME: &'static str;

    /// A field of [`Config`](Self::Config) that is filled from a section of its
    /// own, which all components share. Default: none.
    const CONNECTIONS: Option<Connections> = None;

    /// What the section is read into.
    type Config: Settings;

    /// What application code gets.
    type Service: Service;

    /// Returns what must be up before this service starts. Default: nothing.
    fn needs(&self, config: &Self::Config) -> Vec<Need> {
        let _ = config;
        Vec::new()
    }

    /// Returns how long a start may take, if the configuration says so.
    /// Default: `container.start_timeout` decides.
    fn start_timeout(&self, config: &Self::Config) -> Option<Duration> {
        let _ = config;
        None
    }

    /// Makes the service, without I/O. What it needs is built already.
    ///
    /// # Errors
    ///
    /// Fails with what the configuration cannot satisfy.
    fn build(self, config: Self::Config, deps: &Deps<'_>) -> Result<Self::Service, BoxFault>;
}

/// Named connections that several sections share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The section that holds them, such as `"database"`.
    pub section: &'static str,
    /// The field of the component's configuration that they go to.
    pub field: &'static str,
}

/// What [`Builder::add`](crate::Builder::add) returns: the typed way to the
/// service once it is built.
pub struct Handle<C> {
    pub(crate) name: Arc<str>,
    pub(crate) marker: PhantomData<fn() -> C>,
}

impl<C> Handle<C> {
    /// Returns the service and instance, such as `"cache.catalog"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<C: Component> Handle<C> {
    pub(crate) fn of(instance: &str) -> Self {
        Self { name: full_name(C::NAME, instance), marker: PhantomData }
    }
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), marker: PhantomData }
    }
}

impl<C> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.name)
    }
}

/// The name of a service that another one stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    name: Arc<str>,
    setting: Option<&'static str>,
    is_vital: bool,
}

impl Need {
    /// Returns the need for the instance of a component that a configuration
    /// names, such as `"reports"`.
    #[must_use]
    pub fn instance<C: Component>(instance: &str) -> Self {
        Self::of(full_name(C::NAME, instance))
    }

    /// Names the setting that the need comes from, such as
    /// `"backend.connection"`. If there is no such service, the configuration is
    /// refused at that setting.
    #[must_use]
    pub fn with_setting(mut self, path: &'static str) -> Self {
        self.setting = Some(path);
        self
    }

    /// Says that the service can do nothing at all without this one: required
    /// itself, it refuses a configuration in which this one is optional.
    #[must_use]
    pub fn vital(mut self) -> Self {
        self.is_vital = true;
        self
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::of(name.into())
    }

    fn of(name: Arc<str>) -> Self {
        Self { name, setting: None, is_vital: false }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn setting(&self) -> Option<&'static str> {
        self.setting
    }

    pub(crate) fn is_vital(&self) -> bool {
        self.is_vital
    }
}

impl<C> From<&Handle<C>> for Need {
    fn from(handle: &Handle<C>) -> Self {
        Self::of(Arc::clone(&handle.name))
    }
}

pub(crate) const DEFAULT: &str = "default";

pub(crate) fn full_name(section: &str, instance: &str) -> Arc<str> {
    format!("{section}.{instance}").into()
}

/// The services that one component declared as its needs, all of them built.
#[derive(Debug)]
pub struct Deps<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) needs: &'a [Arc<str>],
    pub(crate) built: &'a BTreeMap<Arc<str>, Arc<dyn Any + Send + Sync>>,
}

impl Deps<'_> {
    /// Returns the service and instance that is being built, such as
    /// `"cache.catalog"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the service behind a handle.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] unless the component declared the need.
    pub fn get<C: Component>(&self, handle: &Handle<C>) -> Result<Arc<C::Service>> {
        self.find(&handle.name)
    }

    /// Returns the instance of a component that a configuration names.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] unless the component declared the need.
    pub fn instance<C: Component>(&self, instance: &str) -> Result<Arc<C::Service>> {
        self.find(&full_name(C::NAME, instance))
    }

    fn find<S: Service>(&self, name: &Arc<str>) -> Result<Arc<S>> {
        let declared = self.needs.contains(name).then(|| self.built.get(name)).flatten();
        let service = declared.and_then(|service| Arc::clone(service).downcast().ok());
        service.ok_or_else(|| Error::Missing { key: name.to_string() })
    }
}

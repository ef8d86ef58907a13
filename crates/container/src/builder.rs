use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use trine_core::{Clock, Service};

use crate::component::DEFAULT;
use crate::{
    Component, Container, ContainerConfig, Error, Handle, Loader, Need, Result, Section, Settings,
};

mod build;
pub(crate) mod entry;
mod needs;
mod read;
mod schema;
mod treatment;

use self::entry::{Entry, Registered, SectionEntry, Titled};
use self::treatment::Treatment;

/// The section of the container's own settings.
const CONTAINER: &str = "container";

/// Collects what a process consists of: services, its own and Trine's, and
/// sections of settings.
///
/// Each kind of service has a section of the configuration. Its fields are
/// those of the instance `default`; every other instance is a table in it, by
/// the name it was [added as](Self::add_as), with all fields of its own:
///
/// ```toml
/// [cache]          # cache.default
/// ttl = "5m"
/// [cache.catalog]  # cache.catalog
/// ttl = "1h"
/// ```
///
/// An instance can therefore not have the name of a field, and a table that is
/// neither is an unknown key. Besides its own fields each instance has
/// `required` (default true) and `shutdown_timeout` (default: the container's).
#[derive(Debug, Default)]
pub struct Builder {
    slots: Vec<Slot>,
    sections: Vec<Box<dyn Titled>>,
    adopted: Vec<Adopted>,
    clock: Option<Arc<dyn Clock>>,
}

/// A component that was added, and how its service is to be treated.
#[derive(Debug)]
struct Slot {
    entry: Box<dyn Entry>,
    treatment: Treatment,
    /// Whether it is left out if the configuration has no table for it.
    is_on_demand: bool,
}

impl Builder {
    /// Returns a builder without any service.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock that counts suspend. Default: the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Adds the default instance of a service.
    pub fn add<C: Component>(&mut self, component: C) -> Handle<C> {
        self.add_as(DEFAULT, component)
    }

    /// Adds a named instance of a service.
    pub fn add_as<C: Component>(&mut self, instance: &str, component: C) -> Handle<C> {
        self.push(instance, component, false)
    }

    /// Adds a named instance of a service that is only there if the
    /// configuration has a table for it, such as `[redis.main]`. Without one,
    /// nothing is behind its handle.
    pub fn add_if_configured<C: Component>(&mut self, instance: &str, component: C) -> Handle<C> {
        self.push(instance, component, true)
    }

    fn push<C: Component>(
        &mut self,
        instance: &str,
        component: C,
        is_on_demand: bool,
    ) -> Handle<C> {
        let handle = Handle::of(instance);
        let entry = Box::new(Registered::new(Arc::clone(&handle.name), instance, component));
        self.slots.push(Slot { entry, treatment: Treatment::default(), is_on_demand });
        handle
    }

    /// Adds a section of the host's own settings.
    pub fn section<T: Settings>(&mut self, name: &'static str) -> Section<T> {
        self.sections.push(Box::new(SectionEntry::<T>::new(name)));
        Section { name, marker: PhantomData }
    }

    /// Adds a service that the host has built itself and that has no section.
    pub fn adopt(&mut self, service: impl Into<Adopted>) -> Need {
        let adopted = service.into();
        let need = adopted.need();
        self.adopted.push(adopted);
        need
    }

    /// Returns the JSON schema of the whole configuration, for editors.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Wiring`] if names do not fit together.
    pub fn schema(&self) -> Result<Value> {
        Ok(self.schemas()?.for_editors())
    }

    /// Reads and checks the configuration. Does no I/O beyond its files.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Config`], which lists everything that is wrong, and
    /// with [`Error::Wiring`] if names do not fit together.
    pub fn configure(mut self, loader: &Loader) -> Result<Configured> {
        let schemas = self.schemas()?;
        let container = self.read(&schemas, loader)?;
        Ok(Configured { builder: self, container })
    }
}

/// A builder whose configuration was read and found right.
#[derive(Debug)]
pub struct Configured {
    builder: Builder,
    container: ContainerConfig,
}

impl Configured {
    /// Returns the settings of a section of the host's.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] if the section is of another builder.
    pub fn section<T: Settings>(&self, section: &Section<T>) -> Result<Arc<T>> {
        find_section(&self.builder.sections, section)
    }

    /// Returns the configuration of a service.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] if the handle is of another builder, or if
    /// the service was left out for want of a table.
    pub fn config<C: Component>(&self, handle: &Handle<C>) -> Result<&C::Config> {
        let entries = self.builder.slots.iter().map(|slot| &slot.entry);
        let mut named = entries.filter(|entry| *entry.name() == handle.name);
        let config = named.find_map(|entry| entry.config()?.downcast_ref());
        config.ok_or_else(|| Error::Missing { key: handle.name().to_owned() })
    }

    /// Returns the settings of the container itself.
    #[must_use]
    pub fn container(&self) -> &ContainerConfig {
        &self.container
    }

    /// Builds every service, those that others need first. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Wiring`] for unknown needs and circles, and with
    /// [`Error::Build`] if a component refuses.
    pub fn build(self) -> Result<Container> {
        self.builder.build(self.container)
    }
}

pub(crate) fn find_section<T: Settings>(
    sections: &[Box<dyn Titled>],
    section: &Section<T>,
) -> Result<Arc<T>> {
    let mut named = sections.iter().filter(|entry| entry.name() == section.name);
    let settings = named.find_map(|entry| entry.settings()?.downcast::<T>().ok());
    settings.ok_or_else(|| Error::Missing { key: section.name.to_owned() })
}

/// A service that the host has built itself, and how it is to be treated.
pub struct Adopted {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) needs: Vec<Need>,
    pub(crate) is_required: bool,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) shutdown_timeout: Option<Duration>,
}

impl Adopted {
    /// Returns a required service without needs.
    #[must_use]
    pub fn new(service: Arc<dyn Service>) -> Self {
        Self {
            service,
            needs: Vec::new(),
            is_required: true,
            start_timeout: None,
            shutdown_timeout: None,
        }
    }

    /// Makes it start after `need`.
    #[must_use]
    pub fn needing(mut self, need: impl Into<Need>) -> Self {
        self.needs.push(need.into());
        self
    }

    /// Makes it optional: if it is away, the process is degraded.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_required = false;
        self
    }

    /// Sets how long its start may take. Default: `container.start_timeout`.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Sets how long its shutdown may take. Default:
    /// `container.shutdown_timeout`.
    #[must_use]
    pub fn with_shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Returns the need for this service.
    #[must_use]
    pub fn need(&self) -> Need {
        Need::named(self.service.name())
    }
}

impl<S: Service> From<Arc<S>> for Adopted {
    fn from(service: Arc<S>) -> Self {
        Self::new(service)
    }
}

impl From<Arc<dyn Service>> for Adopted {
    fn from(service: Arc<dyn Service>) -> Self {
        Self::new(service)
    }
}

impl fmt::Debug for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted")
            .field("service", &self.service.name())
            .field("needs", &self.needs)
            .field("is_required", &self.is_required)
            .finish()
    }
}

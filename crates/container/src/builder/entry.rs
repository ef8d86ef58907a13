use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::SchemaGenerator;
use serde_json::Value;
use trine_core::{BoxFault, Service};

use crate::loader::read::{Broken, read};
use crate::{Component, Connections, Deps, Need, Settings};

/// A component and its configuration, whatever their types.
pub(crate) trait Entry: Send {
    fn name(&self) -> &Arc<str>;
    fn section(&self) -> &'static str;
    fn instance(&self) -> &str;
    fn connections(&self) -> Option<Connections>;
    fn schema(&self, generator: &mut SchemaGenerator) -> Value;
    fn read(&mut self, value: Value) -> Result<(), Vec<Broken>>;
    fn config(&self) -> Option<&dyn Any>;
    fn needs(&self) -> Vec<Need>;
    fn start_timeout(&self) -> Option<Duration>;
    fn build(self: Box<Self>, deps: &Deps<'_>) -> Result<Built, BoxFault>;
}

/// One service, for the container and for those who know its type.
pub(crate) struct Built {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) typed: Arc<dyn Any + Send + Sync>,
}

pub(crate) struct Registered<C: Component> {
    name: Arc<str>,
    instance: String,
    component: C,
    config: Option<C::Config>,
}

impl<C: Component> Registered<C> {
    pub(crate) fn new(name: Arc<str>, instance: &str, component: C) -> Self {
        Self { name, instance: instance.to_owned(), component, config: None }
    }
}

impl<C: Component> Entry for Registered<C> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn section(&self) -> &'static str {
        C::NAME
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn connections(&self) -> Option<Connections> {
        C::CONNECTIONS
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<C::Config>().to_value()
    }

    fn read(&mut self, value: Value) -> Result<(), Vec<Broken>> {
        self.config = Some(read(value)?);
        Ok(())
    }

    fn config(&self) -> Option<&dyn Any> {
        self.config.as_ref().map(|config| config as &dyn Any)
    }

    fn needs(&self) -> Vec<Need> {
        self.config.as_ref().map(|config| self.component.needs(config)).unwrap_or_default()
    }

    fn start_timeout(&self) -> Option<Duration> {
        self.component.start_timeout(self.config.as_ref()?)
    }

    fn build(self: Box<Self>, deps: &Deps<'_>) -> Result<Built, BoxFault> {
        let config =
            self.config.ok_or_else(|| crate::Error::Missing { key: self.name.to_string() })?;
        let service = Arc::new(self.component.build(config, deps)?);
        Ok(Built { service: Arc::clone(&service) as Arc<dyn Service>, typed: service })
    }
}

impl fmt::Debug for dyn Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A section of the host's and its settings, whatever their type.
pub(crate) trait Titled: Send + Sync {
    fn name(&self) -> &'static str;
    fn schema(&self, generator: &mut SchemaGenerator) -> Value;
    fn read(&mut self, value: Value) -> Result<(), Vec<Broken>>;
    fn settings(&self) -> Option<Arc<dyn Any + Send + Sync>>;
}

pub(crate) struct SectionEntry<T> {
    name: &'static str,
    settings: Option<Arc<T>>,
}

impl<T> SectionEntry<T> {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, settings: None }
    }
}

impl<T: Settings> Titled for SectionEntry<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<T>().to_value()
    }

    fn read(&mut self, value: Value) -> Result<(), Vec<Broken>> {
        self.settings = Some(Arc::new(read(value)?));
        Ok(())
    }

    fn settings(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let settings = self.settings.clone()?;
        Some(settings)
    }
}

impl fmt::Debug for dyn Titled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

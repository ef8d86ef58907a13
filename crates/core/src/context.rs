use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::{Deadline, TraceParent};

tokio::task_local! {
    static CURRENT: CallContext;
}

/// What belongs to one call on its way through the services.
///
/// Host middleware sets it with [`scope`](Self::scope); the public method of a
/// service reads it once with [`current`](Self::current) and passes it on
/// explicitly inside. A new task does not inherit it.
///
/// # Example
///
/// ```
/// use trine_core::{CallContext, Seed};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let context = CallContext::default().with_tenant("acme")?.with_seed(Seed::random());
/// context
///     .scope(async {
///         let context = CallContext::current();
///         assert_eq!(context.tenant(), Some("acme"));
///         assert!(context.idempotency_key("orders", "create").is_some());
///         assert!(context.detached().idempotency_key("orders", "create").is_none());
///     })
///     .await;
/// # Ok::<(), trine_core::InvalidTenant>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    deadline: Option<Deadline>,
    seed: Option<Seed>,
    tenant: Option<Arc<str>>,
    trace: Option<TraceParent>,
}

impl CallContext {
    /// Longest tenant in bytes.
    pub const MAX_TENANT: usize = 128;

    /// Returns the context of the running call, empty if there is none.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs `future` with this as the current context.
    ///
    /// An inner scope replaces the outer one until it ends.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Sets the moment after which the answer is of no use.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets what the idempotency keys of the call are derived from.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whom the call is made for.
    ///
    /// A seed that is there already was made without knowing the tenant, so it
    /// is replaced by one of the tenant's own: what one tenant's client chose
    /// never names the writes of another. Setting the same tenant again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidTenant`] if the text is empty, longer than
    /// [`MAX_TENANT`](Self::MAX_TENANT) bytes or has control characters.
    pub fn with_tenant(mut self, tenant: impl Into<Arc<str>>) -> Result<Self, InvalidTenant> {
        let tenant = tenant.into();
        let length = tenant.len();
        if length == 0 || length > Self::MAX_TENANT || tenant.chars().any(char::is_control) {
            return Err(InvalidTenant { length });
        }
        if self.tenant.as_deref() != Some(&*tenant) {
            self.seed = self.seed.map(|seed| seed.of_tenant(&tenant));
        }
        self.tenant = Some(tenant);
        Ok(self)
    }

    /// Sets the place of the call in a distributed trace.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceParent) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Returns the moment after which the answer is of no use.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns what the idempotency keys of the call are derived from.
    #[must_use]
    pub fn seed(&self) -> Option<Seed> {
        self.seed
    }

    /// Returns whom the call is made for.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Returns the place of the call in a distributed trace.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    /// Returns the context for shared or later work: tenant and trace stay,
    /// deadline and seed go.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { deadline: None, seed: None, tenant: self.tenant.clone(), trace: self.trace }
    }

    /// Returns the key of the step `label` of `service` within this call, the
    /// same whenever the call is repeated with the same seed.
    ///
    /// `None` without a seed: what has no key is not repeated automatically.
    #[must_use]
    pub fn idempotency_key(&self, service: &str, label: &str) -> Option<IdempotencyKey> {
        let seed = self.seed?;
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        let name = format!("{}:{service}{label}", service.len());
        let key = Uuid::new_v5(&Uuid::from_u128(seed.0), name.as_bytes());
        Some(IdempotencyKey(key.as_u128()))
    }
}

/// What all idempotency keys of one call are derived from: 128 bits, written
/// as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u128);

impl Seed {
    /// Returns a new random seed.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().as_u128())
    }

    /// Returns the seed of these bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the seed of a text that a client chose, such as the value of an
    /// `Idempotency-Key` header, apart from those of all other `scope`s, such
    /// as the account.
    #[must_use]
    pub fn from_text(scope: &str, text: &str) -> Self {
        let name = format!("{}:{scope}{text}", scope.len());
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_u128())
    }

    fn of_tenant(self, tenant: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::from_u128(self.0), tenant.as_bytes()).as_u128())
    }

    /// Returns the bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

/// The name of one write: whoever repeats it sends the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(u128);

impl IdempotencyKey {
    /// Returns the key of these bits, as read back from a store.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

macro_rules! uuid_text {
    ($type:ty, $name:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Uuid::from_u128(self.0), f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($name, "({})"), self)
            }
        }
    };
}

uuid_text!(Seed, "Seed");
uuid_text!(IdempotencyKey, "IdempotencyKey");

/// A tenant that is empty, too long or has control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant of {length} bytes: expected 1 to 128 without control characters")]
pub struct InvalidTenant {
    length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded() -> CallContext {
        CallContext::default().with_seed(Seed::from_u128(7))
    }

    #[tokio::test]
    async fn outside_a_scope_the_context_is_empty() {
        let context = CallContext::current();
        assert!(context.deadline().is_none() && context.seed().is_none());
        assert!(context.tenant().is_none() && context.trace().is_none());
    }

    #[tokio::test]
    async fn an_inner_scope_ends_where_it_ends() {
        let named = |name: &'static str| CallContext::default().with_tenant(name).unwrap();
        let tenant = || CallContext::current().tenant().map(str::to_owned);
        named("outer")
            .scope(async {
                named("inner").scope(async { assert_eq!(tenant().unwrap(), "inner") }).await;
                assert_eq!(tenant().unwrap(), "outer");
            })
            .await;
    }

    #[tokio::test]
    async fn detached_work_keeps_tenant_and_trace_only() {
        let trace = TraceParent::root(true);
        let context = seeded()
            .with_deadline(Deadline::after(std::time::Duration::from_secs(1)))
            .with_tenant("t")
            .unwrap()
            .with_trace(trace);
        let detached = context.detached();
        assert_eq!((detached.tenant(), detached.trace()), (Some("t"), Some(trace)));
        assert!(detached.deadline().is_none() && detached.seed().is_none());
    }

    #[test]
    fn a_key_depends_on_seed_service_and_label_and_on_nothing_else() {
        let key = |service, label| seeded().idempotency_key(service, label).unwrap();
        assert_eq!(key("db", "charge"), key("db", "charge"));
        assert_eq!(key("db", "charge").to_string(), "e5cd2cbf-e1a8-56a2-ab41-8640dc402aa5");
        assert_ne!(key("db", "charge"), key("db", "refund"));
        assert_ne!(key("ab", "c"), key("a", "bc"));
        let other = CallContext::default().with_seed(Seed::from_u128(8));
        assert_ne!(other.idempotency_key("db", "charge"), Some(key("db", "charge")));
        assert_eq!(CallContext::default().idempotency_key("db", "charge"), None);
    }

    #[test]
    fn tenants_share_no_seed_whenever_they_become_known() {
        let late = |tenant: &str| seeded().with_tenant(tenant).unwrap();
        assert_eq!(late("a").seed(), late("a").seed());
        assert_ne!(late("a").seed(), late("b").seed());
        assert_ne!(late("a").seed(), seeded().seed());
        assert_eq!(late("a").with_tenant("a").unwrap().seed(), late("a").seed());
        assert_eq!(CallContext::default().with_tenant("a").unwrap().seed(), None);
        let chosen = CallContext::default().with_tenant("a").unwrap().with_seed(Seed(7));
        assert_eq!(chosen.seed(), Some(Seed(7)), "whoever sets it later knows the tenant");
    }

    #[test]
    fn a_client_text_gives_a_seed_per_scope() {
        assert_eq!(Seed::from_text("a", "k"), Seed::from_text("a", "k"));
        assert_ne!(Seed::from_text("a", "k"), Seed::from_text("b", "k"));
    }

    #[test]
    fn tenants_are_bounded() {
        let set = |text: &str| CallContext::default().with_tenant(text).is_ok();
        assert!(set("t") && set(&"t".repeat(128)));
        assert!(!set("") && !set(&"t".repeat(129)) && !set("a\nb"));
    }
}

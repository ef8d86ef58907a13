use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tower::{Layer, Service};
use tracing::Instrument;
use trine_core::{CallContext, Deadline, Seed, Span, TraceParent};

use crate::Problem;

/// The header by which a caller says how long it will wait, as a duration with
/// a unit: `Request-Timeout: 1500ms`.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// The header of the answer that has the trace's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;

type Tenant = dyn Fn(&Parts) -> Option<Arc<str>> + Send + Sync;

/// Runs each handler in the [`CallContext`] of its request.
///
/// * Trace: a child of the `traceparent` header, or a new trace. The answer has
///   it as `traceparent`, and its id as `x-request-id`.
/// * Deadline: `Request-Timeout` from now, at most the server's maximum, which
///   holds without the header too. Services obey it; the handler itself is not
///   cut off.
/// * Tenant: what the host's function finds in the request. A middleware further
///   in, such as one that looks a session up, may set it by
///   [`CallContext::with_tenant`] instead.
/// * Seed: that of `Idempotency-Key`, apart for each tenant, method and path. A
///   host whose clients have keys in common needs a tenant for each.
///
/// A deadline, tenant or key that cannot be read is answered with a
/// [`Problem`]; a `traceparent` that cannot is ignored, as its standard asks.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, routing::get};
/// use trine_axum::ContextLayer;
/// use trine_core::CallContext;
///
/// let context = ContextLayer::new(Duration::from_secs(30));
/// let router: Router = Router::new()
///     .route("/", get(async || format!("{:?}", CallContext::current().deadline())))
///     .layer(context);
/// ```
#[derive(Clone)]
pub struct ContextLayer {
    max_deadline: Duration,
    tenant: Arc<Tenant>,
}

impl ContextLayer {
    /// Returns a layer without tenants whose deadlines are at most
    /// `max_deadline` away.
    #[must_use]
    pub fn new(max_deadline: Duration) -> Self {
        Self { max_deadline, tenant: Arc::new(|_| None) }
    }

    /// Sets how the tenant of a request is found, such as in an extension that
    /// the host's authentication put there.
    #[must_use]
    pub fn with_tenant(
        mut self,
        tenant: impl Fn(&Parts) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        self.tenant = Arc::new(tenant);
        self
    }

    fn context(&self, parts: &Parts, trace: TraceParent) -> Result<CallContext, Problem> {
        let context = CallContext::default().with_trace(trace);
        let tenant = (self.tenant)(parts);
        let scope = tenant.as_deref().unwrap_or_default();
        let scope = format!("{scope}\n{}\n{}", parts.method, parts.uri.path());
        let seed = seed(&parts.headers, &scope)?;
        let timeout = timeout(&parts.headers)?.unwrap_or(self.max_deadline);
        let context = context.with_deadline(Deadline::after(timeout.min(self.max_deadline)));
        let context = match tenant {
            Some(tenant) => context
                .with_tenant(tenant)
                .map_err(|error| Problem::malformed(error.to_string()).with_field("tenant"))?,
            None => context,
        };
        Ok(match seed {
            Some(seed) => context.with_seed(seed),
            None => context,
        })
    }
}

impl fmt::Debug for ContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextLayer")
            .field("max_deadline", &self.max_deadline)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> ContextService<S> {
        ContextService { layer: self.clone(), inner }
    }
}

/// What [`ContextLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ContextService<S> {
    layer: ContextLayer,
    inner: S,
}

impl<S> Service<Request> for ContextService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (parts, body) = request.into_parts();
        let trace = trace(&parts.headers);
        let trace_id = format!("{:032x}", trace.trace_id());
        let span = tracing::info_span!(
            "http.request",
            "http.request.method" = %parts.method,
            "url.path" = parts.uri.path(),
            trace_id,
        );
        let context = self.layer.context(&parts, trace);
        let context =
            context.map(|context| (context, self.inner.call(Request::from_parts(parts, body))));
        let answer = async move {
            let mut response = match context {
                Ok((context, inner)) => context.scope(inner).await?,
                Err(problem) => {
                    let context = CallContext::default().with_trace(trace);
                    context.scope(async { problem.into_response() }).await
                }
            };
            let headers = response.headers_mut();
            for (name, value) in [(TRACEPARENT, trace.to_string()), (REQUEST_ID, trace_id)] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    value.to_str().map(Some).map_err(|_| {
        Problem::malformed("expected visible ASCII characters").with_field(name.as_str())
    })
}

fn trace(headers: &HeaderMap) -> TraceParent {
    let parent = text(headers, &TRACEPARENT).ok().flatten().and_then(|text| text.parse().ok());
    parent.map_or_else(|| TraceParent::root(false), TraceParent::child)
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(text) = text(headers, &REQUEST_TIMEOUT)? else {
        return Ok(None);
    };
    let span: Span = text.parse().map_err(|_| {
        let detail = "expected a duration with a unit, such as 1500ms";
        Problem::malformed(detail).with_field(REQUEST_TIMEOUT.as_str())
    })?;
    Ok(Some(span.get()))
}

fn seed(headers: &HeaderMap, scope: &str) -> Result<Option<Seed>, Problem> {
    let Some(key) = text(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > LONGEST_KEY {
        let detail = format!("expected 1 to {LONGEST_KEY} characters");
        return Err(Problem::malformed(detail).with_field(IDEMPOTENCY_KEY.as_str()));
    }
    Ok(Some(Seed::from_text(scope, key)))
}

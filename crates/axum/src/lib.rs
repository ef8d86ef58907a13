//! Placeholder: the contents page is written with the last module.

mod context;
mod extract;
mod problem;
mod routes;
mod serve;

pub use context::{ContextLayer, ContextService, REQUEST_ID, REQUEST_TIMEOUT};
pub use extract::{ProblemJson, ProblemPath, ProblemQuery, ProblemText};
pub use problem::status::status_of;
pub use problem::{FieldProblem, Problem};
pub use routes::{routes, with_problem_fallbacks};
pub use serve::{ServeError, serve};

//! The README says what the code does.

use std::path::Path;

use schemars::JsonSchema;
use trine_scheduler::SchedulerConfig;

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use")]
struct Settings {
    scheduler: SchedulerConfig,
}

#[test]
fn the_settings_of_the_readme_are_those_of_the_code() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    trine_testkit::check_settings(&readme, &schemars::schema_for!(Settings).to_value()).unwrap();
}

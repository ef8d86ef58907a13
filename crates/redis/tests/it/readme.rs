//! The README says what the code does.

use std::path::Path;

use trine_redis::RedisConfig;

#[test]
fn the_settings_of_the_readme_are_those_of_the_code() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let schema = schemars::schema_for!(RedisConfig).to_value();
    trine_testkit::check_settings(&readme, &schema).unwrap();
}

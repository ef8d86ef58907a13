//! The README says what the code does.

use std::path::Path;

use trine_db_shard::DbConfig;

#[test]
fn the_settings_of_the_readme_are_those_of_the_code() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    trine_testkit::check_settings(&readme, &schemars::schema_for!(DbConfig).to_value()).unwrap();
}

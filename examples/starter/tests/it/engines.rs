//! One test per check and engine.

/// Expands to a module per engine with one test per check.
macro_rules! on_every_engine {
    ($($check:ident::$name:ident),+ $(,)?) => {
        on_every_engine!(@engine sqlite, Sqlite, $($check::$name),+);
        on_every_engine!(@engine mariadb, MariaDb, $($check::$name),+);
        on_every_engine!(@engine redis, SqliteAndRedis, $($check::$name),+);
    };
    (@engine $module:ident, $engine:ident, $($check:ident::$name:ident),+) => {
        mod $module {
            use crate::home::{Engine, Home};

            $(#[trine_testkit::test(timeout = "120s")]
            async fn $name() {
                crate::$check::$name(Home::new(Engine::$engine).await).await;
            })+
        }
    };
}

on_every_engine!(
    accounts::an_account_is_registered_and_logs_in,
    accounts::an_account_is_renamed_for_everybody_at_once,
    accounts::of_fifty_registrations_of_one_address_one_wins,
    accounts::too_many_registrations_have_to_wait,
    accounts::what_is_wrong_with_a_registration_is_named,
    admin::a_status_is_set_and_obeyed,
    admin::nobody_else_is_an_administrator,
    documents::a_document_is_stored_listed_read_replaced_and_removed,
    documents::a_listing_goes_through_every_page,
    documents::documents_of_others_are_not_there,
    documents::documents_that_nobody_takes_off_keep_nobody_else_from_reading,
    documents::names_may_hold_anything_but_control_characters,
    documents::slow_clients_are_told_so_and_keep_nobody_else_from_storing,
    documents::what_is_wrong_with_a_document_is_named,
    import::a_folder_is_imported_and_imported_again,
    jobs::a_job_is_done_when_it_is_due,
    jobs::a_job_is_listed_and_done_when_asked_for,
    jobs::a_job_is_paused_and_resumed,
    jobs::what_is_wrong_with_a_call_about_a_job_is_named,
    sessions::a_login_does_not_tell_which_half_is_wrong,
    sessions::a_log_out_everywhere_ends_every_session_of_the_account,
    sessions::a_session_ends_when_asked_to_and_in_time,
    sessions::of_too_many_sessions_the_oldest_end,
    sessions::too_many_failed_logins_have_to_wait,
);

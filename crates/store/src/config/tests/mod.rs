//! Tests of the configuration's store: the same suite on both engines, then what only one of them can suffer.
//!
//! Rooms: `fixture` (places, sample rows), `suite` and `random` (both engines), `calls`, `crash_file`, `crash_lists`, `crash_postgres`, `wreck`, `formats`, `tls`.

mod calls;
mod crash_file;
mod crash_lists;
mod crash_postgres;
mod fixture;
mod formats;
mod random;
mod server;
mod suite;
mod tls;
mod wreck;

/// Runs each of the suite's tests on both engines.
macro_rules! on_both {
    ($($room:ident :: $name:ident),+ $(,)?) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$room::$name(super::fixture::Fixture::file()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$room::$name(super::fixture::Fixture::postgres()).await;
            })+
        }
    };
}

on_both! {
    suite::what_was_imported_is_there_after_opening_again,
    suite::whoever_comes_second_has_to_catch_up,
    suite::ids_are_never_used_again,
    suite::a_commit_is_applied_once_however_often_it_is_sent,
    suite::followers_hear_of_commits_and_get_the_same_rows,
    suite::the_audit_finds_changes_by_row_entity_and_revision,
    suite::the_audit_finds_what_one_of_many_did_and_shows_no_hidden_table,
    suite::passwords_are_sealed_everywhere,
    suite::keys_can_be_changed,
    suite::old_entries_are_trimmed_and_late_followers_reload,
    suite::an_owner_who_wakes_too_late_changes_nothing,
    suite::who_shares_the_store_agrees_on_the_cluster,
    suite::records_are_listed_by_reference_and_time,
    suite::records_are_found_by_their_texts,
    suite::a_moment_leads_to_the_first_revision_after_it,
    suite::records_are_changed_and_removed,
    suite::what_is_made_of_the_same_is_there_once,
    suite::a_draft_with_rows_and_records_is_one_transaction,
    suite::a_backup_restores_to_either_engine,
    suite::damaged_and_newer_backups_are_refused,
    suite::what_is_too_large_is_refused,
    suite::what_could_not_be_read_again_is_refused,
    suite::many_writers_lose_nothing,
    suite::whoever_has_his_turn_is_not_overtaken,
    suite::appends_that_wait_together_each_get_their_own,
    suite::what_a_draft_makes_is_kept,
    suite::a_backup_is_of_one_moment,
    suite::several_nodes_may_begin_at_once,
    suite::a_missing_index_of_records_is_made,
    suite::a_place_that_cannot_be_is_an_error_in_words,
    formats::documents_are_brought_to_a_newer_format,
    formats::a_migration_that_fails_changes_nothing,
    formats::a_newer_store_is_refused,
    random::anything_in_any_order,
}

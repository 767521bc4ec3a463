//! Suites that say whether a backend works. A backend is supported when it passes them.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes one test of each case for a
//! [`StorageBackend`](crate::StorageBackend),
//! [`body_conformance_tests!`](crate::body_conformance_tests) for a
//! [`BodyStore`](crate::BodyStore). Each case gets empty storage and panics when it finds a fault;
//! all times that it uses come from the case.

pub mod allowances;
pub mod audit;
pub mod body;
pub mod crash;
pub mod delivery;
pub mod directory;
pub mod dkim;
pub mod event;
pub mod hook;
pub mod invariant;
pub mod lifecycle;
pub mod message;
pub mod queue;
pub mod queue_items;
pub mod registry;
pub mod routing;
pub(crate) mod sample;
pub mod search;
pub mod suppressions;
pub mod webhook;

/// Makes one `#[tokio::test]` of each case for a storage backend.
///
/// Takes the name of an `async fn() -> (impl StorageBackend, Guard)` that stands beside it and makes
/// empty storage; the guard, for example a temporary directory, is dropped after the case.
#[macro_export]
macro_rules! conformance_tests {
    ($make:ident) => {
        $crate::conformance_tests!(@suite $make, message:
            reads_back_what_was_accepted keeps_one_object_for_two_mailboxes keeps_odd_content
            remembers_fingerprints fails_a_bad_entry_alone accepts_for_several_tenants_together shows_nothing_of_a_failed_entry refuses_a_known_id
            accepts_whole_or_not_at_all_when_dropped accepts_many_at_once counts_uids_within_a_folder
            joins_threads_within_a_mailbox reads_several_at_once pages_are_stable filters finds_text_as_it_is
            adds_tags_once puts_marks_on_what_is_accepted changes_marks moves_messages keeps_what_was_found_out wakes_who_waits_for_messages hides_messages_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, delivery:
            all_delivered_means_sent one_bounced_means_failed deferred_stays_queued settled_stays_settled
            a_recipient_needs_a_message keeps_what_is_asked_about_notices a_failure_and_its_notice_are_one_step
            keeps_notices_and_facts_of_attempts a_delay_is_told_once a_report_bounces_what_was_taken
            a_report_is_taken_once only_what_was_handed_over_is_reported hides_recipients_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, directory:
            tenants_have_unique_names a_domain_has_one_tenant makes_users_with_folders
            refuses_names_that_are_taken logs_in_by_address_or_name lists_what_a_tenant_has
            sets_passwords adds_verifiers_to_passwords keeps_api_keys who_is_disabled_can_not_log_in
            remembers_who_may_not_send keeps_sender_rules
            ensures_users_once tenants_may_let_users_send_as_anybody keeps_tenants_apart
            keeps_the_addresses_of_tenants_apart
        );
        $crate::conformance_tests!(@suite $make, dkim:
            keeps_keys one_key_of_a_kind_signs finds_keys_that_retired keeps_tenants_apart
        );
        $crate::conformance_tests!(@suite $make, routing:
            resolves_addresses an_alias_leads_to_its_targets refuses_aliases_that_make_no_sense
            tags_come_before_the_catch_all a_domain_alias_has_the_addresses_of_its_target
            what_is_disabled_takes_no_mail counts_the_use_of_mailboxes knows_who_may_send_as_whom
            international_addresses_are_one
        );
        $crate::conformance_tests!(@suite $make, queue:
            leases_the_longest_due_first leases_each_job_once an_ended_lease_is_taken_again
            a_stale_lease_changes_nothing completes_once retries_later buries_but_keeps extends_a_lease
            enqueues_all_or_none says_when_the_next_job_is_due wakes_who_waits_for_jobs
            a_backlog_delays_no_other_tenant tenants_take_turns destinations_take_turns urgent_jobs_go_first
            destinations_have_bounds what_has_no_room_is_in_nobodys_way
            what_is_not_due_takes_no_turn jobs_that_come_back_keep_the_turns counts_each_kind
            ends_many_leases_at_once work_for_later_is_not_old
        );
        $crate::conformance_tests!(@suite $make, queue_items:
            retries_what_was_given_up lists_items holds_and_releases keeps_what_is_held_from_the_beginning leaves_alone_what_is_leased parks_what_is_leased retries_at_once cancels
            tells_workers_what_is_wanted changes_many holding_and_leasing_have_one_order an_attempt_begins_and_ends
            a_result_completes_its_job hides_items_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, event:
            tells_what_was_accepted_in_order tells_nothing_of_a_failed_entry an_event_is_told_once filters_events
            forgets_old_events wakes_who_waits_for_events positions_have_no_gaps hides_events_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, webhook:
            keeps_webhooks refuses_odd_webhooks is_behind_until_it_moves_on moves_on_once enabling_skips_what_was_missed
            records_what_became_of_deliveries begins_deliveries_again lists_deliveries removes_all_of_a_webhook
            forgets_old_deliveries changes_whole_or_not_at_all_when_dropped hides_webhooks_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, hook:
            keeps_hooks refuses_odd_hooks changes_what_was_expected_only counts_changes_of_any_hook
            keeps_what_calls_came_to lists_calls forgets_old_calls changes_whole_or_not_at_all_when_dropped
            hides_hooks_from_other_tenants
            waits_for_results_of_hooks
            keeps_how_hooks_do
            wakes_jobs_whose_results_are_there
            forgets_results_whose_tokens_expired
        );
        $crate::conformance_tests!(@suite $make, invariant:
            mail_on_its_way_keeps_all_rules finds_recipients_without_a_job finds_jobs_without_a_purpose
            finds_leases_without_an_owner finds_jobs_that_are_too_old
            finds_messages_that_contradict_their_recipients pages_find_each_row_once
        );
        $crate::conformance_tests!(@suite $make, lifecycle:
            hides_what_is_deleted restores_with_a_new_uid frees_room_when_deleting lists_what_is_deleted
            delivers_what_was_deleted purges_what_was_deleted_long_ago purges_at_once a_job_keeps_its_message
            keeps_what_is_on_hold tenants_keep_for_as_long_as_they_want keeps_an_object_for_the_last_message
            archives_for_all_who_share searches_find_what_is_there_only changes_whole_or_not_at_all_when_dropped
            many_at_once_are_not_in_each_others_way wakes_who_waits_for_changes hides_the_lifecycle_from_other_tenants
        );
        $crate::conformance_tests!(@suite $make, allowances:
            gives_what_there_is takes_from_all_or_from_none is_never_exceeded counts_what_is_not_there
            forgets_what_is_full keeps_tenants_apart
        );
        $crate::conformance_tests!(@suite $make, suppressions:
            keeps_addresses entries_end_when_they_should pages_are_stable a_bounce_and_its_address_are_one_step
            keeps_tenants_apart
        );
        $crate::conformance_tests!(@suite $make, registry:
            keeps_settings changes_what_was_expected_only keeps_secrets pages_through_all_secrets
            refuses_odd_entries makes_installation_keys_once rewraps_around_what_does_not_open keeps_owners_apart
        );
        $crate::conformance_tests!(@suite $make, audit:
            chains_what_is_appended an_empty_chain_is_whole appends_one_after_the_other
            appends_whole_or_not_at_all_when_dropped filters_entries pages_through_entries drops_old_entries
            a_head_that_was_not_signed_stays_known keeps_chains_apart
        );
        $crate::conformance_tests!(@suite $make, crash:
            changes_the_directory_whole_or_not_at_all changes_the_registry_whole_or_not_at_all
            changes_the_queue_whole_or_not_at_all changes_what_is_sent_whole_or_not_at_all
            changes_the_index_whole_or_not_at_all
        );
        $crate::conformance_tests!(@suite $make, search:
            finds_words_in_every_field finds_japanese filters_what_it_finds agrees_with_looking_at_each_message
            pages_of_hits_are_stable replaces_and_removes_documents indexes_odd_content
            hides_documents_from_other_tenants notes_what_was_accepted claims_a_note_once rebuilds_from_all_messages
            feeding_may_stop_anywhere
        );
    };
    (@suite $make:ident, $suite:ident: $($case:ident)*) => {
        mod $suite {
            $(
                #[tokio::test]
                async fn $case() {
                    let (storage, _guard) = super::$make().await;
                    $crate::conformance::$suite::$case(::std::sync::Arc::new(storage)).await;
                }
            )*
        }
    };
}

/// Makes one `#[tokio::test]` of each case for a body store.
///
/// Takes the name of an `async fn() -> (impl BodyStore, Guard)`, as for
/// [`conformance_tests!`](crate::conformance_tests).
#[macro_export]
macro_rules! body_conformance_tests {
    ($make:ident) => {
        $crate::conformance_tests!(@suite $make, body:
            reads_back_what_was_put never_overwrites refuses_odd_keys deletes fails_a_bad_object_alone
            takes_bodies_from_elsewhere keeps_large_bodies_whole lists_keys_in_pages keeps_archived_objects keeps_whole_objects_when_dropped
        );
    };
}

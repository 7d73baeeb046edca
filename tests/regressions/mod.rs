//! One module for each bug: the shrunk case, and a line on what it was.

mod batch_missed_late_reply;
mod denied_reply_had_other_tuples;
mod lent_a_port_that_clashed;
mod long_chain_is_not_quoted;
mod offloaded_session_made_room;
mod program_shared_across_policies;
mod rate_of_the_idle_was_forgotten;
mod reserved_block_was_chosen;
mod short_datagram_was_spliced;
mod trigger_rekeyed_alone;
mod twin_kept_no_time;
mod twin_removed_an_equal_rule;
mod twin_took_a_type_for_an_identifier;

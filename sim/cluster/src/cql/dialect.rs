//! The one table of what a coordinator of ScyllaDB takes and shows otherwise than one of Cassandra, each line with its source.
//!
//! It stands beside `core::flavor`, which has what the nodes *do* otherwise. What is the same in both and only said in other
//! words has no line here: each text stands where it is said, in both wordings ([`Dialect::is_scylla`]), and system tables and
//! their columns in `system`. Sources as there: S = scylladb branch-2025.4, C = apache/cassandra 5.0, seen = observed on a
//! real Cassandra 5.0.5, `[inf]` = inferred from code.

use crate::core::flavor::Flavor;

/// What one flavour's CQL is like.
#[derive(Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Whose it is.
    pub flavor: Flavor,
    /// `cql_version` of `system.local` and SUPPORTED. S `cql3::query_processor::CQL_VERSION`; C `QueryProcessor.CQL_VERSION`
    /// (seen).
    pub cql_version: &'static str,
    /// `release_version` of `system.local`: S says with which Cassandra it is compatible (`version::release`).
    pub release_version: &'static str,
    /// `native_protocol_version` of `system.local`. S `cql_server` speaks 3 and 4; C 5 (seen).
    pub native_protocol_version: &'static str,
    /// Whether SUPPORTED names shards. S `transport/server.cc`, `make_supported`; C has none.
    pub offers_shards: bool,
    /// Whether a named marker that stands twice is one variable. S `prepare_context::add_variable_specification`; C counts
    /// each (seen).
    pub markers_share_names: bool,
    /// Whether markers may stand inside literals of collections. S takes them; C `Lists.Literal.prepare` refuses (seen).
    pub markers_inside_collections: bool,
    /// Whether the columns of a conditional statement's answer are told when it is prepared, and left out of answers on
    /// request. S `modification_statement::build_cas_result_set_metadata`; C tells them with each answer (seen).
    pub cas_columns_are_prepared: bool,
    /// Whether the answer has a row for each statement, applied or not, and lists are read for statements without conditions
    /// too. S `cas_request::build_cas_result_set`; C shows the rows that were in the way, and reads the rows
    /// of conditions only (`CQL3CasRequest.readCommand`, seen).
    pub cas_answers_each_statement: bool,
    /// Whether static columns are read and shown whatever the conditions are about. S `read_command` of the whole row; C for
    /// conditions on them alone, and of such conditions it asks whether the partition is there
    /// (`CQL3CasRequest.columnsToRead`, seen).
    pub cas_reads_statics: bool,
    /// Whether IF EXISTS of static columns asks for anything of the partition. S `cas_request::find_old_row` takes the first
    /// row then `[inf]`; C asks for the static row (seen).
    pub cas_static_row_is_partition: bool,
    /// Whether conditions of one row that exclude each other are refused. C `CQL3CasRequest.addNotExist`, `addExist` (seen); S
    /// tests one after the other.
    pub cas_refuses_contradictions: bool,
    /// Whether there is USING TIMEOUT. S `cql3/attributes.cc`; C: no such word.
    pub has_using_timeout: bool,
    /// Whether ORDER BY may leave out clustering columns that are fixed by `=`. C `SelectStatement` (seen); S
    /// `select_statement::is_reversed` wants all before it `[inf]`.
    pub order_skips_fixed: bool,
    /// Whether `IN` of one value is `=`. C (seen: in ORDER BY, warnings, paging, indexes); S keeps it as a list `[inf]`.
    pub single_in_is_equal: bool,
    /// Whether SELECT DISTINCT may be in reversed order. C takes it (seen); S `select_statement::prepare` refuses `[inf]`.
    pub distinct_may_be_reversed: bool,
    /// Whether a slice of a partition key column without the others asks for ALLOW FILTERING. C (seen); S
    /// `statement_restrictions` says that only EQ and IN will do.
    pub partition_slices_are_filters: bool,
    /// Whether the client is warned that rows of all partitions are gathered. C (seen); S does not.
    pub warns_of_gathering: bool,
    /// Whether a page size of 0 is refused. C `QueryOptions.Codec` (seen); S takes it as none `[inf]`.
    pub refuses_empty_pages: bool,
    /// Whether CLUSTERING ORDER BY may leave out the last columns. C (seen); S `create_table_statement` wants all `[inf]`.
    pub clustering_order_may_end_early: bool,
    /// Copies of a SimpleStrategy that does not say how many. C `default_keyspace_rf` (seen); S wants to be told.
    pub simple_strategy_default: Option<u8>,
    /// Whether keyspaces have `tablets` and tables `tombstone_gc`. S `ks_prop_defs`, `cf_prop_defs`; C: unknown properties.
    pub has_options_of_scylla: bool,
    /// Whether `compaction` must name a strategy that there is. C `CompactionParams.fromMap` (seen); S keeps it unread here.
    pub checks_compaction: bool,
    /// Whether ALTER KEYSPACE that changes nothing is no change of the schema. C `Schema.transform` (seen); S makes one.
    pub empty_changes_are_none: bool,
    /// Whether the client is warned that more copies want a repair. C `AlterKeyspaceStatement.clientWarnings` (seen).
    pub warns_of_more_copies: bool,
    /// Whether there are vectors. C 5.0; S has them since 2025.4 in a state of their own, which is refused loudly here.
    pub has_vectors: bool,
    /// Whether the client is warned that views are experimental. C `CreateViewStatement.clientWarnings` (seen).
    pub warns_of_views: bool,
    /// Whether a view and a table are of the same name before anything else is looked at. C `CreateViewStatement.apply`
    /// (seen); S `prepare_new_view_announcement` comes last.
    pub view_names_come_first: bool,
    /// Whether a column of a table may go when its views do not need it. S `alter_table_statement`; C refuses
    /// as long as there is a view (seen).
    pub columns_without_views_may_go: bool,
}

const SCYLLA: Dialect = Dialect {
    flavor: Flavor::Scylla,
    cql_version: "3.3.1",
    release_version: "3.0.8",
    native_protocol_version: "4",
    offers_shards: true,
    markers_share_names: true,
    markers_inside_collections: true,
    cas_columns_are_prepared: true,
    cas_answers_each_statement: true,
    cas_reads_statics: true,
    cas_static_row_is_partition: true,
    cas_refuses_contradictions: false,
    has_using_timeout: true,
    order_skips_fixed: false,
    single_in_is_equal: false,
    distinct_may_be_reversed: false,
    partition_slices_are_filters: false,
    warns_of_gathering: false,
    refuses_empty_pages: false,
    clustering_order_may_end_early: false,
    simple_strategy_default: None,
    has_options_of_scylla: true,
    checks_compaction: false,
    empty_changes_are_none: false,
    warns_of_more_copies: false,
    has_vectors: false,
    warns_of_views: false,
    view_names_come_first: false,
    columns_without_views_may_go: true,
};

const CASSANDRA: Dialect = Dialect {
    flavor: Flavor::Cassandra,
    cql_version: "3.4.7",
    release_version: "5.0.5",
    native_protocol_version: "5",
    offers_shards: false,
    markers_share_names: false,
    markers_inside_collections: false,
    cas_columns_are_prepared: false,
    cas_answers_each_statement: false,
    cas_reads_statics: false,
    cas_static_row_is_partition: false,
    cas_refuses_contradictions: true,
    has_using_timeout: false,
    order_skips_fixed: true,
    single_in_is_equal: true,
    distinct_may_be_reversed: true,
    partition_slices_are_filters: true,
    warns_of_gathering: true,
    refuses_empty_pages: true,
    clustering_order_may_end_early: true,
    simple_strategy_default: Some(1),
    has_options_of_scylla: false,
    checks_compaction: true,
    empty_changes_are_none: true,
    warns_of_more_copies: true,
    has_vectors: true,
    warns_of_views: true,
    view_names_come_first: true,
    columns_without_views_may_go: false,
};

impl Dialect {
    /// The dialect of a flavour.
    pub const fn of(flavor: Flavor) -> &'static Dialect {
        match flavor {
            Flavor::Scylla => &SCYLLA,
            Flavor::Cassandra => &CASSANDRA,
        }
    }

    /// Whose words are used. For texts, and for checks of which each server has its own list; anything else is a line above.
    pub fn is_scylla(&self) -> bool {
        self.flavor == Flavor::Scylla
    }
}

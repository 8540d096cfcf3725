//! Grammar of CREATE and ALTER MATERIALIZED VIEW.

use super::ast::{CreateView, Statement, ViewRelation};
use super::{Parse, ParseError, Parser};
use std::collections::BTreeMap;

impl Parser<'_> {
    /// What follows CREATE MATERIALIZED VIEW.
    pub(super) fn create_view(&mut self) -> Parse<CreateView> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.table_name()?;
        self.expect_word("as")?;
        self.expect_word("select")?;
        let selectors = if self.accept("*") {
            Vec::new()
        } else {
            self.comma_list(Self::selector)?
        };
        self.expect_word("from")?;
        let base = self.table_name()?;
        let relations = if self.accept_word("where") {
            self.view_relations()?
        } else {
            Vec::new()
        };
        let mut create = CreateView {
            name,
            if_not_exists,
            selectors,
            base,
            relations,
            partition_key: Vec::new(),
            clustering_key: Vec::new(),
            clustering_order: Vec::new(),
            options: BTreeMap::new(),
        };
        self.expect_word("primary")?;
        self.expect_word("key")?;
        (create.partition_key, create.clustering_key) = self.primary_key()?;
        if self.accept_word("with") {
            self.view_property(&mut create)?;
            while self.accept_word("and") {
                self.view_property(&mut create)?;
            }
        }
        if !self.markers.is_empty() {
            return Err(ParseError::Invalid(
                "Bind variables are not allowed in CREATE MATERIALIZED VIEW statements".into(),
            ));
        }
        Ok(create)
    }

    fn view_relations(&mut self) -> Parse<Vec<ViewRelation>> {
        let mut relations = vec![self.view_relation()?];
        while self.accept_word("and") {
            relations.push(self.view_relation()?);
        }
        Ok(relations)
    }

    fn view_relation(&mut self) -> Parse<ViewRelation> {
        if !self.is_keyword_at(1, "is") {
            return self.relation().map(ViewRelation::Other);
        }
        let name = self.name()?;
        self.expect_word("is")?;
        self.expect_word("not")?;
        self.expect_word("null")?;
        Ok(ViewRelation::NotNull(name))
    }

    fn view_property(&mut self, create: &mut CreateView) -> Parse<()> {
        if self.accept_words(&["clustering", "order", "by"]) {
            create.clustering_order = self.parenthesised(Self::ordered_name)?;
            return Ok(());
        }
        self.property(&mut create.options)
    }

    /// What follows ALTER MATERIALIZED VIEW.
    pub(super) fn alter_view(&mut self) -> Parse<Statement> {
        let if_exists = self.if_exists()?;
        let name = self.table_name()?;
        let mut options = BTreeMap::new();
        self.expect_word("with")?;
        self.properties(&mut options)?;
        Ok(Statement::AlterView {
            name,
            if_exists,
            options,
        })
    }
}

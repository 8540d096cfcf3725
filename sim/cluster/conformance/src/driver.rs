//! Steps that go through the published driver, as an application's do: it prepares, routes, pages and prepares again.

use crate::answer;
use crate::bind;
use crate::case::Step;
use crate::target::Target;
use crate::wire;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A session of the driver, and what was prepared in it.
pub struct Driver {
    session: Session,
    prepared: BTreeMap<String, PreparedStatement>,
}

impl Driver {
    /// A session that retries nothing.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect(target: &Target) -> Result<Driver, String> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::Quorum)
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .build();
        let session = SessionBuilder::new()
            .known_nodes_addr(target.contacts())
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .map_err(|e| format!("the driver cannot connect: {e}"))?;
        Ok(Driver {
            session,
            prepared: BTreeMap::new(),
        })
    }

    /// Prepares a text once and executes it, all pages.
    ///
    /// # Errors
    /// A step that the driver cannot be given.
    pub async fn run(&mut self, text: &str, step: &Step, now_us: i64) -> Result<Vec<String>, String> {
        let values = bind::driver_values(&step.bind)?;
        let mut prepared = match self.prepared.get(text) {
            Some(prepared) => prepared.clone(),
            None => match self.session.prepare(text).await {
                Ok(prepared) => {
                    self.prepared.insert(text.to_owned(), prepared.clone());
                    prepared
                }
                Err(error) => return Ok(vec![format!("driver error {error}")]),
            },
        };
        if let Some(name) = &step.level {
            prepared.set_consistency(wire::level(name).ok_or_else(|| format!("'{name}' is no consistency level"))?);
        }
        if let Some(page) = step.page {
            prepared.set_page_size(page);
        }
        self.pages(&prepared, &values, now_us).await
    }

    async fn pages(
        &self,
        prepared: &PreparedStatement,
        values: &[scylla::value::MaybeUnset<Option<scylla::value::CqlValue>>],
        now_us: i64,
    ) -> Result<Vec<String>, String> {
        let mut lines: Vec<String> = Vec::new();
        let mut state = PagingState::start();
        loop {
            let page = self.session.execute_single_page(prepared, values, state).await;
            let (result, next): (QueryResult, PagingStateResponse) = match page {
                Ok(page) => page,
                Err(error) => return Ok(vec![format!("driver error {error}")]),
            };
            let of_page = of_result(result, now_us)?;
            lines.extend(of_page.into_iter().skip(usize::from(!lines.is_empty())));
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) => state = next,
                std::ops::ControlFlow::Break(()) => return Ok(lines),
            }
        }
    }
}

fn of_result(result: QueryResult, now_us: i64) -> Result<Vec<String>, String> {
    if !result.is_rows() {
        return Ok(vec!["void".into()]);
    }
    let rows = result.into_rows_result().map_err(|e| e.to_string())?;
    let typed = rows.rows::<Row>().map_err(|e| e.to_string())?;
    let found = typed.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(answer::of_rows(rows.column_specs().as_slice(), &found, now_us))
}

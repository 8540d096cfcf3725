//! Logging in, and the statements about roles of those who are.

use super::{Answer, Call, Connection, Front, request_name};
use crate::cql::error::CqlError;
use crate::cql::frame::Request;
use crate::cql::frame::response::{self, RowsBody};
use crate::cql::parse::roles;
use crate::cql::roles::{AUTHENTICATOR, RoleAnswer, Roles};
use std::sync::Arc;

/// How far a connection is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Login {
    /// Nobody asked for a name, or nobody has to.
    #[default]
    Open,
    /// The client was asked.
    Asked,
    /// It is this one.
    User(String),
}

impl Front {
    /// Asks clients for a name and a password from now on.
    #[must_use]
    pub fn asking_for(mut self, roles: Option<Arc<Roles>>) -> Front {
        self.roles = roles;
        self
    }

    /// Answers STARTUP: READY, or who are you.
    pub(super) fn welcome(&self, call: &mut Call<'_>, connection: &mut Connection) {
        connection.started = true;
        if self.roles.is_some() {
            connection.login = Login::Asked;
            response::authenticate(call.out, call.stream, AUTHENTICATOR);
        } else {
            response::ready(call.out, call.stream);
        }
    }

    /// Handles what comes before the client is known, and what it says to be known.
    pub(super) fn authenticate(
        &self,
        call: &mut Call<'_>,
        connection: &mut Connection,
        request: &Request<'_>,
    ) -> Answer<()> {
        let (Request::AuthResponse(token), Some(roles)) = (request, &self.roles) else {
            return Err(CqlError::protocol(format!(
                "Unexpected message {}, expecting SASL_RESPONSE",
                request_name(request)
            )));
        };
        let token = token.unwrap_or_default();
        connection.login = Login::User(roles.login(token)?);
        response::auth_success(call.out, call.stream);
        Ok(())
    }

    /// Carries out a statement about roles, if the text is one and there are roles.
    pub(super) fn role_statement(&self, call: &mut Call<'_>, connection: &Connection, text: &str) -> Answer<bool> {
        let (Some(all), Login::User(user)) = (&self.roles, &connection.login) else {
            return Ok(false);
        };
        let Some(statement) = roles::parse(text)? else {
            return Ok(false);
        };
        match all.execute(user, &statement)? {
            RoleAnswer::Done => response::void(call.out, call.stream, &call.warnings),
            RoleAnswer::Rows(columns, count, cells) => {
                let page = RowsBody {
                    count,
                    cells: &cells,
                    paging_state: None,
                };
                response::rows(call.out, call.stream, &call.warnings, &columns, false, &page);
            }
        }
        Ok(true)
    }
}

//! Statements about roles, users and permissions, by the grammar of Cassandra 5.0. They stand apart from the others: only a
//! server that asks for a password takes them ([`crate::cql::roles`]).

use super::lexer::{self, Kind};
use super::{Parse, ParseError, Parser};

/// What a role is given. `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleOptions {
    /// PASSWORD.
    pub password: Option<String>,
    /// LOGIN.
    pub login: Option<bool>,
    /// SUPERUSER.
    pub superuser: Option<bool>,
    /// ACCESS TO ALL DATACENTERS was said, which is how it is.
    pub datacenters: bool,
    /// OPTIONS was said, which no server without a role manager of its own takes.
    pub options: bool,
    /// HASHED PASSWORD was said, with something that is none.
    pub hashed: bool,
    /// What was said twice.
    pub twice: Option<&'static str>,
}

impl RoleOptions {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == RoleOptions::default()
    }
}

/// A statement about roles.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is described; fields repeat the words")]
pub enum RoleStatement {
    /// CREATE ROLE, CREATE USER.
    Create {
        role: String,
        if_not_exists: bool,
        options: RoleOptions,
    },
    /// ALTER ROLE, ALTER USER.
    Alter {
        role: String,
        if_exists: bool,
        options: RoleOptions,
    },
    /// DROP ROLE, DROP USER.
    Drop { role: String, if_exists: bool },
    /// GRANT role TO role.
    Grant { role: String, to: String },
    /// REVOKE role FROM role.
    Revoke { role: String, from: String },
    /// LIST ROLES.
    List { of: Option<String>, recursive: bool },
    /// LIST USERS.
    ListUsers,
    /// GRANT and REVOKE of permissions, by name.
    Permission(&'static str),
    /// LIST … PERMISSIONS.
    ListPermissions,
}

/// The statement about roles that a text is; `None` when it is about something else.
///
/// # Errors
/// It begins as one and is none.
pub fn parse(text: &str) -> Parse<Option<RoleStatement>> {
    // No other statement begins with these words; the rest of CQL need not be cut into tokens twice.
    let mut words = text.split_whitespace().map(str::to_ascii_lowercase);
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    let is_about = match first.as_str() {
        "create" | "alter" | "drop" => second == "role" || second == "user",
        "grant" | "revoke" | "list" => true,
        _ => false,
    };
    if !is_about || text.len() > super::TEXT_BYTES_MAX {
        return Ok(None);
    }
    let mut parser = Parser {
        text,
        tokens: lexer::lex(text)?,
        at: 1,
        markers: Vec::new(),
        same_name: super::Markers::Apart,
    };
    let statement = parser.role_statement(&first)?;
    while parser.accept(";") {}
    if parser.peek() != &Kind::End {
        return Err(parser.mismatched("EOF").into());
    }
    Ok(Some(statement))
}

impl Parser<'_> {
    fn role_statement(&mut self, verb: &str) -> Parse<RoleStatement> {
        match verb {
            "grant" | "revoke" => self.grant(verb),
            "list" => self.list(),
            _ => {
                let is_user = self.is_keyword("user");
                self.at += 1;
                self.role_change(verb, is_user)
            }
        }
    }

    fn role_change(&mut self, verb: &str, is_user: bool) -> Parse<RoleStatement> {
        if verb == "create" {
            let if_not_exists = self.accept_words(&["if", "not", "exists"]);
            let role = self.role_name()?;
            let mut options = self.options(is_user)?;
            if is_user {
                options.login = Some(true);
            }
            return Ok(RoleStatement::Create {
                role,
                if_not_exists,
                options,
            });
        }
        let if_exists = self.accept_words(&["if", "exists"]);
        let role = self.role_name()?;
        if verb == "drop" {
            return Ok(RoleStatement::Drop { role, if_exists });
        }
        let options = self.options(is_user)?;
        Ok(RoleStatement::Alter {
            role,
            if_exists,
            options,
        })
    }

    /// A role's name: a word in lower case, a quoted name or a string as it is.
    fn role_name(&mut self) -> Parse<String> {
        let name = match self.peek() {
            Kind::Word(word) if !super::is_reserved(&word.to_ascii_lowercase()) => word.to_ascii_lowercase(),
            Kind::Quoted(name) | Kind::Str(name) => name.clone(),
            _ => return Err(self.no_alternative().into()),
        };
        self.at += 1;
        Ok(name)
    }

    fn options(&mut self, is_user: bool) -> Parse<RoleOptions> {
        let mut options = RoleOptions::default();
        if is_user {
            if self.accept_words(&["with", "password"]) {
                options.password = Some(self.string()?);
            }
            if self.accept_word("superuser") {
                options.superuser = Some(true);
            } else if self.accept_word("nosuperuser") {
                options.superuser = Some(false);
            }
            return Ok(options);
        }
        if !self.accept_word("with") {
            return Ok(options);
        }
        self.option(&mut options)?;
        while self.accept_word("and") {
            self.option(&mut options)?;
        }
        Ok(options)
    }

    fn option(&mut self, options: &mut RoleOptions) -> Parse<()> {
        let mut twice = None;
        if self.accept_word("password") {
            self.expect("=")?;
            twice = options.password.replace(self.string()?).map(|_| "PASSWORD");
        } else if self.accept_words(&["hashed", "password"]) {
            self.expect("=")?;
            self.string()?;
            options.hashed = true;
        } else if self.accept_word("login") {
            self.expect("=")?;
            twice = options.login.replace(self.boolean()?).map(|_| "LOGIN");
        } else if self.accept_word("superuser") {
            self.expect("=")?;
            twice = options.superuser.replace(self.boolean()?).map(|_| "SUPERUSER");
        } else if self.accept_words(&["access", "to", "all", "datacenters"]) {
            options.datacenters = true;
        } else if self.is_keyword("access") {
            return Err(ParseError::Unsupported(
                "ACCESS TO DATACENTERS, ACCESS FROM CIDRS".into(),
            ));
        } else if self.accept_word("options") {
            self.expect("=")?;
            self.term()?;
            options.options = true;
        } else {
            return Err(self.no_alternative().into());
        }
        options.twice = twice.or(options.twice);
        Ok(())
    }

    pub(super) fn string(&mut self) -> Parse<String> {
        let Kind::Str(text) = self.peek() else {
            return Err(self.mismatched("STRING_LITERAL").into());
        };
        let text = text.clone();
        self.at += 1;
        Ok(text)
    }

    fn boolean(&mut self) -> Parse<bool> {
        match (self.accept_word("true"), self.is_keyword("false")) {
            (true, _) => Ok(true),
            (_, true) => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.mismatched("BOOLEAN").into()),
        }
    }

    fn grant(&mut self, verb: &str) -> Parse<RoleStatement> {
        let (is_grant, link) = if verb == "grant" { (true, "to") } else { (false, "from") };
        let is_permission = (1..self.tokens.len()).any(|at| self.is_keyword_at(at, "on"));
        if is_permission || self.is_keyword("all") && !self.is_keyword_at(1, link) {
            self.at = self.tokens.len() - 1;
            return Ok(RoleStatement::Permission(if is_grant { "GRANT" } else { "REVOKE" }));
        }
        let role = self.role_name()?;
        self.expect_word(link)?;
        let other = self.role_name()?;
        Ok(match is_grant {
            true => RoleStatement::Grant { role, to: other },
            false => RoleStatement::Revoke { role, from: other },
        })
    }

    fn list(&mut self) -> Parse<RoleStatement> {
        if self.accept_word("users") {
            return Ok(RoleStatement::ListUsers);
        }
        if self.accept_word("roles") {
            let of = if self.accept_word("of") {
                Some(self.role_name()?)
            } else {
                None
            };
            let recursive = !self.accept_word("norecursive");
            return Ok(RoleStatement::List { of, recursive });
        }
        if matches!(self.peek(), Kind::Word(_)) {
            self.at = self.tokens.len() - 1;
            return Ok(RoleStatement::ListPermissions);
        }
        Err(self.no_alternative().into())
    }
}

//! Roles of a cluster that asks for a password: who may log in, and what statements about roles do, in the words of
//! Cassandra 5.0.5 with PasswordAuthenticator and AllowAllAuthorizer (seen): whoever is logged in may do everything but make
//! superusers. Roles live in the memory of the cluster's process, passwords as they are: it is for tests of drivers.

use super::error::{CqlError, Detail};
use super::frame::response::{Columns, put_bytes, put_int, put_string};
use super::parse::roles::{RoleOptions, RoleStatement};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What AUTHENTICATE names; drivers choose by it how to answer.
pub const AUTHENTICATOR: &str = "org.apache.cassandra.auth.PasswordAuthenticator";
/// Roles at most: a bound on memory.
const ROLES_MAX: usize = 10_000;

#[derive(Debug, Clone, Default)]
struct Role {
    password: Option<String>,
    login: bool,
    superuser: bool,
    member_of: BTreeSet<String>,
}

/// The roles of a cluster.
#[derive(Debug)]
pub struct Roles {
    roles: Mutex<BTreeMap<String, Role>>,
}

/// What a statement about roles is answered with.
#[derive(Debug)]
pub enum RoleAnswer {
    /// Void.
    Done,
    /// Rows: their columns, how many, and their cells.
    Rows(Columns, usize, Vec<u8>),
}

type Map = BTreeMap<String, Role>;

fn unauthorized(message: &str) -> CqlError {
    CqlError {
        message: message.to_owned(),
        detail: Detail::Unauthorized,
    }
}

fn bad_credentials(message: impl Into<String>) -> CqlError {
    CqlError {
        message: message.into(),
        detail: Detail::BadCredentials,
    }
}

fn missing(role: &str) -> CqlError {
    CqlError::invalid(format!("{role} doesn't exist"))
}

/// Name and password out of a SASL PLAIN token: `authorization NUL name NUL password`, read from the end (C
/// `PlainTextSaslAuthenticator.decodeCredentials`).
fn credentials(token: &[u8]) -> Result<(String, String), CqlError> {
    let mut parts = token.rsplitn(3, |b| *b == 0);
    let (password, name, authorization) = (parts.next(), parts.next(), parts.next());
    let Some(password) = password.filter(|p| !p.is_empty() && name.is_some()) else {
        return Err(bad_credentials("Password must not be null"));
    };
    let Some(name) = name.filter(|n| !n.is_empty() && authorization.is_some()) else {
        return Err(bad_credentials("Authentication ID must not be null"));
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(name), text(password)))
}

impl Roles {
    /// A cluster with one superuser.
    pub fn new(name: &str, password: &str) -> Roles {
        let first = Role {
            password: Some(password.to_owned()),
            login: true,
            superuser: true,
            ..Role::default()
        };
        Roles {
            roles: Mutex::new(BTreeMap::from([(name.to_owned(), first)])),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs in by a SASL PLAIN token; returns who that is.
    ///
    /// # Errors
    /// As the real server words it.
    pub fn login(&self, token: &[u8]) -> Result<String, CqlError> {
        let (name, password) = credentials(token)?;
        let roles = self.lock();
        let role = roles
            .get(&name)
            .filter(|role| role.password.as_ref() == Some(&password));
        let Some(role) = role else {
            return Err(bad_credentials(format!(
                "Provided username {name} and/or password are incorrect"
            )));
        };
        if !role.login {
            return Err(bad_credentials(format!("{name} is not permitted to log in")));
        }
        Ok(name)
    }

    /// Carries out a statement for somebody who is logged in.
    ///
    /// # Errors
    /// As the real server words it.
    pub fn execute(&self, user: &str, statement: &RoleStatement) -> Result<RoleAnswer, CqlError> {
        let roles = &mut *self.lock();
        let is_super = is_super(roles, user);
        match statement {
            RoleStatement::Create {
                role,
                if_not_exists,
                options,
            } => create(roles, is_super, role, *if_not_exists, options)?,
            RoleStatement::Alter {
                role,
                if_exists,
                options,
            } => alter(roles, user, role, *if_exists, options)?,
            RoleStatement::Drop { role, if_exists } => drop_role(roles, user, role, *if_exists)?,
            RoleStatement::Grant { role, to } => grant(roles, role, to)?,
            RoleStatement::Revoke { role, from } => revoke(roles, role, from)?,
            RoleStatement::List { of, recursive } => return list(roles, of.as_deref(), *recursive),
            RoleStatement::ListUsers => return Ok(list_users(roles)),
            RoleStatement::Permission(verb) => {
                return Err(CqlError::server(format!(
                    "java.lang.UnsupportedOperationException: {verb} operation is not supported by AllowAllAuthorizer"
                )));
            }
            RoleStatement::ListPermissions => {
                return Err(CqlError::invalid(
                    "LIST PERMISSIONS operation is not supported by AllowAllAuthorizer",
                ));
            }
        }
        Ok(RoleAnswer::Done)
    }
}

/// Whether a role is a superuser, by itself or by a role that it has.
fn is_super(roles: &Map, name: &str) -> bool {
    all_of(roles, name, true)
        .iter()
        .any(|r| roles.get(r).is_some_and(|r| r.superuser))
}

/// A role and those that it has; without `recursive` only those given to it directly.
fn all_of(roles: &Map, name: &str, recursive: bool) -> BTreeSet<String> {
    let (mut found, mut next) = (BTreeSet::from([name.to_owned()]), vec![(name.to_owned(), 0)]);
    while let Some((name, depth)) = next.pop() {
        if depth > 0 && !recursive {
            continue;
        }
        for role in roles.get(&name).into_iter().flat_map(|r| &r.member_of) {
            if found.insert(role.clone()) {
                next.push((role.clone(), depth + 1));
            }
        }
    }
    found
}

fn check_options(options: &RoleOptions) -> Result<(), CqlError> {
    if let Some(name) = options.twice {
        return Err(CqlError {
            message: format!("Multiple definition for property '{name}'"),
            detail: Detail::Syntax,
        });
    }
    if options.hashed {
        return Err(CqlError::invalid("Invalid hashed password value. Please use jBcrypt."));
    }
    if options.options {
        return Err(CqlError::invalid(
            "org.apache.cassandra.auth.CassandraRoleManager doesn't support OPTIONS",
        ));
    }
    Ok(())
}

fn apply(role: &mut Role, options: &RoleOptions) {
    if let Some(password) = &options.password {
        role.password = Some(password.clone());
    }
    role.login = options.login.unwrap_or(role.login);
    role.superuser = options.superuser.unwrap_or(role.superuser);
}

fn create(
    roles: &mut Map,
    is_super: bool,
    name: &str,
    if_not_exists: bool,
    options: &RoleOptions,
) -> Result<(), CqlError> {
    if options.superuser == Some(true) && !is_super {
        return Err(unauthorized("Only superusers can create a role with superuser status"));
    }
    check_options(options)?;
    if name.is_empty() {
        return Err(CqlError::invalid("Role name can't be an empty string"));
    }
    if roles.contains_key(name) {
        return match if_not_exists {
            true => Ok(()),
            false => Err(CqlError::invalid(format!("{name} already exists"))),
        };
    }
    if roles.len() >= ROLES_MAX {
        return Err(CqlError::unsupported(format!("more than {ROLES_MAX} roles")));
    }
    let mut role = Role::default();
    apply(&mut role, options);
    roles.insert(name.to_owned(), role);
    Ok(())
}

fn alter(roles: &mut Map, user: &str, name: &str, if_exists: bool, options: &RoleOptions) -> Result<(), CqlError> {
    if options.superuser.is_some() {
        if all_of(roles, user, true).contains(name) {
            return Err(unauthorized(
                "You aren't allowed to alter your own superuser status or that of a role granted to you",
            ));
        }
        if !is_super(roles, user) {
            return Err(unauthorized("Only superusers are allowed to alter superuser status"));
        }
    }
    check_options(options)?;
    if options.is_empty() {
        return Err(CqlError::invalid("ALTER [ROLE|USER] can't be empty"));
    }
    match roles.get_mut(name) {
        Some(role) => apply(role, options),
        None if if_exists => {}
        None => return Err(CqlError::invalid(format!("Role {name} doesn't exist"))),
    }
    Ok(())
}

fn drop_role(roles: &mut Map, user: &str, name: &str, if_exists: bool) -> Result<(), CqlError> {
    if is_super(roles, name) && !is_super(roles, user) {
        return Err(unauthorized("Only superusers can drop a role with superuser status"));
    }
    if user == name {
        return Err(CqlError::invalid("Cannot DROP primary role for current login"));
    }
    if roles.remove(name).is_none() && !if_exists {
        return Err(missing(name));
    }
    for role in roles.values_mut() {
        role.member_of.remove(name);
    }
    Ok(())
}

fn both_exist(roles: &Map, one: &str, other: &str) -> Result<(), CqlError> {
    match [one, other].into_iter().find(|name| !roles.contains_key(*name)) {
        Some(name) => Err(missing(name)),
        None => Ok(()),
    }
}

fn grant(roles: &mut Map, role: &str, to: &str) -> Result<(), CqlError> {
    both_exist(roles, role, to)?;
    for (member, of) in [(to, role), (role, to)] {
        if all_of(roles, member, true).contains(of) {
            return Err(CqlError::invalid(format!("{member} is a member of {of}")));
        }
    }
    if let Some(member) = roles.get_mut(to) {
        member.member_of.insert(role.to_owned());
    }
    Ok(())
}

fn revoke(roles: &mut Map, role: &str, from: &str) -> Result<(), CqlError> {
    both_exist(roles, role, from)?;
    match roles.get_mut(from).is_some_and(|member| member.member_of.remove(role)) {
        true => Ok(()),
        false => Err(CqlError::invalid(format!("{from} is not a member of {role}"))),
    }
}

/// Type codes of the protocol.
const TEXT: &[u8] = &[0, 0x0d];
const BOOLEAN: &[u8] = &[0, 4];
const TEXT_MAP: &[u8] = &[0, 0x21, 0, 0x0d, 0, 0x0d];

fn columns(table: &str, columns: &[(&str, &[u8])]) -> Columns {
    let mut specs = Vec::new();
    put_string(&mut specs, "system_auth");
    put_string(&mut specs, table);
    for (name, ty) in columns {
        put_string(&mut specs, name);
        specs.extend_from_slice(ty);
    }
    Columns {
        count: columns.len(),
        specs,
        apart: false,
    }
}

fn put_bool(cells: &mut Vec<u8>, value: bool) {
    put_bytes(cells, Some(&[u8::from(value)]));
}

fn list(roles: &Map, of: Option<&str>, recursive: bool) -> Result<RoleAnswer, CqlError> {
    let names: BTreeSet<String> = match of {
        Some(name) if !roles.contains_key(name) => {
            return Err(CqlError::invalid(format!("<role {name}> doesn't exist")));
        }
        Some(name) => all_of(roles, name, recursive),
        None => roles.keys().cloned().collect(),
    };
    let mut cells = Vec::new();
    for name in &names {
        let Some(role) = roles.get(name) else { continue };
        put_bytes(&mut cells, Some(name.as_bytes()));
        put_bool(&mut cells, role.superuser);
        put_bool(&mut cells, role.login);
        let mut no_options = Vec::new();
        put_int(&mut no_options, 0);
        put_bytes(&mut cells, Some(&no_options));
        put_bytes(&mut cells, Some(b"ALL"));
    }
    let columns = columns(
        "roles",
        &[
            ("role", TEXT),
            ("super", BOOLEAN),
            ("login", BOOLEAN),
            ("options", TEXT_MAP),
            ("datacenters", TEXT),
        ],
    );
    Ok(RoleAnswer::Rows(columns, names.len(), cells))
}

fn list_users(roles: &Map) -> RoleAnswer {
    let (mut cells, mut count) = (Vec::new(), 0);
    for (name, role) in roles.iter().filter(|(_, role)| role.login) {
        put_bytes(&mut cells, Some(name.as_bytes()));
        put_bool(&mut cells, role.superuser);
        put_bytes(&mut cells, Some(b"ALL"));
        count += 1;
    }
    let columns = columns("users", &[("name", TEXT), ("super", BOOLEAN), ("datacenters", TEXT)]);
    RoleAnswer::Rows(columns, count, cells)
}

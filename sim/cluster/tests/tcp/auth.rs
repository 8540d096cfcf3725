//! Logging in, statements about roles, and traces, through the published driver and byte by byte. The expected texts were
//! given by Apache Cassandra 5.0.5 with PasswordAuthenticator.

use super::program::{ANY_PORT, Program, refused};
use super::{DDL, create};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, Statement};
use sim_cluster::cql::frame::{HEADER_BYTES, Opcode};
use sim_cluster::host::hostile::{frame, query, startup};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

async fn login(node: SocketAddr, user: &str, password: &str) -> Result<Session, String> {
    let builder = SessionBuilder::new().known_node_addr(node).user(user, password);
    builder.build().await.map_err(|e| format!("{e:?}"))
}

/// What a text is answered with: the error's, or how many rows.
async fn told(session: &Session, text: &str) -> String {
    match session.query_unpaged(text, ()).await {
        Err(error) => error.to_string(),
        Ok(result) => match result.into_rows_result() {
            Ok(rows) => format!("{} rows", rows.rows_num()),
            Err(_) => "done".to_owned(),
        },
    }
}

/// A connection on which bytes are sent by hand.
struct Raw(TcpStream);

impl Raw {
    fn connect(node: SocketAddr) -> Raw {
        Raw(TcpStream::connect(node).expect("connected"))
    }

    /// Opcode, and the body as text where it can be read: the code of an ERROR first.
    fn ask(&mut self, request: &[u8]) -> String {
        self.0.write_all(request).expect("sent");
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).expect("a header");
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).expect("a body");
        let name = Opcode::from_byte(header[4]).expect("an opcode").name();
        match name {
            "ERROR" => format!("{:02x}{:02x} {}", body[2], body[3], String::from_utf8_lossy(&body[6..])),
            "AUTHENTICATE" => format!("{name} {}", String::from_utf8_lossy(&body[2..])),
            _ => name.to_owned(),
        }
    }

    fn say(&mut self, token: &[u8]) -> String {
        let body = [&(token.len() as i32).to_be_bytes()[..], token].concat();
        self.ask(&frame(Opcode::AuthResponse, 1, &body))
    }
}

#[tokio::test]
async fn whoever_connects_has_to_say_who_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    for flavor in ["cassandra", "scylla"] {
        let data = directory.path().join(flavor);
        let program = Program::start(&data, &["--nodes", "1", "--auth", "--flavor", flavor]);
        let node = program.addresses[0];
        let mut raw = Raw::connect(node);
        assert_eq!(raw.ask(&frame(Opcode::Options, 1, b"")), "SUPPORTED");
        let mut told = vec![
            raw.ask(&startup(1)),
            raw.ask(&query(1, "SELECT key FROM system.local")),
            raw.ask(&frame(Opcode::Options, 1, b"")),
            raw.ask(&startup(1)),
        ];
        for token in [
            &b"\0cassandra\0wrong"[..],
            b"\0nobody\0x",
            b"",
            b"\0\0x",
            b"\0u\0",
            b"garbage",
            b"az\0cassandra\0cassandra",
        ] {
            told.push(raw.say(token));
        }
        told.push(raw.ask(&startup(1)));
        told.push(raw.ask(&query(1, "SELECT key FROM system.local")));
        assert_eq!(
            told,
            [
                "AUTHENTICATE org.apache.cassandra.auth.PasswordAuthenticator",
                "000a Unexpected message QUERY, expecting SASL_RESPONSE",
                "000a Unexpected message OPTIONS, expecting SASL_RESPONSE",
                "000a Unexpected message STARTUP, expecting SASL_RESPONSE",
                "0100 Provided username cassandra and/or password are incorrect",
                "0100 Provided username nobody and/or password are incorrect",
                "0100 Password must not be null",
                "0100 Authentication ID must not be null",
                "0100 Password must not be null",
                "0100 Password must not be null",
                "AUTH_SUCCESS",
                "000a Unexpected message STARTUP, the connection is already initialized",
                "RESULT",
            ]
        );
        login(node, "cassandra", "cassandra").await.expect("logged in");
        let error = login(node, "cassandra", "guess").await.expect_err("refused");
        assert!(
            error.contains("Provided username cassandra and/or password are incorrect"),
            "{error}"
        );
        SessionBuilder::new()
            .known_node_addr(node)
            .build()
            .await
            .expect_err("no name, no session");
    }
}

#[test]
fn the_first_user_is_given_by_flag_environment_or_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("who");
    std::fs::write(&file, "alice:from a file\n").expect("written");
    let file = file.display().to_string();
    for (arguments, token) in [
        (["--auth-user", "bob:flag"], &b"\0bob\0flag"[..]),
        (["--auth-file", &file], b"\0alice\0from a file"),
    ] {
        let program = Program::start(&directory.path().join(arguments[0]), &arguments);
        for node in &program.addresses {
            let mut raw = Raw::connect(*node);
            raw.ask(&startup(1));
            assert_eq!(raw.say(token), "AUTH_SUCCESS");
        }
    }
    let data = directory.path().join("data");
    let (code, told) = refused(&data, &["--listen", ANY_PORT, "--auth-user", "nobody"]);
    assert!(code == Some(1) && told.contains("write USER:PASSWORD"), "{told}");
    let (code, told) = refused(&data, &["--listen", ANY_PORT, "--auth-file", "nowhere"]);
    assert!(code == Some(1) && told.contains("scylla-sim: nowhere: "), "{told}");
}

#[tokio::test]
async fn roles_are_made_changed_given_and_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = Program::start(directory.path(), &["--auth", "--flavor", "cassandra"]);
    let root = login(program.addresses[0], "cassandra", "cassandra")
        .await
        .expect("logged in");
    let long = "quench: ";
    for (text, wanted) in [
        ("CREATE ROLE alice WITH PASSWORD = 'a' AND LOGIN = true", "done"),
        ("CREATE ROLE alice", "alice already exists"),
        ("CREATE ROLE IF NOT EXISTS alice", "done"),
        ("CREATE ROLE bob WITH LOGIN = false AND SUPERUSER = false;", "done"),
        (
            "CREATE ROLE carl WITH OPTIONS = {'a': 'b'}",
            "org.apache.cassandra.auth.CassandraRoleManager doesn't support OPTIONS",
        ),
        (
            "CREATE ROLE carl WITH HASHED PASSWORD = 'p'",
            "Invalid hashed password value. Please use jBcrypt.",
        ),
        ("CREATE ROLE carl WITH ACCESS TO ALL DATACENTERS", "done"),
        (
            "CREATE ROLE dave WITH NOPE = 1",
            "line 1:22 no viable alternative at input 'NOPE' (CREATE ROLE dave WITH [NOPE]...)",
        ),
        (
            "CREATE ROLE x1 WITH PASSWORD = 'p' AND PASSWORD = 'q'",
            "Multiple definition for property 'PASSWORD'",
        ),
        (
            "CREATE ROLE Low WITH PASSWORD = 5",
            "line 1:32 mismatched input '5' expecting STRING_LITERAL (...ROLE Low WITH PASSWORD = [5])",
        ),
        ("CREATE USER eve WITH PASSWORD 'e' SUPERUSER", "done"),
        ("CREATE USER eve", "eve already exists"),
        ("CREATE USER fred", "done"),
        ("ALTER ROLE bob WITH PASSWORD = 'b'", "done"),
        ("ALTER ROLE nobody WITH LOGIN = true", "Role nobody doesn't exist"),
        ("ALTER ROLE IF EXISTS nobody WITH LOGIN = true", "done"),
        ("ALTER ROLE alice", "ALTER [ROLE|USER] can't be empty"),
        ("ALTER USER alice WITH PASSWORD 'aa'", "done"),
        ("GRANT bob TO alice", "done"),
        ("GRANT bob TO alice", "alice is a member of bob"),
        ("GRANT alice TO bob", "alice is a member of bob"),
        ("GRANT nobody TO alice", "nobody doesn't exist"),
        ("GRANT bob TO nobody", "nobody doesn't exist"),
        ("LIST ROLES", "6 rows"),
        ("LIST ROLES OF alice", "2 rows"),
        ("LIST ROLES OF nobody", "<role nobody> doesn't exist"),
        ("LIST USERS", "4 rows"),
        ("REVOKE bob FROM alice", "done"),
        ("REVOKE bob FROM alice", "alice is not a member of bob"),
        (
            "GRANT SELECT ON ALL KEYSPACES TO alice",
            "java.lang.UnsupportedOperationException: GRANT operation is not supported by AllowAllAuthorizer",
        ),
        (
            "LIST ALL PERMISSIONS",
            "LIST PERMISSIONS operation is not supported by AllowAllAuthorizer",
        ),
        ("DROP ROLE nobody", "nobody doesn't exist"),
        ("DROP ROLE IF EXISTS nobody", "done"),
        ("DROP ROLE cassandra", "Cannot DROP primary role for current login"),
        ("DROP USER eve", "done"),
        (
            "ALTER ROLE cassandra WITH SUPERUSER = false",
            "You aren't allowed to alter your own superuser status or that of a role granted to you",
        ),
        ("CREATE ROLE nolog WITH PASSWORD = 'p' AND LOGIN = false", "done"),
    ] {
        let answer = told(&root, text).await;
        assert!(
            answer.ends_with(wanted) && !answer.contains(long),
            "{text}\n  {answer}\n  {wanted}"
        );
    }
    // Every node knows them.
    let alice = login(program.addresses[2], "alice", "aa").await.expect("logged in");
    for (text, wanted) in [
        (
            "CREATE ROLE sup WITH SUPERUSER = true",
            "Only superusers can create a role with superuser status",
        ),
        (
            "ALTER ROLE fred WITH SUPERUSER = true",
            "Only superusers are allowed to alter superuser status",
        ),
        (
            "DROP ROLE cassandra",
            "Only superusers can drop a role with superuser status",
        ),
        ("DROP ROLE alice", "Cannot DROP primary role for current login"),
        ("CREATE ROLE zed", "done"),
        (DDL[0], "done"),
    ] {
        let answer = told(&alice, text).await;
        assert!(answer.ends_with(wanted), "{text}\n  {answer}");
    }
    let error = login(program.addresses[1], "nolog", "p").await.expect_err("refused");
    assert!(error.contains("nolog is not permitted to log in"), "{error}");
    let error = login(program.addresses[1], "bob", "wrong").await.expect_err("refused");
    assert!(
        error.contains("Provided username bob and/or password are incorrect"),
        "{error}"
    );
}

#[tokio::test]
async fn requests_are_traced_when_their_client_asks() {
    let directory = tempfile::tempdir().expect("a directory");
    for flavor in ["cassandra", "scylla"] {
        let program = Program::start(&directory.path().join(flavor), &["--flavor", flavor]);
        let session = super::connect(program.addresses[0]).await;
        create(&session).await;
        let mut insert = Statement::new("INSERT INTO ks.u (k, v) VALUES (1, 2)");
        insert.set_tracing(true);
        insert.set_consistency(Consistency::All);
        let result = session.query_unpaged(insert, ()).await.expect("written");
        let id = result.tracing_id().expect("an id");
        let info = session.get_tracing_info(&id).await.expect("it is there");
        assert_eq!(info.request.as_deref(), Some("Execute CQL3 query"));
        assert_eq!(info.command.as_deref(), Some("QUERY"));
        assert_eq!(info.client, Some([127, 0, 0, 1].into()));
        assert!(info.coordinator.is_some() && info.duration.is_some() && info.started_at.is_some());
        let parameters = info.parameters.expect("parameters");
        assert_eq!(parameters["query"], "INSERT INTO ks.u (k, v) VALUES (1, 2)");
        assert_eq!(parameters["consistency_level"], "ALL");
        let activities: Vec<_> = info.events.iter().filter_map(|e| e.activity.as_deref()).collect();
        assert_eq!(
            activities,
            [
                "Parsing INSERT INTO ks.u (k, v) VALUES (1, 2)",
                "Preparing statement",
                "Determining replicas for mutation",
                "Appending to commitlog",
                "Appending to commitlog"
            ]
        );
        let mut sources: Vec<_> = info.events.iter().filter_map(|e| e.source).collect();
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), 3, "the other two are named");

        // Prepared, paged, and in error.
        let mut select = session
            .prepare("SELECT k FROM ks.u WHERE k = ?")
            .await
            .expect("prepared");
        select.set_tracing(true);
        let result = session.execute_unpaged(&select, (1i64,)).await.expect("read");
        let id = result.tracing_id().expect("an id");
        let info = session.get_tracing_info(&id).await.expect("it is there");
        assert_eq!(info.request.as_deref(), Some("Execute CQL3 prepared query"));
        assert!(
            info.events
                .iter()
                .any(|e| e.activity.as_deref() == Some("Read 1 live rows and 0 tombstone cells"))
        );
        assert_eq!(
            result.into_rows_result().expect("rows").rows_num(),
            1,
            "behind the id the answer is whole"
        );
        let mut wrong = Statement::new("SELECT nope FROM ks.u");
        wrong.set_tracing(true);
        let error = session
            .query_unpaged(wrong, ())
            .await
            .expect_err("no such column")
            .to_string();
        assert!(error.contains("nope"), "{error}");
        let sessions = session
            .query_unpaged("SELECT session_id FROM system_traces.sessions", ())
            .await
            .expect("read");
        assert_eq!(sessions.into_rows_result().expect("rows").rows_num(), 3);
        let plain = session.query_unpaged("INSERT INTO ks.u (k, v) VALUES (3, 2)", ()).await;
        assert_eq!(plain.expect("written").tracing_id(), None, "nobody asked");
    }
}

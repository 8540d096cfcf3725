//! What the parser takes, what it refuses, and with which words.

use super::ast::*;
use super::{ParseError, parse};
use proptest::prelude::*;

fn ok(text: &str) -> Parsed {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(p) => panic!("{text} was parsed: {p:?}"),
        Err(e) => e.to_string(),
    }
}

fn unsupported(text: &str) -> String {
    match parse(text) {
        Err(ParseError::Unsupported(feature)) => feature,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn syntax_errors_have_the_text_of_a_real_server() {
    assert_eq!(refusal(""), "line 0:-1 no viable alternative at input '<EOF>'");
    assert_eq!(
        refusal("SELEC"),
        "line 1:0 no viable alternative at input 'SELEC' ([SELEC])"
    );
    assert_eq!(
        refusal("SELECT a FROM t LIMIT"),
        "line 0:-1 no viable alternative at input '<EOF>'"
    );
    assert_eq!(
        refusal("SELECT a\nFROM t WHER a = 1"),
        "line 2:7 mismatched input 'WHER' expecting EOF (SELECT a\nFROM t [WHER]...)"
    );
    assert_eq!(
        refusal("INSERT INTO t (a) VALUES (1"),
        "line 0:-1 mismatched input '<EOF>' expecting ')'"
    );
}

#[test]
fn statements_that_contradict_themselves_are_invalid() {
    assert_eq!(
        refusal("INSERT INTO t (a, b) VALUES (1)"),
        "Unmatched column names/values"
    );
    assert_eq!(
        refusal("INSERT INTO t (a, a) VALUES (1, 1)"),
        "The column names contains duplicates"
    );
    assert_eq!(
        refusal("CREATE TABLE t (a int PRIMARY KEY, PRIMARY KEY (a))"),
        "Multiple PRIMARY KEY specified for table 't' (exactly one required)"
    );
}

#[test]
fn what_is_not_carried_out_is_refused_by_name() {
    for (text, feature) in [
        ("CREATE INDEX ON t (a, b)", "an index of several columns"),
        ("CREATE ROLE r", "CREATE ROLE"),
        ("CREATE OR REPLACE FUNCTION f()", "CREATE OR REPLACE"),
        ("GRANT SELECT ON t TO r", "GRANT SELECT"),
        ("INSERT INTO t JSON '{}'", "INSERT … JSON"),
        ("SELECT JSON * FROM t", "SELECT JSON"),
        ("SELECT a + 1 FROM t", "the operator + in a selection"),
        ("SELECT exp(a) FROM t", "the function exp() in a selection"),
        ("SELECT m[1..2] FROM t", "a range of elements in a selection"),
        ("SELECT a FROM t WHERE a LIKE 'x'", "LIKE in WHERE"),
        (
            "CREATE TABLE t (a int PRIMARY KEY) WITH COMPACT STORAGE",
            "COMPACT STORAGE",
        ),
    ] {
        assert_eq!(unsupported(text), feature, "{text}");
    }
    let shown = refusal("DROP TRIGGER i");
    assert_eq!(shown, "quench: not supported by the simulated cluster: DROP TRIGGER");
}

#[test]
fn create_table_takes_keys_order_and_options() {
    let Statement::CreateTable(t) = ok(
        "CREATE TABLE IF NOT EXISTS trading.balance_ledger (user_id bigint, asset_id int, seq bigint, \
         \"Mixed\" frozen<map<text, list<int>>>, note text static, PRIMARY KEY ((user_id, asset_id), seq)) \
         WITH CLUSTERING ORDER BY (seq DESC) AND gc_grace_seconds = 864000 AND comment = 'it''s' \
         AND compaction = {'class': 'SizeTieredCompactionStrategy', 'min_threshold': 4};",
    )
    .statement
    else {
        panic!("not CREATE TABLE")
    };
    assert!(t.if_not_exists);
    assert_eq!(
        t.table,
        TableName {
            keyspace: Some("trading".into()),
            table: "balance_ledger".into()
        }
    );
    assert_eq!(t.partition_key, ["user_id", "asset_id"]);
    assert_eq!(t.clustering_key, ["seq"]);
    assert_eq!(t.clustering_order, [("seq".to_string(), true)]);
    assert_eq!(t.columns[3].name, "Mixed");
    assert!(t.columns[4].is_static);
    assert_eq!(t.options["comment"], PropertyValue::Simple("it's".into()));
    let PropertyValue::Map(compaction) = &t.options["compaction"] else {
        panic!("not a map")
    };
    assert_eq!(compaction["min_threshold"], "4");
}

#[test]
fn markers_are_numbered_in_the_order_of_the_text() {
    let parsed = ok("UPDATE t USING TIMESTAMP ? AND TTL :ttl SET a = ?, b = :b WHERE k = ? AND c IN (?, 3) AND d IN ?");
    let names: Vec<_> = parsed.markers.iter().map(|m| m.as_deref()).collect();
    assert_eq!(names, [None, Some("ttl"), None, Some("b"), None, None, None]);
    let Statement::Update(u) = parsed.statement else {
        panic!("not UPDATE")
    };
    assert_eq!(u.using.timestamp, Some(Term::Marker(0)));
    assert_eq!(u.relations[0].object, Object::One(Term::Marker(4)));
    let three = Term::Literal(Literal::Integer("3".into()));
    assert_eq!(u.relations[1].object, Object::Many(vec![Term::Marker(5), three]));
    assert_eq!(u.relations[2].object, Object::One(Term::Marker(6)));
}

#[test]
fn additions_are_printed_as_real_servers_print_them() {
    for (set, text) in [
        ("available = available + ?", "available = available + ?"),
        ("available = available+5", "available = available + 5"),
        ("available = available -5", "available = available + -5"),
        ("available = [1] + available", "available = [1] - available"),
        ("available = available - :x", "available = available - ?"),
    ] {
        let Statement::Update(u) = ok(&format!("UPDATE t SET {set} WHERE k = 1")).statement else {
            panic!("{set}")
        };
        assert_eq!(u.set.iter().map(SetOperation::text).collect::<Vec<_>>(), [text]);
    }
}

#[test]
fn select_takes_every_clause_in_order() {
    let Statement::Select(s) = ok(
        "SELECT DISTINCT a AS x, WRITETIME(v), ttl(v), COUNT(*), token(p, q) FROM ks.t WHERE token(p, q) > -5 AND \
         token(p, q) <= ? ORDER BY c DESC, d PER PARTITION LIMIT 1 LIMIT ? ALLOW FILTERING USING TIMEOUT 30000ms",
    )
    .statement
    else {
        panic!("not SELECT")
    };
    assert!(s.distinct && s.allow_filtering);
    assert_eq!(s.selectors.len(), 5);
    assert_eq!(s.selectors[0].alias.as_deref(), Some("x"));
    assert_eq!(
        s.selectors[4].selectable,
        Selectable::Call(
            "token".into(),
            vec![Selectable::Column("p".into()), Selectable::Column("q".into())]
        )
    );
    assert_eq!(s.order_by, [("c".to_string(), true), ("d".to_string(), false)]);
    assert_eq!(s.timeout, Some(Term::Literal(Literal::Duration("30000ms".into()))));
    assert_eq!(s.limit, Some(Term::Marker(1)));
}

#[test]
fn the_statements_of_drivers_are_understood() {
    for text in [
        "SELECT host_id, rpc_address, data_center, rack, tokens, cluster_name FROM system.local WHERE key='local'",
        "SELECT keyspace_name, initial_tablets FROM system_schema.scylla_keyspaces USING TIMEOUT 30000ms",
        "SELECT keyspace_name, table_name, column_name, kind, position, type FROM system_schema.columns where keyspace_name in ?",
        "SELECT * FROM system.peers_v2;",
        "USE \"ks\"",
    ] {
        ok(text);
    }
}

#[test]
fn comments_and_quoting() {
    let text = "-- one\nSELECT /* two */ \"From\" // three\n FROM t WHERE a = $$it's$$ AND b = 'x''y';;";
    let Statement::Select(s) = ok(text).statement else {
        panic!("not SELECT")
    };
    assert_eq!(s.selectors[0].selectable, Selectable::Column("From".into()));
    assert_eq!(
        s.relations[1].object,
        Object::One(Term::Literal(Literal::Str("x'y".into())))
    );
    assert!(refusal("SELECT 'open").contains("unterminated constant"));
    assert!(refusal("/* open").contains("unterminated comment"));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = "[".repeat(100_000);
    assert!(refusal(&format!("INSERT INTO t (a) VALUES ({deep}")).contains("nested deeper"));
    let types = "frozen<".repeat(100_000);
    assert!(refusal(&format!("CREATE TABLE t (a {types}")).contains("nested deeper"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_cut_or_edit_of_a_statement_makes_the_parser_panic(cut in 0usize..200, junk in "\\PC{0,3}", at in 0usize..200) {
        let text = "UPDATE ks.t USING TIMESTAMP ? SET a = a + 1, b = {'x': [1, -2.5e3]} WHERE k = 0xff AND c IN (?, 'y') /* µ */";
        let mut edited: String = text.chars().take(cut).collect();
        let byte = edited.char_indices().nth(at).map_or(edited.len(), |(i, _)| i);
        edited.insert_str(byte, &junk);
        let _ = parse(&edited);
    }
}

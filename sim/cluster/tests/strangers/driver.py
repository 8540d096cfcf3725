"""Python's cassandra-driver against scylla-sim, as an application uses it. Run by ci/strangers:

    driver.py PORT write    connects, creates tables, writes, batches, pages, is refused
    driver.py PORT read     after a kill -9 and a new start: everything is there; drops it
    driver.py PORT login USER PASSWORD    logs in, and is refused with another password
"""

import datetime
import decimal
import sys
import uuid

from cassandra import AlreadyExists, AuthenticationFailed, ConsistencyLevel, InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, BatchType, SimpleStatement

ROWS = 100
VALUES = {
    "a": 1 << 40,
    "b": True,
    "d": decimal.Decimal("-12.345"),
    "e": datetime.datetime(2025, 1, 2, 3, 4, 5, 678000),
    "f": 0.5,
    "l": [1, 2, 3],
    "m": {"x": 1, "y": 2},
    "s": {"p", "q"},
    "u": uuid.UUID(int=7),
    "x": b"\x00\xff",
}


def insist(holds, what):
    if not holds:
        sys.exit(f"driver.py: {what}")
    print(f"    ok  {what}")


def refused(session, statement, error, text):
    try:
        session.execute(statement)
    except error as e:
        insist(text in str(e), f"refused: {text}")
    else:
        sys.exit(f"driver.py: not refused: {statement}")


def pages(session, size):
    result = session.execute(SimpleStatement("SELECT c, v FROM t WHERE k = 1", fetch_size=size))
    count, found = 1, list(result.current_rows)
    while result.has_more_pages:
        result.fetch_next_page()
        found += result.current_rows
        count += 1
    return count, found


def write(cluster, session):
    version = session.execute("SELECT native_protocol_version AS v FROM system.local WHERE key = 'local'").one().v
    insist(cluster.protocol_version == int(version), "the protocol is negotiated down to what the server names")
    insist(len(cluster.metadata.all_hosts()) == 3, "three nodes are known")
    insist(len(cluster.metadata.token_map.ring) == 24, "and their tokens")
    session.execute(
        "CREATE KEYSPACE strangers WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
    )
    session.set_keyspace("strangers")
    session.execute("CREATE TABLE t (k int, c int, v text, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c DESC)")
    session.execute("CREATE TABLE w (k int PRIMARY KEY, n bigint)")
    session.execute(
        "CREATE TABLE types (k int PRIMARY KEY, a bigint, b boolean, d decimal, e timestamp, f double,"
        " l list<int>, m map<text, int>, s set<text>, u uuid, x blob)"
    )
    tables = cluster.metadata.keyspaces["strangers"].tables
    insist(set(tables) == {"t", "w", "types"}, "new tables are seen in the driver's metadata")
    insist("CLUSTERING ORDER BY (c DESC)" in tables["t"].export_as_string(), "and exported as CQL")
    described = session.execute("DESCRIBE TABLE t").one()
    insist("CLUSTERING ORDER BY (c DESC)" in described.create_statement, "DESCRIBE tells how a table was made")

    into_t = session.prepare("INSERT INTO t (k, c, v) VALUES (?, ?, ?)")
    into_w = session.prepare("INSERT INTO w (k, n) VALUES (?, ?)")
    insist(into_t.routing_key_indexes == [0], "a prepared statement tells its partition key")
    for future in [session.execute_async(into_t, (1, c, f"v{c}")) for c in range(ROWS)]:
        future.result()
    batch = BatchStatement(batch_type=BatchType.LOGGED)
    for k in range(10):
        batch.add(into_t, (2, k, "batch"))
        batch.add(into_w, (k, k * k))
    batch.add(SimpleStatement("UPDATE w SET n = %s WHERE k = %s"), (7, 100))
    session.execute(batch)
    names = ", ".join(VALUES)
    marks = ", ".join("?" for _ in VALUES)
    session.execute(session.prepare(f"INSERT INTO types (k, {names}) VALUES (1, {marks})"), list(VALUES.values()))
    stamped = SimpleStatement("INSERT INTO w (k, n) VALUES (200, 1) USING TIMESTAMP 123")
    session.execute(stamped)
    insist(session.execute("SELECT WRITETIME(n) FROM w WHERE k = 200").one()[0] == 123, "timestamps are the client's")

    refused(session, "SELECT * FROM nope", InvalidRequest, "nope")
    refused(session, "SELECT * FORM t", SyntaxException, "line 1")
    refused(session, "CREATE TABLE t (k int PRIMARY KEY)", AlreadyExists, "already exists")
    lwt = session.prepare("INSERT INTO w (k, n) VALUES (?, ?) IF NOT EXISTS")
    insist(session.execute(lwt, (300, 1)).was_applied, "a conditional write is applied")
    outcome = session.execute(lwt, (300, 2))
    insist(not outcome.was_applied and outcome.one().n == 1, "or answered with what is there")
    serial = SimpleStatement("SELECT n FROM w WHERE k = 300", consistency_level=ConsistencyLevel.SERIAL)
    insist(session.execute(serial).one().n == 1, "which a read at SERIAL sees")
    session.execute("DELETE FROM w WHERE k = 300 IF n = 1")


def read(session):
    session.set_keyspace("strangers")
    for size in (7, 100, 5000):
        count, found = pages(session, size)
        insist(
            [row.c for row in found] == list(reversed(range(ROWS))) and count >= ROWS // size,
            f"{ROWS} rows in {count} pages of {size}",
        )
    insist(session.execute("SELECT count(*) FROM w").one()[0] == 12, "both tables of the batch have their rows")
    row = session.execute("SELECT * FROM types WHERE k = 1").one()
    for name, value in VALUES.items():
        found = getattr(row, name)
        insist((set(found) if name == "s" else found) == value, f"{name}: {type(value).__name__} {value!r}")
    local = session.execute("SELECT release_version, cluster_name FROM system.local WHERE key = 'local'").one()
    insist(local.cluster_name and local.release_version, f"a node says that it is {local.release_version}")


def drop(cluster, session):
    session.execute("DROP KEYSPACE strangers")
    insist("strangers" not in cluster.metadata.keyspaces, "a dropped keyspace is gone from the driver's metadata")


def login(port, user, password):
    def session(**given):
        return Cluster(["127.0.0.1"], port=port, **given).connect()

    right = PlainTextAuthProvider(user, password)
    insist(session(auth_provider=right).execute("SELECT key FROM system.local").one().key == "local", "logged in")
    for what, given in {
        "another password is refused": {"auth_provider": PlainTextAuthProvider(user, "not the password")},
        "and so is none": {},
    }.items():
        try:
            session(**given)
        except NoHostAvailable as e:
            refusals = list(e.errors.values())
            insist(refusals and all(isinstance(r, AuthenticationFailed) for r in refusals), what)
        else:
            sys.exit(f"driver.py: not refused: {what}")


def main():
    if sys.argv[2] == "login":
        return login(int(sys.argv[1]), *sys.argv[3:])
    port, phase = int(sys.argv[1]), sys.argv[2]
    profile = ExecutionProfile(
        consistency_level=ConsistencyLevel.QUORUM,
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy("datacenter1")),
    )
    cluster = Cluster(["127.0.0.1"], port=port, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    session = cluster.connect()
    if phase == "write":
        write(cluster, session)
    read(session)
    if phase == "read":
        drop(cluster, session)
    cluster.shutdown()


main()

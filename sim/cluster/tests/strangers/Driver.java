// The Java driver against scylla-sim, as an application uses it. Run by ci/strangers:
//
//     java -cp JARS Driver.java PORT write    connects, creates tables, writes, batches, pages, is refused
//     java -cp JARS Driver.java PORT read     after a kill -9 and a new start: everything is there; drops it
import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.DefaultConsistencyLevel;
import com.datastax.oss.driver.api.core.DefaultProtocolVersion;
import com.datastax.oss.driver.api.core.cql.AsyncResultSet;
import com.datastax.oss.driver.api.core.cql.BatchStatement;
import com.datastax.oss.driver.api.core.cql.DefaultBatchType;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.cql.ResultSet;
import com.datastax.oss.driver.api.core.cql.Row;
import com.datastax.oss.driver.api.core.cql.SimpleStatement;
import com.datastax.oss.driver.api.core.metadata.schema.KeyspaceMetadata;
import com.datastax.oss.driver.api.core.servererrors.AlreadyExistsException;
import com.datastax.oss.driver.api.core.servererrors.InvalidQueryException;
import com.datastax.oss.driver.api.core.servererrors.SyntaxError;
import com.datastax.oss.protocol.internal.util.Bytes;
import java.math.BigDecimal;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletionStage;

public class Driver {
    static final int ROWS = 100;
    static final Map<String, Object> VALUES = new LinkedHashMap<>();

    static {
        VALUES.put("a", 1L << 40);
        VALUES.put("b", true);
        VALUES.put("d", new BigDecimal("-12.345"));
        VALUES.put("e", Instant.parse("2025-01-02T03:04:05.678Z"));
        VALUES.put("f", 0.5);
        VALUES.put("l", List.of(1, 2, 3));
        VALUES.put("m", Map.of("x", 1, "y", 2));
        VALUES.put("s", Set.of("p", "q"));
        VALUES.put("u", new UUID(0, 7));
        VALUES.put("x", ByteBuffer.wrap(new byte[] {0, (byte) 0xff}));
    }

    static void insist(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
        System.out.println("    ok  " + what);
    }

    static void refused(CqlSession session, String statement, Class<? extends Exception> error, String text) {
        try {
            session.execute(statement);
        } catch (Exception e) {
            insist(error.isInstance(e) && e.getMessage().contains(text), "refused: " + e.getMessage());
            return;
        }
        throw new AssertionError("not refused: " + statement);
    }

    static void write(CqlSession session) throws Exception {
        String version = session.execute("SELECT native_protocol_version FROM system.local").one().getString(0);
        insist(session.getContext().getProtocolVersion() == DefaultProtocolVersion.valueOf("V" + version),
            "the protocol is negotiated down to what the server names");
        insist(session.getMetadata().getNodes().size() == 3, "three nodes are known");
        insist(session.getMetadata().getTokenMap().get().getTokenRanges().size() == 24, "and their tokens");
        session.execute("CREATE KEYSPACE strangers WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}");
        session.execute("USE strangers");
        session.execute("CREATE TABLE t (k int, c int, v text, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c DESC)");
        session.execute("CREATE TABLE w (k int PRIMARY KEY, n bigint)");
        session.execute("CREATE TABLE types (k int PRIMARY KEY, a bigint, b boolean, d decimal, e timestamp, f double,"
                + " l list<int>, m map<text, int>, s set<text>, u uuid, x blob)");
        KeyspaceMetadata keyspace = session.refreshSchema().getKeyspace("strangers").get();
        insist(keyspace.getTables().size() == 3, "new tables are seen in the driver's metadata");
        insist(keyspace.getTable("t").get().describe(true).contains("CLUSTERING ORDER BY (c DESC)"), "and exported as CQL");
        String described = session.execute("DESCRIBE TABLE t").one().getString("create_statement");
        insist(described.contains("CLUSTERING ORDER BY (c DESC)"), "DESCRIBE tells how a table was made");

        PreparedStatement intoT = session.prepare("INSERT INTO t (k, c, v) VALUES (?, ?, ?)");
        PreparedStatement intoW = session.prepare("INSERT INTO w (k, n) VALUES (?, ?)");
        insist(intoT.getPartitionKeyIndices().equals(List.of(0)), "a prepared statement tells its partition key");
        List<CompletionStage<AsyncResultSet>> sent = new ArrayList<>();
        for (int c = 0; c < ROWS; c++) {
            sent.add(session.executeAsync(intoT.bind(1, c, "v" + c)));
        }
        for (CompletionStage<AsyncResultSet> one : sent) {
            one.toCompletableFuture().get();
        }
        var batch = BatchStatement.builder(DefaultBatchType.LOGGED);
        for (int k = 0; k < 10; k++) {
            batch.addStatement(intoT.bind(2, k, "batch"));
            batch.addStatement(intoW.bind(k, (long) k * k));
        }
        batch.addStatement(SimpleStatement.newInstance("UPDATE w SET n = ? WHERE k = ?", 7L, 100));
        session.execute(batch.build());
        String names = String.join(", ", VALUES.keySet());
        String marks = String.join(", ", VALUES.keySet().stream().map(name -> "?").toList());
        session.execute(session.prepare("INSERT INTO types (k, " + names + ") VALUES (1, " + marks + ")")
                .bind(VALUES.values().toArray()));
        session.execute("INSERT INTO w (k, n) VALUES (200, 1) USING TIMESTAMP 123");
        insist(session.execute("SELECT WRITETIME(n) FROM w WHERE k = 200").one().getLong(0) == 123, "timestamps are the client's");

        PreparedStatement once = session.prepare("INSERT INTO w (k, n) VALUES (?, ?) IF NOT EXISTS");
        insist(session.execute(once.bind(300, 1L)).wasApplied(), "a conditional write is applied");
        ResultSet outcome = session.execute(once.bind(300, 2L));
        insist(!outcome.wasApplied() && outcome.one().getLong("n") == 1, "or answered with what is there");
        SimpleStatement serial = SimpleStatement.newInstance("SELECT n FROM w WHERE k = 300")
                .setConsistencyLevel(DefaultConsistencyLevel.SERIAL);
        insist(session.execute(serial).one().getLong(0) == 1, "which a read at SERIAL sees");
        session.execute("DELETE FROM w WHERE k = 300 IF n = 1");

        refused(session, "SELECT * FROM nope", InvalidQueryException.class, "nope");
        refused(session, "SELECT * FORM t", SyntaxError.class, "line 1");
        refused(session, "CREATE TABLE t (k int PRIMARY KEY)", AlreadyExistsException.class, "already exists");
    }

    static void read(CqlSession session) {
        session.execute("USE strangers");
        for (int size : new int[] {7, 100, 5000}) {
            ResultSet result = session.execute(SimpleStatement.newInstance("SELECT c, v FROM t WHERE k = 1").setPageSize(size));
            List<Integer> found = new ArrayList<>();
            for (Row row : result) {
                found.add(row.getInt("c"));
            }
            boolean inOrder = found.size() == ROWS && found.get(0) == ROWS - 1 && found.get(ROWS - 1) == 0;
            int pages = result.getExecutionInfos().size();
            insist(inOrder && pages >= ROWS / size, ROWS + " rows in " + pages + " pages of " + size);
        }
        insist(session.execute("SELECT count(*) FROM w").one().getLong(0) == 12, "both tables of the batch have their rows");
        Row row = session.execute("SELECT * FROM types WHERE k = 1").one();
        for (Map.Entry<String, Object> value : VALUES.entrySet()) {
            Object found = row.getObject(value.getKey());
            String shown = found instanceof ByteBuffer bytes ? Bytes.toHexString(bytes) : String.valueOf(found);
            insist(value.getValue().equals(found), value.getKey() + ": " + shown);
        }
        insist(session.getMetadata().getNodes().values().stream().allMatch(node -> node.getCassandraVersion() != null),
                "every node says what it is");
    }

    public static void main(String[] args) throws Exception {
        var config = com.datastax.oss.driver.api.core.config.DriverConfigLoader.programmaticBuilder()
                .withString(com.datastax.oss.driver.api.core.config.DefaultDriverOption.REQUEST_CONSISTENCY,
                        DefaultConsistencyLevel.QUORUM.name())
                .build();
        try (CqlSession session = CqlSession.builder()
                .addContactPoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])))
                .withLocalDatacenter("datacenter1")
                .withConfigLoader(config)
                .build()) {
            if (args[1].equals("write")) {
                write(session);
            }
            read(session);
            if (args[1].equals("read")) {
                session.execute("DROP KEYSPACE strangers");
                insist(session.refreshSchema().getKeyspace("strangers").isEmpty(), "a dropped keyspace is gone from the driver's metadata");
            }
        }
    }
}

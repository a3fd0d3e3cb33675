import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;

/** Statements over JDBC: types, the step to named statements, batches, fetch sizes, query modes. */
public final class Statements {
    public static void main(String[] args) {
        for (String mode : new String[] {"extended", "extendedForPrepared", "extendedCacheEverything", "simple"}) {
            String p = "preferQueryMode=" + mode;
            Checks.check("types." + mode, p, Statements::types);
            Checks.check("strings." + mode, p, c -> strings(c, "s_" + mode));
            Checks.check("threshold." + mode, p, c -> threshold(c, "t_" + mode));
            Checks.check("batch." + mode, p, c -> batch(c, "b_" + mode));
            Checks.check("fetch." + mode, p, c -> fetch(c, "f_" + mode));
            Checks.check("sizes." + mode, p, Statements::sizes);
        }
        Checks.check("binary", "prepareThreshold=-1", Statements::types);
        Checks.check("rewritten", "reWriteBatchedInserts=true", c -> batch(c, "b_rewritten"));
        Checks.check("no_server_prepare", "prepareThreshold=0", c -> threshold(c, "t_never"));
        Checks.check("first_time", "prepareThreshold=1", c -> threshold(c, "t_first"));
        Checks.check("small_cache", "prepareThreshold=1&preparedStatementCacheQueries=3", Statements::smallCache);
        Checks.check("ddl", "prepareThreshold=1", c -> ddl(c, "ddl_plain", false));
        Checks.check("ddl_in_transaction", "prepareThreshold=1", c -> ddl(c, "ddl_tx", true));
        Checks.check("ddl_autosave", "prepareThreshold=1&autosave=always", c -> ddl(c, "ddl_autosave", true));
        Checks.check("autosave", "autosave=always", c -> autosave(c, "as_always"));
        Checks.check("autosave_conservative", "autosave=conservative", c -> autosave(c, "as_conservative"));
        Checks.check("metadata", "", Statements::metadata);
        Checks.check("updatable", "", Statements::updatable);
        Checks.check("callable", "", Statements::callable);
        Checks.say("end", "all checks ran");
    }

    static void types(Connection c) throws Exception {
        Object[] values = {7, 1L << 40, new BigDecimal("1234567890.000123"), 1.5, true, "it's ü 漢 🚚 \\ ?", "",
            new byte[] {0, (byte) 255, 39}, LocalDate.of(2026, 2, 28), LocalDateTime.of(2026, 2, 28, 1, 2, 3, 456000),
            OffsetDateTime.of(2026, 2, 28, 1, 2, 3, 0, ZoneOffset.UTC), UUID.fromString("6ba7b810-9dad-11d1-80b4-00c04fd430c8")};
        try (PreparedStatement st = c.prepareStatement("select ?")) {
            for (Object v : values) {
                st.setObject(1, v);
                for (int i = 0; i < 3; i++) {
                    Checks.attempt(v.getClass().getSimpleName(), () -> Checks.rows(st.executeQuery()));
                }
            }
        }
        Checks.attempt("null", () -> {
            try (PreparedStatement st = c.prepareStatement("select ?::int, ?::text")) {
                st.setNull(1, Types.INTEGER);
                st.setNull(2, Types.VARCHAR);
                return Checks.rows(st.executeQuery());
            }
        });
        Checks.attempt("array", () -> Checks.sql(c, "select ?, array_length(?, 1)", c.createArrayOf("text", new String[] {"a", "b\"", null}),
                c.createArrayOf("int4", new Integer[] {1, 2, 3})));
        Checks.attempt("many", () -> Checks.sql(c, "select 1::int2, 'NaN'::float8, 12.50::numeric, 'x'::char(3), '{\"a\": 1}'::jsonb, '[1,5)'::int4range, "
                + "'1 day 02:03'::interval, '10.0.0.1'::inet, null, ''::bytea, 3.25::float4, B'101', '12:30'::time, 5::oid, point(1,2), money '1.50'"));
    }

    static void strings(Connection c, String t) throws Exception {
        Checks.attempt("several", () -> Checks.run(c, "create table " + t + " (a int primary key); insert into " + t + " values (1), (2); select * from " + t));
        for (String s : new String[] {"", ";", "-- c", "/* c */", "select 1; ; select 2", "select ';'; select '?'"}) {
            Checks.attempt("'" + s + "'", () -> Checks.run(c, s));
        }
        Checks.attempt("several with parameters", () -> {
            try (PreparedStatement st = c.prepareStatement("insert into " + t + " values (?); select count(*) from " + t + " where a < ?")) {
                st.setInt(1, 3);
                st.setInt(2, 100);
                st.execute();
                st.getMoreResults();
                return Checks.rows(st.getResultSet());
            }
        });
        Checks.attempt("error in the middle", () -> Checks.run(c, "insert into " + t + " values (4); select 1/0; insert into " + t + " values (5)"));
        Checks.attempt("left", () -> Checks.run(c, "select a from " + t + " order by a"));
        Checks.attempt("syntax", () -> Checks.run(c, "selec 1"));
        Checks.attempt("unique", () -> Checks.sql(c, "insert into " + t + " values (?)", 1));
        Checks.attempt("escape", () -> Checks.sql(c, "select {fn ucase('x')}, {d '2026-02-28'}, 'a' ?? 'b'"));
        Checks.attempt("returning", () -> {
            try (PreparedStatement st = c.prepareStatement("insert into " + t + " values (?), (?)", Statement.RETURN_GENERATED_KEYS)) {
                st.setInt(1, 10);
                st.setInt(2, 11);
                return st.executeUpdate() + " " + Checks.rows(st.getGeneratedKeys());
            }
        });
        Checks.attempt("notice", () -> {
            try (Statement st = c.createStatement()) {
                st.execute("do $$ begin raise notice 'ü %', 1; raise warning 'w'; end $$");
                return Checks.warnings(st.getWarnings());
            }
        });
        Checks.attempt("max rows", () -> {
            try (Statement st = c.createStatement()) {
                st.setMaxRows(3);
                return Checks.rows(st.executeQuery("select * from generate_series(1, 10)"));
            }
        });
    }

    static void threshold(Connection c, String t) throws Exception {
        Checks.run(c, "create table " + t + " (a int primary key, b text)");
        try (PreparedStatement ins = c.prepareStatement("insert into " + t + " values (?, ?)");
                PreparedStatement sel = c.prepareStatement("select b from " + t + " where a = ?")) {
            List<Object> out = new ArrayList<>();
            for (int i = 0; i < 15; i++) {
                ins.setInt(1, i);
                ins.setString(2, "v" + i);
                out.add(ins.executeUpdate());
                sel.setInt(1, i);
                out.add(Checks.rows(sel.executeQuery()) + ((PGStatement) sel).isUseServerPrepare());
            }
            Checks.say("autocommit", out);
            c.setAutoCommit(false);
            out.clear();
            for (int i = 0; i < 15; i++) {
                ins.setInt(1, 100 + i);
                ins.setString(2, "v" + i);
                out.add(ins.executeUpdate());
                sel.setInt(1, 100 + i);
                out.add(Checks.rows(sel.executeQuery()));
                if (i % 3 == 0) {
                    c.rollback();
                } else {
                    c.commit();
                }
            }
            Checks.say("transactions", out);
            ins.setInt(1, 1);
            Checks.attempt("duplicate", ins::executeUpdate);
            Checks.attempt("aborted", () -> Checks.rows(sel.executeQuery()));
            c.rollback();
            Checks.attempt("usable", () -> Checks.rows(sel.executeQuery()));
            sel.setString(1, "not a number");
            Checks.attempt("other type", () -> Checks.rows(sel.executeQuery()));
            c.rollback();
            c.setAutoCommit(true);
            sel.setInt(1, 5);
            Checks.run(c, "deallocate all");
            Checks.attempt("after deallocate all", () -> Checks.rows(sel.executeQuery()));
            Checks.attempt("and again", () -> Checks.rows(sel.executeQuery()));
        }
        c.setAutoCommit(true);
        Checks.say("count", Checks.run(c, "select count(*) from " + t));
    }

    static void smallCache(Connection c) throws Exception {
        List<Object> out = new ArrayList<>();
        for (int i = 0; i < 60; i++) {
            out.add(Checks.sql(c, "select ?::int + " + i % 7, i));
        }
        Checks.say("results", out);
    }

    static void batch(Connection c, String t) throws Exception {
        Checks.run(c, "create table " + t + " (a int primary key, b text)");
        try (PreparedStatement st = c.prepareStatement("insert into " + t + " values (?, ?)")) {
            for (int i = 0; i < 2000; i++) {
                st.setInt(1, i);
                st.setString(2, "v".repeat(200));
                st.addBatch();
            }
            int sum = 0;
            for (int n : st.executeBatch()) {
                sum += n > 0 || n == Statement.SUCCESS_NO_INFO ? 1 : 0;
            }
            Checks.say("inserted", sum);
            for (int i : new int[] {5000, 5001, 7, 5002}) {
                st.setInt(1, i);
                st.setString(2, "x");
                st.addBatch();
            }
            try {
                st.executeBatch();
            } catch (BatchUpdateException e) {
                Checks.say("error in the middle", e.getUpdateCounts());
                Checks.say("reason", Checks.describe(e));
            }
            Checks.say("left", Checks.run(c, "select count(*) from " + t + " where a >= 5000"));
            c.setAutoCommit(false);
            st.clearBatch();
            for (int i = 6000; i < 6300; i++) {
                st.setInt(1, i);
                st.setString(2, "y");
                st.addBatch();
            }
            st.executeBatch();
            c.rollback();
            Checks.say("rolled back", Checks.run(c, "select count(*) from " + t));
            c.commit();
            c.setAutoCommit(true);
        }
        try (Statement st = c.createStatement()) {
            st.addBatch("update " + t + " set b = 'z' where a < 10");
            st.addBatch("delete from " + t + " where a = 11");
            st.addBatch("create table " + t + "_more (a int)");
            Checks.say("statements", st.executeBatch());
        }
        try (PreparedStatement st = c.prepareStatement("insert into " + t + " values (?, ?)", new String[] {"a"})) {
            for (int i = 7000; i < 7005; i++) {
                st.setInt(1, i);
                st.setString(2, "k");
                st.addBatch();
            }
            st.executeBatch();
            Checks.say("keys", Checks.rows(st.getGeneratedKeys()));
        }
    }

    static void fetch(Connection c, String t) throws Exception {
        Checks.run(c, "create table " + t + " as select g as a, md5(g::text) as b from generate_series(1, 2000) g");
        c.setAutoCommit(false);
        try (PreparedStatement st = c.prepareStatement("select a, b from " + t + " where a > ? order by a");
                PreparedStatement other = c.prepareStatement("select b from " + t + " where a = ?")) {
            st.setFetchSize(30);
            for (int round = 0; round < 7; round++) {
                st.setInt(1, round);
                long sum = 0;
                int n = 0;
                try (ResultSet rs = st.executeQuery()) {
                    while (rs.next()) {
                        sum += rs.getInt(1) + rs.getString(2).hashCode();
                        if (n++ % 500 == 0) {
                            other.setInt(1, rs.getInt(1));
                            sum += Checks.rows(other.executeQuery()).hashCode();
                        }
                    }
                }
                Checks.say("round " + round, n + " " + sum);
            }
            ResultSet one = st.executeQuery();
            one.next();
            Checks.say("writes between", Checks.run(c, "update " + t + " set b = 'x' where a = 1900"));
            int changed = 0;
            while (one.next()) {
                changed += one.getString(2).equals("x") ? 1 : 0;
            }
            Checks.say("snapshot", changed);
            ResultSet left = st.executeQuery();
            left.next();
            c.commit();
            Checks.attempt("portal after commit", () -> {
                int n = 1;
                while (left.next()) {
                    n++;
                }
                return n;
            });
            c.rollback();
        }
        try (PreparedStatement st = c.prepareStatement("select 1 / (a - 500) from " + t + " order by a")) {
            st.setFetchSize(100);
            Checks.attempt("error late", () -> Checks.rows(st.executeQuery()).length());
            c.rollback();
        }
        try (PreparedStatement st = c.prepareStatement("select a from " + t + " order by a", ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY,
                ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
            ResultSet rs = st.executeQuery();
            rs.absolute(100);
            Checks.say("scroll", rs.getInt(1) + " " + rs.previous() + " " + rs.getInt(1) + " " + rs.last() + " " + rs.getInt(1));
        }
        c.setAutoCommit(true);
    }

    static void sizes(Connection c) throws Exception {
        Checks.attempt("large text", () -> Checks.sql(c, "select ?::text || 'x'", "é".repeat(1 << 20)));
        Checks.attempt("large bytes", () -> Checks.sql(c, "select ?::bytea", new byte[1 << 21]));
        Object[] many = new Object[3000];
        for (int i = 0; i < many.length; i++) {
            many[i] = i;
        }
        Checks.attempt("many parameters", () -> Checks.sql(c, "select sum(x) from unnest(array[" + "?::int,".repeat(2999) + "?::int]) x", many));
        Checks.attempt("many rows", () -> Checks.md5(Checks.sql(c, "select g, md5(g::text), null from generate_series(1, 10000) g").toString().getBytes()));
        StringBuilder wide = new StringBuilder("select 0");
        for (int i = 1; i < 500; i++) {
            wide.append(", ").append(i).append(" as c").append(i);
        }
        Checks.attempt("wide", () -> Checks.md5(Checks.sql(c, wide.toString()).toString().getBytes()));
    }

    static void ddl(Connection c, String t, boolean inTransaction) throws Exception {
        Checks.run(c, "create table " + t + " (a int)");
        Checks.run(c, "insert into " + t + " values (1)");
        try (PreparedStatement st = c.prepareStatement("select * from " + t + " where a = ?")) {
            st.setInt(1, 1);
            for (int i = 0; i < 4; i++) {
                Checks.attempt("before " + i, () -> Checks.rows(st.executeQuery()));
            }
            c.setAutoCommit(!inTransaction);
            Checks.run(c, "alter table " + t + " add b int default 4");
            Checks.attempt("column added", () -> Checks.rows(st.executeQuery()));
            Checks.attempt("again", () -> Checks.rows(st.executeQuery()));
            if (inTransaction) {
                c.rollback();
            }
            Checks.attempt("after rollback", () -> Checks.rows(st.executeQuery()));
            if (inTransaction) {
                c.commit();
            }
            Checks.run(c, "drop table " + t);
            Checks.attempt("dropped", () -> Checks.rows(st.executeQuery()));
            if (inTransaction) {
                c.rollback();
            }
        }
        c.setAutoCommit(true);
    }

    static void autosave(Connection c, String t) throws Exception {
        Checks.run(c, "create table " + t + " (a int primary key)");
        c.setAutoCommit(false);
        Checks.attempt("first", () -> Checks.sql(c, "insert into " + t + " values (?)", 1));
        Checks.attempt("duplicate", () -> Checks.sql(c, "insert into " + t + " values (?)", 1));
        Checks.attempt("goes on", () -> Checks.sql(c, "insert into " + t + " values (?)", 2));
        Checks.attempt("commit", () -> {
            c.commit();
            return "done";
        });
        Checks.attempt("rows", () -> Checks.sql(c, "select a from " + t + " order by a"));
        c.rollback();
        c.setAutoCommit(true);
    }

    static void metadata(Connection c) throws Exception {
        Checks.run(c, "create table md (id serial primary key, org int not null, name varchar(20) default 'x', n numeric(8,2), tags text[])");
        Checks.run(c, "create index md_org on md (org)");
        Checks.say("product", c.getMetaData().getDatabaseProductName() + " " + c.getMetaData().getDatabaseProductVersion());
        Checks.say("columns", Checks.rows(c.getMetaData().getColumns(null, "public", "md", "%")).replaceAll("t\\d+_\\w+", "DB"));
        Checks.say("keys", Checks.rows(c.getMetaData().getPrimaryKeys(null, "public", "md")));
        Checks.say("tables", Checks.rows(c.getMetaData().getTables(null, "public", "md%", new String[] {"TABLE", "INDEX"})));
        try (PreparedStatement st = c.prepareStatement("select * from md where org = ? and name = ?")) {
            ResultSetMetaData m = st.getMetaData();
            List<Object> cols = new ArrayList<>();
            for (int i = 1; i <= m.getColumnCount(); i++) {
                cols.add(m.getColumnName(i) + " " + m.getColumnTypeName(i) + " " + m.getPrecision(i) + " " + m.isNullable(i) + " " + m.isAutoIncrement(i));
            }
            Checks.say("result", cols);
            Checks.say("parameters", st.getParameterMetaData().getParameterTypeName(1) + " " + st.getParameterMetaData().getParameterTypeName(2));
        }
        Checks.say("status", ((PGConnection) c).getParameterStatus("server_version") + " " + ((PGConnection) c).getParameterStatus("TimeZone"));
    }

    static void updatable(Connection c) throws Exception {
        Checks.run(c, "create table up (a int primary key, b text)");
        Checks.run(c, "insert into up values (1, 'x'), (2, 'y')");
        try (Statement st = c.createStatement(ResultSet.TYPE_SCROLL_SENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet rs = st.executeQuery("select a, b from up order by a");
            rs.next();
            rs.updateString(2, "changed");
            rs.updateRow();
            rs.next();
            rs.deleteRow();
            rs.moveToInsertRow();
            rs.updateInt(1, 3);
            rs.updateString(2, "new");
            rs.insertRow();
        }
        Checks.say("rows", Checks.run(c, "select * from up order by a"));
    }

    static void callable(Connection c) throws Exception {
        Checks.run(c, "create function adds(a int, b int, out c int) language sql as 'select a + b'");
        Checks.run(c, "create procedure writes(inout n int) language plpgsql as $$ begin create table if not exists wr (n int); "
                + "insert into wr values (n); n := n + 1; commit; end $$");
        try (var st = c.prepareCall("{call adds(?, ?, ?)}")) {
            st.setInt(1, 3);
            st.setInt(2, 4);
            st.registerOutParameter(3, Types.INTEGER);
            st.execute();
            Checks.say("function", st.getInt(3));
        }
        try (var st = c.prepareCall("call writes(?)")) {
            st.setInt(1, 8);
            st.registerOutParameter(1, Types.INTEGER);
            Checks.attempt("procedure", () -> {
                st.execute();
                return st.getInt(1);
            });
        } catch (SQLException e) {
            Checks.say("procedure", Checks.describe(e));
        }
        Checks.attempt("written", () -> Checks.run(c, "select * from wr"));
    }
}

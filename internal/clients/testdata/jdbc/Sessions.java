import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** Sessions over JDBC: startup, transactions, settings, COPY, large objects, notifications, cancel. */
public final class Sessions {
    public static void main(String[] args) {
        Checks.check("startup", "ApplicationName=jdbc%20%C3%BC&currentSchema=a,public&options=-c%20work_mem=5MB%20-c%20app.org=7&assumeMinServerVersion=9.6",
                Sessions::startup);
        Checks.check("transactions", "", Sessions::transactions);
        Checks.check("isolation", "", Sessions::isolation);
        Checks.check("read_only_always", "readOnly=true&readOnlyMode=always", c -> readOnly(c, "ro_always"));
        Checks.check("read_only_transaction", "readOnlyMode=transaction", c -> readOnly(c, "ro_transaction"));
        Checks.check("settings", "", Sessions::settings);
        Checks.check("copy", "", Sessions::copy);
        Checks.check("large_objects", "", Sessions::largeObjects);
        Checks.check("notifications", "", Sessions::notifications);
        Checks.check("cancel", "", Sessions::cancel);
        Checks.check("pins", "", Sessions::pins);
        Checks.check("own_writes", "", Sessions::ownWrites);
        Checks.check("reconnecting", "", c -> reconnecting());
        Checks.check("primary_wanted", "targetServerType=primary", c -> Checks.say("connected", Checks.run(c, "select pg_is_in_recovery()")));
        Checks.say("end", "all checks ran");
    }

    static void startup(Connection c) throws Exception {
        for (String s : new String[] {"application_name", "search_path", "work_mem", "app.org", "DateStyle", "client_encoding", "extra_float_digits", "TimeZone"}) {
            Checks.attempt(s, () -> Checks.run(c, "select current_setting('" + s + "')"));
        }
        Checks.say("schema", c.getSchema());
        Checks.say("valid", c.isValid(5));
        c.setClientInfo("ApplicationName", "renamed");
        Checks.say("renamed", Checks.run(c, "show application_name"));
        c.setSchema("pg_catalog");
        Checks.say("schema set", Checks.run(c, "show search_path"));
        Checks.attempt("no database", () -> {
            String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/no_such_database";
            return java.sql.DriverManager.getConnection(url, System.getenv("PGUSER"), "");
        });
        Checks.attempt("bad option", () -> Checks.connect("options=-c%20no_such_setting=1"));
    }

    static void transactions(Connection c) throws Exception {
        Checks.run(c, "create table tx (a int primary key)");
        c.setAutoCommit(false);
        Checks.run(c, "insert into tx values (1)");
        Savepoint s = c.setSavepoint("named");
        Checks.run(c, "insert into tx values (2)");
        Checks.attempt("error", () -> Checks.run(c, "insert into tx values (1)"));
        Checks.attempt("aborted", () -> Checks.run(c, "select 1"));
        Checks.attempt("valid", () -> c.isValid(5));
        c.rollback(s);
        Savepoint unnamed = c.setSavepoint();
        Checks.run(c, "insert into tx values (3)");
        c.releaseSavepoint(unnamed);
        Checks.attempt("released", () -> {
            c.rollback(unnamed);
            return "rolled back";
        });
        c.commit();
        Checks.say("rows", Checks.run(c, "select a from tx order by a"));
        c.commit();
        Checks.attempt("error then commit", () -> Checks.run(c, "select 1/0"));
        Checks.attempt("commit", () -> {
            c.commit();
            return "committed";
        });
        Checks.say("usable", Checks.run(c, "select count(*) from tx"));
        c.setAutoCommit(true);
        for (String sql : new String[] {"begin", "begin", "commit", "commit", "rollback"}) {
            try (Statement st = c.createStatement()) {
                st.execute(sql);
                Checks.say(sql, Checks.warnings(st.getWarnings()));
            }
        }
    }

    static void isolation(Connection c) throws Exception {
        Checks.run(c, "create table iso (a int)");
        int[] levels = {Connection.TRANSACTION_READ_UNCOMMITTED, Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ,
            Connection.TRANSACTION_SERIALIZABLE};
        for (int level : levels) {
            c.setTransactionIsolation(level);
            c.setAutoCommit(false);
            Checks.say("level", c.getTransactionIsolation() + " " + Checks.run(c, "show transaction_isolation"));
            Checks.attempt("write", () -> Checks.run(c, "insert into iso values (1)"));
            c.commit();
            c.setAutoCommit(true);
        }
        Checks.say("count", Checks.run(c, "select count(*) from iso"));
    }

    static void readOnly(Connection c, String t) throws Exception {
        c.setReadOnly(false);
        Checks.run(c, "create table " + t + " (a int)");
        c.setReadOnly(true);
        Checks.attempt("autocommit", () -> Checks.run(c, "insert into " + t + " values (1)"));
        c.setAutoCommit(false);
        Checks.attempt("read", () -> Checks.run(c, "select count(*), current_setting('transaction_read_only') from " + t));
        Checks.attempt("write", () -> Checks.run(c, "insert into " + t + " values (1)"));
        c.rollback();
        c.setReadOnly(false);
        Checks.attempt("writable again", () -> Checks.run(c, "insert into " + t + " values (1)"));
        c.commit();
        c.setAutoCommit(true);
        Checks.say("count", Checks.run(c, "select count(*) from " + t));
    }

    static void settings(Connection c) throws Exception {
        Checks.say("set_config", Checks.sql(c, "select set_config('app.org', ?, false)", "x'ü"));
        for (int i = 0; i < 8; i++) {
            Checks.sql(c, "select set_config('app.org', ?, false)", "v" + i);
            Checks.say("value", Checks.sql(c, "select current_setting(?)", "app.org"));
        }
        c.setAutoCommit(false);
        Checks.run(c, "set local app.org = 'local'");
        Checks.say("local", Checks.run(c, "show app.org"));
        c.commit();
        Checks.say("after", Checks.run(c, "show app.org"));
        Checks.run(c, "set app.org = 'undone'");
        c.rollback();
        Checks.say("rolled back", Checks.run(c, "show app.org"));
        c.rollback();
        c.setAutoCommit(true);
        Checks.run(c, "set timezone = 'Asia/Tokyo'");
        Checks.say("zone", ((PGConnection) c).getParameterStatus("TimeZone"));
        Checks.run(c, "discard all");
        Checks.attempt("discarded", () -> Checks.sql(c, "select current_setting('app.org', true), current_setting(?) = ?", "timezone", "Asia/Tokyo"));
    }

    static void copy(Connection c) throws Exception {
        Checks.run(c, "create table cp (a int primary key, b text)");
        CopyManager m = ((PGConnection) c).getCopyAPI();
        Checks.attempt("in", () -> m.copyIn("copy cp from stdin", new ByteArrayInputStream("1\tone\n2\t\\N\n".getBytes())));
        Checks.attempt("bad", () -> m.copyIn("copy cp from stdin", new ByteArrayInputStream("3\tx\nbad\tx\n".getBytes())));
        Checks.attempt("duplicate", () -> m.copyIn("copy cp from stdin", new ByteArrayInputStream("1\tx\n".getBytes())));
        Checks.attempt("stream fails", () -> m.copyIn("copy cp from stdin", new InputStream() {
            private int left = 40;

            @Override
            public int read() throws IOException {
                if (left-- <= 0) {
                    throw new IOException("the client gave up");
                }
                return left % 4 == 0 ? '\n' : '5';
            }
        }));
        Checks.attempt("cancelled", () -> {
            CopyIn in = m.copyIn("copy cp from stdin");
            byte[] row = "9\tx\n".getBytes();
            in.writeToCopy(row, 0, row.length);
            in.cancelCopy();
            return in.isActive();
        });
        Checks.say("unharmed", Checks.run(c, "select count(*) from cp"));
        StringBuilder big = new StringBuilder();
        for (int i = 0; i < 100000; i++) {
            big.append(1000 + i).append('\t').append("ü".repeat(50)).append('\n');
        }
        Checks.attempt("10 MB", () -> m.copyIn("copy cp from stdin", new ByteArrayInputStream(big.toString().getBytes("UTF-8"))));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        Checks.attempt("out", () -> m.copyOut("copy (select * from cp order by a) to stdout", out) + " " + Checks.plain(out.toByteArray()));
        Checks.attempt("out error", () -> m.copyOut("copy (select 1 / (a - 90000) from cp order by a) to stdout", new ByteArrayOutputStream()));
        Checks.attempt("binary", () -> {
            ByteArrayOutputStream b = new ByteArrayOutputStream();
            return m.copyOut("copy (select * from cp order by a limit 1000) to stdout with (format binary)", b) + " " + Checks.plain(b.toByteArray());
        });
        Checks.attempt("usable", () -> Checks.run(c, "select count(*) from cp"));
    }

    static void largeObjects(Connection c) throws Exception {
        c.setAutoCommit(false);
        LargeObjectManager m = ((PGConnection) c).getLargeObjectAPI();
        long oid = m.createLO();
        LargeObject lo = m.open(oid, LargeObjectManager.READWRITE);
        lo.write("0123456789".repeat(50000).getBytes());
        Checks.say("size", lo.size());
        lo.seek(499990);
        Checks.say("tail", new String(lo.read(100)));
        lo.truncate(5);
        lo.seek(0);
        Checks.say("truncated", new String(lo.read(100)));
        lo.close();
        c.commit();
        lo = m.open(oid, LargeObjectManager.READ);
        Checks.say("after commit", new String(lo.read(3)));
        lo.close();
        m.delete(oid);
        Checks.attempt("gone", () -> {
            try {
                return m.open(oid, LargeObjectManager.READ);
            } catch (SQLException e) {
                return e.getSQLState();
            }
        });
        c.rollback();
        m.delete(oid);
        c.commit();
        c.setAutoCommit(true);
    }

    static void notifications(Connection c) throws Exception {
        PGConnection pg = (PGConnection) c;
        Checks.run(c, "listen fleet");
        Checks.run(c, "notify fleet, 'own'");
        try (Connection other = Checks.connect("")) {
            Checks.run(other, "notify fleet, 'other'");
            Checks.sql(other, "select pg_notify(?, ?)", "fleet", "by function");
        }
        List<Object> got = new ArrayList<>();
        for (long end = System.nanoTime() + 10_000_000_000L; got.size() < 3 && System.nanoTime() < end; ) {
            PGNotification[] n = pg.getNotifications(200);
            for (int i = 0; n != null && i < n.length; i++) {
                got.add(n[i].getName() + " " + n[i].getParameter());
            }
        }
        Checks.say("got", got);
        Checks.run(c, "unlisten *");
    }

    static void cancel(Connection c) throws Exception {
        try (Statement st = c.createStatement()) {
            for (int i = 0; i < 2; i++) {
                st.setQueryTimeout(1);
                Checks.attempt("query timeout", () -> st.execute("select pg_sleep(30)"));
                st.setQueryTimeout(0);
                Checks.attempt("usable", () -> Checks.run(c, "select 1"));
            }
        }
        try (PreparedStatement st = c.prepareStatement("select pg_sleep(?)")) {
            st.setInt(1, 30);
            Timer timer = new Timer();
            timer.schedule(new TimerTask() {
                @Override
                public void run() {
                    try {
                        st.cancel();
                    } catch (SQLException e) {
                        Checks.say("cancel", Checks.describe(e));
                    }
                }
            }, 400);
            Checks.attempt("cancelled", st::execute);
            timer.cancel();
        }
        Checks.attempt("usable", () -> Checks.run(c, "select 2"));
        c.setNetworkTimeout(Runnable::run, 10000);
        Checks.run(c, "set statement_timeout = 100");
        Checks.attempt("statement_timeout", () -> Checks.run(c, "select pg_sleep(30)"));
        Checks.attempt("usable", () -> Checks.run(c, "select 3"));
    }

    static void pins(Connection c) throws Exception {
        Checks.run(c, "create temp table tt (a int)");
        Checks.run(c, "create sequence sq");
        for (int i = 0; i < 7; i++) {
            Checks.sql(c, "insert into tt values (?)", i);
            Checks.sql(c, "select nextval('sq')");
        }
        Checks.say("temp", Checks.sql(c, "select sum(a) from tt where a > ?", 1));
        Checks.say("currval", Checks.sql(c, "select currval('sq'), lastval()"));
        Checks.say("lock", Checks.sql(c, "select pg_try_advisory_lock(?)", 71L));
        try (Connection other = Checks.connect("")) {
            Checks.say("held", Checks.sql(other, "select pg_try_advisory_lock(?)", 71L));
            Checks.attempt("no temp", () -> Checks.sql(other, "select * from tt"));
        }
        Checks.say("unlock", Checks.sql(c, "select pg_advisory_unlock(?)", 71L));
        c.setAutoCommit(false);
        Checks.run(c, "declare h cursor with hold for select generate_series(1, 5)");
        c.commit();
        Checks.say("held cursor", List.of(Checks.run(c, "fetch 2 from h"), Checks.run(c, "fetch 2 from h")));
        c.commit();
        c.setAutoCommit(true);
        Checks.say("close", Checks.run(c, "close h"));
    }

    static void ownWrites(Connection c) throws Exception {
        Checks.run(c, "create table ow (a int)");
        List<Object> stale = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            Checks.sql(c, "insert into ow values (?)", i);
            Object seen = Checks.sql(c, "select max(a) from ow");
            if (!seen.equals("(" + i + ")")) {
                stale.add(i + " " + seen);
            }
        }
        Checks.say("stale", stale);
    }

    static void reconnecting() throws Exception {
        for (int i = 0; i < 20; i++) {
            try (Connection c = Checks.connect("prepareThreshold=1&ApplicationName=app" + i % 3)) {
                Checks.say("round " + i, Checks.sql(c, "select current_setting('application_name'), ?::int * 2, current_setting('app.left', true)", i));
                Checks.sql(c, "select set_config('app.left', ?, false)", "left");
            }
        }
    }
}

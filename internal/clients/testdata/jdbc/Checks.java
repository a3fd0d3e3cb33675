import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Statement;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** What the JDBC programs share: connections, and one printed line for each observed fact. */
final class Checks {
    static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private static String current = "program";

    private Checks() {}

    /** A check that runs on a connection of its own. */
    interface Body {
        void run(Connection conn) throws Exception;
    }

    /** Something that gives a value or fails. */
    interface Value {
        Object get() throws Exception;
    }

    static void check(String name, String properties, Body body) {
        current = name;
        try (Connection conn = connect(properties)) {
            body.run(conn);
        } catch (Exception e) {
            say("unexpected", describe(e));
        }
    }

    /** Connects; properties are name=value pairs behind one another with &amp; between. */
    static Connection connect(String properties) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        return DriverManager.getConnection(properties.isEmpty() ? url : url + "?" + properties, p);
    }

    static void say(String name, Object value) {
        OUT.println(current + "." + name + ": " + plain(value));
    }

    static void attempt(String name, Value value) {
        try {
            say(name, value.get());
        } catch (Exception e) {
            say(name, describe(e));
        }
    }

    static String describe(Throwable e) {
        StringBuilder b = new StringBuilder(e.getClass().getSimpleName());
        for (Throwable t = e; t != null; t = next(t)) {
            b.append(" [").append(one(t)).append("]");
        }
        return b.toString();
    }

    private static Throwable next(Throwable t) {
        return t instanceof SQLException s ? s.getNextException() : null;
    }

    private static String one(Throwable t) {
        if (t instanceof PSQLException p && p.getServerErrorMessage() != null) {
            ServerErrorMessage m = p.getServerErrorMessage();
            return String.join("|", List.of(p.getSQLState(), m.getSeverity(), m.getMessage() + "", m.getDetail() + "", m.getHint() + "",
                    m.getPosition() + "", m.getInternalPosition() + "", m.getInternalQuery() + "", m.getWhere() + "", m.getSchema() + "",
                    m.getTable() + "", m.getColumn() + "", m.getDatatype() + "", m.getConstraint() + ""))
                    .replace("\n", "\\n");
        }
        String state = t instanceof SQLException s ? s.getSQLState() + " " : "";
        return (state + t.getMessage()).replace("\n", "\\n").replaceAll("localhost|127\\.0\\.0\\.1:\\d+", "ADDRESS");
    }

    static String plain(Object v) {
        if (v instanceof byte[] b) {
            return "bytes[" + b.length + "] md5 " + md5(b);
        }
        if (v instanceof Array a) {
            try {
                return plain(a.getArray());
            } catch (SQLException e) {
                return describe(e);
            }
        }
        if (v instanceof int[] a) {
            return Arrays.toString(a);
        }
        if (v instanceof Object[] a) {
            return Arrays.stream(a).map(Checks::plain).toList().toString();
        }
        if (v instanceof List<?> l) {
            return l.stream().map(Checks::plain).toList().toString();
        }
        String s = String.valueOf(v).replace("\\", "\\\\").replace("\n", "\\n");
        return s.length() > 1000 ? "text[" + s.length() + "] md5 " + md5(s.getBytes(StandardCharsets.UTF_8)) : s;
    }

    static String md5(byte[] b) {
        try {
            return String.format("%032x", new java.math.BigInteger(1, MessageDigest.getInstance("MD5").digest(b)));
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Executes a statement string and returns its rows, or the update counts. */
    static Object sql(Connection conn, String text, Object... args) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement(text)) {
            for (int i = 0; i < args.length; i++) {
                st.setObject(i + 1, args[i]);
            }
            return st.execute() ? rows(st.getResultSet()) : "count " + st.getUpdateCount();
        }
    }

    /** Executes by Statement, without parameters. */
    static Object run(Connection conn, String text) throws SQLException {
        StringBuilder out = new StringBuilder();
        try (Statement st = conn.createStatement()) {
            boolean isResult = st.execute(text);
            while (true) {
                if (isResult) {
                    out.append(rows(st.getResultSet())).append(' ');
                } else if (st.getUpdateCount() >= 0) {
                    out.append(st.getUpdateCount()).append(' ');
                } else {
                    return out.toString().trim();
                }
                isResult = st.getMoreResults();
            }
        }
    }

    static String rows(ResultSet rs) throws SQLException {
        StringBuilder out = new StringBuilder();
        int n = rs.getMetaData().getColumnCount();
        while (rs.next()) {
            out.append('(');
            for (int i = 1; i <= n; i++) {
                out.append(i > 1 ? ", " : "").append(plain(rs.getObject(i)));
            }
            out.append(')');
        }
        return out.toString();
    }

    static String warnings(SQLWarning w) {
        StringBuilder out = new StringBuilder();
        for (; w != null; w = w.getNextWarning()) {
            out.append(w.getSQLState()).append(' ').append(w.getMessage()).append("; ");
        }
        return out.toString();
    }
}

// Inserts jobs and prints their results: java -cp sqlite-jdbc.jar Example.java queue.db
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import org.sqlite.SQLiteConfig;

public class Example {
    static final String INSERT = "INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)";
    static final String INSERT_KEYED =
        "INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)";
    static final String UNFINISHED = "SELECT queued + running FROM batches WHERE batch = ?";
    static final String NEWS = """
        SELECT seq, id, state, coalesce(text, error) AS text FROM results
        WHERE seq > ? AND batch = ? ORDER BY seq""";

    static Connection connect(String path) throws SQLException {
        var config = new SQLiteConfig();
        config.setBusyTimeout(5000);
        config.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        var db = DriverManager.getConnection("jdbc:sqlite:" + path, config.toProperties());
        try (var setting = db.createStatement()) {
            setting.execute("PRAGMA wal_autocheckpoint = 0"); // only the daemon checkpoints
        }
        return db;
    }

    static void insert(Connection db, String batch) throws SQLException {
        try (var one = db.prepareStatement(INSERT, Statement.RETURN_GENERATED_KEYS);
            var keyed = db.prepareStatement(INSERT_KEYED)) {
            one.setString(1, "What's up?");
            one.setString(2, batch);
            one.executeUpdate();
            System.out.println("inserted job " + number(one.getGeneratedKeys()));

            var cities = List.of("Oslo", "Lima", "Hanoi");
            db.setAutoCommit(false);
            try {
                for (var city : cities) {
                    one.setString(1, "Say hello to " + city);
                    one.addBatch();
                }
                one.executeBatch();
                db.commit();
            } catch (SQLException error) {
                db.rollback();
                throw error;
            } finally {
                db.setAutoCommit(true);
            }
            System.out.println("inserted " + cities.size() + " jobs in one transaction");

            keyed.setString(1, "Say hi");
            keyed.setString(2, batch);
            keyed.setString(3, batch + "-hi");
            for (int round = 0; round < 2; round++) {
                System.out.println("inserted by key: " + keyed.executeUpdate() + " new");
            }
        }
    }

    /** Prints each result of the batch once, until nothing of it is queued or running. */
    static void results(Connection db, String batch) throws Exception {
        try (var version = db.prepareStatement("PRAGMA data_version");
            var unfinished = db.prepareStatement(UNFINISHED);
            var news = db.prepareStatement(NEWS)) {
            unfinished.setString(1, batch);
            news.setString(2, batch);
            long seq = 0, seen = -1, left = 1;
            while (left > 0) {
                long now = number(version.executeQuery());
                if (now == seen) {
                    Thread.sleep(100);
                    continue;
                }
                seen = now;
                // First what is left, then the results: none can slip in between.
                left = number(unfinished.executeQuery());
                news.setLong(1, seq);
                try (var rows = news.executeQuery()) {
                    while (rows.next()) {
                        seq = rows.getLong("seq");
                        var text = rows.getString("text").replaceAll("\\s+", " ");
                        System.out.printf(
                            "job %d %s: %s%n", rows.getLong("id"), rows.getString("state"), text);
                    }
                }
            }
        }
    }

    static long number(ResultSet rows) throws SQLException {
        try (rows) {
            rows.next();
            return rows.getLong(1);
        }
    }

    public static void main(String[] args) throws Exception {
        var batch = "java-" + System.currentTimeMillis() + "-" + ProcessHandle.current().pid();
        try (var db = connect(args.length > 0 ? args[0] : "queue.db")) {
            insert(db, batch);
            results(db, batch);
        }
        System.out.println("done");
    }
}

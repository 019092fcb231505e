package lake.guard;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hive.service.Service;
import org.apache.hive.service.cli.CLIService;
import org.apache.hive.service.server.HiveServer2;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.hive.HiveUtils$;
import org.apache.spark.sql.hive.thriftserver.HiveThriftServer2;
import org.apache.spark.sql.hive.thriftserver.SparkSQLEnv;
import org.apache.spark.sql.hive.thriftserver.ui.HiveThriftServer2EventManager;

/** Starts Spark's Thrift server with this plug-in's {@link Door} in the place of its own, which never listens. */
public final class Endpoint {
  private Endpoint() {}

  public static void main(String[] arguments) throws InterruptedException, IOException {
    new HiveServer2.ServerOptionsProcessor("sql-endpoint").parse(arguments);
    Protect.start();
    SparkSQLEnv.init();
    SparkContext spark = SparkSQLEnv.sparkContext();
    SparkSession session = SparkSQLEnv.sparkSession();
    HiveThriftServer2.systemExitOnError().set(true);
    HiveThriftServer2.eventManager_$eq(new HiveThriftServer2EventManager(spark));
    HiveConf conf = HiveUtils$.MODULE$.newClientForExecution(spark.conf(), Check.state(session).newHadoopConf()).conf();
    String password = System.getenv("LAKE_KEYSTORE_PASSWORD");
    if (password != null) {
      conf.setVar(HiveConf.ConfVars.HIVE_SERVER2_SSL_KEYSTORE_PASSWORD, password);
    }
    handOnKeys(spark);
    Restarts.open(Path.of(spark.conf().get("spark.lake.restarts")));
    Users.tellHealthCheck(Path.of(spark.conf().get("spark.lake.health")));
    HiveThriftServer2 server = new HiveThriftServer2(session);
    server.init(conf);
    for (Service service : server.getServices()) {
      if (service instanceof CLIService known) {
        known.start();
        Door door = new Door(known);
        door.init(conf);
        door.start();
      }
    }
    int metrics = spark.conf().getInt("spark.lake.metrics.port", 0);
    if (metrics != 0) {
      Metrics.serve(metrics);
    }
    Watchdog.start(spark, RunLimits.current());
    // Spark stops when the main method returns. If it stopped by itself, the process must end, to be restarted.
    while (!spark.isStopped()) {
      Thread.sleep(1000);
    }
  }

  /**
   * Executors on other machines get the keys of the object store with what they read. As settings of Spark's, sessions
   * could show them; here sessions do not look.
   */
  private static void handOnKeys(SparkContext spark) {
    if (spark.isLocal()) {
      return;
    }
    Map.of("AWS_ACCESS_KEY_ID", "access.key", "AWS_SECRET_ACCESS_KEY", "secret.key", "AWS_SESSION_TOKEN", "session.token")
        .forEach((variable, key) -> {
          String value = System.getenv(variable);
          if (value != null) {
            spark.hadoopConfiguration().set("fs.s3a." + key, value);
          }
        });
  }
}

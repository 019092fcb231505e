package lake.guard;

import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.SparkContext;
import org.apache.spark.scheduler.Pool;
import org.apache.spark.scheduler.Schedulable;
import org.apache.spark.scheduler.SchedulingMode;
import org.apache.spark.scheduler.TaskInfo;
import org.apache.spark.scheduler.TaskSetManager;
import scala.collection.mutable.ArrayBuffer;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Who gets the next core that is free: the user who has used them least of late, and of that user's queries the one that has.
 *
 * <p>Spark's own fair pool takes whoever has least at work now, of several the oldest. A query that has lost its only task has
 * as little as one that was never served, and is older: so two long queries would have both cores for as long as they run.
 */
final class Turns extends Pool {
  /** Property of a job: whose it is. */
  static final String USER = "spark.lake.user";
  /** In a step what was used counts so much less: half of it after half a minute. */
  private static final double AGE = Math.pow(0.5, RunLimits.STEP_MILLIS / 30e3);
  private static final double NOTHING = 0.01;

  /** Seconds of a core that tasks took which have ended. */
  private static final Map<String, Double> OF_USERS = new ConcurrentHashMap<>();
  private static final Map<String, Double> OF_QUERIES = new ConcurrentHashMap<>();

  private record Turn(TaskSetManager tasks, double user, double query, int stage) {
    private static final Comparator<Turn> FIRST =
        Comparator.comparingDouble(Turn::user).thenComparingDouble(Turn::query).thenComparingInt(Turn::stage);
  }

  private Turns() {
    super("default", SchedulingMode.FAIR(), 0, 1);
  }

  /** In the place of the pool that all queries are in. */
  static void begin(SparkContext spark) {
    Pool root = spark.taskScheduler().rootPool();
    Schedulable before = root.getSchedulableByName("default");
    if (!(before instanceof Turns)) {
      root.removeSchedulable(before);
      root.addSchedulable(new Turns());
    }
  }

  /** A task has ended. */
  static void used(String user, String query, double seconds) {
    OF_USERS.merge(user, seconds, Double::sum);
    OF_QUERIES.merge(query, seconds, Double::sum);
  }

  /** What a query has used, without the tasks that are at work. */
  static double used(String query) {
    return OF_QUERIES.getOrDefault(query, 0.0);
  }

  static void forget(String query) {
    OF_QUERIES.remove(query);
  }

  /** Every {@link RunLimits#STEP_MILLIS}. */
  static void age() {
    OF_USERS.replaceAll((user, seconds) -> seconds * AGE);
    OF_USERS.values().removeIf(seconds -> seconds < NOTHING);
  }

  private static String property(TaskSetManager tasks, String name, String otherwise) {
    Properties properties = tasks.taskSet().properties();
    return properties == null ? otherwise : properties.getProperty(name, otherwise);
  }

  private static String query(TaskSetManager tasks) {
    return property(tasks, "spark.jobGroup.id", "");
  }

  private static String user(TaskSetManager tasks) {
    return property(tasks, USER, query(tasks));
  }

  /** Of the tasks that are at work, until now. */
  private static double seconds(TaskSetManager tasks, long now) {
    double seconds = 0;
    for (Object task : CollectionConverters.asJava(tasks.runningTasksSet())) {
      TaskInfo info = tasks.taskInfos().getOrElse(task, () -> null);
      seconds += info == null ? 0 : (now - info.launchTime()) / 1e3;
    }
    return seconds;
  }

  /** Spark asks under a lock of its own, so this takes none of another. */
  @Override
  public ArrayBuffer<TaskSetManager> getSortedTaskSetQueue() {
    long now = System.currentTimeMillis();
    Map<String, Double> users = new HashMap<>(OF_USERS);
    Map<String, Double> queries = new HashMap<>();
    for (Schedulable each : schedulableQueue()) {
      if (each instanceof TaskSetManager tasks) {
        double seconds = seconds(tasks, now);
        users.merge(user(tasks), seconds, Double::sum);
        queries.merge(query(tasks), seconds, Double::sum);
      }
    }
    // Worked out before they are compared: what tasks have used goes on to change.
    List<Turn> turns = CollectionConverters.asJava(super.getSortedTaskSetQueue()).stream()
        .map(tasks -> new Turn(tasks, users.getOrDefault(user(tasks), 0.0),
            used(query(tasks)) + queries.getOrDefault(query(tasks), 0.0), tasks.stageId()))
        .sorted(Turn.FIRST).toList();
    ArrayBuffer<TaskSetManager> inOrder = new ArrayBuffer<>(turns.size());
    turns.forEach(turn -> inOrder.addOne(turn.tasks()));
    return inOrder;
  }
}

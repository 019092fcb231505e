package lake.guard;

import java.lang.reflect.Method;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.scheduler.DAGScheduler;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerEvent;
import org.apache.spark.scheduler.SparkListenerJobEnd;
import org.apache.spark.scheduler.SparkListenerJobStart;
import org.apache.spark.scheduler.SparkListenerStageCompleted;
import org.apache.spark.scheduler.SparkListenerStageSubmitted;
import org.apache.spark.scheduler.SparkListenerTaskEnd;
import org.apache.spark.scheduler.SparkListenerTaskStart;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationClosed;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Keeps queries from taking what others need; named in {@code spark.extraListeners}.
 *
 * <p>Those that run too long or return too much are stopped, with an error that says what to do. Limits are
 * {@code spark.lake.query.seconds} (0: none) and {@code spark.lake.query.resultBytes}. The Thrift server's own time limit
 * ends a query without a word to a client that waits for it. Time is that in which jobs of the query run: a client that
 * fetches slowly uses none. A result is measured as Spark sends it to the driver, packed; there the server holds it as
 * objects, at 20 to 30 times the size.
 *
 * <p>Spark's fair pool hands out a core when a task ends, which may take minutes. So when a query has waited for a second
 * without a single task at work, a task of another one is ended; Spark runs that again later, and counts no failure.
 */
public final class RunLimits extends SparkListener {
  private static final String LESS = "name dates (WHERE date BETWEEN …), aggregate, or add a LIMIT";
  private static final long PATIENCE = TimeUnit.SECONDS.toNanos(1);
  /** A query's only task is left alone for so long, or many queries would end each other's work in turn. */
  private static final long TURN = TimeUnit.SECONDS.toNanos(10);

  private final long limitNanos;
  private final long limitBytes;
  private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(work -> {
    Thread thread = new Thread(work, "query-limits");
    thread.setDaemon(true);
    return thread;
  });
  private final Map<String, Query> queries = new HashMap<>();
  private final Map<Integer, Job> jobs = new HashMap<>();
  private final Map<Integer, Job> jobOfStage = new HashMap<>();
  private final Map<Long, Task> tasks = new HashMap<>();

  private static final class Query {
    private final String group;
    private int jobs;
    private long since;
    private long used;
    private ScheduledFuture<?> end;
    private int stages;
    private int tasks;
    private long waitingSince;

    private Query(String group) {
      this.group = group;
    }
  }

  private static final class Job {
    private final Query query;
    private final boolean held;
    private long resultBytes;

    private Job(Query query, boolean held) {
      this.query = query;
      this.held = held;
    }
  }

  private record Task(long id, Query query, long since) {}

  public RunLimits(SparkConf conf) {
    limitNanos = TimeUnit.SECONDS.toNanos(conf.getLong("spark.lake.query.seconds", 0));
    limitBytes = conf.getLong("spark.lake.query.resultBytes", Long.MAX_VALUE);
    clock.scheduleWithFixedDelay(this::makeRoom, 1, 1, TimeUnit.SECONDS);
  }

  /**
   * Of stages that have equally little at work, Spark's fair pool takes the one whose number comes first as text: the
   * oldest, but where numbers get a digit more. There stage 999 would wait as long as there is one of the thousands. So
   * all numbers get ten digits.
   */
  static void numberStages() {
    try {
      Method next = DAGScheduler.class.getDeclaredMethod("nextStageId");
      next.setAccessible(true);
      ((AtomicInteger) next.invoke(SparkContext.getOrCreate().dagScheduler())).accumulateAndGet(1_000_000_000, Math::max);
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException("this Spark numbers its stages in another way", error);
    }
  }

  @Override
  public synchronized void onJobStart(SparkListenerJobStart start) {
    String group = start.properties() == null ? null : start.properties().getProperty("spark.jobGroup.id");
    if (group == null) {
      return;
    }
    Query query = queries.computeIfAbsent(group, Query::new);
    // A table that is collected to be sent to all tasks is no result.
    boolean broadcast = start.properties().getProperty("spark.job.tags", "").contains("broadcast exchange");
    Job job = new Job(query, !broadcast && PlanLimits.HELD.equals(start.properties().getProperty(PlanLimits.RESULT)));
    jobs.put(start.jobId(), job);
    CollectionConverters.asJava(start.stageIds()).forEach(stage -> jobOfStage.put((Integer) stage, job));
    if (query.jobs++ == 0 && limitNanos > 0) {
      query.since = System.nanoTime();
      String message = "it ran for " + TimeUnit.NANOSECONDS.toSeconds(limitNanos) + " s, the most that is allowed: " + LESS;
      query.end = clock.schedule(() -> stop(query, message), Math.max(0, limitNanos - query.used), TimeUnit.NANOSECONDS);
    }
  }

  @Override
  public synchronized void onJobEnd(SparkListenerJobEnd end) {
    Job job = jobs.remove(end.jobId());
    if (job == null) {
      return;
    }
    jobOfStage.values().removeIf(other -> other == job);
    Query query = job.query;
    if (--query.jobs == 0) {
      query.stages = 0;
      if (query.end != null) {
        query.used += System.nanoTime() - query.since;
        query.end.cancel(false);
      }
    }
  }

  @Override
  public synchronized void onStageSubmitted(SparkListenerStageSubmitted submitted) {
    Job job = jobOfStage.get(submitted.stageInfo().stageId());
    if (job != null) {
      job.query.stages++;
      job.query.waitingSince = System.nanoTime();
    }
  }

  @Override
  public synchronized void onStageCompleted(SparkListenerStageCompleted completed) {
    Job job = jobOfStage.get(completed.stageInfo().stageId());
    if (job != null) {
      job.query.stages--;
    }
  }

  @Override
  public synchronized void onTaskStart(SparkListenerTaskStart start) {
    Job job = jobOfStage.get(start.stageId());
    if (job != null) {
      job.query.tasks++;
      tasks.put(start.taskInfo().taskId(), new Task(start.taskInfo().taskId(), job.query, System.nanoTime()));
    }
  }

  @Override
  public synchronized void onTaskEnd(SparkListenerTaskEnd end) {
    Task task = tasks.remove(end.taskInfo().taskId());
    if (task != null) {
      task.query.tasks--;
      task.query.waitingSince = System.nanoTime();
    }
    Job job = jobOfStage.get(end.stageId());
    if (job == null || !job.held || end.taskMetrics() == null || !end.taskType().equals("ResultTask")) {
      return;
    }
    job.resultBytes += end.taskMetrics().resultSize();
    if (job.resultBytes > limitBytes) {
      stop(job.query, "its result is larger than " + (limitBytes >> 10) + " KiB packed, the most that is held in memory: "
          + LESS + "; or have it in pieces, after SET " + PlanLimits.STREAM + "=true");
    }
  }

  @Override
  public synchronized void onOtherEvent(SparkListenerEvent event) {
    if (event instanceof SparkListenerThriftServerOperationClosed closed) {
      queries.remove(closed.id());
    }
  }

  private synchronized void makeRoom() {
    long now = System.nanoTime();
    boolean waiting = queries.values().stream()
        .anyMatch(query -> query.stages > 0 && query.tasks == 0 && now - query.waitingSince > PATIENCE);
    if (!waiting) {
      return;
    }
    // The youngest task of the query that has most of them: the least work is lost.
    Optional<Task> ended = tasks.values().stream()
        .filter(task -> task.query.tasks > 1 || now - task.since > TURN)
        .max(Comparator.<Task>comparingInt(task -> task.query.tasks).thenComparingLong(Task::since));
    ended.ifPresent(task -> SparkContext.getOrCreate().killTaskAttempt(task.id, true, "another query waits"));
  }

  private static void stop(Query query, String message) {
    SparkContext.getOrCreate().cancelJobGroup(query.group, "[LIMIT] query stopped: " + message);
  }
}

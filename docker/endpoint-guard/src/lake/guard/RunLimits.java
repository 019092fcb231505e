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
import java.util.stream.Collectors;
import java.util.stream.Stream;
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
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationCanceled;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationClosed;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationError;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationFinish;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationStart;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationTimeout;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Keeps queries from taking what others need; named in {@code spark.extraListeners}.
 *
 * <p>Those that run too long or return too much are stopped, with an error that says what to do. Limits are
 * {@code spark.lake.query.seconds} (0: none) and {@code spark.lake.query.resultBytes}. The Thrift server's own time limit
 * ends a query without a word to a client that waits for it. Time is that from a statement's start to its end, and that in
 * which jobs of it run later: a client that fetches slowly uses none. A result is measured as Spark sends it to the driver, packed; there the server holds it as
 * objects, at 20 to 30 times the size.
 *
 * <p>Spark's fair pool hands out a core when a task ends, which may take minutes. So when a query has waited for a second
 * without a single task at work, a task of another one is ended; Spark runs that again later, and counts no failure.
 */
public final class RunLimits extends SparkListener {
  static final String LESS = "name dates (WHERE date BETWEEN …), aggregate, or add a LIMIT";
  private static final long PATIENCE = TimeUnit.SECONDS.toNanos(1);
  /** A query's only task is left alone for so long, or many queries would end each other's work in turn. */
  private static final long TURN = TimeUnit.SECONDS.toNanos(10);
  /** What is stopped and still runs after so long cannot be stopped. */
  private static final long OVERDUE = TimeUnit.SECONDS.toNanos(30);
  private static RunLimits current;

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
    private String user = "";
    private String statement = "";
    private Thread thread;
    private boolean executes;
    private long turn = TURN;
    private long allocated;
    private String stopped;
    private long stoppedAt;

    private Query(String group) {
      this.group = group;
    }

    private boolean runs() {
      return executes || tasks > 0;
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
    current = this;
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
    begin(query);
  }

  private void begin(Query query) {
    if (query.jobs++ == 0 && limitNanos > 0) {
      query.since = System.nanoTime();
      String message = "it ran for " + TimeUnit.NANOSECONDS.toSeconds(limitNanos) + " s, the most that is allowed: " + LESS;
      query.end = clock.schedule(() -> stop(query, message), Math.max(0, limitNanos - query.used), TimeUnit.NANOSECONDS);
    }
  }

  private void end(Query query) {
    if (--query.jobs == 0) {
      query.stages = 0;
      if (query.end != null) {
        query.used += System.nanoTime() - query.since;
        query.end.cancel(false);
      }
    }
  }

  @Override
  public synchronized void onJobEnd(SparkListenerJobEnd end) {
    Job job = jobs.remove(end.jobId());
    if (job == null) {
      return;
    }
    jobOfStage.values().removeIf(other -> other == job);
    end(job.query);
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
    if (event instanceof SparkListenerThriftServerOperationStart start) {
      Query query = queries.computeIfAbsent(start.id(), Query::new);
      query.user = start.userName();
      query.statement = start.statement();
      query.executes = true;
      begin(query);
    } else if (event instanceof SparkListenerThriftServerOperationFinish finish) {
      executed(queries.get(finish.id()));
    } else if (event instanceof SparkListenerThriftServerOperationError error) {
      executed(queries.get(error.id()));
    } else if (event instanceof SparkListenerThriftServerOperationCanceled canceled) {
      given(queries.get(canceled.id()));
    } else if (event instanceof SparkListenerThriftServerOperationTimeout timeout) {
      given(queries.get(timeout.id()));
    } else if (event instanceof SparkListenerThriftServerOperationClosed closed) {
      given(queries.remove(closed.id()));
    }
  }

  private void executed(Query query) {
    if (query != null && query.executes) {
      query.executes = false;
      query.thread = null;
      end(query);
    }
  }

  /** A client has given a query up: what still runs of it must end. */
  private void given(Query query) {
    executed(query);
    if (query != null && query.tasks > 0 && query.stopped == null) {
      query.stopped = "its client has gone";
      query.stoppedAt = System.nanoTime();
    }
  }

  /** The statement of this group is planned by this thread. Refuses to go on where it was stopped meanwhile. */
  static void planning(String group) {
    RunLimits limits = current;
    if (limits != null && group != null) {
      synchronized (limits) {
        Query query = limits.queries.get(group);
        if (query != null) {
          query.thread = Thread.currentThread();
          if (query.stopped != null) {
            throw Guard.error("[LIMIT] query stopped: " + query.stopped);
          }
        }
      }
    }
  }

  static RunLimits current() {
    return current;
  }

  /** Bytes that a thread has allocated since it was last asked, for a task or for a statement. */
  synchronized void allocated(Long task, long thread, long bytes) {
    if (task != null) {
      Task known = tasks.get(task);
      if (known != null) {
        known.query.allocated += bytes;
      }
      return;
    }
    queries.values().stream().filter(query -> query.thread != null && query.thread.getId() == thread)
        .forEach(query -> query.allocated += bytes);
  }

  /** Memory is short: the query that has allocated most is stopped. */
  synchronized void shed() {
    long large = Runtime.getRuntime().maxMemory() / 10;
    queries.values().stream().filter(query -> query.runs() && query.stopped == null && query.allocated > large)
        .max(Comparator.comparingLong(query -> query.allocated))
        .ifPresent(query -> stop(query, "it took the memory that others need: " + LESS));
  }

  /** Says what was stopped and still runs after the time that it had for that; null: nothing. */
  synchronized String overdue() {
    long now = System.nanoTime();
    return Stream.concat(queries.values().stream(), tasks.values().stream().map(Task::query))
        .filter(query -> query.stopped != null && query.runs() && now - query.stoppedAt > OVERDUE).findAny()
        .map(query -> "a query of " + query.user + " cannot be stopped: " + Guard.oneLine(query.statement)).orElse(null);
  }

  /** The statements that run, and whose they are. */
  synchronized String running() {
    return queries.values().stream().filter(Query::runs)
        .map(query -> query.user + ": " + Guard.oneLine(query.statement)).collect(Collectors.joining("; "));
  }

  private synchronized void makeRoom() {
    long now = System.nanoTime();
    boolean waiting = queries.values().stream()
        .anyMatch(query -> query.stages > 0 && query.tasks == 0 && now - query.waitingSince > PATIENCE);
    if (!waiting) {
      return;
    }
    // The youngest task of the query that has most of them: the least work is lost.
    Map<String, Integer> ofUser = new HashMap<>();
    tasks.values().forEach(task -> ofUser.merge(task.query.user, 1, Integer::sum));
    Optional<Task> ended = tasks.values().stream()
        .filter(task -> task.query.tasks > 1 || now - task.since > task.query.turn)
        .max(Comparator.<Task>comparingInt(task -> task.query.tasks)
            .thenComparingInt(task -> ofUser.get(task.query.user)).thenComparingLong(Task::since));
    ended.ifPresent(task -> {
      if (task.query.tasks == 1) {
        task.query.turn *= 2; // or some long ones would end each other for ever
      }
      SparkContext.getOrCreate().killTaskAttempt(task.id, true, "another query waits");
    });
  }

  private synchronized void stop(Query query, String message) {
    if (query.stopped == null) {
      query.stopped = message;
      query.stoppedAt = System.nanoTime();
    }
    SparkContext.getOrCreate().cancelJobGroup(query.group, "[LIMIT] query stopped: " + message);
    if (query.executes && query.stages == 0 && query.thread != null) {
      query.thread.interrupt(); // it is being planned
    }
  }
}

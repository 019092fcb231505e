package lake.guard;

import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.scheduler.JobSucceeded$;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerEvent;
import org.apache.spark.scheduler.SparkListenerExecutorMetricsUpdate;
import org.apache.spark.scheduler.SparkListenerJobEnd;
import org.apache.spark.scheduler.SparkListenerJobStart;
import org.apache.spark.scheduler.SparkListenerStageCompleted;
import org.apache.spark.scheduler.SparkListenerStageSubmitted;
import org.apache.spark.scheduler.SparkListenerTaskEnd;
import org.apache.spark.scheduler.SparkListenerTaskStart;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
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
 * which jobs of it run later: a client that fetches slowly uses none. A result is measured here as Spark sends it to the
 * driver, packed; {@link HeldResults} measures it unpacked.
 *
 * <p>Spark hands out a core when a task ends, which may take minutes. So when a query has waited for a second without a
 * single task at work, a task of another one is ended; Spark runs that again later, and counts no failure. Whose turn it is
 * then {@link Turns} says.
 */
public final class RunLimits extends SparkListener {
  static final String LESS = "name dates (WHERE date BETWEEN …), aggregate, or add a LIMIT";
  static final long STEP_MILLIS = 250;
  private static final long STEP = TimeUnit.MILLISECONDS.toNanos(STEP_MILLIS);
  private static final long PATIENCE = TimeUnit.SECONDS.toNanos(1);
  /** A query's only task is left alone for so long, or many queries would end each other's work in turn. */
  private static final long TURN = TimeUnit.SECONDS.toNanos(10);
  /** A query that has used no more seconds of a core waits for a step only, and for no turn; but the oldest task has one. */
  private static final double LITTLE = 2;
  /** What is stopped and still runs after so long cannot be stopped. */
  private static final long OVERDUE = TimeUnit.SECONDS.toNanos(30);
  /** The most for a user whose statements the process had to end itself for ({@link Restarts}). */
  private static final long AFTER_RESTART = TimeUnit.SECONDS.toNanos(60);
  /** A query that has no events for so long, and does nothing, is one of which the end was told before its beginning. */
  private static final long FORGET = TimeUnit.SECONDS.toNanos(60);
  /** A task that was told to end, because another query waits, and goes on for so long cannot be stopped. */
  private static final long STUBBORN = TimeUnit.SECONDS.toNanos(30);
  private static final Set<String> WRITTEN =
      Set.of("internal.metrics.diskBytesSpilled", "internal.metrics.shuffle.write.bytesWritten");
  private static final String GIVEN_UP = "its client has gone";
  /** Spark's code in which a statement is planned and run. */
  private static final String EXECUTES = "org.apache.spark.sql.hive.thriftserver.SparkExecuteStatementOperation";
  private static RunLimits current;

  private volatile long jobDone = System.nanoTime();
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
  /** A query has no task at work, though it needs one. */
  private boolean waiting;
  /** Given up by their clients, while their threads go on. */
  private final Set<Query> lingering = new HashSet<>();

  private static final class Query {
    private final String group;
    private final long born = System.nanoTime();
    /** The server has told of its beginning. */
    private boolean told;
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
    private double allocated;
    private long written;
    private String stopped;
    private long stoppedAt;

    private Query(String group) {
      this.group = group;
    }

    private boolean isSmall() {
      return Turns.used(group) < LITTLE;
    }

    private boolean runs() {
      return executes || tasks > 0 || lingers();
    }

    /** For a lock: nothing is wrong with the statement itself. */
    private boolean waitsForAnother() {
      return tasks == 0 && thread != null && thread.getState() == Thread.State.BLOCKED;
    }

    /** The thread is in the statement still: Spark does not tell when it leaves one that was given up. */
    private boolean lingers() {
      if (!executes && thread != null && Arrays.stream(thread.getStackTrace())
          .noneMatch(frame -> frame.getClassName().startsWith(EXECUTES) && frame.getMethodName().contains("execute"))) {
        thread = null;
      }
      return !executes && thread != null;
    }
  }

  private static final class Job {
    private final Query query;
    private final boolean held;
    private final boolean streamed;
    private long resultBytes;

    private Job(Query query, boolean held, boolean streamed) {
      this.query = query;
      this.held = held;
      this.streamed = streamed;
    }
  }

  private static final class Task {
    private final long id;
    private final Query query;
    private final long since = System.nanoTime();
    /** When it was told to end, for another query that waits; 0: it was not. */
    private long asked;
    /** Bytes on disk, as far as they are told while it runs. */
    private long written;

    private Task(long id, Query query) {
      this.id = id;
      this.query = query;
    }

    private long since() {
      return since;
    }
  }

  public RunLimits(SparkConf conf) {
    current = this;
    HeldResults.open(conf);
    limitNanos = TimeUnit.SECONDS.toNanos(conf.getLong("spark.lake.query.seconds", 0));
    limitBytes = conf.getLong("spark.lake.query.resultBytes", Long.MAX_VALUE);
    clock.scheduleWithFixedDelay(this::makeRoom, STEP_MILLIS, STEP_MILLIS, TimeUnit.MILLISECONDS);
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
    String result = start.properties().getProperty(PlanLimits.RESULT);
    Job job = new Job(query, !broadcast && PlanLimits.HELD.equals(result), !broadcast && PlanLimits.STREAMED.equals(result));
    jobs.put(start.jobId(), job);
    CollectionConverters.asJava(start.stageIds()).forEach(stage -> jobOfStage.put((Integer) stage, job));
    begin(query);
  }

  private void begin(Query query) {
    long limit = Restarts.of(query.user) == 0 ? limitNanos
        : limitNanos == 0 ? AFTER_RESTART : Math.min(limitNanos, AFTER_RESTART);
    if (query.jobs++ == 0 && limit > 0) {
      query.since = System.nanoTime();
      String message = "it ran for " + TimeUnit.NANOSECONDS.toSeconds(limit) + " s, the most that is allowed: " + LESS;
      query.end = clock.schedule(() -> stop(query, message), Math.max(0, limit - query.used), TimeUnit.NANOSECONDS);
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

  /** When a job last came to its end. */
  long jobDone() {
    return jobDone;
  }

  @Override
  public synchronized void onJobEnd(SparkListenerJobEnd end) {
    if (end.jobResult() instanceof JobSucceeded$) {
      jobDone = System.nanoTime();
    }
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
      tasks.put(start.taskInfo().taskId(), new Task(start.taskInfo().taskId(), job.query));
    }
  }

  @Override
  public synchronized void onTaskEnd(SparkListenerTaskEnd end) {
    Task task = tasks.remove(end.taskInfo().taskId());
    if (task != null) {
      Turns.used(task.query.user, task.query.group, (System.nanoTime() - task.since) / 1e9);
      if (!queries.containsKey(task.query.group)) {
        Turns.forget(task.query.group); // it was closed before
      }
      task.query.tasks--;
      task.query.waitingSince = System.nanoTime();
    }
    Job job = jobOfStage.get(end.stageId());
    if (job == null || end.taskMetrics() == null) {
      return;
    }
    job.query.written += end.taskMetrics().diskBytesSpilled() + end.taskMetrics().shuffleWriteMetrics().bytesWritten();
    if (!job.held) {
      if (job.streamed && end.taskType().equals("ResultTask")) {
        HeldResults.piece(job.query.group, job.query.user, end.taskMetrics().resultSize());
      }
      return;
    }
    if (!end.taskType().equals("ResultTask")) {
      return;
    }
    job.resultBytes += end.taskMetrics().resultSize();
    if (job.resultBytes > limitBytes) {
      stop(job.query, "its result is larger than " + (limitBytes >> 10) + " KiB packed, the most that is held in memory: "
          + LESS + "; or have it in pieces, after SET " + PlanLimits.STREAM + "=true");
    }
  }

  /** Every ten seconds, of each task. */
  @Override
  public synchronized void onExecutorMetricsUpdate(SparkListenerExecutorMetricsUpdate update) {
    for (var each : CollectionConverters.asJava(update.accumUpdates())) {
      Task task = tasks.get((Long) each._1());
      if (task != null) {
        task.written = CollectionConverters.asJava(each._4()).stream()
            .filter(metric -> metric.name().isDefined() && WRITTEN.contains(metric.name().get()) && metric.update().isDefined())
            .mapToLong(metric -> ((Number) metric.update().get()).longValue()).sum();
      }
    }
  }

  @Override
  public synchronized void onOtherEvent(SparkListenerEvent event) {
    if (event instanceof SparkListenerThriftServerOperationStart start) {
      Query query = queries.computeIfAbsent(start.id(), Query::new);
      query.user = String.valueOf(start.userName());
      query.statement = start.statement();
      query.told = true;
      query.executes = true;
      begin(query);
    } else if (event instanceof SparkListenerThriftServerOperationFinish finish) {
      executed(queries.get(finish.id()));
      CachedCatalog.forget(finish.id());
    } else if (event instanceof SparkListenerThriftServerOperationError error) {
      executed(queries.get(error.id()));
      CachedCatalog.forget(error.id());
      HeldResults.release(error.id());
    } else if (event instanceof SparkListenerThriftServerOperationCanceled canceled) {
      given(queries.get(canceled.id()));
      HeldResults.release(canceled.id());
    } else if (event instanceof SparkListenerThriftServerOperationTimeout timeout) {
      given(queries.get(timeout.id()));
      HeldResults.release(timeout.id());
    } else if (event instanceof SparkListenerThriftServerOperationClosed closed) {
      given(queries.remove(closed.id()));
      Turns.forget(closed.id());
      CachedCatalog.forget(closed.id());
      HeldResults.release(closed.id());
    }
  }

  private void executed(Query query) {
    if (query != null && query.executes) {
      query.thread = null;
      ended(query);
    }
  }

  private void ended(Query query) {
    query.executes = false;
    end(query);
  }

  /** A client has given a query up: what still runs of it must end, its planning too. */
  private void given(Query query) {
    if (query == null) {
      return;
    }
    if (query.executes) {
      ended(query);
    }
    if (query.lingers()) {
      lingering.add(query);
      query.thread.interrupt();
    }
    if (query.stopped == null && query.runs()) {
      query.stopped = GIVEN_UP;
      query.stoppedAt = System.nanoTime();
    }
  }

  /** The statement of this group is planned by this thread. Refuses to go on where it was stopped meanwhile. */
  static void planning(String group) {
    RunLimits limits = current;
    if (limits != null && group != null) {
      limits.plannedHere(group);
    }
  }

  private synchronized void plannedHere(String group) {
    Thread here = Thread.currentThread();
    // The thread has left what it did before.
    all().filter(other -> other.thread == here)
        .forEach(other -> other.thread = null);
    // Its beginning is told by another thread, perhaps later.
    Query query = queries.computeIfAbsent(group, Query::new);
    query.thread = here;
    if (!query.told) {
      query.user = CurrentUserContext$.MODULE$.getCurrentUserOrEmpty();
    }
    if (query.stopped != null) {
      throw Guard.error("[LIMIT] query stopped: " + query.stopped);
    }
  }

  /** With those that were given up, and are closed perhaps: their threads go on to take memory. */
  private Stream<Query> all() {
    return Stream.concat(queries.values().stream(), lingering.stream()).distinct();
  }

  /** How many statements of a user were given up and go on. */
  synchronized int lingering(String user) {
    return (int) lingering.stream().filter(query -> query.user.equals(user) && query.lingers()).count();
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
    all().filter(query -> query.thread != null && query.thread.getId() == thread)
        .forEach(query -> query.allocated += bytes);
  }

  /**
   * Memory is short: of the user whose queries have allocated most the largest is stopped, and said; empty: none is
   * large. Many small ones take as much as a large one.
   */
  synchronized String shed() {
    long large = Runtime.getRuntime().maxMemory() / 10;
    Map<String, Double> ofUser = allocated(query -> query.runs() && query.stopped == null);
    Optional<Query> largest = queries.values().stream()
        .filter(query -> query.runs() && query.stopped == null && ofUser.getOrDefault(query.user, 0.0) > large)
        .max(Comparator.<Query>comparingDouble(query -> ofUser.get(query.user)).thenComparingDouble(query -> query.allocated));
    largest.ifPresent(query -> stop(query, "it took the memory that others need: " + LESS));
    return largest.map(query -> query.user + ": " + Guard.oneLine(query.statement)).orElse("");
  }

  /** Bytes by user. */
  private Map<String, Double> allocated(Predicate<Query> counts) {
    return all().filter(counts)
        .collect(Collectors.groupingBy(query -> query.user, Collectors.summingDouble(query -> query.allocated)));
  }

  /** The disk is short: of the user who has written most the query that has is stopped. Returns whether there was one. */
  synchronized boolean freeDisk(long limit) {
    Map<Query, Long> written = new HashMap<>();
    queries.values().stream().filter(query -> query.runs() && query.stopped == null)
        .forEach(query -> written.put(query, query.written));
    tasks.values().forEach(task -> written.computeIfPresent(task.query, (query, bytes) -> bytes + task.written));
    Map<String, Long> ofUser = new HashMap<>();
    written.forEach((query, bytes) -> ofUser.merge(query.user, bytes, Long::sum));
    Optional<Query> most = written.keySet().stream()
        .max(Comparator.<Query>comparingLong(query -> ofUser.get(query.user)).thenComparingLong(written::get));
    most.ifPresent(query -> stop(query, "queries have written more than the " + (limit >> 20)
        + " MiB of temporary files that all users have together, and you most: " + LESS));
    return most.isPresent();
  }

  /** What cannot be saved but by an end of the process: why, and whose statement it is. */
  record Culprit(String user, String why) {}

  /** Says what was stopped and still runs after the time that it had for that; null: nothing. */
  synchronized Culprit overdue() {
    long now = System.nanoTime();
    lingering.removeIf(query -> !query.lingers());
    Stream<Query> stubborn = tasks.values().stream()
        .filter(task -> waiting && task.asked != 0 && now - task.asked > STUBBORN)
        .map(task -> task.query);
    Stream<Query> overdue = Stream.concat(all(), tasks.values().stream().map(task -> task.query))
        .filter(query -> !query.waitsForAnother() && query.stopped != null && query.runs() && now - query.stoppedAt > OVERDUE);
    return Stream.concat(stubborn, overdue).findAny()
        .map(query -> new Culprit(query.user,
            "a query of " + query.user + " cannot be stopped: " + Guard.oneLine(query.statement))).orElse(null);
  }

  /** The user whose queries allocate most; empty: none runs. */
  synchronized String greediest() {
    return allocated(Query::runs).entrySet().stream().max(Map.Entry.comparingByValue()).map(Map.Entry::getKey).orElse("");
  }

  /** What was allocated counts less with time: a query that ran for hours is not one that takes the memory now. */
  synchronized void age(double share) {
    all().forEach(query -> query.allocated *= share);
  }

  /** The statements that run, and whose they are. */
  synchronized String running() {
    return all().filter(Query::runs)
        .map(query -> query.user + ": " + Guard.oneLine(query.statement)).collect(Collectors.joining("; "));
  }

  private synchronized void makeRoom() {
    long now = System.nanoTime();
    Turns.age();
    queries.values().removeIf(query -> !query.told && now - query.born > FORGET && untold(query));
    List<Query> wait = queries.values().stream()
        .filter(query -> query.stages > 0 && query.tasks == 0 && now - query.waitingSince > (query.isSmall() ? STEP : PATIENCE))
        .toList();
    waiting = !wait.isEmpty();
    if (!waiting) {
      return;
    }
    boolean isSmall = wait.stream().anyMatch(Query::isSmall);
    long oldest = tasks.values().stream().mapToLong(Task::since).min().orElse(now);
    // The youngest task of the query that has most of them: the least work is lost.
    Map<String, Integer> ofUser = new HashMap<>();
    tasks.values().forEach(task -> ofUser.merge(task.query.user, 1, Integer::sum));
    Optional<Task> ended = tasks.values().stream()
        .filter(task -> task.asked == 0 && (task.query.tasks > 1 || now - task.since > task.query.turn
            || isSmall && task.since > oldest && now - task.since > STEP))
        .max(Comparator.<Task>comparingInt(task -> task.query.tasks)
            .thenComparingInt(task -> ofUser.get(task.query.user)).thenComparingLong(Task::since));
    ended.ifPresent(task -> {
      if (task.query.tasks == 1 && now - task.since > task.query.turn) {
        task.query.turn *= 2; // or some long ones would end each other for ever
      }
      task.asked = now;
      SparkContext.getOrCreate().killTaskAttempt(task.id, true, "another query waits");
    });
  }

  /** Whether it has ended. If not, its client closed it before it was planned. */
  private boolean untold(Query query) {
    Turns.forget(query.group);
    if (query.lingers() && query.stopped == null) {
      query.stopped = GIVEN_UP;
      query.stoppedAt = System.nanoTime();
    }
    return query.jobs == 0 && !query.runs();
  }

  private synchronized void stop(Query query, String message) {
    if (query.stopped == null) {
      query.stopped = message;
      query.stoppedAt = System.nanoTime();
    }
    // It may be between two of its jobs.
    SparkContext.getOrCreate().cancelJobGroupAndFutureJobs(query.group, "[LIMIT] query stopped: " + message);
    if (query.executes && query.stages == 0 && query.thread != null) {
      query.thread.interrupt(); // it is being planned
    }
  }
}
